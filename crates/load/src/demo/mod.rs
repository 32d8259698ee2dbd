//! `weir-load demo`: what the demo page shows. Sensors and somebody who chats are devices over raw TCP,
//! quotes come over the server API. It sends at a fixed rate, never ahead of what it is owed, and
//! goes on when the server comes back.

mod api;
mod bot;
mod device;
mod link;
mod noise;
mod quotes;
mod sensors;

use std::iter::Sum;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::clock;

use self::bot::Bot;
use self::quotes::Quotes;
use self::sensors::Sensors;

/// What `weir-load demo` is to do.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArgs {
    /// Where channels are spoken in lines of JSON, as HOST:PORT
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7004")]
    lines: String,
    /// Where the server API of channels is, as HOST:PORT
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    api: String,
    /// The key of the server API, where it wants one
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Readings of each sensor a second
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    readings: u32,
    /// Publications of quotes a second
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    quotes: u32,
    /// End after so many seconds; without it Ctrl-C does
    #[arg(long)]
    seconds: Option<u32>,
}

/// How often everything has its turn.
const TURN: Duration = Duration::from_millis(5);
/// How long the last acknowledgements are waited for.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// What came of publications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    /// That were sent.
    sent: u64,
    /// Of them, those that the server took.
    acknowledged: u64,
    /// Of them, those that it did not.
    refused: u64,
    /// Connections that were made, the first ones too.
    connections: u64,
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            sent: sum.sent + one.sent,
            acknowledged: sum.acknowledged + one.acknowledged,
            refused: sum.refused + one.refused,
            connections: sum.connections + one.connections,
        })
    }
}

/// What is printed in the end.
#[derive(Debug, Serialize)]
struct Report {
    seconds: f64,
    readings: Counts,
    quotes: Counts,
    messages: Counts,
}

/// Feeds until it is time or a signal comes, and prints what came of it as one JSON object.
///
/// # Errors
/// A name without an address; after the report, when the server refused something.
pub(crate) fn main(args: &DemoArgs) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot hear signals")?;
    }
    let report = feed(args, &stop)?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    let refused = report.readings.refused + report.quotes.refused + report.messages.refused;
    ensure!(refused == 0, "{refused} publications were refused");
    Ok(())
}

fn feed(args: &DemoArgs, stop: &AtomicBool) -> Result<Report> {
    let (lines, api) = (resolve(&args.lines)?, resolve(&args.api)?);
    let begun = clock::now();
    let end = args.seconds.map(|seconds| begun + Duration::from_secs(seconds.into()));
    let mut sensors = Sensors::new(lines, args.readings, begun);
    let mut quotes = Quotes::new(&args.api, api, args.api_key.as_deref(), args.quotes, begun);
    let mut bot = Bot::new(lines, begun);
    while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| clock::now() < end) {
        let now = clock::now();
        sensors.turn(now);
        quotes.turn(now);
        bot.turn(now, &sensors, &quotes);
        std::thread::sleep(TURN);
    }
    let fed = clock::now().saturating_duration_since(begun);
    let deadline = clock::now() + LAST_WORDS_TIMEOUT;
    sensors.finish(deadline);
    quotes.finish(deadline);
    bot.finish(deadline);
    Ok(Report {
        seconds: fed.as_secs_f64(),
        readings: sensors.counts(),
        quotes: quotes.counts(),
        messages: bot.counts(),
    })
}

fn resolve(name: &str) -> Result<SocketAddr> {
    let mut addresses = name.to_socket_addrs().with_context(|| name.to_owned())?;
    addresses.next().with_context(|| format!("{name} has no address"))
}

/// When something that happens so often a second is due. What was missed is not made up for.
struct Metronome {
    interval: Duration,
    next: Instant,
}

impl Metronome {
    /// The first time is one interval after `now`.
    fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, next: now + interval }
    }

    /// Whether it is due; if so, until the next time it is not.
    fn is_due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = (self.next + self.interval).max(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let begun = clock::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut metronome = Metronome::new(Duration::from_millis(100), begun);
        let due = [50, 100, 150, 1000, 1001, 1100].map(|millis| metronome.is_due(at(millis)));
        assert_eq!(due, [false, true, false, true, true, true]);
    }
}
