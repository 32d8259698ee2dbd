//! How long publications take from being taken until their write, by slice of the fan-out and never by
//! subscriber: no clock is read for a delivery.

use std::collections::VecDeque;
use std::time::Instant;

use weir_core::metrics::Gathered;

use crate::metrics::Counts;

/// What was delivered and is not written yet.
#[derive(Default)]
pub(super) struct Latency {
    slices: VecDeque<Slice>,
    /// Slices of each turn that has some.
    turns: VecDeque<usize>,
    /// Slices of the turn that runs.
    running: usize,
}

/// Deliveries to some subscribers of one channel.
struct Slice {
    /// When the oldest of the publications was taken.
    taken: Instant,
    deliveries: u64,
    counts: Counts,
}

impl Latency {
    /// A slice was delivered in this turn.
    pub(super) fn delivered(&mut self, taken: Instant, deliveries: u64, counts: Counts) {
        self.slices.push_back(Slice { taken, deliveries, counts });
        self.running += 1;
    }

    /// The turn is over.
    pub(super) fn end_turn(&mut self) {
        if self.running > 0 {
            self.turns.push_back(std::mem::take(&mut self.running));
        }
    }

    /// The oldest turn has had its writes: counts its slices, those of one namespace and bucket at once.
    pub(super) fn written(&mut self, now: Instant) {
        let slices = self.turns.pop_front().unwrap_or_default().min(self.slices.len());
        let (mut gathered, mut of) = (Gathered::default(), None::<Counts>);
        for slice in self.slices.drain(..slices) {
            if let Some(before) = &of
                && !std::ptr::eq(&**before, &*slice.counts)
            {
                before.latency.observe_gathered(std::mem::take(&mut gathered));
            }
            let took = now.saturating_duration_since(slice.taken);
            slice.counts.latency.gather(&mut gathered, took, slice.deliveries);
            of = Some(slice.counts);
        }
        if let Some(last) = of {
            last.latency.observe_gathered(gathered);
        }
    }
}
