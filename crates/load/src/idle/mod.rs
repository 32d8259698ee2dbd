//! `weir-load idle`: very many connections that do next to nothing, and what they cost the server:
//! memory, processor time, and how it closes them. The connections are held by processes of their
//! own ([`crew`], [`part`]); here is only the order of events and the report.

mod crew;
mod part;
mod pongs;
mod subscriber;

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::args::{TargetArgs, parse_duration};
use crate::clock;
use crate::procfs::{ProcessorTime, resident_bytes};

use self::crew::Crew;
use self::part::{Answer, Order};

pub(crate) use self::part::{PartArgs, main as part_main};

/// What `weir-load idle` is to do.
#[derive(Args, Clone, Debug)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Subscribe each connection to one of so many channels (with --wire ws or sse, and weir's --path of it)
    #[arg(long, conflicts_with = "one_message")]
    pub(crate) channels: Option<usize>,
    /// Connections to open
    #[arg(long, default_value_t = 19_000)]
    pub(crate) connections: usize,
    /// The server's process
    #[arg(long)]
    pub(crate) server_pid: u32,
    /// Rest before the memory is looked at again
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub(crate) hold: Duration,
    /// Time for the server to finish opening or closing before its memory is looked at
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub(crate) settle: Duration,
    /// Send one message on each connection before the rest
    #[arg(long)]
    pub(crate) one_message: bool,
    /// How often to open all connections and close them again
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(crate) cycles: u8,
    /// In the last cycle wait, at most so long, until the server has closed all connections
    #[arg(long, value_parser = parse_duration)]
    pub(crate) until_closed: Option<Duration>,
    /// Send the server SIGTERM for that
    #[arg(long, requires = "until_closed")]
    pub(crate) sigterm: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct IdleReport {
    /// Connections asked for.
    pub(crate) connections: usize,
    /// Processes that held them.
    pub(crate) processes: usize,
    /// One for each time all were opened.
    pub(crate) cycles: Vec<Cycle>,
    /// How the server closed them at the end.
    pub(crate) closing: Option<Closing>,
}

/// All connections opened, rested, and closed. Memory is the server's, in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Cycle {
    /// Connections that were opened.
    pub(crate) opened: usize,
    /// Connections opened a second.
    pub(crate) opened_per_second: f64,
    /// Microseconds of the server's processor time for each connection opened.
    pub(crate) open_us_per_connection: f64,
    /// Memory before the first connection.
    pub(crate) resident_before: u64,
    /// Memory of a connection once all are open.
    pub(crate) bytes_per_connection_open: i64,
    /// The same after one message on each, if one was sent.
    pub(crate) bytes_per_connection_after_message: Option<i64>,
    /// The same after the rest.
    pub(crate) bytes_per_connection_after_rest: i64,
    /// Memory after the rest, with all connections open.
    pub(crate) resident_after_rest: u64,
    /// Right answers to the one message.
    pub(crate) right_answers: Option<u64>,
    /// The server's share of one processor during the rest.
    pub(crate) idle_share: f64,
    /// Pings that came during the cycle.
    pub(crate) pings: u64,
    /// Messages that came during the rest without being asked for, such as heartbeat lines.
    pub(crate) unasked: u64,
    /// Connections that ended before they were asked to.
    pub(crate) lost: BTreeMap<String, u64>,
    /// Memory after all are closed; absent when the server ended.
    pub(crate) resident_after: Option<u64>,
}

/// How the server closed all connections.
#[derive(Debug, Serialize)]
pub(crate) struct Closing {
    /// Seconds from the signal (or the start of watching) to the first end.
    pub(crate) first_seconds: f64,
    /// Seconds to the last end.
    pub(crate) last_seconds: f64,
    /// Ends in each second since the first.
    pub(crate) per_second: Vec<u64>,
    /// The most ends in any second, as a multiple of the average between the first and the last.
    pub(crate) peak_to_average: f64,
    /// Ends by kind.
    pub(crate) ends: BTreeMap<String, u64>,
    /// Connections still open when the time was up.
    pub(crate) left_open: usize,
}

/// Runs and prints the report as one JSON object.
///
/// # Errors
/// When connections cannot be opened, or the server ends before it should.
pub(crate) fn main(args: &IdleArgs) -> Result<()> {
    let report = run(args, || Ok(()))?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// Runs; `at_rest` is called in each cycle when all connections are open and have rested.
///
/// # Errors
/// When connections cannot be opened, or the server ends before it should.
pub(crate) fn run(args: &IdleArgs, mut at_rest: impl FnMut() -> Result<()>) -> Result<IdleReport> {
    let mut crew = Crew::start(&args.target, args.channels, args.connections)?;
    let mut cycles = Vec::new();
    for round in 0..args.cycles {
        let mut cycle = open_and_rest(args, &mut crew, round)?;
        at_rest()?;
        if round + 1 < args.cycles || args.until_closed.is_none() {
            crew.order(Order::Close)?;
            sleep(args.settle);
            cycle.resident_after = Some(resident_bytes(args.server_pid)?);
        }
        cycles.push(cycle);
    }
    let closing = args.until_closed.map(|timeout| watch(args, &mut crew, timeout)).transpose()?;
    Ok(IdleReport { connections: args.connections, processes: crew.len(), cycles, closing })
}

fn open_and_rest(args: &IdleArgs, crew: &mut Crew, round: u8) -> Result<Cycle> {
    let pid = args.server_pid;
    let resident_before = resident_bytes(pid)?;
    let before = ProcessorTime::of(pid)?;
    let opening = crew.open(round)?;
    ensure!(opening.open > 0, "no connection was opened: {:?}", opening.ends);
    sleep(args.settle);
    let spent = ProcessorTime::of(pid)? - before;
    let per_connection = || -> Result<i64> {
        let more = resident_bytes(pid)?.cast_signed() - resident_before.cast_signed();
        Ok(more / opening.open as i64)
    };
    let bytes_per_connection_open = per_connection()?;
    let message = args.one_message.then(|| crew.order(Order::Message)).transpose()?;
    let after_message = message.as_ref().map(|_| per_connection()).transpose()?;
    let (idle_share, state) = rest(args, crew)?;
    let mut lost = opening.ends;
    for (kind, count) in message.iter().chain([&state]).flat_map(|answer| &answer.ends) {
        *lost.entry(kind.clone()).or_default() += count;
    }
    Ok(Cycle {
        opened: opening.open,
        opened_per_second: opening.open as f64 / opening.seconds,
        open_us_per_connection: spent.total() * 1e6 / opening.open as f64,
        resident_before,
        bytes_per_connection_open,
        bytes_per_connection_after_message: after_message,
        bytes_per_connection_after_rest: per_connection()?,
        resident_after_rest: resident_bytes(pid)?,
        right_answers: message.map(|answer| answer.right),
        idle_share,
        pings: state.pings,
        unasked: state.other,
        lost,
        resident_after: None,
    })
}

/// Rests, and returns the server's share of a processor meanwhile, and how things are after it.
fn rest(args: &IdleArgs, crew: &mut Crew) -> Result<(f64, Answer)> {
    let (from, before) = (clock::now(), ProcessorTime::of(args.server_pid)?);
    // What happens meanwhile is counted by the order that lasts as long.
    let state = crew.order(Order::Rest { seconds: args.hold.as_secs_f64() })?;
    let spent = ProcessorTime::of(args.server_pid)? - before;
    Ok((spent.total() / from.elapsed().as_secs_f64().max(0.001), state))
}

fn watch(args: &IdleArgs, crew: &mut Crew, timeout: Duration) -> Result<Closing> {
    crew.give(Order::Watch { seconds: timeout.as_secs_f64() })?;
    if args.sigterm {
        let pid = i32::try_from(args.server_pid).ok().and_then(Pid::from_raw);
        kill_process(pid.context("not a process id")?, Signal::TERM)
            .context("cannot signal the server")?;
    }
    Ok(closing(crew.answers()?))
}

fn closing(answer: Answer) -> Closing {
    let first = answer.ended_at.first().copied().unwrap_or_default();
    let last = answer.ended_at.last().copied().unwrap_or_default();
    let mut per_second = vec![0; (last - first) as usize + 1];
    for at in &answer.ended_at {
        per_second[(at - first) as usize] += 1;
    }
    let average = answer.ended_at.len() as f64 / (last - first).max(1.0);
    let peak = per_second.iter().copied().max().unwrap_or(0);
    Closing {
        first_seconds: first,
        last_seconds: last,
        peak_to_average: peak as f64 / average.max(f64::MIN_POSITIVE),
        per_second,
        ends: answer.ends,
        left_open: answer.open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_counted_by_the_second_from_the_first_on() {
        let ended_at = vec![5.0, 5.5, 6.2, 6.9, 6.95, 7.0];
        let closing = closing(Answer { ended_at, open: 2, ..Answer::default() });
        assert_eq!(closing.per_second, [2, 3, 1]);
        assert_eq!((closing.first_seconds, closing.last_seconds, closing.left_open), (5.0, 7.0, 2));
        assert!((closing.peak_to_average - 1.0).abs() < 1e-9);
    }

    #[test]
    fn no_close_at_all_is_no_peak() {
        assert_eq!(closing(Answer::default()).peak_to_average, 0.0);
    }
}
