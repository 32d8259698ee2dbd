//! A worker's part in the budget of all outboxes: what its own hold, and who gives way first when all of
//! them together hold too much. What counts is not decided here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Worker;
use super::table::Key;
use crate::budget::OutboxBudget;
use crate::close::CloseReason;
use crate::connection::Connection;
use crate::metrics::WorkerCells;
use crate::poll::Poll;
use crate::transport::Transport;

/// Outboxes that are acted upon in one turn.
const FULLEST_MAX: usize = 256;

/// What a sweep has seen of outboxes.
#[derive(Default)]
pub(super) struct Looked {
    waiting: u64,
    largest: usize,
    oldest: Duration,
}

impl Looked {
    /// Takes a connection in.
    pub(super) fn look<S: Transport>(&mut self, connection: &Connection<S>, now: Instant) {
        let Some(age) = connection.outbox_age(now) else { return };
        self.waiting += 1;
        self.largest = self.largest.max(connection.outbox_bytes());
        self.oldest = self.oldest.max(age);
    }

    /// Shows it.
    pub(super) fn tell(&self, cells: &WorkerCells) {
        cells.outboxes_waiting.set(self.waiting);
        cells.outbox_largest.set(self.largest as u64);
        cells.outbox_oldest.set(self.oldest.as_nanos() as u64);
    }
}

impl<P: Poll> Worker<P> {
    /// Keeps within a budget that all workers share.
    pub(crate) fn with_budget(mut self, budget: Arc<OutboxBudget>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Frees this worker's share of what is too much, from the fullest outbox on: publications that the
    /// policy of their channel lets be dropped, and where there are none, the connection. What is shared is
    /// free when nobody has it any more, so that the next turn may have to go on.
    pub(super) fn keep_budget(&mut self) {
        let Some(budget) = &self.budget else { return };
        let excess = budget.excess(&self.bench.cells).unwrap_or(0);
        if excess == 0 {
            return;
        }
        let mut freed = 0;
        for (held, key) in self.fullest() {
            if freed >= excess {
                break;
            }
            let Some(connection) = self.table.get_mut(key) else { continue };
            let before = connection.outbox_cost();
            let dropped = connection.relieve_outbox();
            if dropped == 0 {
                freed += held;
                self.bench.cells.budget_closed.add(1);
                self.remove(key, CloseReason::Overload);
                continue;
            }
            freed += held - connection.outbox_bytes();
            self.bench.cells.outboxes.add_difference(before, connection.outbox_cost());
            self.bench.cells.budget_dropped.add(u64::from(dropped));
        }
    }

    /// The outboxes that hold most, the fullest first, with the bytes that wait in each.
    fn fullest(&self) -> Vec<(usize, Key)> {
        let mut fullest = BinaryHeap::with_capacity(FULLEST_MAX + 1);
        for index in 0..self.table.index_end() {
            let Some((key, connection)) = self.table.at(index) else { continue };
            if connection.outbox_bytes() > 0 {
                fullest.push(Reverse((connection.outbox_bytes(), key.raw())));
            }
            if fullest.len() > FULLEST_MAX {
                fullest.pop();
            }
        }
        let sorted = fullest.into_sorted_vec();
        sorted.into_iter().map(|Reverse((bytes, key))| (bytes, Key::from_raw(key))).collect()
    }
}
