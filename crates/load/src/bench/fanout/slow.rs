//! `weir-load bench slow`: what subscribers that read 1 KB a second cost those who keep up. Each policy of
//! a namespace, without slow readers, with them, and without again, in turn.

use anyhow::{Context, Result};
use serde::Serialize;

use super::contenders::Contender;
use super::readers::Readers;
use super::runs::{Cell, Pace, generator};
use crate::bench::client::report_of;
use crate::bench::server::{Server, pinned};
use crate::bench::summary::{Spread, Target, table};
use crate::bench::{Settings, machine};
use crate::fanout::FanoutReport;
use crate::procfs;

const ROUNDS: u32 = 3;
const SUBSCRIBERS: usize = 5_000;
/// One in so many is slow, beside the others.
const SLOW_SHARE: usize = 100;
const RATE: u64 = 20;
const PAYLOAD_BYTES: usize = 1000;
/// The policies. Payloads here have no key: what `latest_by_key` costs others is what `drop_oldest` does.
const POLICIES: [&str; 3] = ["disconnect", "drop_oldest", "catch_up"];
/// The longest that a delivery to one who keeps up may take, so that its outbox is never as old.
const SECONDS_MAX: f64 = 1.0;

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    policy: &'static str,
    /// Slow readers at the beginning, and those that were connected at the end.
    slow: usize,
    slow_left: usize,
    /// The most that weir had resident, in MiB.
    peak_mib: f64,
    /// The others'.
    report: FanoutReport,
}

impl Run {
    fn p50(&self) -> f64 {
        self.report.latency_us.p50
    }

    fn lost(&self) -> u64 {
        self.report.dropped + self.report.lost.values().sum::<u64>()
    }
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be started, or a delivery was wrong.
pub(in crate::bench) fn run(settings: &Settings) -> Result<()> {
    let rounds = settings.rounds(ROUNDS);
    let default = if settings.quick { 200 } else { SUBSCRIBERS };
    let subscribers = settings.connections.first().copied().unwrap_or(default);
    let slow = (subscribers / SLOW_SHARE).max(1);
    println!("# Slow consumers\n");
    println!("{}; {PAYLOAD_BYTES}-byte payloads; WebSocket; rounds: {rounds}.", machine());
    println!(
        "{subscribers} subscribers that keep up, {RATE} publications a second; with {slow} more that"
    );
    println!("read 1 KB a second, and without. Median [least, most]; `with / without` and");
    println!("`without / without` are of runs next to each other; the second is the noise.\n");
    let (mut all, mut rows, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for policy in POLICIES {
        let mut runs = Vec::new();
        for _ in 0..rounds {
            let one = |slow| measure(settings, policy, subscribers, slow);
            runs.push([one(0)?, one(slow)?, one(0)?]);
        }
        rows.push(row(policy, &runs));
        targets.extend(targets_of(policy, &runs));
        all.extend(runs.into_iter().flatten());
    }
    let head = [
        "policy",
        "p50 without, µs",
        "p50 with, µs",
        "with / without",
        "without / without",
        "p99 with, µs",
        "slowest, ms",
        "slow: begun, left",
        "peak MiB without",
        "peak MiB with",
    ];
    println!("{}", table(&head.map(String::from), &rows));
    targets.iter().for_each(|target| println!("{target}"));
    settings.save("slow", &all)
}

fn row(policy: &str, runs: &[[Run; 3]]) -> Vec<String> {
    let spread = |figures: Vec<f64>| Spread::of(figures).map_or("–".into(), |it| it.to_string());
    let without = |figure: &dyn Fn(&Run) -> f64| {
        runs.iter().flat_map(|[before, _, after]| [figure(before), figure(after)]).collect()
    };
    let with =
        |figure: &dyn Fn(&Run) -> f64| runs.iter().map(|[_, with, _]| figure(with)).collect();
    let left: Vec<_> = runs.iter().map(|[_, with, _]| with.slow_left.to_string()).collect();
    vec![
        policy.to_owned(),
        spread(without(&Run::p50)),
        spread(with(&Run::p50)),
        spread(runs.iter().map(ratio).collect()),
        spread(runs.iter().map(|[before, _, after]| after.p50() / before.p50()).collect()),
        spread(with(&|run| run.report.latency_us.p99)),
        spread(with(&|run| run.report.latency_us.max / 1000.0)),
        format!("{}, {}", runs.first().map_or(0, |[_, with, _]| with.slow), left.join(" ")),
        spread(without(&|run| run.peak_mib)),
        spread(with(&|run| run.peak_mib)),
    ]
}

fn ratio([before, with, after]: &[Run; 3]) -> f64 {
    with.p50() / f64::midpoint(before.p50(), after.p50())
}

fn targets_of(policy: &str, runs: &[[Run; 3]]) -> [Target; 3] {
    let with = || runs.iter().map(|[_, with, _]| with);
    let without: Vec<_> = runs.iter().flat_map(|[one, _, two]| [one.p50(), two.p50()]).collect();
    let spread = Spread::of(without);
    [
        Target {
            what: format!("{policy}: deliveries that the others miss, and connections of theirs"),
            measured: with().map(Run::lost).sum::<u64>() as f64,
            max: 0.0,
        },
        Target {
            what: format!("{policy}: their slowest delivery, s"),
            measured: with().map(|run| run.report.latency_us.max / 1e6).fold(0.0, f64::max),
            max: SECONDS_MAX,
        },
        Target {
            what: format!("{policy}: their p50, µs, within the spread of runs without"),
            measured: Spread::of(with().map(Run::p50)).map_or(f64::NAN, |it| it.median),
            max: spread.map_or(f64::NAN, |it| it.max),
        },
    ]
}

fn measure(
    settings: &Settings,
    policy: &'static str,
    subscribers: usize,
    slow: usize,
) -> Result<Run> {
    let config = settings.peers.with_file_name("slow.toml");
    let environment = [("WEIR_CHANNELS__WITHOUT_NAMESPACE__SLOW_CONSUMER", policy)];
    let contender = Contender::configured(settings, policy, &config, &environment);
    let address = contender.peer.address;
    let log = settings.output.join(format!("slow-{policy}.log"));
    let core = |number| settings.pin.then_some(number);
    let server = Server::start(contender.peer.command(), address, &log, core(0))?;
    let readers = Readers::start(address, "c0", slow)?;
    let cell = Cell { subscribers, channels: 1, pace: Pace::Rate(RATE) };
    let mut command = generator(settings, &contender, cell, server.pid())?;
    command.args(["--size", &PAYLOAD_BYTES.to_string()]);
    let child = pinned(core(1), || command.spawn()).context("cannot start the generator")?;
    let report: FanoutReport = report_of(child.wait_with_output()?, &log)?;
    let peak_mib = procfs::resident_peak_bytes(server.pid())? as f64 / f64::from(1 << 20);
    let slow_left = readers.end()?;
    let run = Run { policy, slow, slow_left, peak_mib, report };
    eprintln!(
        "{policy:12} {slow:3} slow, {slow_left:3} left: p50 {:.0} µs, p99 {:.0} µs, slowest {:.0} ms, \
         {} lost, peak {peak_mib:.1} MiB",
        run.p50(),
        run.report.latency_us.p99,
        run.report.latency_us.max / 1000.0,
        run.lost()
    );
    Ok(run)
}
