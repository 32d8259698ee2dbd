//! `weir-load fanout`: very many WebSocket subscribers, and publishers that send at a fixed rate, or the
//! next one when everybody has the last. Each delivery is checked; times and the server's processor time
//! are measured over a window.

mod audience;
mod ledger;
mod nats;
mod payload;
mod protocol;
mod report;

use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::args::{TargetArgs, parse_duration};
use crate::channels;
use crate::clock;
use crate::fleet::{Fleet, Target, loopback_sources};
use crate::pace::Pace;
use crate::procfs::Span;
use crate::tls::TlsArgs;
use crate::wire::Wire;

use self::audience::Audience;
use self::ledger::Measured;

pub(crate) use self::protocol::Protocol;
pub(crate) use self::report::FanoutReport;

/// What `weir-load fanout` is to do.
#[derive(Args, Clone, Debug)]
pub(crate) struct FanoutArgs {
    /// The server, as HOST:PORT
    #[arg(long, value_name = "HOST:PORT")]
    addr: String,
    /// What is spoken to it
    #[arg(long, value_enum, default_value = "channels")]
    protocol: Protocol,
    /// The path that subscribers upgrade on
    #[arg(long, default_value = channels::PATH)]
    path: String,
    /// The path that publishers upgrade on, if it is another
    #[arg(long)]
    publish_path: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Subscribers, each of one channel
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Channels, each with as many subscribers as the others
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    channels: u32,
    /// Connections that publish, each into its share of the channels
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    publishers: u16,
    /// Publications under way in each channel: the next goes out when everybody has the oldest
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    window: u32,
    /// Publications a second in each channel, in place of --window
    #[arg(long, conflicts_with = "window", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: Option<u64>,
    /// Bytes of a publication's payload
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(payload::SIZE_MIN..=10_000))]
    size: u32,
    /// Length of the measured window
    #[arg(long, default_value = "2.5s", value_parser = parse_duration)]
    duration: Duration,
    /// Time under load before the window
    #[arg(long, default_value = "0.5s", value_parser = parse_duration)]
    warmup: Duration,
    /// The server's process, to report its processor time
    #[arg(long)]
    server_pid: Option<u32>,
}

/// How many there are. Subscriber `i` has channel `i % channels`; the publishers share the channels in
/// the same way.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    subscribers: usize,
    channels: usize,
    publishers: usize,
    /// Bytes of a payload.
    size: usize,
}

const OPENING_MAX: usize = 128;
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(20);
/// For servers that do not say when a subscription is made.
const SETTLE: Duration = Duration::from_millis(300);
/// How long deliveries may still come in after the last publication.
const LAST_DELIVERIES_TIMEOUT: Duration = Duration::from_secs(5);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
const TURN: Duration = Duration::from_millis(50);

/// Runs the load and prints the report as one JSON object.
///
/// # Errors
/// When connections or subscriptions cannot be made, and after the report when a delivery was wrong.
/// One that was dropped is a figure, not an error.
pub(crate) fn main(args: &FanoutArgs) -> Result<()> {
    let report = run(args)?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    ensure!(report.wrong == 0, "{} wrong deliveries", report.wrong);
    Ok(())
}

fn run(args: &FanoutArgs) -> Result<FanoutReport> {
    let mut audience = Audience::new(args.protocol, args.numbers());
    let mut fleet = gather(args, &mut audience)?;
    let mut publisher = Publisher::start(args, &mut fleet, &mut audience)?;
    publisher.drive(&mut fleet, &mut audience, args.warmup)?;
    audience.ledger.measured = Measured::default();
    let span = Span::start(args.server_pid)?;
    let seconds = publisher.drive(&mut fleet, &mut audience, args.duration)?.as_secs_f64();
    let spent = span.end()?;
    let measured = std::mem::take(&mut audience.ledger.measured);
    finish(&mut fleet, &mut audience)?;
    Ok(report::of(args, &audience, &measured, seconds, &spent))
}

/// Connects and subscribes everybody, and then connects the publishers.
fn gather(args: &FanoutArgs, audience: &mut Audience) -> Result<Fleet> {
    let numbers = args.numbers();
    let target = args.target()?;
    // Ports of the run before are not to be had again at once, so each process has a block.
    let block = (std::process::id() % 250) as u8 + 1;
    let sources = loopback_sources(target.address, numbers.subscribers, block);
    let mut fleet = Fleet::new(target, sources)?;
    open(&mut fleet, audience, numbers.subscribers)?;
    if let Some(path) = &args.publish_path {
        fleet.set_path(path);
    }
    open(&mut fleet, audience, numbers.publishers)?;
    turn_for(&mut fleet, audience, SETTLE, |_| false)?;
    Ok(fleet)
}

/// Opens so many more connections and waits until each may be used.
fn open(fleet: &mut Fleet, audience: &mut Audience, count: usize) -> Result<()> {
    let wanted = fleet.len() + count;
    fleet.open(count, OPENING_MAX, OPEN_TIMEOUT, audience)?;
    let refused = wanted - fleet.open_count();
    ensure!(refused == 0, "{refused} of {wanted} connections were refused or closed");
    turn_for(fleet, audience, SUBSCRIBE_TIMEOUT, |audience| {
        audience.ready_count() == wanted || audience.complaint().is_some()
    })?;
    if let Some(complaint) = audience.complaint() {
        bail!("the server said {complaint}");
    }
    let ready = audience.ready_count();
    ensure!(
        ready == wanted,
        "{ready} of {wanted} connections were of use in {SUBSCRIBE_TIMEOUT:?}"
    );
    Ok(())
}

fn turn_for(
    fleet: &mut Fleet,
    audience: &mut Audience,
    timeout: Duration,
    done: impl Fn(&Audience) -> bool,
) -> Result<()> {
    let deadline = clock::now() + timeout;
    while !done(audience) && clock::now() < deadline {
        fleet.turn(Some(TURN), audience)?;
    }
    Ok(())
}

/// What decides when publications go out.
enum Publisher {
    /// When they are due; channel by channel.
    Paced { pace: Pace, channels: u64 },
    /// When everybody has an earlier one of the same channel.
    Released,
}

impl Publisher {
    fn start(args: &FanoutArgs, fleet: &mut Fleet, audience: &mut Audience) -> Result<Self> {
        let channels = u64::from(args.channels);
        if let Some(rate) = args.rate {
            let pace = Pace::start(rate * channels)?;
            fleet.watch(pace.as_raw_fd())?;
            return Ok(Self::Paced { pace, channels });
        }
        for _ in 0..args.window {
            let now = clock::now();
            audience.publish(fleet, (0..args.channels).map(|channel| (channel, now)));
        }
        Ok(Self::Released)
    }

    /// Goes on for `length` and returns how long it took.
    fn drive(
        &mut self,
        fleet: &mut Fleet,
        audience: &mut Audience,
        length: Duration,
    ) -> Result<Duration> {
        let start = clock::now();
        loop {
            let elapsed = start.elapsed();
            if elapsed >= length {
                return Ok(elapsed);
            }
            fleet.turn(Some(length - elapsed), audience)?;
            let (released, now) = (audience.ledger.take_released(), clock::now());
            match self {
                Self::Paced { pace, channels } => {
                    let due = pace.due(now).map(|(number, at)| ((number % *channels) as u32, at));
                    audience.publish(fleet, due);
                }
                Self::Released => {
                    audience.publish(fleet, released.into_iter().map(|channel| (channel, now)));
                }
            }
            if fleet.open_count() == 0 {
                bail!("the server closed every connection");
            }
        }
    }
}

/// Waits for the deliveries that are missing, and ends all connections as a polite peer does.
fn finish(fleet: &mut Fleet, audience: &mut Audience) -> Result<()> {
    let all_came = |audience: &Audience| audience.ledger.missing() == 0;
    turn_for(fleet, audience, LAST_DELIVERIES_TIMEOUT, all_came).context("the last deliveries")?;
    audience.ledger.dropped += audience.ledger.missing();
    audience.start_closing();
    fleet.close_all(audience);
    let deadline = clock::now() + CLOSE_TIMEOUT;
    while fleet.open_count() > 0 && clock::now() < deadline {
        fleet.turn(Some(TURN), audience).context("the closes")?;
    }
    Ok(())
}

impl FanoutArgs {
    fn numbers(&self) -> Numbers {
        Numbers {
            subscribers: self.subscribers,
            channels: self.channels as usize,
            publishers: self.publishers.into(),
            size: self.size as usize,
        }
    }

    fn target(&self) -> Result<Target> {
        let (addr, path, tls) = (self.addr.clone(), self.path.clone(), self.tls.clone());
        TargetArgs { wire: Wire::Ws, addr, path, tls }.resolve()
    }
}
