//! The conformance table: every case of the Autobahn suite's sections 1 to 7, 9 and 10.

use weir_tests::Gateway;
use weir_tests::autobahn::{Report, Verdict, run_all};

/// Cases in each section, as the suite has them.
const SECTIONS: [(&str, usize); 9] = [
    ("1", 16),
    ("2", 11),
    ("3", 7),
    ("4", 10),
    ("5", 20),
    ("6", 145),
    ("7", 37),
    ("9", 54),
    ("10", 1),
];

#[tokio::test]
async fn every_case_is_answered_as_the_standard_has_it() {
    let gateway = Gateway::start()
        .limits("message_bytes_max = \"16MiB\"\noutbox_bytes_max = \"33MiB\"")
        .await;
    let report = run_all(gateway.address("http"), "/ws").await;
    judge(&report);

    // Stricter than the suite, which lets a server drop the connection without a word.
    assert!(report.untold().is_empty(), "codes not told:\n{}", rows(report.untold()));
    let metrics = gateway.metrics().await;
    let opened = metrics.count("weir_connections_opened_total", &[("listener", "http")]);
    assert_eq!(opened, 301);
}

/// Judges another server, to judge the table: `WEIR_AUTOBAHN_PEER=127.0.0.1:9001 cargo test -p
/// weir-tests --test autobahn -- --ignored --nocapture`. It echoes at `/`.
#[tokio::test]
#[ignore = "wants another server, named by WEIR_AUTOBAHN_PEER"]
async fn another_server_is_judged() {
    let peer = std::env::var("WEIR_AUTOBAHN_PEER").expect("an address");
    let report = run_all(peer.parse().expect("an address"), "/").await;
    println!("codes not told:\n{}", rows(report.untold()));
    judge(&report);
}

#[track_caller]
fn judge(report: &Report) {
    for (section, count) in SECTIONS {
        assert_eq!(report.count(section), count, "cases in section {section}");
    }
    assert_eq!(report.0.len(), 301);
    let informational = report.0.iter().filter(|row| row.verdict == Verdict::Informational);
    let informational: Vec<&str> = informational.map(|row| row.number.as_str()).collect();
    assert_eq!(informational, ["7.1.6", "7.13.1", "7.13.2"]);
    assert!(report.deviations().is_empty(), "deviations:\n{}", rows(report.deviations()));
}

fn rows(rows: Vec<&weir_tests::autobahn::Row>) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}
