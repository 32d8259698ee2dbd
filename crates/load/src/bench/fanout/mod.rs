//! `weir-load bench fanout`: what a delivery costs, weir beside every peer and beside itself, run by run
//! in turn; how the cost grows with subscribers and channels; and what a subscriber at rest costs.

mod contenders;
mod readers;
mod report;
mod rest;
mod runs;
pub(super) mod slow;

use anyhow::Result;

use self::contenders::{Contender, WEIR};
use self::runs::{Cell, Pace, Run};
use super::summary::Target;
use super::{Settings, machine};

const ROUNDS: u32 = 3;
/// Subscribers of one channel.
const SUBSCRIBERS: [usize; 2] = [1_000, 5_000];
/// The most subscribers there are, for weir alone, and over how many channels.
const MANY: usize = 15_000;
const CHANNELS: [usize; 3] = [1, 100, 10_000];
/// Publications a second in a channel.
const RATE: u64 = 20;
/// The same where that would be more publications than deliveries matter.
const RATE_OF_VERY_MANY: u64 = 1;
const VERY_MANY: usize = 1_000;
/// Publications under way: one, and a few.
const WINDOWS: [u32; 2] = [1, 8];

/// Measures and prints.
///
/// # Errors
/// When something cannot be installed or started, or a delivery was wrong.
pub(super) fn run(settings: &Settings) -> Result<()> {
    let rounds = settings.rounds(ROUNDS);
    let contenders = contenders::all(settings)?;
    println!("# Server processor time a delivery\n");
    println!("{}; 128-byte payloads; WebSocket; runs of each: {rounds}.", machine());
    println!("Median [least, most] in µs, user and system. In brackets: weir's share of it.");
    println!(
        "`N a second`, `N under way`: publications in each channel; of those under way, the next"
    );
    println!(
        "goes out when everybody has the oldest. `*`: something else took processor time in a"
    );
    println!("run; `c`: the generator was the limit. uWebSockets is driven through its Python");
    println!("binding, which no delivery enters.\n");
    let compared = compare(settings, &contenders, rounds)?;
    let grown = grow(settings, rounds, &compared)?;
    let mut targets = report::targets(&compared);
    targets.push(dropped(&compared, &grown));
    targets.extend(rest::run(settings)?);
    targets.iter().for_each(|target| println!("{target}"));
    settings.save("fanout", &[compared, grown])
}

/// Everybody under every load of one channel: within each cell and round they take turns.
fn compare(settings: &Settings, contenders: &[Contender], rounds: u32) -> Result<Vec<Run>> {
    let mut all = Vec::new();
    for subscribers in subscribers(settings) {
        let cells = cells(subscribers, 1);
        for &cell in &cells {
            for _ in 0..rounds {
                for contender in contenders {
                    all.push(runs::run(settings, contender, cell)?);
                }
            }
        }
        println!("## {subscribers} subscribers of one channel\n");
        let names: Vec<_> = contenders.iter().map(|it| it.peer.name.as_str()).collect();
        println!("{}", report::comparison(&names, &cells, &all));
    }
    Ok(all)
}

/// weir alone, with ever more subscribers and channels.
fn grow(settings: &Settings, rounds: u32, compared: &[Run]) -> Result<Vec<Run>> {
    let weir = Contender::weir(settings, WEIR);
    let many = if settings.quick { 1_000 } else { MANY };
    let mut all = Vec::new();
    let channels = CHANNELS.iter().filter(|&&channels| channels <= many);
    let cells: Vec<_> = channels.flat_map(|&channels| cells(many, channels)).collect();
    for _ in 0..rounds {
        for &cell in &cells {
            all.push(runs::run(settings, &weir, cell)?);
        }
    }
    println!("## How it grows, weir alone\n");
    let few: Vec<_> = subscribers(settings).iter().flat_map(|&few| self::cells(few, 1)).collect();
    let mine = compared.iter().filter(|run| run.server == WEIR);
    let runs: Vec<_> = mine.chain(&all).collect();
    println!("{}", report::growth(&[few, cells].concat(), &runs));
    Ok(all)
}

fn subscribers(settings: &Settings) -> Vec<usize> {
    if !settings.connections.is_empty() {
        return settings.connections.clone();
    }
    if settings.quick { vec![200] } else { SUBSCRIBERS.into() }
}

fn cells(subscribers: usize, channels: usize) -> [Cell; 3] {
    let rate = if channels > VERY_MANY { RATE_OF_VERY_MANY } else { RATE };
    let [one, few] = WINDOWS.map(Pace::Window);
    [Pace::Rate(rate), one, few].map(|pace| Cell { subscribers, channels, pace })
}

fn dropped(compared: &[Run], grown: &[Run]) -> Target {
    let mine = compared.iter().chain(grown).filter(|run| run.server.starts_with(WEIR));
    let dropped: u64 = mine.map(|run| run.report.dropped + run.lost()).sum();
    let what = "deliveries that weir dropped, and connections it lost".into();
    Target { what, measured: dropped as f64, max: 0.0 }
}
