//! How many subscribers each channel has on this node: every subscription holds a [`Seat`], from before
//! the broker is asked until it is no more, so that none is counted twice and none stays behind. Nothing
//! here knows a connection or a namespace, and telling subscribers of a publication touches none of it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::Mutex;

/// Locks that the channels are spread over; one is held while a subscription begins or ends.
const SHARDS: usize = 64;

/// The subscribers of every channel, on all workers.
pub(crate) struct Seats {
    hashes: RandomState,
    shards: Box<[Mutex<HashTable<Arc<Row>>>]>,
}

impl Default for Seats {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { hashes: RandomState::new(), shards }
    }
}

/// The seats of one channel. It is there while somebody has one.
struct Row {
    channel: Box<str>,
    hash: u64,
    /// Changed under the lock of its shard alone.
    taken: AtomicUsize,
    seats: Arc<Seats>,
}

/// One subscription to one channel. Dropping it gives it back.
#[must_use]
pub(crate) struct Seat(Arc<Row>);

/// A channel has as many subscribers as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a channel has at most subscribers_max = {max} subscribers")]
pub(crate) struct SeatsTaken {
    pub(crate) max: usize,
}

impl Seats {
    /// Takes a seat in a channel that has fewer than `max` subscribers; `None`: however many it has.
    pub(crate) fn take(
        self: &Arc<Self>,
        channel: &str,
        max: Option<usize>,
    ) -> Result<Seat, SeatsTaken> {
        let hash = self.hashes.hash_one(channel);
        let mut rows = self.shard(hash).lock();
        let entry = rows.entry(hash, |row| *row.channel == *channel, |row| row.hash);
        let taken = match &entry {
            Entry::Occupied(row) => row.get().taken.load(Ordering::Relaxed),
            Entry::Vacant(_) => 0,
        };
        if let Some(max) = max
            && taken >= max
        {
            return Err(SeatsTaken { max });
        }
        let row = entry.or_insert_with(|| {
            let (channel, seats) = (channel.into(), Arc::clone(self));
            Arc::new(Row { channel, hash, taken: AtomicUsize::new(0), seats })
        });
        row.get().taken.store(taken + 1, Ordering::Relaxed);
        Ok(Seat(Arc::clone(row.get())))
    }

    fn shard(&self, hash: u64) -> &Mutex<HashTable<Arc<Row>>> {
        // The table of a shard uses the low bits and the highest seven.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    /// Channels in which somebody has a seat.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn channels(&self) -> usize {
        self.shards.iter().map(|rows| rows.lock().len()).sum()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let row = &self.0;
        let mut rows = row.seats.shard(row.hash).lock();
        let left = row.taken.load(Ordering::Relaxed) - 1;
        row.taken.store(left, Ordering::Relaxed);
        if left == 0
            && let Ok(entry) = rows.find_entry(row.hash, |other| Arc::ptr_eq(other, row))
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_channel_has_its_seats_and_no_more_and_one_that_is_given_back_is_free() {
        let seats = Arc::new(Seats::default());
        let take = |channel, max| seats.take(channel, Some(max));
        let (first, _second) = (take("news", 2), take("news", 2));
        assert_eq!(take("news", 2).err(), Some(SeatsTaken { max: 2 }));
        assert!(take("chat", 2).is_ok(), "another channel has its own");
        drop(first);
        assert!(take("news", 2).is_ok());
        assert_eq!(take("news", 0).err(), Some(SeatsTaken { max: 0 }));
    }

    #[test]
    fn a_bound_that_comes_later_counts_those_who_were_there_before() {
        let seats = Arc::new(Seats::default());
        let there: Vec<_> = (0..5).map(|_| seats.take("news", None)).collect();
        assert!(seats.take("news", Some(5)).is_err());
        assert!(seats.take("news", None).is_ok(), "who has no bound comes in");
        drop(there);
        assert!(seats.take("news", Some(1)).is_ok());
        assert_eq!(seats.channels(), 0, "nothing is kept of a channel that nobody is in");
    }

    #[test]
    fn threads_that_come_and_go_never_are_too_many_and_leave_nothing() {
        const MAX: usize = 3;
        let (seats, inside) = (Arc::new(Seats::default()), AtomicUsize::new(0));
        let come_and_go = |thread: usize| {
            let mut refused = 0;
            for n in 0..20_000 {
                let channel = ["news", "chat"][(thread + n) % 2];
                let Ok(seat) = seats.take(channel, Some(MAX)) else {
                    refused += 1;
                    continue;
                };
                // Of both channels together.
                assert!(inside.fetch_add(1, Ordering::SeqCst) < 2 * MAX);
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(seat);
            }
            refused
        };
        let refused: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || come_and_go(n))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no thread fails")).sum()
        });
        assert!(refused < 8 * 20_000, "somebody came in");
        assert_eq!(seats.channels(), 0);
    }
}
