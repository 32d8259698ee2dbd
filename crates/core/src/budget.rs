//! One number for what all outboxes of the process hold together. Counted by whoever holds it: each worker
//! counts its own, and nobody shares a counter with a delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::metrics::WorkerCells;

/// What is acted upon is taken down to this part of the bound, so that each further byte is no reason to act
/// again.
const TENTHS_LEFT: u64 = 9;

/// The bytes of frames that several outboxes share, each counted once for as long as anybody has it.
#[derive(Debug, Default)]
pub struct SharedFrames(Arc<AtomicU64>);

impl SharedFrames {
    /// A frame that counts until the last one who has it, or a part of it, has let it go.
    pub fn frame(&self, bytes: Vec<u8>) -> Bytes {
        self.0.fetch_add(bytes.capacity() as u64, Ordering::Relaxed);
        Bytes::from_owner(Counted { bytes, count: Arc::clone(&self.0) })
    }

    /// The bytes of those that somebody has, as they were allocated.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clone for SharedFrames {
    /// The same count.
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Bytes that are counted while they live.
struct Counted {
    bytes: Vec<u8>,
    count: Arc<AtomicU64>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes.capacity() as u64, Ordering::Relaxed);
    }
}

/// The bound of all outboxes, and what they hold.
///
/// Counted are the bytes that an outbox has for its connection alone, a place in the queue for each frame that
/// waits (64 bytes), and each shared frame once, whether it waits in one outbox or in thousands. Not
/// counted are what the kernel holds, spare room in queues, and answers that wait for their turn.
#[derive(Debug)]
pub struct OutboxBudget {
    max: AtomicU64,
    workers: Vec<Arc<WorkerCells>>,
    frames: SharedFrames,
}

impl OutboxBudget {
    pub(crate) fn new(
        max: Option<usize>,
        workers: Vec<Arc<WorkerCells>>,
        frames: SharedFrames,
    ) -> Arc<Self> {
        let budget = Self { max: AtomicU64::default(), workers, frames };
        budget.set(max);
        Arc::new(budget)
    }

    /// Another bound from now on; `None`: none.
    pub(crate) fn set(&self, max: Option<usize>) {
        self.max.store(max.map_or(u64::MAX, |max| max as u64), Ordering::Relaxed);
    }

    /// The bound; `None`: none.
    pub fn max(&self) -> Option<u64> {
        Some(self.max.load(Ordering::Relaxed)).filter(|max| *max < u64::MAX)
    }

    /// What all outboxes hold now. A worker that is in a turn may be a little ahead.
    pub fn held(&self) -> u64 {
        self.workers.iter().map(|worker| worker.outboxes.get()).sum::<u64>() + self.frames.bytes()
    }

    /// How much a worker is to free now: its share of what is too much, by what its outboxes hold; `None`
    /// below the bound.
    pub(crate) fn excess(&self, worker: &WorkerCells) -> Option<usize> {
        let max = self.max.load(Ordering::Relaxed);
        if max == u64::MAX {
            return None;
        }
        let held = self.held();
        if held <= max {
            return None;
        }
        let all = held.saturating_sub(self.frames.bytes());
        let share = worker.outboxes.get() as f64 / all.max(1) as f64;
        let excess = held - max / 10 * TENTHS_LEFT;
        Some((excess as f64 * share.min(1.0)).ceil() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CoreMetrics;

    #[test]
    fn a_shared_frame_counts_once_until_nobody_has_it() {
        let frames = SharedFrames::default();
        let frame = frames.frame(vec![7; 1000]);
        let parts: Vec<_> = (0..5000).map(|at| frame.slice(at % 10..)).collect();
        assert_eq!(frames.bytes(), 1000);
        drop(frame);
        assert_eq!((frames.clone().bytes(), parts[11][0]), (1000, 7));
        drop(parts);
        assert_eq!(frames.bytes(), 0);
    }

    #[test]
    fn each_worker_frees_its_share_of_what_is_too_much() {
        let metrics = CoreMetrics::new(Vec::new(), Vec::new(), 2, 10);
        let workers: Vec<_> = (0..2).map(|index| metrics.worker(index)).collect();
        let frames = SharedFrames::default();
        let budget = OutboxBudget::new(Some(1000), workers.clone(), frames.clone());
        workers[0].outboxes.set(600);
        workers[1].outboxes.set(200);
        assert_eq!((budget.held(), budget.excess(&workers[0])), (800, None));
        let frame = frames.frame(vec![0; 400]);
        assert_eq!(budget.held(), 1200);
        assert_eq!(budget.excess(&workers[0]), Some(225));
        assert_eq!(budget.excess(&workers[1]), Some(75));
        budget.set(None);
        assert_eq!((budget.max(), budget.excess(&workers[0])), (None, None));
        drop(frame);
    }
}
