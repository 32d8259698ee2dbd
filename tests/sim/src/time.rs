//! The world's time: it moves when the world says so, and wakes what waits for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use weir_core::clock;

/// A clock that is moved by hand. Clones show the same time.
#[derive(Clone)]
pub struct SimClock(Arc<Mutex<State>>);

struct State {
    origin: Instant,
    now: Instant,
    sleepers: Vec<(Instant, Waker)>,
}

impl SimClock {
    /// A clock at nothing.
    #[expect(clippy::new_without_default, reason = "it reads the real clock once, for an origin")]
    pub fn new() -> Self {
        let origin = clock::now();
        Self(Arc::new(Mutex::new(State { origin, now: origin, sleepers: Vec::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics with the clock in its hand")
    }

    /// The time of day.
    pub fn now(&self) -> Instant {
        self.state().now
    }

    /// How long the world has run.
    pub fn elapsed(&self) -> Duration {
        let state = self.state();
        state.now - state.origin
    }

    /// The instant this long after the world began.
    pub fn at(&self, after: Duration) -> Instant {
        self.state().origin + after
    }

    /// The earliest instant that something sleeps until.
    pub fn next(&self) -> Option<Instant> {
        self.state().sleepers.iter().map(|(until, _)| *until).min()
    }

    /// Moves the time on to `to` and wakes who slept until then. It never moves back.
    pub fn advance(&self, to: Instant) {
        let mut state = self.state();
        state.now = state.now.max(to);
        let now = state.now;
        let woken: Vec<_> = state.sleepers.extract_if(.., |(until, _)| *until <= now).collect();
        drop(state);
        for (_, waker) in woken {
            waker.wake();
        }
    }

    /// Waits until this time has passed.
    pub fn sleep(&self, time: Duration) -> Sleep {
        Sleep { clock: self.clone(), until: self.now() + time }
    }
}

/// Ends at its instant.
pub struct Sleep {
    clock: SimClock,
    until: Instant,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.state();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        state.sleepers.push((self.until, cx.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_ends_when_the_time_is_moved_past_it() {
        let clock = SimClock::new();
        let mut sleep = std::pin::pin!(clock.sleep(Duration::from_secs(2)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        assert_eq!(clock.next(), Some(clock.at(Duration::from_secs(2))));
        clock.advance(clock.at(Duration::from_secs(1)));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        clock.advance(clock.at(Duration::from_secs(2)));
        assert!(sleep.as_mut().poll(&mut cx).is_ready());
        assert_eq!(clock.next(), None);
    }
}
