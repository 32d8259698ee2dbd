//! What it takes to check a token, in microseconds: parsed, its signature verified, its claims
//! read. Run with `cargo run --release -p weir-auth --example token_time`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use weir_auth::{ClaimRules, Moment, Verifier};
use weir_core::clock;

#[path = "../samples/mod.rs"]
pub mod samples;

/// Few, so that a run fits between two others' turns.
const ROUNDS: u32 = 4;
/// Repetitions; the least is reported, since noise only adds.
const RUNS: usize = 200;

fn main() {
    let keys = samples::keys().into_iter().map(Arc::new).collect();
    let verifier = Verifier::new(ClaimRules::default(), keys, None);
    let at = Moment { now: clock::now(), wall: samples::good_time() };
    println!("{:>8} {:>9} {:>9} {:>10}", "key", "algorithm", "good", "one bit off");
    for sample in samples::samples() {
        let forged = forged(sample.token);
        let good = time(|| assert!(black_box(verifier.verify(sample.token, at)).is_ok()));
        let bad = time(|| assert!(black_box(verifier.verify(&forged, at)).is_err()));
        let (good, bad) = (micros(good), micros(bad));
        println!("{:>8} {:>9} {good:>6.1} µs {bad:>7.1} µs", sample.key, sample.algorithm);
    }
}

/// The token with another signature of the same form.
fn forged(token: &str) -> String {
    let at = token.len() - 20;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    [&token[..at], other, &token[at + 1..]].concat()
}

/// The time of one.
fn time(check: impl Fn()) -> Duration {
    let run = || {
        let begun = clock::now();
        (0..ROUNDS).for_each(|_| check());
        clock::now().duration_since(begun) / ROUNDS
    };
    (0..RUNS).map(|_| run()).min().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
