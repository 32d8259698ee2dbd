//! Subscribers at rest: what a subscribed WebSocket connection that only answers pings costs weir.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::contenders::{Contender, WEIR};
use super::{CHANNELS, MANY};
use crate::args::TargetArgs;
use crate::bench::Settings;
use crate::bench::server::Server;
use crate::bench::summary::{Target, table};
use crate::channels;
use crate::idle::{self, IdleArgs};
use crate::tls::TlsArgs;
use crate::wire::Wire;

const SETTLE: Duration = Duration::from_secs(2);
/// Longer than weir's interval of pings, so that each subscriber has answered one.
const HOLD: Duration = Duration::from_secs(40);
const BYTES_MAX: f64 = 1_800.0;

/// Measures, prints, and gives what must hold.
///
/// # Errors
/// When weir cannot be started, or a subscriber is lost.
pub(super) fn run(settings: &Settings) -> Result<Vec<Target>> {
    let connections = if settings.quick { 1_000 } else { MANY };
    println!("## {connections} subscribers at rest\n");
    let head = [
        "channels",
        "subscribed a second",
        "µs CPU each",
        "bytes each: subscribed",
        "after the rest",
        "idle CPU %",
        "pings",
    ];
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for channels in CHANNELS {
        let weir = Contender::weir(settings, WEIR).peer;
        let log = settings.output.join("fanout-rest.log");
        let server = Server::start(weir.command(), weir.address, &log, None)?;
        let args = plan(settings, connections, channels, weir.address.to_string(), server.pid());
        let mut report = idle::run(&args, || Ok(()))?;
        let cycle = report.cycles.pop().context("no cycle was run")?;
        ensure!(cycle.lost.is_empty(), "subscribers were lost: {:?}", cycle.lost);
        eprintln!("{connections} subscribers of {channels} channels held");
        let bytes = [cycle.bytes_per_connection_open, cycle.bytes_per_connection_after_rest];
        targets.push(Target {
            what: format!("resident bytes a subscriber over {channels} channels"),
            measured: bytes[0].max(bytes[1]) as f64,
            max: BYTES_MAX,
        });
        rows.push(vec![
            channels.to_string(),
            format!("{:.0}", cycle.opened_per_second),
            format!("{:.1}", cycle.open_us_per_connection),
            bytes[0].to_string(),
            bytes[1].to_string(),
            format!("{:.2}", cycle.idle_share * 100.0),
            cycle.pings.to_string(),
        ]);
    }
    println!("{}", table(&head.map(String::from), &rows));
    Ok(targets)
}

fn plan(
    settings: &Settings,
    connections: usize,
    channels: usize,
    addr: String,
    server_pid: u32,
) -> IdleArgs {
    let quick = settings.quick;
    let path = channels::PATH.into();
    IdleArgs {
        target: TargetArgs { wire: Wire::Ws, addr, path, tls: TlsArgs::default() },
        channels: Some(channels),
        connections,
        server_pid,
        hold: if quick { Duration::from_secs(1) } else { HOLD },
        settle: SETTLE,
        one_message: false,
        cycles: 1,
        until_closed: None,
        sigterm: false,
    }
}
