//! The pace of a drain: how many of the connections are to be closed by now. Pure.

use std::time::{Duration, Instant};

/// Spreads the closing of connections evenly over a window, so that what they reconnect to is not
/// hit by all of them at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    started: Instant,
    window: Duration,
    total: usize,
    closed: usize,
}

impl Pace {
    /// Closes `total` connections over `window` from `now` on.
    pub(crate) fn new(now: Instant, window: Duration, total: usize) -> Self {
        Self { started: now, window, total, closed: 0 }
    }

    /// How many more are to be closed by `now`.
    pub(crate) fn due(&self, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.started).as_secs_f64();
        let share = (passed / self.window.as_secs_f64().max(0.001)).min(1.0);
        let target = (self.total as f64 * share).ceil() as usize;
        target.min(self.total).saturating_sub(self.closed)
    }

    /// One has been told to go.
    pub(crate) fn count(&mut self) {
        self.closed += 1;
    }

    /// There is one more to close.
    pub(crate) fn join(&mut self) {
        self.total += 1;
    }

    /// Whether the window is over: whoever comes now goes at once.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.started) >= self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn every_tenth_of_the_window_closes_a_tenth() {
        let start = clock::now();
        let mut pace = Pace::new(start, Duration::from_secs(10), 1000);
        for second in 1..=10_u32 {
            let due = pace.due(start + Duration::from_secs(second.into()));
            assert_eq!(due, 100);
            (0..due).for_each(|_| pace.count());
        }
        assert_eq!(pace.due(start + Duration::from_secs(99)), 0);
    }

    #[test]
    fn a_window_of_nothing_closes_all_at_once() {
        let start = clock::now();
        let pace = Pace::new(start, Duration::ZERO, 7);
        assert_eq!(pace.due(start + Duration::from_millis(1)), 7);
    }
}
