//! What may depend on what: the crates' arrows, licences, and crates that must be there once.
//! Read from `cargo metadata`, so that ARCHITECTURE.md and DESIGN stay true by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use weir_tests::tools::repository;

/// Asked once: cargo may wait for another cargo's lock each time.
fn metadata() -> &'static Value {
    static METADATA: LazyLock<Value> = LazyLock::new(ask_cargo);
    &METADATA
}

fn ask_cargo() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(repository())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {}", value["name"]))
}

/// What each of our crates names in `[dependencies]` and `[build-dependencies]`.
fn named() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let members = list(metadata, "workspace_members");
    let ours = list(metadata, "packages").iter().filter(|p| members.contains(&p["id"]));
    ours.map(|package| {
        let dependencies = list(package, "dependencies").iter().filter(|d| d["kind"] != "dev");
        let names = dependencies.map(|dependency| text(dependency, "name").to_owned());
        (text(package, "name").to_owned(), names.collect())
    })
    .collect()
}

/// The arrows of DESIGN section 3: each crate, and which of ours it may name.
const ARROWS: [(&str, &[&str]); 11] = [
    ("weir-core", &[]),
    ("weir-upstream", &["weir-core"]),
    ("weir-auth", &["weir-core", "weir-upstream"]),
    ("weir-channels", &["weir-core", "weir-auth"]),
    ("weir-pipeline", &["weir-core", "weir-upstream"]),
    ("weir-demo", &["weir-core"]),
    ("weir-ops", &[]),
    (
        "weir",
        &[
            "weir-core",
            "weir-upstream",
            "weir-auth",
            "weir-channels",
            "weir-pipeline",
            "weir-demo",
            "weir-ops",
        ],
    ),
    ("weir-load", &[]),
    ("weir-sim", &["weir-core", "weir-upstream", "weir-pipeline"]),
    ("weir-tests", &[]),
];

#[test]
fn crates_name_only_the_crates_that_the_arrows_allow() {
    for (name, dependencies) in named() {
        let (_, allowed) = ARROWS
            .iter()
            .find(|(arrow, _)| *arrow == name)
            .unwrap_or_else(|| panic!("{name} is a new crate: give it its arrows here"));
        for dependency in dependencies.iter().filter(|d| d.starts_with("weir")) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not name {dependency}");
        }
    }
}

/// What a crate must not even be able to say, whoever is on the other side of an arrow.
const ABSENT: [(&str, &[&str]); 10] = [
    ("weir-core", &["config", "clap", "toml", "serde", "serde_json", "signal-hook"]),
    ("weir-core", &["anyhow", "rustls-native-certs", "tracing-subscriber"]),
    ("weir-upstream", &["config", "clap", "anyhow", "signal-hook", "mio"]),
    ("weir-auth", &["config", "clap", "anyhow", "hyper", "mio", "tracing-subscriber"]),
    ("weir-channels", &["config", "clap", "anyhow", "hyper", "mio", "socket2", "signal-hook"]),
    ("weir-pipeline", &["config", "clap", "anyhow", "tokio", "hyper", "mio", "prometheus"]),
    ("weir-ops", &["config", "clap", "anyhow", "mio", "signal-hook", "tracing-subscriber"]),
    ("weir", &["hyper", "mio", "socket2", "rustls"]),
    ("weir-load", &["config", "hyper"]),
    ("weir-tests", &["hyper", "tungstenite", "prometheus"]),
];

#[test]
fn crates_cannot_name_what_is_none_of_their_business() {
    let named = named();
    for (name, absent) in ABSENT {
        for dependency in absent {
            assert!(!named[name].contains(*dependency), "{name} must not name {dependency}");
        }
    }
}

/// Crates whose types or globals must be one and the same in the whole tree. Two versions of
/// OpenTelemetry, for example, compile and silently lose every parent.
fn must_be_single(name: &str) -> bool {
    const SINGLE: [&str; 10] = [
        "tokio",
        "hyper",
        "hyper-util",
        "http",
        "bytes",
        "prometheus",
        "rustls",
        "tracing",
        "tracing-core",
        "parking_lot",
    ];
    SINGLE.contains(&name) || name.starts_with("opentelemetry")
}

#[test]
fn shared_crates_are_in_the_tree_once() {
    let metadata = metadata();
    let mut versions = BTreeMap::<&str, BTreeSet<&str>>::new();
    for package in list(metadata, "packages") {
        versions.entry(text(package, "name")).or_default().insert(text(package, "version"));
    }
    for (name, versions) in versions {
        assert!(!must_be_single(name) || versions.len() == 1, "{name} twice: {versions:?}");
    }
}

/// Licences that ask for no more than their text beside a copy.
const LICENCES: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Zlib",
];

/// Whether an SPDX expression can be met with [`LICENCES`]. Old crates write `/` for OR.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut rest = expression.as_str();
    let met = any_of(&mut rest);
    met && rest.trim().is_empty()
}

fn any_of(rest: &mut &str) -> bool {
    let mut met = all_of(rest);
    while take(rest, "OR") {
        met |= all_of(rest);
    }
    met
}

fn all_of(rest: &mut &str) -> bool {
    let mut met = one(rest);
    while take(rest, "AND") {
        met &= one(rest);
    }
    met
}

fn one(rest: &mut &str) -> bool {
    if take(rest, "(") {
        let met = any_of(rest);
        return take(rest, ")") && met;
    }
    let words = rest.trim_start();
    let end = [" OR ", " AND ", ")"].iter().filter_map(|mark| words.find(mark)).min();
    let (licence, after) = words.split_at(end.unwrap_or(words.len()));
    *rest = after;
    LICENCES.contains(&licence.trim())
}

fn take(rest: &mut &str, word: &str) -> bool {
    let after = rest.trim_start().strip_prefix(word);
    *rest = after.unwrap_or(rest);
    after.is_some()
}

#[test]
fn an_expression_is_met_by_its_words() {
    assert!(is_allowed("MIT"));
    assert!(is_allowed("MIT/Apache-2.0"));
    assert!(is_allowed("GPL-3.0 OR MIT"));
    assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(is_allowed("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT"));
    assert!(!is_allowed("GPL-3.0"));
    assert!(!is_allowed("MIT AND GPL-3.0"));
    assert!(!is_allowed("MIT AND (GPL-3.0 OR LGPL-2.1)"));
}

#[test]
fn every_licence_in_the_tree_is_on_the_list() {
    let metadata = metadata();
    let refused = list(metadata, "packages")
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(is_allowed))
        .map(|package| format!("{} {}", text(package, "name"), package["license"]))
        .collect::<Vec<_>>();
    assert!(refused.is_empty(), "not on the list: {refused:#?}");
}

#[test]
fn every_crate_of_ours_says_its_licence_and_takes_the_workspace_lints() {
    let metadata = metadata();
    let members = list(metadata, "workspace_members");
    for package in list(metadata, "packages").iter().filter(|p| members.contains(&p["id"])) {
        assert_eq!(text(package, "license"), "MIT OR Apache-2.0");
        let manifest = std::fs::read_to_string(text(package, "manifest_path")).expect("readable");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{}", package["name"]);
    }
}
