//! One process of `weir-load idle`: it holds a share of the connections, answers pings, and does
//! what the process that started it orders, a line of JSON at a time. It measures no server.

use std::collections::BTreeMap;
use std::io::{BufRead, stdin};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::subscriber::Subscriber;
use crate::args::TargetArgs;
use crate::clock;
use crate::fleet::{End, Fleet, Load, Target, loopback_sources};
use crate::wire::Wire;

/// What a part must know from its start.
#[derive(Args, Clone, Debug)]
pub(crate) struct PartArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Subscribe each connection to one of so many channels
    #[arg(long)]
    pub(crate) channels: Option<usize>,
}

/// One order; each is answered by one [`Answer`] when it is done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Open so many connections, and have their subscriptions made, from local addresses of this block.
    Open {
        /// Connections.
        count: usize,
        /// Third byte of the local addresses, if the server is on loopback.
        block: u8,
    },
    /// Send one message on each connection and wait for the answers.
    Message,
    /// Do nothing but answer pings for so many seconds.
    Rest {
        /// How long.
        seconds: f64,
    },
    /// Close all connections and wait for the server's side of it.
    Close,
    /// Wait until the server has closed all connections, at most so many seconds.
    Watch {
        /// The longest wait.
        seconds: f64,
    },
}

/// What came of an order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Connections that are open now.
    pub(crate) open: usize,
    /// Seconds that the order took.
    pub(crate) seconds: f64,
    /// Right answers since the order came.
    pub(crate) right: u64,
    /// Messages since the order came that are none, such as heartbeat lines.
    pub(crate) other: u64,
    /// Pings since the connections were opened.
    pub(crate) pings: u64,
    /// Ends since the order came, by kind.
    pub(crate) ends: BTreeMap<String, u64>,
    /// When each of them came, in seconds since the order, in order.
    pub(crate) ended_at: Vec<f64>,
}

const MESSAGE: [u8; 128] = [b'm'; 128];
const OPENING_MAX: usize = 128;
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
const TURN: Duration = Duration::from_millis(100);

/// Obeys orders until its input ends.
pub(crate) fn main(args: &PartArgs) -> Result<()> {
    let mut part = Part::new(args.target.resolve()?, args.channels)?;
    loop {
        if !part.fleet.turn(None, &mut part.quiet)? {
            continue;
        }
        let mut line = String::new();
        if stdin().lock().read_line(&mut line)? == 0 {
            return Ok(());
        }
        let order = serde_json::from_str(&line).with_context(|| line.clone())?;
        println!("{}", serde_json::to_string(&part.obey(order)?)?);
    }
}

struct Part {
    target: Target,
    fleet: Fleet,
    quiet: Quiet,
}

impl Part {
    fn new(target: Target, channels: Option<usize>) -> Result<Self> {
        let fleet = Fleet::new(target.clone(), Vec::new())?;
        fleet.watch(stdin().as_raw_fd())?;
        let subscriber = channels.map(|channels| Subscriber::new(channels, &target)).transpose()?;
        ensure!(subscriber.is_some() || target.wire != Wire::Sse, "--wire sse needs --channels");
        Ok(Self { target, fleet, quiet: Quiet::new(subscriber) })
    }

    fn obey(&mut self, order: Order) -> Result<Answer> {
        self.quiet.start_order();
        match order {
            Order::Open { count, block } => {
                self.quiet.begin_round();
                self.fleet.set_sources(loopback_sources(self.target.address, count, block));
                self.fleet.open(count, OPENING_MAX, OPEN_TIMEOUT, &mut self.quiet)?;
                self.have_subscribed()?;
            }
            Order::Message => {
                let open = self.fleet.open_count() as u64;
                for index in 0..self.fleet.len() {
                    self.fleet.send(index, &mut self.quiet, |out| {
                        self.target.wire.encode(&MESSAGE, index as u32, out);
                    });
                }
                self.turn_until(ANSWERS_TIMEOUT, |part| part.quiet.right >= open)?;
            }
            Order::Rest { seconds } => {
                self.turn_until(Duration::from_secs_f64(seconds), |_| false)?;
            }
            Order::Close => {
                self.fleet.close_all(&mut self.quiet);
                self.turn_until(CLOSE_TIMEOUT, |part| part.fleet.open_count() == 0)?;
                self.fleet.clear();
            }
            Order::Watch { seconds } => {
                let timeout = Duration::from_secs_f64(seconds);
                self.turn_until(timeout, |part| part.fleet.open_count() == 0)?;
            }
        }
        Ok(self.quiet.answer(self.fleet.open_count()))
    }

    fn have_subscribed(&mut self) -> Result<()> {
        let open = self.fleet.open_count() as u64;
        self.turn_until(ANSWERS_TIMEOUT, |part| {
            // Those that have ended meanwhile are no longer waited for, and missed below.
            let left = part.fleet.open_count() as u64;
            let subscriber = part.quiet.subscriber.as_ref();
            subscriber.is_none_or(|it| it.subscribed >= left || it.refused.is_some())
        })?;
        let Some(Subscriber { subscribed, refused, .. }) = &self.quiet.subscriber else {
            return Ok(());
        };
        ensure!(*subscribed == open, "{subscribed} of {open} subscribed; refused: {refused:?}");
        Ok(())
    }

    fn turn_until(&mut self, timeout: Duration, done: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = clock::now() + timeout;
        while !done(self) && clock::now() < deadline {
            self.fleet.turn(Some(TURN), &mut self.quiet)?;
        }
        Ok(())
    }
}

/// Counts what happens on connections that are mostly idle.
struct Quiet {
    /// If connections are to subscribe.
    subscriber: Option<Subscriber>,
    ordered_at: Instant,
    right: u64,
    other: u64,
    pings: u64,
    ends: BTreeMap<String, u64>,
    ended_at: Vec<f64>,
}

impl Quiet {
    fn new(subscriber: Option<Subscriber>) -> Self {
        Self {
            subscriber,
            ordered_at: clock::now(),
            right: 0,
            other: 0,
            pings: 0,
            ends: BTreeMap::new(),
            ended_at: Vec::new(),
        }
    }

    /// Forgets the connections of the round before.
    fn begin_round(&mut self) {
        self.pings = 0;
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.subscribed = 0;
        }
    }

    fn start_order(&mut self) {
        *self = Self { pings: self.pings, ..Self::new(self.subscriber.take()) };
    }

    fn answer(&mut self, open: usize) -> Answer {
        Answer {
            open,
            seconds: self.ordered_at.elapsed().as_secs_f64(),
            right: self.right,
            other: self.other,
            pings: self.pings,
            ends: std::mem::take(&mut self.ends),
            ended_at: std::mem::take(&mut self.ended_at),
        }
    }
}

impl Load for Quiet {
    fn first(&mut self, index: usize, out: &mut Vec<u8>) {
        if let Some(subscriber) = &self.subscriber {
            subscriber.begin(index, out);
        }
    }

    fn on_message(&mut self, index: usize, message: &[u8], _: Instant, out: &mut Vec<u8>) {
        if let Some(subscriber) = &mut self.subscriber {
            let heard = subscriber.hear(index, message, out);
            self.pings += heard.pings;
            self.other += heard.publications;
            return;
        }
        // The reply template may put something before the message.
        if message.ends_with(&MESSAGE) {
            self.right += 1;
        } else {
            self.other += 1;
        }
    }

    fn on_ping(&mut self) {
        self.pings += 1;
    }

    fn on_end(&mut self, _: usize, end: End) {
        *self.ends.entry(end.label()).or_default() += 1;
        self.ended_at.push(self.ordered_at.elapsed().as_secs_f64());
    }
}
