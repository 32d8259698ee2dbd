//! A backend with quotes that wander, a few of them in each publication.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::api::Backend;
use super::noise::Noise;
use super::{Counts, Metronome};
use crate::clock;

const CHANNEL: &str = "quotes:all";

/// Symbols of nobody, and where they begin.
const SYMBOLS: [(&str, f64); 6] = [
    ("ACME", 142.10),
    ("BRAGE", 38.45),
    ("CIRRUS", 511.00),
    ("DELTA", 9.82),
    ("EMBER", 77.30),
    ("FJORD", 254.60),
];

/// How far a price goes at once, as a share of it.
const STEP: f64 = 0.0015;

/// The quotes.
pub(super) struct Quotes {
    backend: Backend,
    due: Metronome,
    noise: Noise,
    prices: [f64; SYMBOLS.len()],
    publications: u64,
}

impl Quotes {
    /// Quotes that are published so often a second.
    pub(super) fn new(
        host: &str,
        address: SocketAddr,
        key: Option<&str>,
        rate: u32,
        now: Instant,
    ) -> Self {
        Self {
            backend: Backend::new(host, address, key, now),
            due: Metronome::new(Duration::from_secs(1) / rate, now),
            noise: Noise::new(99),
            prices: SYMBOLS.map(|(_, price)| price),
            publications: 0,
        }
    }

    /// The last price of this symbol, in any case.
    pub(super) fn price(&self, symbol: &str) -> Option<f64> {
        let at = SYMBOLS.iter().position(|(name, _)| name.eq_ignore_ascii_case(symbol))?;
        Some(self.prices[at])
    }

    /// Publishes when it is due. All of them the first time, then those that have moved.
    pub(super) fn turn(&mut self, now: Instant) {
        self.backend.turn(now);
        if !self.due.is_due(now) || self.backend.is_waiting() {
            return;
        }
        let is_first = self.publications == 0;
        let mut moved = Vec::new();
        for ((symbol, _), price) in SYMBOLS.iter().zip(&mut self.prices) {
            if is_first || self.noise.draw() > 0.2 {
                *price *= 1.0 + self.noise.draw() * STEP;
                moved.push(json!([symbol, (*price * 100.0).round() / 100.0]));
            }
        }
        let (number, at) = (self.publications + 1, clock::unix_millis());
        let data = json!({"n": number, "quotes": moved, "at": at});
        if self.backend.publish(CHANNEL, &data, now) {
            self.publications = number;
        }
    }

    /// Waits for the last answer, and ends.
    pub(super) fn finish(&mut self, deadline: Instant) {
        self.backend.finish(deadline);
    }

    /// What came of all publications.
    pub(super) fn counts(&self) -> Counts {
        self.backend.counts()
    }
}
