//! `weir-load bench looking`: what it costs that weir can be looked at. The same binary with stages,
//! logs and traces on and off in turn, the side port's answers while the event loop is saturated, and
//! what messages wait when the collector does not answer (`collectors`).

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::client::{self, Cell, Run};
use super::collector::Collector;
use super::peers::{Peer, WEIR_OPS};
use super::server::Server;
use super::side_port;
use super::summary::{Spread, Target, table};
use super::{Settings, collectors, machine};
use crate::echo::EchoReport;
use crate::wire::Wire;

const ROUNDS: u32 = 5;
/// weir with stages, logs and traces on may cost this multiple of weir with both off.
const COST_MAX: f64 = 1.05;
const ANSWER_MS_MAX: f64 = 50.0;
/// The settings a user has for it.
const OFF: [(&str, &str); 3] = [
    ("WEIR_METRICS__STAGES", "false"),
    ("WEIR_LOGS__FILTER", "off"),
    ("WEIR_LOGS__CONNECTIONS", "false"),
];

/// Measures and prints.
///
/// # Errors
/// When something cannot be started or an answer was wrong.
pub(super) fn run(settings: &Settings) -> Result<()> {
    let rounds = settings.rounds(ROUNDS);
    println!("# What it costs to look\n");
    println!("{}; 128-byte messages; rounds of on, off, on again: {rounds}.", machine());
    println!("Server processor time a message in µs, median [least, most].");
    println!("On: stages, logs, and every message offered to a live collector, up to the ceiling.");
    println!("`on / off` and `on / on` are of runs next to each other; the second is the noise.\n");
    let collector = Collector::start()?;
    let (mut all, mut rows, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for wire in [Wire::Lines, Wire::Ws] {
        for cell in settings.cells(wire) {
            let runs = rounds_of(settings, cell, rounds, collector.address)?;
            rows.push(row(cell, &runs));
            targets.extend(target(cell, &runs));
            all.extend(runs.into_iter().flatten());
        }
    }
    ensure!(collector.batches() > 0, "the collector was sent nothing: this measured no traces");
    let head = ["wire", "connections", "depth", "on", "off", "on / off", "on / on"];
    println!("{}", table(&head.map(String::from), &rows));
    targets.extend(side_port(settings)?);
    targets.extend(collectors::run(settings)?);
    targets.iter().for_each(|target| println!("{target}"));
    settings.save("looking", &all)
}

/// On, off, on again.
fn rounds_of(
    settings: &Settings,
    cell: Cell,
    rounds: u32,
    collector: SocketAddr,
) -> Result<Vec<[Run; 3]>> {
    let endpoint = format!("http://{collector}");
    let traced = [
        ("WEIR_TRACES__ENDPOINT", endpoint.as_str()),
        ("WEIR_TRACES__PROTOCOL", "http"),
        ("WEIR_TRACES__RATIO", "1"),
    ];
    let on = Peer::weir(settings, cell.wire).with("weir on", &traced);
    let off = Peer::weir(settings, cell.wire).with("weir off", &OFF);
    let run = |peer| client::run(settings, peer, cell);
    (0..rounds).map(|_| Ok([run(&on)?, run(&off)?, run(&on)?])).collect()
}

fn cost(run: &Run) -> f64 {
    run.report.server.as_ref().map_or(f64::NAN, |server| server.us_per_message)
}

/// The cost of looking in one round: both neighbours on, against the off between them.
fn on_to_off([on, off, again]: &[Run; 3]) -> f64 {
    f64::midpoint(cost(on), cost(again)) / cost(off)
}

fn row(cell: Cell, runs: &[[Run; 3]]) -> Vec<String> {
    let print = |spread: Option<Spread>| spread.map_or("–".into(), |spread| spread.to_string());
    let on = runs.iter().flat_map(|[on, _, again]| [cost(on), cost(again)]);
    let stars = if runs.iter().flatten().all(|run| run.counts) { "" } else { " *" };
    vec![
        format!("{:?}", cell.wire).to_lowercase(),
        cell.connections.to_string(),
        cell.depth.to_string(),
        print(Spread::of(on)) + stars,
        print(Spread::of(runs.iter().map(|[_, off, _]| cost(off)))),
        print(Spread::of(runs.iter().map(on_to_off))),
        print(Spread::of(runs.iter().map(|[on, _, again]| cost(again) / cost(on)))),
    ]
}

fn target(cell: Cell, runs: &[[Run; 3]]) -> Option<Target> {
    let Cell { wire, connections, depth } = cell;
    Some(Target {
        what: format!("on / off, {wire:?}, {connections} connections, depth {depth}"),
        measured: Spread::of(runs.iter().map(on_to_off))?.median,
        max: COST_MAX,
    })
}

/// Asks the side port again and again while the generator saturates the event loop.
fn side_port(settings: &Settings) -> Result<Vec<Target>> {
    let cell = Cell { wire: Wire::Lines, connections: 1000, depth: 16 };
    let weir = Peer::weir(settings, cell.wire);
    let log = settings.output.join("side-port.log");
    let server = Server::start(weir.command(), weir.address, &log, None)?;
    let mut generator = client::generator(settings, &weir, cell, server.pid())?.spawn()?;
    sleep(settings.warmup());
    let mut times = [Vec::new(), Vec::new()];
    while generator.try_wait()?.is_none() {
        for (path, times) in ["/healthz", "/metrics"].iter().zip(&mut times) {
            times.push(side_port::get(WEIR_OPS, path)?.took.as_secs_f64() * 1000.0);
            sleep(Duration::from_millis(20));
        }
    }
    client::report_of::<EchoReport>(generator.wait_with_output()?, &log)?;
    let slowest = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    let target = |(path, times): (&str, &Vec<f64>)| Target {
        what: format!("slowest of {} answers of {path} under load, ms", times.len()),
        measured: slowest(times),
        max: ANSWER_MS_MAX,
    };
    Ok(["/healthz", "/metrics"].into_iter().zip(&times).map(target).collect())
}
