//! Handshakes beside nginx's, whole ones and resumed ones, run by run in turn.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::files::Files;
use crate::bench::Settings;
use crate::bench::client::{ATTEMPTS, OTHER_CORES_MAX, report_of};
use crate::bench::peers::Peer;
use crate::bench::server::{Server, pinned};
use crate::bench::summary::{Spread, table};
use crate::handshakes::HandshakesReport;
use crate::wire::Wire;

const ROUNDS: u32 = 5;
/// Under way at any time: enough to keep a server busy, far below weir's cap.
const CONNECTIONS: &str = "32";
/// A server that uses this share of a processor was the limit.
const BUSY: f64 = 0.95;

/// What one run gave.
#[derive(Debug, Serialize)]
struct Run {
    server: String,
    resume: bool,
    counts: bool,
    report: HandshakesReport,
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be started, or no handshake succeeds.
pub(super) fn run(settings: &Settings, files: &Files) -> Result<()> {
    let rounds = settings.rounds(ROUNDS);
    println!("## Handshakes\n");
    println!(
        "TCP connect, handshake, close by the client, close by the server; {CONNECTIONS} under"
    );
    println!("way at any time. Server processor time each in µs, median [least, most]; runs of");
    println!(
        "each: {rounds}. `c`: the generator was the limit, so the rate is not the server's.\n"
    );
    let [_, weir] = super::weir(settings, files, Wire::Lines);
    let nginx = Peer::nginx(&files.nginx).in_tls(crate::bench::peers::PEER_ADDRESS, &files.ca);
    let peers = [weir.with("weir", &[]), nginx];
    let mut runs = Vec::new();
    for resume in [false, true] {
        for _ in 0..rounds {
            for peer in &peers {
                runs.push(until_it_counts(settings, peer, resume)?);
            }
        }
    }
    let head = ["handshakes", "server", "µs each", "weir / nginx", "a second", "p50 / p99 ms"];
    let rows = |resume| peers.each_ref().map(|peer| row(&runs, &peer.name, resume));
    println!("{}", table(&head.map(String::from), &[rows(false), rows(true)].concat()));
    let negotiated = |run: &Run| format!("{}: {:?}", run.server, run.report.negotiated);
    let negotiated: Vec<_> = runs.iter().take(2).map(negotiated).collect();
    println!("Negotiated: {}.\n", negotiated.join("; "));
    settings.save("tls-handshakes", &runs)
}

fn until_it_counts(settings: &Settings, peer: &Peer, resume: bool) -> Result<Run> {
    let attempts = if settings.quick { 1 } else { ATTEMPTS };
    for attempt in 1.. {
        let report = measure(settings, peer, resume).with_context(|| peer.name.clone())?;
        let counts = report.other_cores < OTHER_CORES_MAX;
        eprintln!(
            "{:6} {}: {:6.1} µs each, {:.0} a second, client {:.2}, others {:.2}",
            peer.name,
            if resume { "resumed" } else { "full   " },
            cost(&report),
            report.per_second,
            report.client_share,
            report.other_cores
        );
        if counts || attempt >= attempts {
            return Ok(Run { server: peer.name.clone(), resume, counts, report });
        }
    }
    unreachable!("the last attempt returns")
}

fn measure(settings: &Settings, peer: &Peer, resume: bool) -> Result<HandshakesReport> {
    let log = settings.output.join(format!("tls-{}.log", peer.name));
    let core = |number| settings.pin.then_some(number);
    let server = Server::start(peer.command(), peer.address, &log, core(0))?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["handshakes", "--addr", &peer.address.to_string(), "--connections", CONNECTIONS])
        .args(peer.tls().arguments())
        .args(resume.then_some("--resume"))
        .args(["--server-pid", &server.pid().to_string()])
        .args(["--duration", &format!("{}ms", settings.duration().as_millis())])
        .args(["--warmup", &format!("{}ms", settings.warmup().as_millis())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = pinned(core(1), || command.spawn()).context("cannot start the generator")?;
    let report: HandshakesReport = report_of(child.wait_with_output()?, &log)?;
    ensure!(report.failed.is_empty(), "connections failed: {:?}", report.failed);
    let (wanted, other) = match resume {
        false => (report.full, report.resumed),
        true => (report.resumed, report.full),
    };
    ensure!(other * 50 <= wanted, "{} full, {} resumed", report.full, report.resumed);
    Ok(report)
}

fn cost(report: &HandshakesReport) -> f64 {
    report.server.as_ref().map_or(f64::NAN, |server| server.us_per_handshake)
}

fn row(runs: &[Run], name: &str, resume: bool) -> Vec<String> {
    let of = |name: &'static str| {
        runs.iter().filter(move |run| run.server == name && run.resume == resume)
    };
    let mine = || runs.iter().filter(|run| run.server == name && run.resume == resume);
    let print = |spread: Option<Spread>| spread.map_or("–".into(), |spread| spread.to_string());
    // Runs next to each other.
    let ratios = of("weir").zip(of("nginx")).map(|(w, n)| cost(&w.report) / cost(&n.report));
    let limited = mine().any(|run| {
        run.report.server.as_ref().is_none_or(|server| server.share < BUSY)
            && run.report.client_share >= BUSY
    });
    let milliseconds = |of: fn(&HandshakesReport) -> f64| {
        Spread::of(mine().map(|run| of(&run.report) / 1000.0)).map_or(f64::NAN, |it| it.median)
    };
    let stars = if mine().all(|run| run.counts) { "" } else { " *" };
    let ratio = if name == "weir" { print(Spread::of(ratios)) } else { String::new() };
    vec![
        if resume { "resumed" } else { "full" }.into(),
        name.into(),
        print(Spread::of(mine().map(|run| cost(&run.report)))) + stars,
        ratio,
        print(Spread::of(mine().map(|run| run.report.per_second)))
            + if limited { " c" } else { "" },
        format!(
            "{:.2} / {:.2}",
            milliseconds(|report| report.time_us.p50),
            milliseconds(|report| report.time_us.p99)
        ),
    ]
}
