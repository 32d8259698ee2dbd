//! One target's breaker as a pure state machine with time as an argument.
//! What counts as a failure is decided by the client; nothing here does I/O or counts metrics.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BreakerLimits {
    /// Consecutive failures that open it. `None`: it never opens.
    pub(crate) failures: Option<NonZeroU32>,
    /// How long it stays open before one call may probe.
    pub(crate) open: Duration,
}

/// Lets calls through until a target fails several times in a row, then none for a while, then
/// one that probes: its success closes the breaker, its failure opens it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breaker {
    limits: BreakerLimits,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

/// What a breaker says to a call that would like to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Go.
    Pass,
    /// Go, and tell how it ended: the breaker waits for it.
    Probe,
    /// Not this target.
    Shut,
}

/// How a call ended, as far as the target is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The target answered.
    Success,
    /// The target failed.
    Failure,
    /// Nothing is known: the caller gave up.
    Unknown,
}

/// A change that is worth a log line and a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    /// The target failed too often, or its probe did.
    Open,
    /// A probe is on its way.
    HalfOpen,
    /// The probe succeeded.
    Closed,
}

impl Transition {
    /// Every transition.
    pub(crate) const ALL: [Self; 3] = [Self::Open, Self::HalfOpen, Self::Closed];

    /// The label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Closed => "closed",
        }
    }
}

impl Breaker {
    pub(crate) fn new(limits: BreakerLimits) -> Self {
        Self { limits, state: State::Closed { failures: 0 } }
    }

    /// What a call that began now would be told. Changes nothing.
    pub(crate) fn gate(&self, now: Instant) -> Gate {
        match self.state {
            State::Closed { .. } => Gate::Pass,
            State::Open { until } if now >= until => Gate::Probe,
            State::Open { .. } | State::HalfOpen => Gate::Shut,
        }
    }

    /// A call begins. It must have been let through by [`Breaker::gate`] at this instant.
    pub(crate) fn begin(&mut self, gate: Gate) -> Option<Transition> {
        match gate {
            Gate::Probe => {
                self.state = State::HalfOpen;
                Some(Transition::HalfOpen)
            }
            Gate::Pass | Gate::Shut => None,
        }
    }

    /// A call ends that began with `gate`.
    ///
    /// What began before the breaker opened says nothing about the target's health since, so
    /// outside the closed state only the probe counts. A probe whose end is unknown leaves its
    /// place to the next call.
    pub(crate) fn end(&mut self, gate: Gate, verdict: Verdict, now: Instant) -> Option<Transition> {
        match (self.state, gate, verdict) {
            (State::HalfOpen, Gate::Probe, Verdict::Success) => {
                self.state = State::Closed { failures: 0 };
                Some(Transition::Closed)
            }
            (State::HalfOpen, Gate::Probe, Verdict::Failure) => Some(self.open(now)),
            (State::HalfOpen, Gate::Probe, Verdict::Unknown) => {
                self.state = State::Open { until: now };
                None
            }
            (State::Closed { .. }, _, Verdict::Success) => {
                self.state = State::Closed { failures: 0 };
                None
            }
            (State::Closed { failures }, _, Verdict::Failure) => {
                let failures = failures.saturating_add(1);
                self.state = State::Closed { failures };
                let opens = self.limits.failures.is_some_and(|max| failures >= max.get());
                opens.then(|| self.open(now))
            }
            (State::Closed { .. } | State::Open { .. } | State::HalfOpen, _, _) => None,
        }
    }

    /// Whether the target is shut or being probed.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    fn open(&mut self, now: Instant) -> Transition {
        self.state = State::Open { until: now + self.limits.open };
        Transition::Open
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Instant {
        use std::sync::OnceLock;
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        *ORIGIN.get_or_init(weir_core::clock::now) + Duration::from_secs(seconds)
    }

    fn breaker(failures: u32) -> Breaker {
        Breaker::new(BreakerLimits {
            failures: NonZeroU32::new(failures),
            open: Duration::from_secs(5),
        })
    }

    /// One whole call at `now`; `None` when it was not let through.
    fn call(breaker: &mut Breaker, verdict: Verdict, now: Instant) -> Option<Gate> {
        let gate = breaker.gate(now);
        if gate == Gate::Shut {
            return None;
        }
        breaker.begin(gate);
        breaker.end(gate, verdict, now);
        Some(gate)
    }

    #[test]
    fn consecutive_failures_open_it() {
        let mut breaker = breaker(3);
        for _ in 0..3 {
            assert_eq!(call(&mut breaker, Verdict::Failure, at(0)), Some(Gate::Pass));
        }
        assert!(breaker.is_open());
        assert_eq!(breaker.gate(at(4)), Gate::Shut);
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let mut breaker = breaker(3);
        for verdict in [Verdict::Failure, Verdict::Failure, Verdict::Success] {
            call(&mut breaker, verdict, at(0));
        }
        call(&mut breaker, Verdict::Failure, at(0));
        call(&mut breaker, Verdict::Failure, at(0));
        assert!(!breaker.is_open());
    }

    #[test]
    fn after_the_open_time_one_call_probes_and_others_wait_for_it() {
        let mut breaker = breaker(1);
        call(&mut breaker, Verdict::Failure, at(0));
        assert_eq!(breaker.gate(at(5)), Gate::Probe);
        assert_eq!(breaker.begin(Gate::Probe), Some(Transition::HalfOpen));
        assert_eq!(breaker.gate(at(500)), Gate::Shut);
        let end = breaker.end(Gate::Probe, Verdict::Success, at(6));
        assert_eq!(end, Some(Transition::Closed));
        assert_eq!(breaker.gate(at(6)), Gate::Pass);
    }

    #[test]
    fn a_failed_probe_opens_it_for_the_whole_time_again() {
        let mut breaker = breaker(1);
        call(&mut breaker, Verdict::Failure, at(0));
        breaker.begin(breaker.gate(at(5)));
        let end = breaker.end(Gate::Probe, Verdict::Failure, at(7));
        assert_eq!(end, Some(Transition::Open));
        assert_eq!(breaker.gate(at(11)), Gate::Shut);
        assert_eq!(breaker.gate(at(12)), Gate::Probe);
    }

    #[test]
    fn a_probe_that_was_given_up_leaves_its_place_to_the_next_call() {
        let mut breaker = breaker(1);
        call(&mut breaker, Verdict::Failure, at(0));
        breaker.begin(breaker.gate(at(5)));
        assert_eq!(breaker.end(Gate::Probe, Verdict::Unknown, at(6)), None);
        assert_eq!(breaker.gate(at(6)), Gate::Probe);
    }

    #[test]
    fn late_ends_of_calls_from_before_it_opened_change_nothing() {
        let mut breaker = breaker(1);
        call(&mut breaker, Verdict::Failure, at(0));
        assert_eq!(breaker.end(Gate::Pass, Verdict::Success, at(1)), None);
        assert_eq!(breaker.gate(at(1)), Gate::Shut);
        breaker.begin(breaker.gate(at(5)));
        assert_eq!(breaker.end(Gate::Pass, Verdict::Failure, at(5)), None);
        let end = breaker.end(Gate::Probe, Verdict::Success, at(6));
        assert_eq!(end, Some(Transition::Closed));
    }

    #[test]
    fn off_never_opens() {
        let mut breaker =
            Breaker::new(BreakerLimits { failures: None, open: Duration::from_secs(5) });
        for _ in 0..1000 {
            assert_eq!(call(&mut breaker, Verdict::Failure, at(0)), Some(Gate::Pass));
        }
    }

    proptest! {
        /// Whatever happens in whatever order: at most one probe at a time, nobody passes an open
        /// breaker before its time, and with nothing in flight it always lets somebody through
        /// once the time is over.
        #[test]
        fn it_is_never_passed_early_and_never_stuck(
            steps in prop::collection::vec((0_u8..4, 0_u64..4), 1..200),
        ) {
            let mut breaker = breaker(2);
            let mut now = at(0);
            let mut running: Vec<Gate> = Vec::new();
            let mut shut_until = now;
            for (step, seconds) in steps {
                now += Duration::from_secs(seconds);
                if step == 0 {
                    let gate = breaker.gate(now);
                    if gate != Gate::Shut {
                        prop_assert!(now >= shut_until);
                        breaker.begin(gate);
                        running.push(gate);
                    }
                } else if !running.is_empty() {
                    let gate = running.remove(seconds as usize % running.len());
                    let verdict =
                        [Verdict::Success, Verdict::Failure, Verdict::Unknown][step as usize - 1];
                    if breaker.end(gate, verdict, now) == Some(Transition::Open) {
                        shut_until = now + Duration::from_secs(5);
                    }
                }
                prop_assert!(running.iter().filter(|gate| **gate == Gate::Probe).count() <= 1);
            }
            for gate in running {
                breaker.end(gate, Verdict::Unknown, now);
            }
            prop_assert_ne!(breaker.gate(now + Duration::from_secs(5)), Gate::Shut);
        }
    }
}
