//! Idle connections in TLS beside plain ones: what each takes of memory, to open and at rest.

use std::time::Duration;

use anyhow::Result;

use super::files::Files;
use crate::args::TargetArgs;
use crate::bench::Settings;
use crate::bench::peers::Peer;
use crate::bench::server::Server;
use crate::bench::summary::{Spread, table};
use crate::idle::{self, Cycle, IdleArgs};
use crate::wire::Wire;

const CONNECTIONS: usize = 5_000;
const ROUNDS: u32 = 2;
const SETTLE: Duration = Duration::from_secs(2);
const HOLD: Duration = Duration::from_secs(12);

/// A column of the table.
type Column = (&'static str, fn(&Cycle) -> f64);

const COLUMNS: [Column; 6] = [
    ("opened a second", |cycle| cycle.opened_per_second),
    ("µs CPU each", |cycle| cycle.open_us_per_connection),
    ("bytes each: open", |cycle| cycle.bytes_per_connection_open as f64),
    ("after a message", |cycle| cycle.bytes_per_connection_after_message.unwrap_or(0) as f64),
    ("after the rest", |cycle| cycle.bytes_per_connection_after_rest as f64),
    ("idle CPU %", |cycle| cycle.idle_share * 100.0),
];

/// Measures and prints.
///
/// # Errors
/// When weir cannot be started, or ends.
pub(super) fn run(settings: &Settings, files: &Files) -> Result<()> {
    let rounds = settings.rounds(ROUNDS);
    let connections = if settings.quick { 500 } else { CONNECTIONS };
    println!("## {connections} idle connections\n");
    println!("A fresh server each; after a message on each and a rest. Rounds: {rounds}.\n");
    let (mut all, mut rows) = (Vec::new(), Vec::new());
    for wire in [Wire::Lines, Wire::Ws] {
        let peers = super::weir(settings, files, wire);
        let mut cycles = peers.each_ref().map(|_| Vec::new());
        for _ in 0..rounds {
            for (peer, cycles) in peers.iter().zip(&mut cycles) {
                cycles.push(measure(settings, peer, wire, connections)?);
            }
        }
        for (peer, cycles) in peers.iter().zip(&cycles) {
            rows.push(row(wire, peer, cycles));
        }
        all.push((wire, cycles));
    }
    let columns = COLUMNS.iter().map(|&(name, _)| name);
    let head: Vec<_> = ["wire", ""].into_iter().chain(columns).map(String::from).collect();
    println!("{}", table(&head, &rows));
    settings.save("tls-idle", &all)
}

fn measure(settings: &Settings, peer: &Peer, wire: Wire, connections: usize) -> Result<Cycle> {
    let log = settings.output.join("tls-idle.log");
    let server = Server::start(peer.command(), peer.address, &log, None)?;
    let addr = peer.address.to_string();
    let args = IdleArgs {
        target: TargetArgs { wire, addr, path: "/ws".into(), tls: peer.tls() },
        channels: None,
        connections,
        server_pid: server.pid(),
        hold: if settings.quick { Duration::from_secs(1) } else { HOLD },
        settle: SETTLE,
        one_message: true,
        cycles: 1,
        until_closed: None,
        sigterm: false,
    };
    let mut report = idle::run(&args, || Ok(()))?;
    eprintln!("{} {:?}: {connections} connections held", peer.name, wire);
    let cycle = report.cycles.pop();
    cycle.ok_or_else(|| anyhow::anyhow!("no cycle was run"))
}

fn row(wire: Wire, peer: &Peer, cycles: &[Cycle]) -> Vec<String> {
    let lost: u64 = cycles.iter().flat_map(|cycle| cycle.lost.values()).sum();
    let name = if lost == 0 { peer.name.clone() } else { format!("{}, {lost} lost", peer.name) };
    let figure = |(_, figure): &Column| {
        Spread::of(cycles.iter().map(figure)).map_or("–".into(), |spread| spread.to_string())
    };
    let first = [format!("{wire:?}").to_lowercase(), name];
    first.into_iter().chain(COLUMNS.iter().map(figure)).collect()
}
