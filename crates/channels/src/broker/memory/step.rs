//! What is shared by all shards, and what one step under a shard's lock is told and leaves to be
//! done when the lock is open.

use std::sync::Arc;
use std::time::Instant;

use super::presences::PARTS;
use crate::broker::budget::Budget;
use crate::broker::epoch::Epochs;
use crate::broker::hash::Seed;
use crate::broker::inbox::Inbox;
use crate::broker::limits::Limits;

/// Most bytes, channels and keys that a shard takes at once from what all share.
const BYTES_CHUNK: usize = 64 << 10;
const COUNT_CHUNK: usize = 64;

/// What all shards share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) epochs: Epochs,
    pub(super) seed: Seed,
    pub(super) channels: Arc<Budget>,
    pub(super) bytes: Arc<Budget>,
    pub(super) keys: Arc<Budget>,
}

impl Shared {
    pub(super) fn new(limits: Limits, seed: u64, shards: usize) -> Self {
        Self {
            epochs: Epochs::new(seed),
            seed: Seed::new(seed),
            channels: Budget::new(limits.channels_max, shards, COUNT_CHUNK),
            bytes: Budget::new(limits.bytes_max, shards + PARTS, BYTES_CHUNK),
            keys: Budget::new(limits.idempotency_keys_max, shards, COUNT_CHUNK),
            limits,
        }
    }
}

/// One step under a shard's lock.
pub(super) struct Step<'a> {
    pub(super) shared: &'a Shared,
    pub(super) now: Instant,
    /// The workers to wake when the lock is open.
    pub(super) wakes: Vec<Arc<Inbox>>,
}

impl<'a> Step<'a> {
    pub(super) fn new(shared: &'a Shared, now: Instant) -> Self {
        Self { shared, now, wakes: Vec::new() }
    }

    pub(super) fn limits(&self) -> &'a Limits {
        &self.shared.limits
    }

    /// Wakes who has something to read. No lock may be held.
    pub(super) fn wake(self) {
        for inbox in self.wakes {
            inbox.wake();
        }
    }
}
