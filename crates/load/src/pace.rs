//! When the messages of an open loop are due: evenly spaced, whatever became of the ones before.
//! A kernel timer wakes the event loop; nothing is sent here.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::clock;

/// The timer does not wake the loop more often than this; what is due by then goes out together.
const WAKE_INTERVAL_MIN: Duration = Duration::from_micros(50);

/// A fixed rate of messages, the first of them one interval after the start.
pub(crate) struct Pace {
    timer: OwnedFd,
    start: Instant,
    rate: u64,
    /// Messages that have been handed out.
    sent: u64,
}

impl Pace {
    /// Starts now, with `rate` messages a second.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub(crate) fn start(rate: u64) -> Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)
            .context("cannot make a timer")?;
        let interval = (Duration::from_secs(1) / u32::try_from(rate)?).max(WAKE_INTERVAL_MIN);
        let interval = Timespec {
            tv_sec: interval.as_secs().try_into()?,
            tv_nsec: i64::from(interval.subsec_nanos()),
        };
        let every = Itimerspec { it_interval: interval, it_value: interval };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)
            .context("cannot set a timer")?;
        Ok(Self { timer, start: clock::now(), rate, sent: 0 })
    }

    /// The messages that have become due since the last call: number and due time of each.
    pub(crate) fn due(&mut self, now: Instant) -> impl Iterator<Item = (u64, Instant)> + use<> {
        // A periodic timer is set anew only when its expiries are read; there may be none.
        let read = rustix::io::read(&self.timer, &mut [0; 8]);
        debug_assert!(matches!(read, Ok(8) | Err(Errno::AGAIN)), "{read:?}");
        let (start, rate, from) = (self.start, self.rate, self.sent);
        let elapsed = now.saturating_duration_since(start);
        self.sent = from.max((elapsed.as_nanos() * u128::from(rate) / 1_000_000_000) as u64);
        (from..self.sent).map(move |number| {
            let nanos = u128::from(number + 1) * 1_000_000_000 / u128::from(rate);
            (number, start + Duration::from_nanos(nanos as u64))
        })
    }
}

/// The timer, which becomes readable when messages are due.
impl AsRawFd for Pace {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_turn_is_given_all_that_was_missed_with_its_due_times() {
        let mut pace = Pace::start(1000).expect("a timer");
        let start = pace.start;
        let due: Vec<_> = pace.due(start + Duration::from_millis(3)).collect();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(due, [(0, at(1)), (1, at(2)), (2, at(3))]);
        assert_eq!(pace.due(at(3)).count(), 0);
        assert_eq!(pace.due(at(4)).next(), Some((3, at(4))));
    }
}
