//! A counter of one thread: only the owner writes, so an add is a load and a store (about 1 ns),
//! and a scrape reads the current value from anywhere: exact, with nothing to flush.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter. [`Cell::add`] is for its one owner, [`Cell::add_shared`] for cells with many writers.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    /// Adds; only the owning thread may call it.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds what something has grown by, or takes off what it has shrunk by; only the owning thread may
    /// call it.
    #[inline]
    pub(crate) fn add_difference(&self, before: usize, after: usize) {
        if before != after {
            self.add((after as u64).wrapping_sub(before as u64));
        }
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
