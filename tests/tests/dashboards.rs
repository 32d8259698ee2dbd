//! Dashboards and rules: of Grafana's published types, after the rules of its linter, about series
//! that weir has, and every alert tested to fire and not to.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::process::Command;
use weir_tests::promql::{Selector, selectors};
use weir_tests::tools::{self, read, repository};

const DASHBOARDS: [&str; 2] = ["overview", "connections"];

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(&format!("dashboards/{name}.json"))).expect("a dashboard is JSON")
}

fn list<'a>(value: &'a Value, what: &str) -> &'a [Value] {
    value[what].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every panel that shows something, with its dashboard's name before its title.
fn panels() -> Vec<(String, Value)> {
    let mut panels = Vec::new();
    for name in DASHBOARDS {
        let board = dashboard(name);
        for panel in list(&board, "panels").iter().filter(|panel| panel["type"] != "row") {
            panels.push((format!("{name}: {}", text(panel, "title")), panel.clone()));
        }
    }
    panels
}

/// Every query of every panel.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for (name, panel) in panels() {
        for target in list(&panel, "targets") {
            queries.push((name.clone(), text(target, "expr").to_owned()));
        }
    }
    queries
}

async fn rules(file: &str) -> Vec<Value> {
    let documents = tools::yaml(&read(&format!("dashboards/{file}.yml"))).await;
    let groups = list(&documents[0], "groups").iter();
    groups.flat_map(|group| list(group, "rules").to_vec()).collect()
}

/// The names and types on the metrics page.
fn metrics() -> Vec<(String, String)> {
    let golden = read("tests/golden/metrics.txt");
    let heads = golden.lines().filter(|line| !line.starts_with(' '));
    let heads = heads.filter_map(|line| line.split_once(' '));
    heads.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

fn metric_of(selector: &Selector, metrics: &[(String, String)]) -> String {
    selector.metric(|name| metrics.iter().any(|(known, _)| known == name)).to_owned()
}

#[tokio::test]
async fn dashboards_are_of_grafanas_published_types() {
    let folder = tools::tools().join(format!("grafana-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder of tools is writable");
    std::fs::write(folder.join("grafana.ts"), read("tests/setup/grafana.ts")).expect("writable");
    for name in DASHBOARDS {
        let json = read(&format!("dashboards/{name}.json"));
        let source = format!(
            "import type {{ Board, Json }} from \"./grafana\";\n\nexport const board: Json<Board> = {json};\n"
        );
        std::fs::write(folder.join(format!("{name}.ts")), source).expect("writable");
    }
    let mut compiler = Command::new(tools::tools().join("node_modules/.bin/tsc"));
    let flags = "--noEmit --strict --skipLibCheck --target es2022 --module esnext \
                 --moduleResolution bundler";
    compiler.args(flags.split_whitespace()).current_dir(&folder);
    compiler.args(DASHBOARDS.map(|name| format!("{name}.ts")));
    let finished = tools::run(compiler, "").await;
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
    assert_eq!(finished.code, 0, "{}", finished.stdout);
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    let units =
        ["binBps", "bytes", "cps", "eps", "mps", "none", "percentunit", "reqps", "s", "short"];
    for (name, panel) in panels() {
        assert!(!text(&panel, "title").is_empty(), "a panel of {name} has no title");
        assert!(text(&panel, "description").ends_with('.'), "{name}: no whole description");
        let unit = text(&panel["fieldConfig"]["defaults"], "unit");
        assert!(units.contains(&unit), "{name}: unit {unit:?}");
        assert!(!list(&panel, "targets").is_empty(), "{name} asks for nothing");
    }
}

#[test]
fn every_query_asks_the_chosen_source_jobs_and_instances() {
    for (name, panel) in panels() {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}");
        for target in list(&panel, "targets") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{name}");
        }
    }
    for (name, query) in queries() {
        let selectors = selectors(&query);
        assert!(!selectors.is_empty(), "{name} selects nothing: {query}");
        for Selector { matchers, name: series, .. } in selectors {
            let chosen = matchers.starts_with("job=~\"$job\", instance=~\"$instance\"");
            assert!(chosen, "{name}: {series}{{{matchers}}}");
        }
    }
}

#[test]
fn ranges_are_grafanas_and_counters_are_rates() {
    let metrics = metrics();
    for (name, query) in queries() {
        for selector in selectors(&query) {
            let metric = metric_of(&selector, &metrics);
            let kind = metrics.iter().find(|(known, _)| *known == metric).map(|(_, kind)| &**kind);
            let counts = matches!(kind, Some("counter" | "histogram"));
            assert_eq!(selector.range.is_some(), counts, "{name}: {query}");
            if counts {
                assert_eq!(selector.range.as_deref(), Some("$__rate_interval"), "{name}: {query}");
                assert_eq!(selector.function.as_deref(), Some("rate"), "{name}: {query}");
            }
        }
    }
}

#[test]
fn the_variables_are_a_source_jobs_and_instances() {
    for name in DASHBOARDS {
        let board = dashboard(name);
        let variables = list(&board["templating"], "list");
        let names = variables.iter().map(|variable| text(variable, "name")).collect::<Vec<_>>();
        assert_eq!(names, ["datasource", "job", "instance"], "{name}");
        assert_eq!(text(&variables[0], "query"), "prometheus");
        for variable in &variables[1..] {
            assert_eq!(variable["datasource"]["uid"], "${datasource}", "{name}");
            // Chosen anew when the time changes; all of them by default, as a matcher that matches.
            assert_eq!((&variable["refresh"], &variable["multi"]), (&2.into(), &true.into()));
            assert_eq!((text(variable, "allValue"), &variable["includeAll"]), (".+", &true.into()));
            assert!(text(variable, "query").starts_with("label_values(weir_build_info"), "{name}");
        }
    }
}

#[test]
fn dashboards_and_panels_have_identities_and_places_of_their_own() {
    let mut uids = BTreeSet::new();
    for name in DASHBOARDS {
        let board = dashboard(name);
        assert!(uids.insert(text(&board, "uid").to_owned()), "{name}");
        assert_eq!(board["editable"], false, "{name} is changed here, and not in Grafana");
        let mut cells = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in list(&board, "panels") {
            assert!(ids.insert(panel["id"].as_u64()), "{name}: two panels with one id");
            let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
            assert!(place("x") + place("w") <= 24, "{name}: {}", text(panel, "title"));
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(cells.insert((x, y)), "{name}: {} overlaps", text(panel, "title"));
                }
            }
        }
    }
}

#[tokio::test]
async fn every_series_that_is_asked_for_exists() {
    let metrics = metrics();
    let mut known = metrics.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>();
    let (recording, alerts) = (rules("recording").await, rules("alerts").await);
    known.extend(recording.iter().map(|rule| text(rule, "record").to_owned()));
    known.insert("up".to_owned());
    let mut asked = queries();
    asked.extend(recording.iter().map(|rule| (text(rule, "record"), text(rule, "expr"))).map(own));
    asked.extend(alerts.iter().map(|rule| (text(rule, "alert"), text(rule, "expr"))).map(own));
    for (name, expression) in asked {
        for selector in selectors(&expression) {
            let metric = metric_of(&selector, &metrics);
            assert!(known.contains(&metric), "{name} asks for {metric}");
        }
    }
}

fn own((name, expression): (&str, &str)) -> (String, String) {
    (name.to_owned(), expression.to_owned())
}

#[tokio::test]
async fn every_metric_is_looked_at() {
    let metrics = metrics();
    let mut expressions = queries().into_iter().map(|(_, query)| query).collect::<Vec<_>>();
    for file in ["recording", "alerts"] {
        expressions.extend(rules(file).await.iter().map(|rule| text(rule, "expr").to_owned()));
    }
    let asked = expressions.iter().flat_map(|expression| selectors(expression));
    let asked = asked.map(|selector| metric_of(&selector, &metrics)).collect::<BTreeSet<_>>();
    let unseen = metrics.iter().map(|(name, _)| name).filter(|name| !asked.contains(*name));
    let unseen = unseen.collect::<Vec<_>>();
    assert!(unseen.is_empty(), "on no dashboard and in no rule: {unseen:?}");
}

#[tokio::test]
async fn promtool_finds_the_rules_right_and_their_tests_pass() {
    let check = "promtool check rules dashboards/recording.yml dashboards/alerts.yml";
    tools::shell(check, "").await.succeeded();
    let test = "promtool test rules dashboards/alerts_test.yml";
    let finished = tools::shell(test, "").await;
    assert_eq!(finished.code, 0, "{}{}", finished.stdout, finished.stderr);
}

#[tokio::test]
async fn every_alert_is_tested_to_fire_and_not_to() {
    let documents = tools::yaml(&read("dashboards/alerts_test.yml")).await;
    let tests = list(&documents[0], "tests");
    for rule in rules("alerts").await {
        let alert = text(&rule, "alert");
        let expected = |fires: bool| {
            tests.iter().flat_map(|test| list(test, "alert_rule_test")).any(|test| {
                text(test, "alertname") == alert && list(test, "exp_alerts").is_empty() != fires
            })
        };
        assert!(expected(true), "{alert} is not tested to fire");
        assert!(expected(false), "{alert} is not tested not to fire");
    }
}

#[tokio::test]
async fn every_alert_has_a_severity_and_a_runbook_and_every_runbook_an_alert() {
    let index = read("docs/runbooks/README.md");
    let mut linked = BTreeSet::from(["README.md".to_owned()]);
    for rule in rules("alerts").await {
        let alert = text(&rule, "alert");
        let severity = text(&rule["labels"], "severity");
        assert!(["warning", "critical"].contains(&severity), "{alert}: {severity:?}");
        let (summary, about) =
            (&rule["annotations"]["summary"], &rule["annotations"]["description"]);
        assert!(summary.is_string() && about.is_string(), "{alert} does not say what is wrong");
        let page = text(&rule["annotations"], "runbook_url");
        let name = page.strip_prefix("docs/runbooks/").unwrap_or_else(|| panic!("{alert}: {page}"));
        linked.insert(name.to_owned());
        let runbook = read(page);
        for part in ["# Weir", "\n## Meaning\n", "\n## What to look at\n", "\n## What to do\n"] {
            assert!(runbook.contains(part), "{page} has no {part:?}");
        }
        let row = format!("| `{alert}` | {severity} | [");
        assert!(index.contains(&row) && index.contains(&format!("({name})")), "{alert}: no {row}");
    }
    let folder = std::fs::read_dir(repository().join("docs/runbooks")).expect("readable");
    let pages =
        folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    assert_eq!(pages.collect::<BTreeSet<_>>(), linked);
}
