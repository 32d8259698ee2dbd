//! Counters and histograms of one thread: only the owner writes, so an add is a load and a store
//! (about 1 ns), and a scrape reads the current value from anywhere: exact, with nothing to flush.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A counter. [`Cell::add`] is for its one owner, [`Cell::add_shared`] for cells with many writers.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    /// Adds; only the owning thread may call it.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// A counter that starts at `n`.
    pub(crate) fn new(n: u64) -> Self {
        Self(AtomicU64::new(n))
    }

    /// Sets a value that is no count; whoever comes last is right.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Adds from any thread.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds are powers of two of a microsecond, 1 µs to 2^23 µs (8.4 s), and infinity: the
/// index is one instruction, and an error of a quantile is at most a factor of two.
pub(crate) const BUCKETS: usize = 24;

/// A histogram of durations that takes n observations at once.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [Cell; BUCKETS + 1],
    sum_nanos: Cell,
}

impl Histogram {
    /// Counts `n` observations of `value`; only the owning thread may call it.
    #[inline]
    pub(crate) fn observe(&self, value: Duration, n: u64) {
        let nanos = value.as_nanos() as u64;
        self.counts[bucket(nanos)].add(n);
        self.sum_nanos.add(nanos.wrapping_mul(n));
    }

    /// Counts one observation from any thread.
    pub(crate) fn observe_shared(&self, value: Duration) {
        let nanos = value.as_nanos() as u64;
        self.counts[bucket(nanos)].add_shared(1);
        self.sum_nanos.add_shared(nanos);
    }

    /// Adds this histogram's values to `total`.
    pub(crate) fn add_to(&self, total: &mut HistogramTotal) {
        for (sum, count) in total.counts.iter_mut().zip(&self.counts) {
            *sum += count.get();
        }
        total.sum_nanos += self.sum_nanos.get();
    }
}

/// The bucket of a duration: the smallest `k` with `nanos <= 2^k µs`.
#[inline]
fn bucket(nanos: u64) -> usize {
    let micros = nanos.saturating_sub(1) / 1000;
    ((64 - micros.leading_zeros()) as usize).min(BUCKETS)
}

/// The sum of the histograms of several threads.
#[derive(Debug, Default)]
pub(crate) struct HistogramTotal {
    pub(crate) counts: [u64; BUCKETS + 1],
    pub(crate) sum_nanos: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lands_in_the_first_bucket_that_holds_it() {
        let index = |nanos| bucket(nanos);
        assert_eq!(index(0), 0);
        assert_eq!(index(1_000), 0);
        assert_eq!(index(1_001), 1);
        assert_eq!(index(2_000), 1);
        assert_eq!(index(2_001), 2);
        assert_eq!(index(8_388_608_000), 23);
        assert_eq!(index(8_388_608_001), BUCKETS);
    }
}
