//! The conformance table: every case of the Autobahn suite's sections 1 to 7, 9 and 10.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use weir_tests::Gateway;
use weir_tests::autobahn::{Row, Verdict, run_all};

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
    for (section, count) in SECTIONS {
        assert_eq!(report.count(section), count, "cases in section {section}");
    }
    assert_eq!(report.0.len(), 301);
    let informational = report.0.iter().filter(|row| row.verdict == Verdict::Informational);
    let informational: Vec<&str> = informational.map(|row| row.number.as_str()).collect();
    assert_eq!(informational, ["7.1.6", "7.13.1", "7.13.2"]);
    // None, so there is no list of them with reasons.
    assert!(report.deviations().is_empty(), "deviations:\n{}", rows(report.deviations()));

    // Stricter than the suite, which lets a server drop the connection without a word.
    assert!(report.untold().is_empty(), "codes not told:\n{}", rows(report.untold()));
    let metrics = gateway.metrics().await;
    let opened = metrics.count("weir_connections_opened_total", &[("listener", "http")]);
    assert_eq!(opened, 301);
}

/// The table itself can fail: this server is wrong wherever an answer is wanted.
#[tokio::test]
async fn a_server_that_hangs_up_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.ok();
        }
    });
    let report = run_all(address, "/").await;
    let failed = |section| {
        let failed = report.deviations().into_iter();
        failed.filter(|row| row.number.starts_with(section)).count()
    };
    assert_eq!([failed("1."), failed("9."), failed("10.")], [16, 54, 1]);
    // To hang up is a way to refuse, but one that tells no code.
    let refusals = report.0.iter().filter(|row| row.code_expected.is_some()).count();
    assert_eq!(report.untold().len(), refusals);
}

fn rows(rows: Vec<&Row>) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}
