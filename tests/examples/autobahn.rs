//! Runs the conformance table against any echo server, to judge the server or the table:
//! `cargo run -p weir-tests --example autobahn -- 127.0.0.1:9001 /`.

use std::process::ExitCode;

use weir_tests::autobahn::run_all;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path] = arguments.as_slice() else {
        eprintln!("usage: autobahn ADDRESS PATH");
        return ExitCode::from(2);
    };
    let Ok(address) = address.parse() else {
        eprintln!("{address} is not an IP address and a port");
        return ExitCode::from(2);
    };
    let report = run_all(address, path).await;
    for row in report.deviations() {
        println!("{row}");
    }
    for row in report.untold() {
        println!("{:<8} code {:?} not told", row.number, row.code_expected);
    }
    println!("{} cases, {} deviations", report.0.len(), report.deviations().len());
    if report.deviations().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
