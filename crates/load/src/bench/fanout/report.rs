//! The tables of a fan-out and which of the project's targets are reached.

use super::contenders::{AGAIN, WEIR};
use super::runs::{Cell, Pace, Run};
use crate::bench::summary::{Spread, Target, table};

/// A column of a run.
type Figure = fn(&Run) -> Option<f64>;

/// Cost and latency of everybody under these loads, and what was dropped.
pub(super) fn comparison(names: &[&str], cells: &[Cell], runs: &[Run]) -> String {
    let paces = cells.iter().map(|cell| cell.pace.to_string());
    let head: Vec<_> = std::iter::once("server".into()).chain(paces).collect();
    let rows = |column: &dyn Fn(&str, Cell) -> String| -> Vec<Vec<String>> {
        let row = |name: &&str| {
            let columns = cells.iter().map(|&cell| column(name, cell));
            std::iter::once((*name).to_owned()).chain(columns).collect()
        };
        names.iter().map(row).collect()
    };
    let cost = table(&head, &rows(&|name, cell| cost_column(runs, name, cell)));
    let latency = table(
        &head,
        &rows(&|name, cell| {
            let runs: Vec<_> = of(runs, name, cell).collect();
            latency_column(&runs)
        }),
    );
    let dropped = dropped(names, cells, runs);
    format!("{cost}\nTime to a delivery, median of p50 / p99 in µs:\n\n{latency}\n{dropped}")
}

/// One row a load, of one server.
pub(super) fn growth(cells: &[Cell], runs: &[&Run]) -> String {
    let head = [
        "subscribers",
        "channels",
        "publications in each",
        "µs a delivery",
        "deliveries a second",
        "p50 / p99 µs",
        "dropped",
    ];
    let row = |&cell: &Cell| {
        let runs: Vec<_> = runs.iter().copied().filter(|run| run.cell == cell).collect();
        let rate = Spread::of(runs.iter().map(|run| run.report.deliveries_per_second));
        let dropped: u64 = runs.iter().map(|run| run.report.dropped).sum();
        vec![
            cell.subscribers.to_string(),
            cell.channels.to_string(),
            cell.pace.to_string(),
            print(Spread::of(runs.iter().filter_map(|run| run.cost()))) + stars(&runs),
            rate.map_or("–".into(), |rate| format!("{:.0}", rate.median)),
            latency_column(&runs),
            dropped.to_string(),
        ]
    };
    table(&head.map(String::from), &cells.iter().map(row).collect::<Vec<_>>())
}

/// weir's cost below everybody's, and its p50 at a fixed rate not above the best.
pub(super) fn targets(runs: &[Run]) -> Vec<Target> {
    let mut cells: Vec<Cell> = runs.iter().map(|run| run.cell).collect();
    cells.dedup();
    cells.into_iter().flat_map(|cell| targets_under(runs, cell)).collect()
}

fn targets_under(runs: &[Run], cell: Cell) -> Vec<Target> {
    let mut others: Vec<&str> = Vec::new();
    for run in runs.iter().filter(|run| ![WEIR, AGAIN].contains(&&*run.server)) {
        if !others.contains(&&*run.server) {
            others.push(&run.server);
        }
    }
    let load = format!("at {} subscribers, {}", cell.subscribers, cell.pace);
    let ratio = |other: &&str| {
        let (weir, other_cost) =
            (of_weir(runs, cell, Run::cost)?, spread(runs, other, cell, Run::cost)?);
        let what = format!("weir / {other}, µs a delivery {load}");
        Some(Target { what, measured: weir.median / other_cost.median, max: 1.0 })
    };
    let mut targets: Vec<_> = others.iter().filter_map(ratio).collect();
    if matches!(cell.pace, Pace::Rate(_)) {
        let medians = others.iter().filter_map(|other| spread(runs, other, cell, p50));
        let best = medians.map(|it| it.median).min_by(f64::total_cmp);
        targets.extend(of_weir(runs, cell, p50).zip(best).map(|(weir, best)| Target {
            what: format!("weir / the best, p50 {load}"),
            measured: weir.median / best,
            max: 1.0,
        }));
    }
    targets
}

#[expect(clippy::unnecessary_wraps, reason = "it is a figure as the others are")]
fn p50(run: &Run) -> Option<f64> {
    Some(run.report.latency_us.p50)
}

fn of<'a>(runs: &'a [Run], name: &'a str, cell: Cell) -> impl Iterator<Item = &'a Run> {
    runs.iter().filter(move |run| run.server == name && run.cell == cell)
}

fn spread(runs: &[Run], name: &str, cell: Cell, figure: Figure) -> Option<Spread> {
    Spread::of(of(runs, name, cell).filter_map(figure))
}

/// Of both its runs of a round.
fn of_weir(runs: &[Run], cell: Cell, figure: Figure) -> Option<Spread> {
    Spread::of([WEIR, AGAIN].iter().flat_map(|name| of(runs, name, cell)).filter_map(figure))
}

fn cost_column(runs: &[Run], name: &str, cell: Cell) -> String {
    let Some(spread) = spread(runs, name, cell, Run::cost) else { return "–".into() };
    let own: Vec<_> = of(runs, name, cell).collect();
    let weir = if name == AGAIN {
        self::spread(runs, WEIR, cell, Run::cost)
    } else {
        of_weir(runs, cell, Run::cost)
    };
    let share =
        weir.filter(|_| name != WEIR).map(|weir| format!(" ({:.2})", weir.median / spread.median));
    spread.to_string() + stars(&own) + &share.unwrap_or_default()
}

fn latency_column(runs: &[&Run]) -> String {
    let print =
        |spread: Option<Spread>| spread.map_or("–".into(), |it| format!("{:.0}", it.median));
    let p99 = Spread::of(runs.iter().map(|run| run.report.latency_us.p99));
    format!("{} / {}", print(Spread::of(runs.iter().copied().filter_map(p50))), print(p99))
}

fn dropped(names: &[&str], cells: &[Cell], runs: &[Run]) -> String {
    let line = |name: &&str| {
        let runs = || cells.iter().flat_map(|&cell| of(runs, name, cell));
        let dropped: u64 = runs().map(|run| run.report.dropped).sum();
        let lost: u64 = runs().map(Run::lost).sum();
        (dropped + lost > 0)
            .then(|| format!("{name}: {dropped} deliveries dropped, {lost} connections lost.\n"))
    };
    let lines: String = names.iter().filter_map(line).collect();
    if lines.is_empty() { "Nobody dropped a delivery.\n".into() } else { lines }
}

fn stars(runs: &[&Run]) -> &'static str {
    let disturbed = runs.iter().any(|run| !run.counts);
    let limited = runs.iter().any(|run| run.report.client_was_the_limit);
    match (disturbed, limited) {
        (false, false) => "",
        (true, false) => " *",
        (false, true) => " c",
        (true, true) => " * c",
    }
}

fn print(spread: Option<Spread>) -> String {
    spread.map_or("–".into(), |spread| spread.to_string())
}
