//! What is listed in prose agrees with the code: files, crates, stages, endings, the side port's
//! paths, names of metrics and settings.

use std::collections::BTreeSet;

use weir_tests::tools::{read, repository};
use weir_tests::{Gateway, http, source};

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|word| !word.is_empty() && !word.contains('\n'))
}

/// The first column of the table whose heading line holds `heading`.
fn first_column(text: &str, heading: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| !(line.starts_with('|') && line.contains(heading)));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let cell = |row: &str| row.split('|').nth(1).expect("a cell").trim().to_owned();
    rows.map(|row| cell(row).trim_matches('`').to_owned()).collect()
}

/// The documents for users: those at the root, and what lies in these folders.
fn documents() -> Vec<String> {
    let mut documents =
        ["ARCHITECTURE.md", "README.md", "CHANGELOG.md"].map(str::to_owned).to_vec();
    for folder in ["docs", "docs/runbooks"] {
        for entry in std::fs::read_dir(repository().join(folder)).expect("a folder of documents") {
            let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            if name.ends_with(".md") {
                documents.push(format!("{folder}/{name}"));
            }
        }
    }
    documents
}

#[test]
fn every_file_that_is_named_exists() {
    for document in documents() {
        let text = read(&document);
        let roots = ["crates/", "tests/", "docs/", "fuzz/", "deploy/", "dashboards/"];
        let named = quoted(&text).filter(|word| roots.iter().any(|root| word.starts_with(root)));
        for path in named {
            assert!(repository().join(path).exists(), "{document} names {path}");
        }
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            assert!(repository().join(link_path(&document, link)).exists(), "{document}: {link}");
        }
    }
}

fn link_path(document: &str, link: &str) -> String {
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = link.split('#').next().expect("a path");
    if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") }
}

#[test]
fn every_crate_is_in_the_architecture() {
    let described = first_column(&read("ARCHITECTURE.md"), "| crate ");
    let mut crates = vec!["tests".to_owned(), "tests/sim".to_owned()];
    for folder in std::fs::read_dir(repository().join("crates")).expect("crates/ is readable") {
        let name = folder.expect("an entry").file_name();
        crates.push(format!("crates/{}", name.to_str().expect("UTF-8")));
    }
    let (described, crates) = (sorted(described), sorted(crates));
    assert_eq!(described, crates);
}

fn sorted(list: Vec<String>) -> Vec<String> {
    list.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The texts that `as_str` of one file gives, in order: `Self::Accept => "accept",`.
fn names_in(source: &str) -> Vec<String> {
    let arms = source.lines().filter_map(|line| line.trim().strip_prefix("Self::"));
    let texts = arms.filter_map(|arm| arm.split_once("=> \"")?.1.strip_suffix("\","));
    texts.map(str::to_owned).collect()
}

#[test]
fn the_stages_of_the_readme_are_the_stages_of_the_code() {
    let stages = names_in(&read("crates/core/src/stage.rs"));
    assert!(stages.len() >= 8, "{stages:?}");
    assert_eq!(first_column(&read("README.md"), "| stage "), stages);
}

#[test]
fn the_endings_are_those_of_the_code_with_their_codes() {
    let source = read("crates/core/src/close.rs");
    let reasons = source.lines().filter_map(|line| {
        // MessageTooBig, "message_too_big", 1009, Info, "...";
        let mut fields = line.trim().strip_suffix(';')?.split(", ");
        let name = fields.nth(1)?.strip_prefix('"')?.strip_suffix('"')?;
        Some(format!("| `{name}` | {} |", fields.next()?))
    });
    let reasons = reasons.collect::<Vec<_>>();
    assert!(reasons.len() > 15, "{reasons:?}");
    let document = read("docs/endings.md");
    let rows = document.lines().filter(|line| line.starts_with("| `")).collect::<Vec<_>>();
    assert_eq!(rows.len(), reasons.len());
    for (row, reason) in rows.iter().zip(&reasons) {
        assert!(row.starts_with(reason), "{row} is not {reason}");
    }
}

#[tokio::test]
async fn the_side_port_has_the_paths_of_the_readme() {
    let gateway = Gateway::start().await;
    let paths = first_column(&read("README.md"), "| path ");
    assert!(paths.len() >= 9, "{paths:?}");
    for path in paths {
        let status = http::get(gateway.address("ops"), &path).await.status;
        assert!(
            status == 200 || (["/drain", "/reload"].contains(&&*path) && status == 405),
            "{path}: {status}"
        );
    }
}

#[test]
fn metrics_that_are_named_exist() {
    let golden = read("tests/golden/metrics.txt");
    let known = golden.lines().filter(|line| line.starts_with("weir_"));
    let known = known.filter_map(|line| line.split(' ').next()).collect::<BTreeSet<_>>();
    for document in documents() {
        let text = read(&document);
        let named = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for name in named.filter(|word| word.starts_with("weir_") && !word.ends_with('_')) {
            let series = name.trim_end_matches("_count").trim_end_matches("_bucket");
            let is_crate = repository().join("crates").join(&name["weir_".len()..]).exists();
            assert!(known.contains(series) || is_crate, "{document} names {name}");
        }
    }
}

/// A metric as one line: name, type, labels in the order of the alphabet.
fn described(name: &str, kind: &str, labels: BTreeSet<&str>) -> String {
    format!("{name} {kind} {labels:?}")
}

#[test]
fn every_metric_is_described_with_its_type_and_labels() {
    let golden = read("tests/golden/metrics.txt");
    let mut lines = golden.lines().peekable();
    let mut metrics = BTreeSet::new();
    while let Some((name, kind)) = lines.next().and_then(|line| line.split_once(' ')) {
        let below = std::iter::from_fn(|| lines.next_if(|line| line.starts_with(' ')));
        let labels =
            below.skip(1).flat_map(|line| line.trim().trim_matches(['{', '}']).split(", "));
        let labels = labels.filter_map(|label| Some(label.split_once('=')?.0)).collect();
        metrics.insert(described(name, kind, labels));
    }
    let document = read("docs/observability.md");
    let rows = document.lines().filter(|line| line.starts_with("| `")).filter_map(|row| {
        let cells = row.split('|').map(str::trim).collect::<Vec<_>>();
        let kind = *cells.get(2)?;
        let is_kind = ["counter", "gauge", "histogram"].contains(&kind);
        is_kind.then(|| described(cells[1].trim_matches('`'), kind, quoted(cells[3]).collect()))
    });
    let rows = rows.collect::<BTreeSet<_>>();
    let missing = metrics.difference(&rows).collect::<Vec<_>>();
    assert!(missing.is_empty(), "not in docs/observability.md: {missing:#?}");
    let invented = rows.difference(&metrics).collect::<Vec<_>>();
    assert!(invented.is_empty(), "not on the metrics page: {invented:#?}");
}

#[test]
fn every_field_of_the_log_is_described() {
    let mut fields = BTreeSet::from(["dropped".to_owned()]);
    for folder in ["core", "upstream", "pipeline", "ops", "bin", "auth"] {
        let folder = repository().join("crates").join(folder).join("src");
        let files = if folder.exists() { source::files(&folder) } else { Vec::new() };
        for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
            let text = std::fs::read_to_string(file).expect("a source");
            fields.extend(source::log_fields(&text));
        }
    }
    // A field with the name of a key that every line has is given an underscore.
    let keys = ["ts", "level", "target", "msg"];
    let renamed = |name: String| if keys.contains(&&*name) { name + "_" } else { name };
    let fields = fields.into_iter().map(renamed).collect::<Vec<_>>();
    let described = first_column(&read("docs/observability.md"), "| field ");
    assert_eq!(described, fields, "docs/observability.md, in the order of the alphabet");
}

#[test]
fn settings_that_are_named_exist() {
    let golden = read("tests/golden/weir.toml");
    for document in documents() {
        let text = read(&document);
        for setting in quoted(&text) {
            let (setting, _) = setting.split_once(" = ").unwrap_or((setting, ""));
            let Some((section, key)) = setting.rsplit_once('.') else { continue };
            if golden.lines().any(|line| line == format!("[{section}]")) {
                assert!(has_key(&golden, section, key), "{document} names {setting}");
            }
        }
    }
}

#[test]
fn the_stages_of_a_stop_are_told_with_their_defaults() {
    let golden = read("tests/golden/weir.toml");
    let guide = read("docs/deployment.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `shutdown."));
    let rows = rows.map(|row| row.split(['`', '|', ' ']).filter(|cell| !cell.is_empty()));
    let rows = rows.map(|cells| cells.take(2).collect::<Vec<_>>()).collect::<Vec<_>>();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let line = format!("\n{} = \"{}\"\n", row[0], row[1]);
        assert!(golden.contains(&line), "no {line}");
    }
}

/// Whether the printed settings have `key` under `[section]`, set or commented out.
fn has_key(settings: &str, section: &str, key: &str) -> bool {
    let lines = settings.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let mut inside = lines.skip_while(|line| *line != format!("[{section}]")).skip(1);
    inside
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.starts_with(&format!("{key} = ")))
}

#[test]
fn the_changelog_begins_with_what_is_not_released_or_with_this_version() {
    let text = read("CHANGELOG.md");
    let first = text.lines().find(|line| line.starts_with("## ")).expect("a section");
    let version = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(first == "## [Unreleased]" || first.starts_with(&version), "{first}");
}
