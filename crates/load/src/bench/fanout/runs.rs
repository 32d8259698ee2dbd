//! One run of a fan-out: a fresh server, the generator beside it, and whether the run counts.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::contenders::Contender;
use crate::bench::Settings;
use crate::bench::client::{ATTEMPTS, OTHER_CORES_MAX, report_of};
use crate::bench::server::{Server, pinned};
use crate::fanout::FanoutReport;

/// When publications go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Pace {
    /// So many a second in each channel.
    Rate(u64),
    /// So many under way in each channel.
    Window(u32),
}

/// A load that servers are compared under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cell {
    /// Subscribers, each of one channel.
    pub(super) subscribers: usize,
    /// Channels.
    pub(super) channels: usize,
    /// When publications go out.
    pub(super) pace: Pace,
}

/// What one run gave.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    /// The server's name.
    pub(super) server: String,
    /// The load.
    pub(super) cell: Cell,
    /// Whether nothing else took processor time that could have disturbed it.
    pub(super) counts: bool,
    /// What the generator measured.
    pub(super) report: FanoutReport,
}

/// At a fixed rate the server is mostly idle, so that its few ticks need a longer window.
const RATE_DURATION: Duration = Duration::from_secs(8);
/// One publisher's replies stay far below what weir queues for a connection.
const CHANNELS_PER_PUBLISHER: usize = 100;

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(rate) => write!(f, "{rate} a second"),
            Self::Window(window) => write!(f, "{window} under way"),
        }
    }
}

impl Run {
    /// Microseconds of the server a delivery.
    pub(super) fn cost(&self) -> Option<f64> {
        self.report.server.as_ref().map(|server| server.us_per_delivery)
    }

    /// Connections that ended before they were asked to.
    pub(super) fn lost(&self) -> u64 {
        self.report.lost.values().sum()
    }
}

/// Runs a contender under `cell` until a run counts, a few times at most, and returns the last.
///
/// # Errors
/// When something cannot be started or a delivery was wrong.
pub(super) fn run(settings: &Settings, contender: &Contender, cell: Cell) -> Result<Run> {
    let name = &contender.peer.name;
    let attempts = if settings.quick { 1 } else { ATTEMPTS };
    for attempt in 1.. {
        let report =
            measure(settings, contender, cell).with_context(|| format!("{name} under {cell:?}"))?;
        let counts = report.other_cores < OTHER_CORES_MAX;
        let run = Run { server: name.clone(), cell, counts, report };
        eprintln!("{}", progress(&run));
        if counts || attempt >= attempts {
            return Ok(run);
        }
    }
    unreachable!("the last attempt returns")
}

fn measure(settings: &Settings, contender: &Contender, cell: Cell) -> Result<FanoutReport> {
    let peer = &contender.peer;
    let log = settings.output.join(format!("fanout-{}", peer.name.replace(' ', "-")));
    let log = log.with_extension("log");
    let core = |number| settings.pin.then_some(number);
    let server = Server::start(peer.command(), peer.address, &log, core(0))?;
    let mut command = generator(settings, contender, cell, server.pid())?;
    let child = pinned(core(1), || command.spawn()).context("cannot start the generator")?;
    report_of(child.wait_with_output()?, &log)
}

/// The generator's command for this load, its output piped.
///
/// # Errors
/// When this program does not know its own path.
pub(super) fn generator(
    settings: &Settings,
    contender: &Contender,
    cell: Cell,
    server_pid: u32,
) -> Result<Command> {
    let Cell { subscribers, channels, pace } = cell;
    let (pace, duration) = match pace {
        Pace::Rate(rate) if settings.quick => (["--rate".into(), rate.to_string()], None),
        Pace::Rate(rate) => (["--rate".into(), rate.to_string()], Some(RATE_DURATION)),
        Pace::Window(window) => (["--window".into(), window.to_string()], None),
    };
    let duration = settings.duration.or(duration).unwrap_or_else(|| settings.duration());
    let publishers = channels.div_ceil(CHANNELS_PER_PUBLISHER);
    let millis = |length: Duration| format!("{}ms", length.as_millis());
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("fanout")
        .args(contender.arguments())
        .args(pace)
        .args(["--subscribers", &subscribers.to_string()])
        .args(["--channels", &channels.to_string()])
        .args(["--publishers", &publishers.to_string()])
        .args(["--server-pid", &server_pid.to_string()])
        .args(["--duration", &millis(duration)])
        .args(["--warmup", &millis(settings.warmup())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

fn progress(run: &Run) -> String {
    let Run { server, cell, report, .. } = run;
    let others =
        if run.counts { String::new() } else { format!(", others {:.2}", report.other_cores) };
    let limit = if report.client_was_the_limit { ", the generator was the limit" } else { "" };
    let lost = if run.lost() + report.dropped > 0 {
        format!(", {} dropped, connections lost: {:?}", report.dropped, report.lost)
    } else {
        String::new()
    };
    format!(
        "{server:18} {:5} subscribers, {:5} channels, {:11}: {:7.3} µs/delivery, p50 {:.0} µs, \
         p99 {:.0} µs{others}{limit}{lost}",
        cell.subscribers,
        cell.channels,
        cell.pace.to_string(),
        run.cost().unwrap_or(f64::NAN),
        report.latency_us.p50,
        report.latency_us.p99
    )
}
