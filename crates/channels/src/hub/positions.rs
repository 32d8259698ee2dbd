//! The look at positions: every subscriber's is compared with where the broker says that the stream
//! is, so that a publication is missed which nothing came after. By channel, a few in each turn.

use std::time::{Duration, Instant};

use super::Hub;

/// For how long a subscriber may be behind without being told, when nothing more is published.
pub const POSITION_CHECK_INTERVAL: Duration = Duration::from_secs(40);

/// The part of it in which every channel is asked about once; the rest is for the answers.
const PASS: Duration = POSITION_CHECK_INTERVAL.saturating_sub(Duration::from_secs(10));

/// Places of channels that are looked at in one turn.
const LOOKS_MAX: usize = 256;

/// How far the pass is.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// When it was paced last.
    paced: Option<Instant>,
    /// What is owed of the next place, in milliseconds of a pass.
    owed: u128,
    /// Places to look at in the next turns.
    due: usize,
    /// The next place.
    at: usize,
}

impl Pass {
    /// Makes as many of these places due as time has passed for.
    fn pace(&mut self, places: usize, now: Instant) {
        let passed = now.saturating_duration_since(self.paced.replace(now).unwrap_or(now));
        self.owed += places as u128 * passed.as_millis();
        let due = self.owed / PASS.as_millis();
        self.owed %= PASS.as_millis();
        self.due = usize::try_from(due).unwrap_or(places).saturating_add(self.due).min(places);
    }

    /// The next place of this turn.
    fn next(&mut self, places: usize) -> Option<usize> {
        self.due = self.due.checked_sub(1)?;
        let at = if self.at < places { self.at } else { 0 };
        self.at = at + 1;
        Some(at)
    }
}

impl Hub {
    /// Time has passed. True when there is something to be asked.
    pub(super) fn pace_positions(&mut self, now: Instant) -> bool {
        self.pass.pace(self.channels.capacity(), now);
        self.pass.due > 0
    }

    /// Asks about the next channels; what the broker says comes with what is read of them. True when
    /// more are due.
    pub(super) fn check_positions(&mut self, now: Instant) -> bool {
        for _ in 0..LOOKS_MAX {
            let Some(at) = self.pass.next(self.channels.capacity()) else { return false };
            if let Some(channel) = self.channels.get(at).filter(|channel| channel.is_positioned()) {
                self.shared.broker.verify(self.reader.inbox(), channel.id, now);
            }
        }
        self.pass.due > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of so many places is looked at in so many ticks of a second.
    fn looks(places: usize, ticks: u32) -> Vec<usize> {
        let (mut pass, begun) = (Pass::default(), weir_core::clock::now());
        let mut looks = vec![0; places];
        for tick in 0..=ticks {
            pass.pace(places, begun + Duration::from_secs(1) * tick);
            while let Some(at) = pass.next(places) {
                looks[at] += 1;
            }
        }
        looks
    }

    #[test]
    fn every_place_is_looked_at_once_a_pass_however_many_there_are() {
        for places in [1, 7, 100, 12_345] {
            assert!(looks(places, 30).iter().all(|looks| *looks == 1), "{places}");
            assert!(looks(places, 300).iter().all(|looks| *looks == 10), "{places}");
        }
    }

    #[test]
    fn a_loop_that_was_late_owes_one_pass_at_most() {
        let (mut pass, begun) = (Pass::default(), weir_core::clock::now());
        pass.pace(10, begun);
        pass.pace(10, begun + Duration::from_secs(3600));
        assert_eq!(std::iter::from_fn(|| pass.next(10)).count(), 10);
        assert_eq!(pass.next(0), None);
    }
}
