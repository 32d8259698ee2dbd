//! Which messages are sampled: a ratio, and a ceiling that holds whatever the ratio is. Time is an
//! argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Tracing;

/// Messages after which a worker looks whether the ratio has changed.
const SKIP_MAX: u64 = 65_536;
/// The part of a second's allowance that may be used at once.
const BURST: u64 = 10;

/// Gives out ids that are never 0 and do not repeat: a counter, well mixed (SplitMix64).
pub(super) struct Ids(AtomicU64);

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(super) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        loop {
            let id = mix(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP));
            if id != 0 {
                return id;
            }
        }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// At most so many a second, for all threads together: a leaky bucket in one integer (GCRA).
pub(super) struct Ceiling {
    origin: Instant,
    /// Nanoseconds that one of them takes.
    interval: AtomicU64,
    /// When everything taken so far is paid for, in nanoseconds since the origin.
    paid: AtomicU64,
}

impl Ceiling {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let ceiling =
            Self { origin: now, interval: AtomicU64::default(), paid: AtomicU64::default() };
        ceiling.set(per_second);
        ceiling
    }

    pub(super) fn set(&self, per_second: u32) {
        self.interval.store(1_000_000_000 / u64::from(per_second.max(1)), Ordering::Relaxed);
    }

    /// Takes one, or says when the next one will be there.
    pub(super) fn take(&self, now: Instant) -> Result<(), Instant> {
        let now = now.saturating_duration_since(self.origin).as_nanos() as u64;
        let interval = self.interval.load(Ordering::Relaxed);
        let credit = (1_000_000_000 / BURST).saturating_sub(interval);
        let paid = |paid: u64| {
            let start = paid.max(now);
            (start <= now + credit).then(|| start + interval)
        };
        match self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid) {
            Ok(_) => Ok(()),
            Err(paid) => Err(self.origin + Duration::from_nanos(paid - credit)),
        }
    }
}

/// One worker's decisions: a countdown to the next message that is taken, so that the others cost
/// one subtraction.
pub(crate) struct Sampler {
    tracing: Arc<Tracing>,
    /// Messages to pass before the next decision.
    left: u64,
    /// Whether the next decision takes a message, or only draws again.
    armed: bool,
    /// The ceiling is reached until then.
    full_until: Option<Instant>,
}

impl Sampler {
    pub(crate) fn new(tracing: Arc<Tracing>) -> Self {
        Self { tracing, left: 0, armed: false, full_until: None }
    }

    /// What it decides for.
    pub(crate) fn tracing(&self) -> &Arc<Tracing> {
        &self.tracing
    }

    /// Whether to take the next message.
    #[inline]
    pub(crate) fn next(&mut self, now: Instant) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.full_until.is_none_or(|until| until <= now) && self.candidate(now)
    }

    #[cold]
    fn candidate(&mut self, now: Instant) -> bool {
        self.full_until = None;
        if !self.armed {
            self.draw();
            if self.left > 0 {
                self.left -= 1;
                return false;
            }
        }
        match self.tracing.ceiling.take(now) {
            Ok(()) => {
                self.draw();
                true
            }
            // It stays armed: the first message after that is taken.
            Err(until) => {
                self.full_until = Some(until);
                false
            }
        }
    }

    /// Draws how many messages to pass. The geometric distribution has no memory, so that a long
    /// skip may be cut and drawn again.
    fn draw(&mut self) {
        if !self.tracing.is_on() {
            (self.left, self.armed) = (u64::MAX, false);
            return;
        }
        let ratio = self.tracing.ratio();
        let skip = if ratio >= 1.0 {
            0.0
        } else if ratio <= 0.0 {
            f64::INFINITY
        } else {
            let draw = ((self.tracing.ids.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            (draw.ln() / (1.0 - ratio).ln()).floor()
        };
        self.armed = skip <= SKIP_MAX as f64;
        self.left = if self.armed { skip as u64 } else { SKIP_MAX };
    }
}
