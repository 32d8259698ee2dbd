//! What was published in each channel, who must still get it, and whether what came was right. Nothing
//! is sent here, and no server's protocol is known.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use super::Numbers;
use super::payload::{Payload, Publication};
use crate::clock;
use crate::histogram::Histogram;

/// What is counted in the window only.
#[derive(Default)]
pub(super) struct Measured {
    /// Publications sent.
    pub(super) publications: u64,
    /// Right deliveries.
    pub(super) deliveries: u64,
    /// Nanoseconds from when a publication was due or sent to each delivery.
    pub(super) latency: Histogram,
}

/// Publications of one channel.
#[derive(Default)]
struct Channel {
    subscribers: u32,
    published: u32,
    /// How many subscribers miss each of those that not everybody has, the oldest first.
    missing: VecDeque<u32>,
}

/// Everything that is counted.
pub(super) struct Ledger {
    payload: Payload,
    start: Instant,
    channels: Vec<Channel>,
    /// For each subscriber, the number of the publication it gets next; absent when it has gone.
    expected: Vec<Option<u32>>,
    /// One entry for each publication that everybody has got: its channel.
    released: Vec<u32>,
    /// Of the window.
    pub(super) measured: Measured,
    /// Deliveries that never came, from the first to the last.
    pub(super) dropped: u64,
    /// Deliveries that came twice, late, to somebody else, or garbled, from the first to the last.
    pub(super) wrong: u64,
}

impl Ledger {
    /// Nothing is published yet.
    pub(super) fn new(numbers: Numbers) -> Self {
        let mut channels: Vec<_> = (0..numbers.channels).map(|_| Channel::default()).collect();
        for index in 0..numbers.subscribers {
            channels[index % numbers.channels].subscribers += 1;
        }
        Self {
            payload: Payload::new(numbers.size),
            start: clock::now(),
            channels,
            expected: vec![Some(0); numbers.subscribers],
            released: Vec::new(),
            measured: Measured::default(),
            dropped: 0,
            wrong: 0,
        }
    }

    /// Notes one more publication of a channel, and returns its number and its payload.
    pub(super) fn publish(&mut self, channel: u32, at: Instant) -> (u32, &[u8]) {
        let state = &mut self.channels[channel as usize];
        let number = state.published;
        state.published += 1;
        state.missing.push_back(state.subscribers);
        self.measured.publications += 1;
        let at = at.saturating_duration_since(self.start);
        (number, self.payload.write(Publication { channel, number, at }))
    }

    /// Subscriber `index` was sent this.
    pub(super) fn deliver(&mut self, index: usize, payload: &[u8], now: Instant) {
        let right = self.payload.read(payload).filter(|got| self.is_awaited(index, *got));
        let Some(Publication { number, at, .. }) = right else {
            self.wrong += 1;
            return;
        };
        let expected = self.expected[index].replace(number + 1).unwrap_or(number);
        // Those that were passed over never come.
        self.dropped += u64::from(number - expected);
        self.measured.deliveries += 1;
        let latency = now.saturating_duration_since(self.start + at);
        self.measured.latency.record(latency.as_nanos() as u64);
        self.settle(self.channel_of(index), expected..number + 1);
    }

    /// Subscriber `index` has gone, and gets nothing further.
    pub(super) fn leave(&mut self, index: usize) {
        let channel = self.channel_of(index);
        let Some(Some(expected)) = self.expected.get_mut(index).map(Option::take) else { return };
        let state = &mut self.channels[channel as usize];
        state.subscribers -= 1;
        let never = expected..state.published;
        self.dropped += u64::from(never.end - never.start);
        self.settle(channel, never);
    }

    /// The channels of the publications that everybody has got since the last call, one for each.
    pub(super) fn take_released(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.released)
    }

    /// Deliveries that have not come.
    pub(super) fn missing(&self) -> u64 {
        self.channels.iter().flat_map(|channel| &channel.missing).copied().map(u64::from).sum()
    }

    /// The channel of a subscriber.
    pub(super) fn channel_of(&self, index: usize) -> u32 {
        (index % self.channels.len()) as u32
    }

    fn is_awaited(&self, index: usize, got: Publication) -> bool {
        let published = self.channels[self.channel_of(index) as usize].published;
        got.channel == self.channel_of(index)
            && self.expected[index]
                .is_some_and(|expected| (expected..published).contains(&got.number))
    }

    /// One subscriber no longer misses these, and those that nobody misses are released.
    fn settle(&mut self, channel: u32, numbers: Range<u32>) {
        let Channel { published, missing, .. } = &mut self.channels[channel as usize];
        let oldest = *published - missing.len() as u32;
        for number in numbers {
            missing[(number - oldest) as usize] -= 1;
        }
        while missing.front() == Some(&0) {
            missing.pop_front();
            self.released.push(channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Two subscribers of one channel, in which three were published.
    fn ledger() -> (Ledger, [Vec<u8>; 3]) {
        let numbers = Numbers { subscribers: 2, channels: 1, publishers: 1, size: 64 };
        let mut ledger = Ledger::new(numbers);
        let payloads = [(); 3].map(|()| ledger.publish(0, clock::now()).1.to_vec());
        (ledger, payloads)
    }

    fn deliver(ledger: &mut Ledger, index: usize, payload: &[u8]) {
        ledger.deliver(index, payload, clock::now());
    }

    #[test]
    fn a_publication_is_released_when_everybody_has_it() {
        let (mut ledger, [zero, one, _]) = ledger();
        deliver(&mut ledger, 0, &zero);
        deliver(&mut ledger, 0, &one);
        assert_eq!((ledger.take_released(), ledger.missing()), (vec![], 4));
        deliver(&mut ledger, 1, &zero);
        assert_eq!((ledger.take_released(), ledger.missing()), (vec![0], 3));
    }

    #[test]
    fn what_is_passed_over_is_dropped_and_holds_up_nobody() {
        let (mut ledger, [zero, _, two]) = ledger();
        deliver(&mut ledger, 0, &zero);
        deliver(&mut ledger, 0, &two);
        deliver(&mut ledger, 1, &two);
        assert_eq!(ledger.take_released(), [0, 0, 0]);
        assert_eq!((ledger.dropped, ledger.wrong, ledger.measured.deliveries), (3, 0, 3));
    }

    #[test]
    fn who_leaves_is_waited_for_no_longer_and_drops_what_was_on_its_way() {
        let (mut ledger, [zero, one, two]) = ledger();
        deliver(&mut ledger, 0, &zero);
        ledger.leave(0);
        ledger.leave(0);
        [zero, one, two].iter().for_each(|payload| deliver(&mut ledger, 1, payload));
        assert_eq!((ledger.take_released().len(), ledger.dropped, ledger.missing()), (3, 2, 0));
        ledger.publish(0, clock::now());
        assert_eq!(ledger.missing(), 1);
    }

    #[test]
    fn doubled_late_unpublished_and_garbled_deliveries_are_wrong() {
        let (mut ledger, [zero, one, _]) = ledger();
        deliver(&mut ledger, 0, &one);
        let unpublished = Publication { channel: 0, number: 3, at: Duration::ZERO };
        let unpublished = ledger.payload.write(unpublished).to_vec();
        for wrong in [&one, &zero, &unpublished, &b"x".to_vec()] {
            deliver(&mut ledger, 0, wrong);
        }
        assert_eq!((ledger.wrong, ledger.measured.deliveries), (4, 1));
    }
}
