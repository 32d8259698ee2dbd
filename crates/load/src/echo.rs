//! `weir-load echo`: messages to an echo server, each answer checked, times and processor time
//! measured over a window. In a closed loop each answer releases the next message; in an open loop
//! messages go out at a fixed rate, and their times count from when they were due.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::args::{TargetArgs, parse_duration};
use crate::clock;
use crate::fleet::{End, Fleet, Load, loopback_sources};
use crate::histogram::Histogram;
use crate::pace::Pace;
use crate::procfs::{ProcessorTime, Span, Spent};
use crate::wire::Wire;

/// What `weir-load echo` is to do.
#[derive(Args, Clone, Debug)]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Connections to open
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Messages under way on each connection (closed loop)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    depth: u16,
    /// Messages a second over all connections (open loop, in place of --depth)
    #[arg(long, conflicts_with = "depth", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Option<u64>,
    /// Bytes of a message, without what the wire adds
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(16..=100_000))]
    size: u32,
    /// Length of the measured window
    #[arg(long, default_value = "2.5s", value_parser = parse_duration)]
    duration: Duration,
    /// Time under load before the window
    #[arg(long, default_value = "0.5s", value_parser = parse_duration)]
    warmup: Duration,
    /// What the server puts before each message it echoes
    #[arg(long, default_value = "")]
    reply_prefix: String,
    /// The server's process, to report its processor time
    #[arg(long)]
    server_pid: Option<u32>,
}

/// What was measured. Counts and times are those of the window unless they say otherwise.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EchoReport {
    /// How messages were told apart.
    pub(crate) wire: Wire,
    /// Whether they were sent in TLS.
    pub(crate) tls: bool,
    /// Connections opened.
    pub(crate) connections: usize,
    /// Messages under way on each connection; absent in an open loop.
    pub(crate) depth: Option<u16>,
    /// Messages a second asked for; absent in a closed loop.
    pub(crate) rate: Option<u64>,
    /// Bytes of a message.
    pub(crate) size: u32,
    /// Length of the window in seconds.
    pub(crate) seconds: f64,
    /// Right answers.
    pub(crate) messages: u64,
    /// Right answers a second.
    pub(crate) messages_per_second: f64,
    /// Bytes of right answers, without what the wire adds.
    pub(crate) bytes: u64,
    /// Messages sent from the first to the last, warm-up included.
    pub(crate) sent_total: u64,
    /// Right answers from the first to the last, warm-up included.
    pub(crate) received_total: u64,
    /// Wrong or unexpected answers, answers that never came, and connections lost, of the whole run.
    pub(crate) errors: u64,
    /// Messages of an open loop not sent because their connection had too many under way.
    pub(crate) withheld: u64,
    /// Times from sending (open loop: from when it was due) to the answer, in microseconds.
    pub(crate) latency_us: Latency,
    /// The generator's share of one processor.
    pub(crate) client_share: f64,
    /// Processors used by what is neither server nor generator; meaningless without `server`.
    pub(crate) other_cores: f64,
    /// Whether the generator had no processor time left, so that the server was not the limit.
    pub(crate) client_was_the_limit: bool,
    /// The server's processor time.
    pub(crate) server: Option<ServerShare>,
}

/// Quantiles in microseconds, within 1/64.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// Processor time of the server over the window.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerShare {
    /// Microseconds a message, in user mode and in the kernel.
    pub(crate) us_per_message: f64,
    /// The part in user mode.
    pub(crate) user_us_per_message: f64,
    /// Share of one processor.
    pub(crate) share: f64,
}

/// A generator that uses this share of its processor has nothing left to give.
const BUSY: f64 = 0.95;
/// In an open loop, more than this under way on a connection says that the server is far behind.
const UNDER_WAY_MAX: usize = 1024;
const OPENING_MAX: usize = 128;
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long answers may still come in after the last message.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the load and prints the report as one JSON object.
///
/// # Errors
/// When connections cannot be opened, and after the report when an answer was wrong or missing.
pub(crate) fn main(args: &EchoArgs) -> Result<()> {
    ensure!(args.target.wire != Wire::Sse, "nobody echoes on --wire sse");
    let report = run(args)?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    ensure!(report.errors == 0, "{} errors", report.errors);
    Ok(())
}

fn run(args: &EchoArgs) -> Result<EchoReport> {
    let target = args.target.resolve()?;
    let sources = loopback_sources(target.address, args.connections, 1);
    let mut exchange = Exchange::new(args);
    let mut fleet = Fleet::new(target, sources)?;
    fleet.open(args.connections, OPENING_MAX, OPEN_TIMEOUT, &mut exchange)?;
    ensure!(
        fleet.open_count() == args.connections,
        "{} of {} connections were refused{}",
        args.connections - fleet.open_count(),
        args.connections,
        fleet.failure().map_or_else(String::new, |failure| format!(": {failure}"))
    );
    let mut pace = args.rate.map(Pace::start).transpose()?;
    if let Some(pace) = &pace {
        fleet.watch(pace.as_raw_fd())?;
    } else {
        exchange.prime(&mut fleet, args.depth);
    }
    drive(&mut fleet, &mut exchange, pace.as_mut(), args.warmup)?;
    exchange.measured = Measured::default();
    let span = Span::start(args.server_pid)?;
    let seconds = drive(&mut fleet, &mut exchange, pace.as_mut(), args.duration)?.as_secs_f64();
    let spent = span.end()?;
    let measured = std::mem::take(&mut exchange.measured);
    exchange.finish(&mut fleet)?;
    exchange.close(&mut fleet)?;
    Ok(report(args, &exchange, &measured, seconds, &spent))
}

/// Turns the fleet for `length` and returns how long it took.
fn drive(
    fleet: &mut Fleet,
    exchange: &mut Exchange,
    mut pace: Option<&mut Pace>,
    length: Duration,
) -> Result<Duration> {
    let start = clock::now();
    loop {
        let elapsed = start.elapsed();
        if elapsed >= length {
            return Ok(elapsed);
        }
        fleet.turn(Some(length - elapsed), exchange)?;
        if let Some(pace) = &mut pace {
            for (index, due) in pace.due(clock::now()) {
                exchange.send_due(fleet, index, due);
            }
        }
        if fleet.open_count() == 0 {
            bail!("the server closed every connection");
        }
    }
}

fn report(
    args: &EchoArgs,
    exchange: &Exchange,
    measured: &Measured,
    seconds: f64,
    spent: &Spent,
) -> EchoReport {
    let messages = measured.messages;
    let us = |share| measured.latency.quantile(share) as f64 / 1000.0;
    let server = spent.server.map(|time: ProcessorTime| ServerShare {
        us_per_message: time.total() * 1e6 / messages as f64,
        user_us_per_message: time.user * 1e6 / messages as f64,
        share: time.total() / seconds,
    });
    let client_share = spent.own / seconds;
    let server_busy = server.as_ref().is_some_and(|server| server.share >= BUSY);
    EchoReport {
        wire: args.target.wire,
        tls: args.target.tls.tls,
        connections: args.connections,
        depth: args.rate.is_none().then_some(args.depth),
        rate: args.rate,
        size: args.size,
        seconds,
        messages,
        messages_per_second: messages as f64 / seconds,
        bytes: messages * u64::from(args.size),
        sent_total: exchange.sent,
        received_total: exchange.received,
        errors: exchange.errors,
        withheld: exchange.withheld,
        latency_us: Latency {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            max: measured.latency.max() as f64 / 1000.0,
        },
        client_share,
        other_cores: spent.others / seconds,
        client_was_the_limit: client_share >= BUSY && !server_busy,
        server,
    }
}

/// What is counted in the window only.
#[derive(Default)]
struct Measured {
    messages: u64,
    latency: Histogram,
}

/// Messages under way on one connection.
#[derive(Default)]
struct Lane {
    /// When each was sent or due, the oldest first.
    sent_at: VecDeque<Instant>,
    /// The number of the oldest.
    expected: u64,
}

/// The messages of all connections: what was sent and what must come back.
struct Exchange {
    wire: Wire,
    prefix: Vec<u8>,
    /// The message last built; only its first [`HEAD`] bytes change.
    message: Vec<u8>,
    lanes: Vec<Lane>,
    /// Whether an answer releases the next message.
    closed_loop: bool,
    /// Whether the connections are to end.
    closing: bool,
    sent: u64,
    received: u64,
    errors: u64,
    withheld: u64,
    measured: Measured,
}

/// Each message starts with its connection and its number, in hexadecimal.
const HEAD: usize = 16;

impl Exchange {
    fn new(args: &EchoArgs) -> Self {
        let filler = b"abcdefghijklmnopqrstuvwxyz";
        Self {
            wire: args.target.wire,
            prefix: args.reply_prefix.clone().into_bytes(),
            message: filler.iter().copied().cycle().take(args.size as usize).collect(),
            lanes: (0..args.connections).map(|_| Lane::default()).collect(),
            closed_loop: args.rate.is_none(),
            closing: false,
            sent: 0,
            received: 0,
            errors: 0,
            withheld: 0,
            measured: Measured::default(),
        }
    }

    fn prime(&mut self, fleet: &mut Fleet, depth: u16) {
        for index in 0..self.lanes.len() {
            let mut batch = Vec::new();
            let now = clock::now();
            (0..depth).for_each(|_| self.append(index, now, &mut batch));
            fleet.send(index, self, |out| out.append(&mut batch));
        }
    }

    /// Sends one message of an open loop, unless its connection is too far behind.
    fn send_due(&mut self, fleet: &mut Fleet, index: u64, due: Instant) {
        let index = (index % self.lanes.len() as u64) as usize;
        if self.lanes[index].sent_at.len() >= UNDER_WAY_MAX {
            self.withheld += 1;
            return;
        }
        let mut one = Vec::with_capacity(self.message.len() + 14);
        self.append(index, due, &mut one);
        fleet.send(index, self, |out| out.append(&mut one));
    }

    /// Sends no more, and waits for the answers that are missing; those that do not come are errors.
    fn finish(&mut self, fleet: &mut Fleet) -> Result<()> {
        self.closed_loop = false;
        let deadline = clock::now() + LAST_ANSWERS_TIMEOUT;
        let missing = |exchange: &Self| {
            exchange.lanes.iter().map(|lane| lane.sent_at.len() as u64).sum::<u64>()
        };
        while missing(self) > 0 && clock::now() < deadline && fleet.open_count() > 0 {
            fleet.turn(Some(Duration::from_millis(50)), self).context("the last answers")?;
        }
        self.errors += missing(self);
        Ok(())
    }

    /// Ends all connections as a polite peer does.
    fn close(&mut self, fleet: &mut Fleet) -> Result<()> {
        self.closing = true;
        fleet.close_all(self);
        let deadline = clock::now() + CLOSE_TIMEOUT;
        while fleet.open_count() > 0 && clock::now() < deadline {
            fleet.turn(Some(Duration::from_millis(50)), self).context("the closes")?;
        }
        Ok(())
    }

    fn append(&mut self, index: usize, sent_at: Instant, out: &mut Vec<u8>) {
        let lane = &mut self.lanes[index];
        let number = lane.expected + lane.sent_at.len() as u64;
        lane.sent_at.push_back(sent_at);
        self.message[..HEAD].copy_from_slice(&head(index, number));
        self.sent += 1;
        // Any key does that is not always the same one.
        self.wire.encode(&self.message, (self.sent as u32).wrapping_mul(0x9E37_79B9), out);
    }

    fn is_right(&self, index: usize, answer: &[u8]) -> bool {
        let Some(echoed) = answer.strip_prefix(&*self.prefix) else { return false };
        let Some((numbered, filler)) = echoed.split_first_chunk::<HEAD>() else { return false };
        *numbered == head(index, self.lanes[index].expected) && filler == &self.message[HEAD..]
    }
}

impl Load for Exchange {
    fn on_message(&mut self, index: usize, answer: &[u8], now: Instant, out: &mut Vec<u8>) {
        if !self.is_right(index, answer) {
            self.errors += 1;
        }
        let lane = &mut self.lanes[index];
        let Some(sent_at) = lane.sent_at.pop_front() else { return };
        lane.expected += 1;
        self.received += 1;
        self.measured.messages += 1;
        self.measured.latency.record(now.saturating_duration_since(sent_at).as_nanos() as u64);
        if self.closed_loop {
            self.append(index, now, out);
        }
    }

    fn on_end(&mut self, index: usize, end: End) {
        // Before the first message, a refusal is reported by the opening.
        if end != End::Refused && !self.closing {
            self.errors += 1;
        }
        self.errors += self.lanes[index].sent_at.drain(..).count() as u64;
    }
}

/// Eight hexadecimal digits of the connection, eight of the message's number.
fn head(index: usize, number: u64) -> [u8; HEAD] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let value = (index as u64) << 32 | (number & 0xFFFF_FFFF);
    std::array::from_fn(|digit| DIGITS[(value >> (60 - 4 * digit)) as usize & 0xF])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        echo: EchoArgs,
    }

    fn exchange(args: &[&str]) -> Exchange {
        let all = ["echo", "--wire", "lines", "--addr", "127.0.0.1:1", "--size", "20"];
        Exchange::new(&Cli::parse_from(all.iter().chain(args)).echo)
    }

    /// Sends one message on connection 3 and counts the errors after this answer.
    fn errors_after(exchange: &mut Exchange, answer: &[u8]) -> u64 {
        exchange.closed_loop = false;
        let mut out = Vec::new();
        exchange.append(3, clock::now(), &mut out);
        assert_eq!(out, b"0000000300000000qrst\n");
        exchange.on_message(3, answer, clock::now(), &mut out);
        exchange.errors
    }

    #[test]
    fn only_the_very_message_is_a_right_answer() {
        assert_eq!(errors_after(&mut exchange(&[]), b"0000000300000000qrst"), 0);
        for wrong in ["0000000300000001qrst", "0000000300000000qrsT", "0000000300000000qrs", "x"] {
            assert_eq!(errors_after(&mut exchange(&[]), wrong.as_bytes()), 1, "{wrong}");
        }
    }

    #[test]
    fn the_reply_prefix_is_part_of_the_answer() {
        let with = || exchange(&["--reply-prefix", "received: "]);
        assert_eq!(errors_after(&mut with(), b"received: 0000000300000000qrst"), 0);
        assert_eq!(errors_after(&mut with(), b"0000000300000000qrst"), 1);
    }

    #[test]
    fn a_lost_connection_loses_its_messages_too() {
        let mut exchange = exchange(&[]);
        let mut out = Vec::new();
        exchange.append(0, clock::now(), &mut out);
        exchange.append(0, clock::now(), &mut out);
        exchange.on_end(0, End::Reset);
        assert_eq!(exchange.errors, 3);
    }
}
