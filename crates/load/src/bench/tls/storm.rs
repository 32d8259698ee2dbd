//! How late open connections are served while thousands of handshakes wait. What is measured is
//! measured by weir itself: its loop's lag and turns, its messages' times, between two scrapes.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::files::Files;
use crate::bench::Settings;
use crate::bench::client::report_of;
use crate::bench::peers::{Peer, WEIR_OPS};
use crate::bench::server::{Server, pinned};
use crate::bench::side_port::Page;
use crate::bench::summary::{Spread, Target, table};
use crate::echo::EchoReport;
use crate::handshakes::HandshakesReport;
use crate::wire::Wire;

const ROUNDS: u32 = 5;
/// Open connections on each of the two listeners, and messages a second over all of them.
const OPEN: &str = "200";
const RATE: &str = "1000";
/// Handshakes of one storm, and those among them that stop in the middle of their first message.
const STORM: &str = "2000";
const STALLED: &str = "200";
/// Time for the open connections to be opened.
const LEAD: Duration = Duration::from_millis(1500);
const WINDOW: Duration = Duration::from_secs(4);
/// The median of the worst lag of a run with storms. A message that waits so long is noticed.
const LAG_MS_MAX: f64 = 50.0;

/// What one run gave; times in milliseconds.
#[derive(Debug, Serialize)]
struct Run {
    figures: Vec<f64>,
    storm: Option<HandshakesReport>,
    plain: EchoReport,
    tls: EchoReport,
}

/// What weir measured between two scrapes, and what the open connections' generators saw.
type Figure = (&'static str, fn(&Page, &Page, &[EchoReport; 2]) -> f64);

const LAG: &str = "weir_loop_lag_seconds";
const TURN: &str = "weir_loop_turn_seconds";
const MESSAGE: &str = "weir_message_seconds";

const FIGURES: [Figure; 11] = [
    ("loop lag p50", |a, b, _| b.times_since(a, LAG, "").quantile(0.5) * 1e3),
    ("loop lag p90", |a, b, _| b.times_since(a, LAG, "").quantile(0.9) * 1e3),
    ("loop lag, most", |a, b, _| b.times_since(a, LAG, "").most() * 1e3),
    ("turn of the loop p99", |a, b, _| b.times_since(a, TURN, "").quantile(0.99) * 1e3),
    ("turn of the loop, most", |a, b, _| b.times_since(a, TURN, "").most() * 1e3),
    ("message p99, lines", |a, b, _| message(a, b, "\"lines\"")),
    ("message p99, lines-tls", |a, b, _| message(a, b, "\"lines-tls\"")),
    ("answer p50, lines", |_, _, [plain, _]| plain.latency_us.p50 / 1e3),
    ("answer p99, lines", |_, _, [plain, _]| plain.latency_us.p99 / 1e3),
    ("answer p99, lines-tls", |_, _, [_, tls]| tls.latency_us.p99 / 1e3),
    ("slowest answer", |_, _, [plain, tls]| plain.latency_us.max.max(tls.latency_us.max) / 1e3),
];
const MOST_LAG: usize = 2;

fn message(before: &Page, after: &Page, listener: &str) -> f64 {
    after.times_since(before, MESSAGE, &format!("listener={listener}")).quantile(0.99) * 1e3
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be started or an answer was wrong.
pub(super) fn run(settings: &Settings, files: &Files) -> Result<()> {
    let rounds = settings.rounds(ROUNDS);
    println!("## Open connections while {STORM} handshakes wait\n");
    println!(
        "{OPEN} plain and {OPEN} TLS connections, {RATE} messages a second over each kind; storm"
    );
    println!(
        "after storm of {STORM} connections that begin a handshake at once, {STALLED} of which stop"
    );
    println!(
        "in the middle of their first message. weir on the first processor, the generators on"
    );
    println!("the second. Rounds of quiet, storm, quiet again: {rounds}; milliseconds, median");
    println!(
        "[least, most]. Lag, turn and message are weir's own histograms, whose buckets are powers"
    );
    println!("of two; answers are the generators', which share a processor with the storm's.\n");
    let round = |_| {
        let quiet = measure(settings, files, false)?;
        Ok([quiet, measure(settings, files, true)?, measure(settings, files, false)?])
    };
    let runs = (0..rounds).map(round).collect::<Result<Vec<[Run; 3]>>>()?;
    let rows: Vec<_> = (0..FIGURES.len()).map(|figure| row(figure, &runs)).collect();
    let head = ["", "quiet", "storm", "storm / quiet", "quiet / quiet"];
    println!("{}", table(&head.map(String::from), &rows));
    println!("{}\n", storms(&runs));
    let lags = runs.iter().map(|[_, storm, _]| storm.figures[MOST_LAG]);
    if let Some(Spread { median, .. }) = Spread::of(lags) {
        let what = "most loop lag while handshakes wait, ms".into();
        println!("{}", Target { what, measured: median, max: LAG_MS_MAX });
    }
    settings.save("tls-storm", &runs)
}

fn measure(settings: &Settings, files: &Files, with_storm: bool) -> Result<Run> {
    let [plain, tls] = super::weir(settings, files, Wire::Lines);
    let log = settings.output.join("tls-storm.log");
    let server = Server::start(plain.command(), plain.address, &log, Some(0))?;
    let window = if settings.quick { Duration::from_secs(1) } else { WINDOW };
    let pid = server.pid();
    let open = [&plain, &tls].map(|peer| open(peer, window, pid));
    sleep(LEAD);
    let before = Page::scrape(WEIR_OPS)?;
    let storm = if with_storm {
        let report = storm(&tls, window, pid)?.wait_with_output()?;
        Some(report_of::<HandshakesReport>(report, &log)?)
    } else {
        sleep(window);
        None
    };
    let after = Page::scrape(WEIR_OPS)?;
    let report = |open: Result<Child>| report_of(open?.wait_with_output()?, &log);
    let [plain, tls] = open.map(report);
    let answers: [EchoReport; 2] = [plain?, tls?];
    let figures: Vec<_> =
        FIGURES.iter().map(|(_, figure)| figure(&before, &after, &answers)).collect();
    eprintln!(
        "{}: loop lag p50 {:.2} ms, most {:.2} ms; {}",
        if with_storm { "storm" } else { "quiet" },
        figures[0],
        figures[MOST_LAG],
        storm.as_ref().map_or_else(String::new, |it| format!("{:?} {:?}", it.storms, it.failed))
    );
    let [plain, tls] = answers;
    Ok(Run { figures, storm, plain, tls })
}

/// Connections that are there before the storm and send at a rate of their own all through it.
fn open(peer: &Peer, window: Duration, pid: u32) -> Result<Child> {
    let mut command = generator("echo", peer, window, pid)?;
    command.args(["--connections", OPEN, "--rate", RATE, "--warmup", "1s"]);
    pinned(Some(1), || command.spawn()).context("cannot start the generator")
}

fn storm(peer: &Peer, window: Duration, pid: u32) -> Result<Child> {
    let mut command = generator("handshakes", peer, window, pid)?;
    command.args(["--storm", "--connections", STORM, "--stalled", STALLED]);
    pinned(Some(1), || command.spawn()).context("cannot start the storm")
}

fn generator(what: &str, peer: &Peer, window: Duration, pid: u32) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([what, "--addr", &peer.address.to_string(), "--server-pid", &pid.to_string()])
        .args(["--duration", &format!("{}ms", window.as_millis())])
        .args(peer.tls().arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

fn row(figure: usize, runs: &[[Run; 3]]) -> Vec<String> {
    let print = |spread: Option<Spread>| spread.map_or("–".into(), |spread| spread.to_string());
    let of = |run: &Run| run.figures[figure];
    let quiet = runs.iter().flat_map(|[quiet, _, again]| [of(quiet), of(again)]);
    let ratio = |[quiet, storm, again]: &[Run; 3]| of(storm) / f64::midpoint(of(quiet), of(again));
    vec![
        FIGURES[figure].0.into(),
        print(Spread::of(quiet)),
        print(Spread::of(runs.iter().map(|[_, storm, _]| of(storm)))),
        print(Spread::of(runs.iter().map(ratio))),
        print(Spread::of(runs.iter().map(|[quiet, _, again]| of(again) / of(quiet)))),
    ]
}

/// The storms in a sentence: how many, how long each, and what became of the handshakes.
fn storms(runs: &[[Run; 3]]) -> String {
    let reports = || runs.iter().filter_map(|[_, storm, _]| storm.storm.as_ref());
    let print = |spread: Option<Spread>| spread.map_or("–".into(), |spread| spread.to_string());
    let each = || reports().flat_map(|report| report.storms.iter().copied());
    let failed: u64 = reports().flat_map(|report| report.failed.values()).sum();
    format!(
        "{} storms; seconds until everybody in one was through: {}; a handshake took p50 {}, \
         p99 {} ms; {} succeeded, {failed} failed.",
        each().count(),
        print(Spread::of(each())),
        print(Spread::of(reports().map(|report| report.time_us.p50 / 1e3))),
        print(Spread::of(reports().map(|report| report.time_us.p99 / 1e3))),
        reports().map(|report| report.full).sum::<u64>(),
    )
}
