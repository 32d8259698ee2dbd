//! The configuration as a user meets it: every fault at once with its place, files before the
//! environment, secrets redacted, and defaults that are their own reference.

use std::path::Path;

use weir_tests::gateway::{config_file, weir_command};
use weir_tests::tools::{self, Finished};
use weir_tests::{Gateway, LinePeer, http};

/// Runs weir with these arguments and variables, in an empty folder.
async fn weir(arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let mut command = weir_command().await;
    let variables = variables.iter().copied();
    command.args(arguments).envs(variables).current_dir(std::env::temp_dir());
    tools::run(command, "").await
}

async fn check(text: &str) -> Finished {
    let file = config_file(text);
    let finished = weir(&["--config", path(&file), "check"], &[]).await;
    std::fs::remove_file(file).expect("the file is ours");
    finished
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path of UTF-8")
}

#[tokio::test]
async fn five_faults_of_five_kinds_are_five_lines() {
    let finished = check(
        r#"[limits]
mesage_bytes_max = "64KiB"
headers_max = "many"
[timeouts]
read = "10 parsecs"
idle = "10s"
ping_interval = "25s"
[[listeners]]
name = "Lines"
address = "127.0.0.1:7001"
wire = "lines"
route = "Echo"
[[listeners]]
name = "Lines"
address = "127.0.0.1:7002"
wire = "lines"
route = "Echo"
[[routes]]
name = "Echo"
kind = "echo"
"#,
    )
    .await;
    assert_eq!(finished.code, 2, "{finished:?}");
    let lines = finished.stderr.lines().collect::<Vec<_>>();
    assert_eq!(lines.len(), 5, "{}", finished.stderr);
    let line = |parts: &[&str]| {
        let found = lines.iter().filter(|line| parts.iter().all(|part| line.contains(part)));
        assert_eq!(found.count(), 1, "one line with {parts:?} in:\n{}", finished.stderr);
    };
    line(&[".toml:2", "limits.mesage_bytes_max", "message_bytes_max"]);
    line(&[".toml:3", "limits.headers_max", "many"]);
    line(&[".toml:5", "timeouts.read", "10 parsecs"]);
    line(&["timeouts.", "ping_interval", "idle"]);
    line(&["listeners[1].name", "\"Lines\""]);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told_with_the_nearest_one() {
    let finished = check(
        "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:7001\"\nwire = \"lines\"\n\
         route = \"Ehco\"\n[[routes]]\nname = \"Echo\"\nkind = \"echo\"\n",
    )
    .await;
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("listeners[0].route"), "{}", finished.stderr);
    assert!(finished.stderr.contains("\"Ehco\""), "{}", finished.stderr);
    assert!(finished.stderr.contains("\"Echo\""), "{}", finished.stderr);
}

#[tokio::test]
async fn a_file_that_is_not_there_and_one_that_is_not_toml_are_told() {
    let finished = weir(&["--config", "nowhere.toml", "check"], &[]).await;
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("nowhere.toml"), "{}", finished.stderr);
    let finished = check("[limits\n").await;
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains(".toml:1"), "{}", finished.stderr);
}

#[tokio::test]
async fn the_environment_is_laid_over_the_file_and_its_faults_name_the_variable() {
    let shown = weir(&["print-config"], &[("WEIR_LIMITS__CONNECTIONS_MAX", "123")]).await;
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let variables = [("WEIR_LIMITS__CONECTIONS_MAX", "123"), ("WEIR_TIMEOUTS__READ", "soon")];
    let finished = weir(&["check"], &variables).await;
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("WEIR_LIMITS__CONECTIONS_MAX"), "{}", finished.stderr);
    assert!(finished.stderr.contains("WEIR_TIMEOUTS__READ"), "{}", finished.stderr);
}

#[tokio::test]
async fn what_print_config_prints_is_complete_and_passes_check() {
    let printed = weir(&["print-config"], &[]).await.succeeded();
    let finished = check(&printed).await;
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    for section in [
        "[runtime]",
        "[limits]",
        "[timeouts]",
        "[ops]",
        "[health]",
        "[logs]",
        "[metrics]",
        "[shutdown]",
    ] {
        assert!(printed.contains(section), "{section} is missing");
    }
}

#[tokio::test]
async fn golden_default_config() {
    tools::golden("weir.toml", &weir(&["print-config"], &[]).await.succeeded());
}

#[tokio::test]
async fn golden_help() {
    tools::golden("help.txt", &weir(&["--help"], &[]).await.succeeded());
}

#[tokio::test]
async fn the_version_is_the_packages() {
    let version = weir(&["--version"], &[]).await.succeeded();
    assert!(version.starts_with(&format!("weir {}", env!("CARGO_PKG_VERSION"))), "{version}");
}

#[tokio::test]
async fn a_fault_at_the_start_is_told_and_nothing_is_bound() {
    let mut gateway = Gateway::start().limits("headers_max = -1").without_waiting().await;
    assert_eq!(gateway.exit_code().await, 2);
    assert!(!gateway.log().iter().any(|line| line.contains("listening")));
}

#[tokio::test]
async fn names_keep_their_case_all_the_way_to_the_metrics() {
    let tables = "[[listeners]]\nname = \"GPS-Trackers\"\naddress = \"127.0.0.1:0\"\n\
                  wire = \"lines\"\nroute = \"Tracker.Echo\"\n\
                  [[routes]]\nname = \"Tracker.Echo\"\nkind = \"echo\"\n";
    let gateway = Gateway::start().tables(tables).await;
    let mut client = LinePeer::connect(gateway.address("GPS-Trackers")).await;
    client.say("hello").await;
    assert_eq!(client.hear().await, "hello");
    let labels = [("listener", "GPS-Trackers"), ("route", "Tracker.Echo")];
    assert_eq!(gateway.metrics().await.count("weir_messages_received_total", &labels), 1);
}

#[tokio::test]
async fn the_running_config_is_shown_with_its_secrets_redacted() {
    let token = "a-token-that-nobody-may-read";
    let gateway = Gateway::start().section("ops", &format!("token = \"{token}\"")).await;
    let headers = format!("Authorization: Bearer {token}\r\n");
    let reply = http::request(gateway.address("ops"), "GET /config", &headers, b"").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let shown = reply.json();
    assert!(!reply.text().contains(token), "the token is shown");
    assert_eq!(shown["limits"]["message_bytes_max"], "64KiB");
    assert!(!gateway.log().join("\n").contains(token), "the token is logged");
}
