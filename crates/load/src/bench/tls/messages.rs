//! Server processor time a message in TLS, as a ratio to plain runs next to it.

use anyhow::Result;

use super::files::Files;
use crate::bench::Settings;
use crate::bench::client::{self, Cell, Run};
use crate::bench::summary::{Spread, table};
use crate::wire::Wire;

const ROUNDS: u32 = 4;
const CONNECTIONS: usize = 100;

/// Measures and prints.
///
/// # Errors
/// When something cannot be started or an answer was wrong.
pub(super) fn run(settings: &Settings, files: &Files) -> Result<()> {
    let rounds = settings.rounds(ROUNDS);
    println!("## Processor time a message\n");
    println!("128-byte messages; rounds of plain, TLS, plain again: {rounds}; in µs, median");
    println!("[least, most]. Ratios are of runs next to each other; the second is the noise.\n");
    let (mut all, mut rows) = (Vec::new(), Vec::new());
    for wire in [Wire::Lines, Wire::Ws] {
        for cell in settings.cells_unless_given(wire, &[CONNECTIONS]) {
            let [plain, tls] = super::weir(settings, files, wire);
            let run = |peer| client::run(settings, peer, cell);
            let round = |_| Ok([run(&plain)?, run(&tls)?, run(&plain)?]);
            let runs = (0..rounds).map(round).collect::<Result<Vec<_>>>()?;
            rows.push(row(cell, &runs));
            all.extend(runs.into_iter().flatten());
        }
    }
    let head = ["wire", "connections", "depth", "plain", "TLS", "TLS / plain", "plain / plain"];
    println!("{}", table(&head.map(String::from), &rows));
    settings.save("tls-messages", &all)
}

fn cost(run: &Run) -> f64 {
    run.report.server.as_ref().map_or(f64::NAN, |server| server.us_per_message)
}

fn row(cell: Cell, runs: &[[Run; 3]]) -> Vec<String> {
    let print = |spread: Option<Spread>| spread.map_or("–".into(), |spread| spread.to_string());
    let plain = runs.iter().flat_map(|[plain, _, again]| [cost(plain), cost(again)]);
    let ratio =
        |[plain, tls, again]: &[Run; 3]| cost(tls) / f64::midpoint(cost(plain), cost(again));
    let limited = runs.iter().any(|[_, tls, _]| tls.report.client_was_the_limit);
    let stars = if runs.iter().flatten().all(|run| run.counts) { "" } else { " *" };
    let limit = if limited { " c" } else { "" };
    vec![
        format!("{:?}", cell.wire).to_lowercase(),
        cell.connections.to_string(),
        cell.depth.to_string(),
        print(Spread::of(plain)) + stars,
        print(Spread::of(runs.iter().map(|[_, tls, _]| cost(tls)))) + limit,
        print(Spread::of(runs.iter().map(ratio))),
        print(Spread::of(runs.iter().map(|[plain, _, again]| cost(again) / cost(plain)))),
    ]
}
