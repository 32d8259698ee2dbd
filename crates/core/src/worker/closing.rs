//! Closing many: over a drain's window, all at once by force, or the largest outboxes under pressure.
//! Why it is time for any of it is decided elsewhere.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::pace::Pace;
use super::table::Key;
use super::{SWEEP_MAX, WRITES_MAX, Worker};
use crate::close::CloseReason;
use crate::connection::Phase;
use crate::poll::Poll;

/// Connections that one order to shed closes at most.
const SHED_MAX: usize = 256;

/// A drain under way.
pub(super) struct Drain {
    pub(super) window: Duration,
    pub(super) pace: Pace,
    /// Next place to close.
    pub(super) at: usize,
    /// Next place to tell; telling runs ahead of closing.
    pub(super) told: usize,
}

/// Where a drain is with the place of somebody who comes while it goes on: a handshake was under
/// way, or an upgrade.
#[derive(Clone, Copy)]
pub(super) enum Turn {
    /// Not there yet.
    Ahead,
    /// It has told those before and after.
    Told,
    /// It has closed those before and after, and does not come back.
    Passed,
}

impl Drain {
    /// Somebody came into this place.
    pub(super) fn join(&mut self, place: usize, now: Instant) -> Turn {
        if place < self.at || self.pace.is_over(now) {
            return Turn::Passed;
        }
        self.pace.join();
        if place < self.told { Turn::Told } else { Turn::Ahead }
    }
}

impl<P: Poll> Worker<P> {
    /// Tells and closes those whose turn in the drain has come.
    pub(super) fn drain(&mut self) {
        let Some(mut drain) = self.drain.take() else { return };
        let end = self.table.index_end();
        let told = (drain.told + SWEEP_MAX).min(end);
        for index in drain.told..told {
            if let Some((key, _)) = self.table.at(index) {
                self.visit(key, |connection, lent| connection.tell_drain(lent));
            }
        }
        drain.told = told;
        let mut due = drain.pace.due(self.bench.now()).min(WRITES_MAX);
        while due > 0 && drain.at < end {
            let index = drain.at;
            drain.at += 1;
            let Some((key, connection)) = self.table.at(index) else { continue };
            if connection.phase != Phase::Open {
                continue;
            }
            drain.pace.count();
            due -= 1;
            self.visit(key, |connection, lent| connection.drain(lent));
        }
        self.drain = Some(drain);
    }

    /// Once a second: whoever came into a place that the drain had passed already.
    pub(super) fn drain_late(&mut self) {
        let (now, end, open) = (self.bench.now(), self.table.index_end(), self.open_count());
        if let Some(drain) = &mut self.drain
            && drain.at >= end
            && drain.pace.is_over(now)
        {
            drain.pace = Pace::new(now, Duration::ZERO, open);
            drain.at = 0;
            drain.told = 0;
        }
    }

    fn open_count(&self) -> usize {
        (0..self.table.index_end())
            .filter_map(|index| self.table.at(index))
            .filter(|(_, connection)| connection.phase == Phase::Open)
            .count()
    }

    pub(super) fn force(&mut self) {
        self.forced = true;
        for index in 0..self.table.index_end() {
            if let Some((key, _)) = self.table.at(index) {
                self.remove(key, CloseReason::Forced);
            }
        }
    }

    /// Looks at every place once, in one turn: at tens of thousands that is well below a millisecond,
    /// and in slices the largest could be those that are gone.
    pub(super) fn shed(&mut self, bytes: usize) {
        let mut largest = BinaryHeap::with_capacity(SHED_MAX + 1);
        for index in 0..self.table.index_end() {
            let Some((key, connection)) = self.table.at(index) else { continue };
            if connection.outbox_bytes() > 0 {
                largest.push(Reverse((connection.outbox_bytes(), key.raw())));
            }
            if largest.len() > SHED_MAX {
                largest.pop();
            }
        }
        let mut freed = 0;
        for Reverse((waiting, key)) in largest.into_sorted_vec() {
            if freed >= bytes {
                break;
            }
            freed += waiting;
            self.bench.cells.shed.add(1);
            self.remove(Key::from_raw(key), CloseReason::Overload);
        }
    }
}
