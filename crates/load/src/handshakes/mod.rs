//! `weir-load handshakes`: TLS handshakes and nothing else, either a few at any time, each ended as
//! soon as it is through, or very many at once. Here are the order of events and the report; what
//! happens on the connections is counted in `shakes`.

mod shakes;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::args::{TargetArgs, parse_duration};
use crate::clock;
use crate::echo::Latency;
use crate::fleet::{Fleet, loopback_sources};
use crate::procfs::{Span, Spent};

use self::shakes::Shakes;

/// What `weir-load handshakes` is to do.
#[derive(Args, Clone, Debug)]
pub(crate) struct HandshakesArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Handshakes under way, or of one storm
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    connections: u32,
    /// Take up earlier sessions again
    #[arg(long)]
    resume: bool,
    /// Begin all at once, hang up when they are through, and begin again
    #[arg(long)]
    storm: bool,
    /// How many of a storm stop in the middle of their first message
    #[arg(long, default_value_t = 0, requires = "storm")]
    stalled: u32,
    /// Length of the measured window
    #[arg(long, default_value = "2.5s", value_parser = parse_duration)]
    duration: Duration,
    /// Time under load before the window (storms have none)
    #[arg(long, default_value = "0.5s", value_parser = parse_duration)]
    warmup: Duration,
    /// The server's process, to report its processor time
    #[arg(long)]
    server_pid: Option<u32>,
}

/// What was measured in the window.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandshakesReport {
    /// Handshakes under way, or of one storm.
    pub(crate) connections: u32,
    /// Length of the window in seconds.
    pub(crate) seconds: f64,
    /// Whole handshakes.
    pub(crate) full: u64,
    /// Handshakes that took up an earlier session.
    pub(crate) resumed: u64,
    /// Both a second.
    pub(crate) per_second: f64,
    /// Connections that could not be opened, or did not end as they should, by what happened.
    pub(crate) failed: BTreeMap<String, u64>,
    /// From the connect to the end of the handshake, in microseconds.
    pub(crate) time_us: Latency,
    /// Suite and key exchange of the first.
    pub(crate) negotiated: Option<String>,
    /// Seconds of each storm, from the first connect to the last handshake.
    pub(crate) storms: Vec<f64>,
    /// The generator's share of one processor.
    pub(crate) client_share: f64,
    /// Processors used by what is neither server nor generator; meaningless without `server`.
    pub(crate) other_cores: f64,
    /// The server's processor time.
    pub(crate) server: Option<HandshakeShare>,
}

/// Processor time of the server over the window.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandshakeShare {
    /// Microseconds a handshake, in user mode and in the kernel, with accept and close.
    pub(crate) us_per_handshake: f64,
    /// Share of one processor.
    pub(crate) share: f64,
}

/// How long the last connections may take to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A storm that is not over by then is reported as it is.
const STORM_TIMEOUT: Duration = Duration::from_secs(30);
const TURN: Duration = Duration::from_millis(50);
/// Closed connections keep their ports for a minute, so more addresses are used than are open.
const PORTS_WANTED: usize = 200_000;

/// Runs and prints the report as one JSON object.
///
/// # Errors
/// When no socket can be made, or no handshake succeeds.
pub(crate) fn main(args: &HandshakesArgs) -> Result<()> {
    ensure!(args.target.tls.tls, "handshakes are of TLS: --tls --ca FILE");
    ensure!(args.stalled < args.connections, "--stalled leaves nobody who is not");
    let mut target = args.target.resolve()?;
    if args.resume {
        target.tls = target.tls.map(|tls| tls.resuming());
    }
    let sources = loopback_sources(target.address, PORTS_WANTED, 200);
    let mut fleet = Fleet::new(target, sources)?;
    let mut shakes = Shakes::new(args.connections, args.stalled, !args.storm);
    let report = if args.storm {
        storms(args, &mut fleet, &mut shakes)
    } else {
        steadily(args, &mut fleet, &mut shakes)
    }?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    let failure = fleet.failure().unwrap_or("none told why");
    ensure!(report.full + report.resumed > 0, "no handshake succeeded: {failure}");
    Ok(())
}

/// As many as are wanted under way at any time.
fn steadily(
    args: &HandshakesArgs,
    fleet: &mut Fleet,
    shakes: &mut Shakes,
) -> Result<HandshakesReport> {
    for _ in 0..args.connections {
        shakes.dial(fleet)?;
    }
    keep_up(fleet, shakes, args.warmup)?;
    shakes.forget_counts();
    let span = Span::start(args.server_pid)?;
    let seconds = keep_up(fleet, shakes, args.duration)?.as_secs_f64();
    Ok(report(args, shakes, seconds, &span.end()?))
}

fn keep_up(fleet: &mut Fleet, shakes: &mut Shakes, length: Duration) -> Result<Duration> {
    let start = clock::now();
    loop {
        let elapsed = start.elapsed();
        if elapsed >= length {
            return Ok(elapsed);
        }
        fleet.turn(Some(TURN), shakes).context("the handshakes")?;
        shakes.redial(fleet)?;
    }
}

/// All at once, again and again until the time is up; the last storm is seen to its end.
fn storms(
    args: &HandshakesArgs,
    fleet: &mut Fleet,
    shakes: &mut Shakes,
) -> Result<HandshakesReport> {
    let span = Span::start(args.server_pid)?;
    let start = clock::now();
    while start.elapsed() < args.duration {
        let began = clock::now();
        for _ in 0..args.connections {
            shakes.dial(fleet)?;
        }
        turn_until(fleet, shakes, began + STORM_TIMEOUT, |_, shakes| shakes.all_are_through())?;
        shakes.storms.push(began.elapsed().as_secs_f64());
        fleet.close_all(shakes);
        let deadline = clock::now() + CLOSE_TIMEOUT;
        turn_until(fleet, shakes, deadline, |fleet, _| fleet.open_count() == 0)?;
        fleet.clear();
        shakes.start_again();
    }
    Ok(report(args, shakes, start.elapsed().as_secs_f64(), &span.end()?))
}

fn turn_until(
    fleet: &mut Fleet,
    shakes: &mut Shakes,
    deadline: Instant,
    done: impl Fn(&Fleet, &Shakes) -> bool,
) -> Result<()> {
    while !done(fleet, shakes) && clock::now() < deadline {
        fleet.turn(Some(TURN), shakes).context("the storm")?;
    }
    Ok(())
}

fn report(
    args: &HandshakesArgs,
    shakes: &mut Shakes,
    seconds: f64,
    spent: &Spent,
) -> HandshakesReport {
    let counts = std::mem::take(&mut shakes.counts);
    let done = counts.full + counts.resumed;
    let us = |share| counts.times.quantile(share) as f64 / 1000.0;
    HandshakesReport {
        connections: args.connections,
        seconds,
        full: counts.full,
        resumed: counts.resumed,
        per_second: done as f64 / seconds,
        failed: counts.failed,
        time_us: Latency {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            max: counts.times.max() as f64 / 1000.0,
        },
        negotiated: shakes.negotiated.clone(),
        storms: std::mem::take(&mut shakes.storms),
        client_share: spent.own / seconds,
        other_cores: spent.others / seconds,
        server: spent.server.map(|time| HandshakeShare {
            us_per_handshake: time.total() * 1e6 / done as f64,
            share: time.total() / seconds,
        }),
    }
}
