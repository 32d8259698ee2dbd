//! `weir-load bench speed`: server processor time a message, weir beside every peer, run by run in
//! turn, and which of the project's targets are reached.

use anyhow::Result;

use super::client::{self, Cell, Run};
use super::peers::{self, Peer};
use super::summary::{Spread, Target, table};
use super::{Settings, machine};
use crate::wire::Wire;

const ROUNDS: u32 = 3;

/// weir's processor time a message as a multiple of a peer's: the most it may be at this depth.
const TARGETS: [(&str, u16, f64); 10] = [
    ("bare tokio", 1, 1.15),
    ("bare tokio", 16, 1.0),
    ("fastwebsockets", 1, 1.0),
    ("fastwebsockets", 16, 0.25),
    ("uvloop", 1, 0.4),
    ("uvloop", 16, 0.1),
    ("asyncio", 1, 0.4),
    ("asyncio", 16, 0.1),
    ("Python websockets", 1, 0.4),
    ("Python websockets", 16, 0.1),
];

/// Measures and prints.
///
/// # Errors
/// When something cannot be started or an answer was wrong.
pub(super) fn run(settings: &Settings) -> Result<()> {
    peers::prepare_python(settings, "uvloop, websockets")?;
    let rounds = settings.rounds(ROUNDS);
    println!("# Server processor time a message\n");
    println!("{}; 128-byte messages; runs of each: {rounds}.", machine());
    println!("Median [least, most] in µs, user and system. In brackets: weir's share of it.");
    println!(
        "`*`: something else took processor time in a run; `c`: the generator was the limit.\n"
    );
    let mut all = Vec::new();
    for (wire, title) in [(Wire::Lines, "TCP lines"), (Wire::Ws, "WebSocket")] {
        let peers = peers::on(wire, settings)?;
        let cells = settings.cells(wire);
        let runs = measure(settings, &peers, &cells, rounds)?;
        println!("## {title}\n");
        println!("{}", report(&peers, &cells, &runs));
        all.extend(runs);
    }
    settings.save("speed", &all)
}

/// All runs: within each cell and round the servers take turns.
fn measure(settings: &Settings, peers: &[Peer], cells: &[Cell], rounds: u32) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for &cell in cells {
        for _ in 0..rounds {
            for peer in peers {
                runs.push(client::run(settings, peer, cell)?);
            }
        }
    }
    Ok(runs)
}

fn report(peers: &[Peer], cells: &[Cell], runs: &[Run]) -> String {
    let heading = |cell: &Cell| format!("{} connections, depth {}", cell.connections, cell.depth);
    let head: Vec<_> = std::iter::once("server".into()).chain(cells.iter().map(heading)).collect();
    let rows = |column: &dyn Fn(&Peer, Cell) -> String| -> Vec<Vec<String>> {
        let row = |peer: &Peer| {
            let columns = cells.iter().map(|&cell| column(peer, cell));
            std::iter::once(peer.name.clone()).chain(columns).collect()
        };
        peers.iter().map(row).collect()
    };
    let cost = table(&head, &rows(&|peer, cell| cost_column(runs, &peer.name, cell)));
    let latency = table(&head, &rows(&|peer, cell| latency_column(runs, &peer.name, cell)));
    let targets: String = targets(cells, runs).iter().map(|target| format!("{target}\n")).collect();
    format!("{cost}\nTime to the answer, median of p50 / p99 in µs:\n\n{latency}\n{targets}")
}

fn of<'a>(runs: &'a [Run], name: &'a str, cell: Cell) -> impl Iterator<Item = &'a Run> {
    runs.iter().filter(move |run| run.server == name && run.cell == cell)
}

fn cost(runs: &[Run], name: &str, cell: Cell) -> Option<Spread> {
    Spread::of(
        of(runs, name, cell).filter_map(|run| Some(run.report.server.as_ref()?.us_per_message)),
    )
}

fn cost_column(runs: &[Run], name: &str, cell: Cell) -> String {
    let Some(spread) = cost(runs, name, cell) else { return "–".into() };
    let mut column = spread.to_string();
    if of(runs, name, cell).any(|run| !run.counts) {
        column += " *";
    }
    if of(runs, name, cell).any(|run| run.report.client_was_the_limit) {
        column += " c";
    }
    if name != "weir"
        && let Some(weir) = cost(runs, "weir", cell)
    {
        column += &format!(" ({:.2})", weir.median / spread.median);
    }
    column
}

fn latency_column(runs: &[Run], name: &str, cell: Cell) -> String {
    let p50 = Spread::of(of(runs, name, cell).map(|run| run.report.latency_us.p50));
    let p99 = Spread::of(of(runs, name, cell).map(|run| run.report.latency_us.p99));
    let print =
        |spread: Option<Spread>| spread.map_or("–".into(), |it| format!("{:.0}", it.median));
    format!("{} / {}", print(p50), print(p99))
}

fn targets(cells: &[Cell], runs: &[Run]) -> Vec<Target> {
    let mut targets = Vec::new();
    for &cell in cells {
        for (peer, _, max) in TARGETS.into_iter().filter(|&(_, depth, _)| depth == cell.depth) {
            let costs = cost(runs, "weir", cell).zip(cost(runs, peer, cell));
            targets.extend(costs.map(|(weir, other)| Target {
                what: format!(
                    "weir / {peer} at {} connections, depth {}",
                    cell.connections, cell.depth
                ),
                measured: weir.median / other.median,
                max,
            }));
        }
    }
    targets
}
