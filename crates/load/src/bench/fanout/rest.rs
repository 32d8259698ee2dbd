//! Subscribers at rest: what a subscribed connection that only answers pings costs weir, on WebSocket and
//! on Server-Sent Events.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::contenders::{Contender, WEIR};
use super::{CHANNELS, MANY};
use crate::args::TargetArgs;
use crate::bench::Settings;
use crate::bench::server::Server;
use crate::bench::summary::{Target, table};
use crate::channels;
use crate::idle::{self, Cycle, IdleArgs};
use crate::tls::TlsArgs;
use crate::wire::Wire;

const SETTLE: Duration = Duration::from_secs(2);
/// Longer than weir's interval of pings, so that each subscriber has answered one.
const HOLD: Duration = Duration::from_secs(40);
/// Of a WebSocket; events have no bound of their own.
const BYTES_MAX: f64 = 1_800.0;
/// Subscribers on Server-Sent Events; a pong of each is a request.
const EVENTS: usize = 5_000;

/// One row of the table.
#[derive(Clone, Copy)]
struct Cell {
    wire: Wire,
    connections: usize,
    channels: usize,
}

/// Measures, prints, and gives what must hold.
///
/// # Errors
/// When weir cannot be started, or a subscriber is lost.
pub(super) fn run(settings: &Settings) -> Result<Vec<Target>> {
    let (many, events) = if settings.quick { (1_000, 500) } else { (MANY, EVENTS) };
    println!("## Subscribers at rest\n");
    let head = [
        "wire",
        "subscribers",
        "channels",
        "subscribed a second",
        "µs CPU each",
        "bytes each: subscribed",
        "after the rest",
        "idle CPU %",
        "pings",
    ];
    let frames = |channels| Cell { wire: Wire::Ws, connections: many, channels };
    let cells = CHANNELS.map(frames).into_iter().chain([
        Cell { wire: Wire::Ws, connections: events, channels: 1 },
        Cell { wire: Wire::Sse, connections: events, channels: 1 },
    ]);
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for cell in cells {
        let cycle = hold(settings, cell)?;
        if cell.wire == Wire::Ws && cell.connections == many {
            let bytes = [cycle.bytes_per_connection_open, cycle.bytes_per_connection_after_rest];
            targets.push(Target {
                what: format!("resident bytes a subscriber over {} channels", cell.channels),
                measured: bytes[0].max(bytes[1]) as f64,
                max: BYTES_MAX,
            });
        }
        rows.push(row(cell, &cycle));
    }
    println!("{}", table(&head.map(String::from), &rows));
    Ok(targets)
}

fn row(cell: Cell, cycle: &Cycle) -> Vec<String> {
    let wire = if cell.wire == Wire::Sse { "SSE" } else { "WebSocket" };
    vec![
        wire.to_owned(),
        cell.connections.to_string(),
        cell.channels.to_string(),
        format!("{:.0}", cycle.opened_per_second),
        format!("{:.1}", cycle.open_us_per_connection),
        cycle.bytes_per_connection_open.to_string(),
        cycle.bytes_per_connection_after_rest.to_string(),
        format!("{:.2}", cycle.idle_share * 100.0),
        cycle.pings.to_string(),
    ]
}

/// Has a fresh weir hold these subscribers for a while.
fn hold(settings: &Settings, cell: Cell) -> Result<Cycle> {
    let weir = Contender::weir(settings, WEIR).peer;
    let log = settings.output.join("fanout-rest.log");
    let server = Server::start(weir.command(), weir.address, &log, None)?;
    let args = plan(settings, cell, weir.address.to_string(), server.pid());
    let mut report = idle::run(&args, || Ok(()))?;
    let cycle = report.cycles.pop().context("no cycle was run")?;
    ensure!(cycle.lost.is_empty(), "subscribers were lost: {:?}", cycle.lost);
    let Cell { wire, connections, channels } = cell;
    eprintln!("{connections} subscribers of {channels} channels held on {wire:?}");
    Ok(cycle)
}

fn plan(settings: &Settings, cell: Cell, addr: String, server_pid: u32) -> IdleArgs {
    let quick = settings.quick;
    let path = if cell.wire == Wire::Sse { channels::SSE_PATH } else { channels::PATH };
    let (wire, path, tls) = (cell.wire, path.into(), TlsArgs::default());
    IdleArgs {
        target: TargetArgs { wire, addr, path, tls },
        channels: Some(cell.channels),
        connections: cell.connections,
        server_pid,
        hold: if quick { Duration::from_secs(1) } else { HOLD },
        settle: SETTLE,
        one_message: false,
        cycles: 1,
        until_closed: None,
        sigterm: false,
    }
}
