//! Worlds without number: a run of fresh seeds, and every seed that once found something.

use std::num::NonZero;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

use weir_sim::world::World;

/// Worlds in an ordinary run of the tests.
const SEEDS: u64 = 200;

/// Seeds that failed once and must not again, one a line; `#` begins a comment.
const REGRESSIONS: &str = include_str!("../regressions.txt");

/// A number from the environment of `make`, read at run time.
fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// What goes wrong in the world of this seed, a panic included.
fn fault_of(seed: u64) -> Option<String> {
    match catch_unwind(|| World::draw(seed).run().map(drop)) {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(what),
        Err(_) => Some("a panic, told above".to_owned()),
    }
}

/// Runs every seed, on as many threads as there are cores; each world has one of its own.
fn check(seeds: impl Iterator<Item = u64>) {
    let seeds: Vec<_> = seeds.collect();
    let (next, faults) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let run = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(what) = fault_of(*seed) {
                faults.fetch_add(1, Ordering::Relaxed);
                eprintln!("seed {seed}: {what}\n    replay it: make sim SEED={seed}\n");
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        (0..threads).for_each(|_| drop(scope.spawn(run)));
    });
    let faults = faults.into_inner();
    assert_eq!(faults, 0, "worlds went wrong; add their seeds to tests/sim/regressions.txt");
}

#[test]
fn every_world_of_the_seeds_holds() {
    match from_environment("WEIR_SEED") {
        Some(seed) => check(std::iter::once(seed)),
        None => check(0..from_environment("WEIR_SEEDS").unwrap_or(SEEDS)),
    }
}

#[test]
fn every_world_that_once_went_wrong_holds() {
    let lines = REGRESSIONS.lines().filter_map(|line| line.split('#').next());
    let seeds = lines.map(str::trim).filter(|line| !line.is_empty());
    check(seeds.map(|seed| seed.parse().expect("a seed is a number")));
}

#[test]
fn a_seed_makes_the_same_world_again() {
    let ends = |seed| {
        let world = World::draw(seed).run().expect("a good world");
        let ends: Vec<_> = world.outcomes.iter().map(|outcome| outcome.end).collect();
        (ends, world.engine.metrics().closed_total())
    };
    for seed in [1, 7, 42] {
        assert_eq!(ends(seed), ends(seed), "seed {seed}");
    }
}
