//! The one reader of the monotonic clock, and the coarse tick that connections keep.
//!
//! Everything else takes time as an argument, so that a simulation can move it.

use std::time::{Duration, Instant};

/// Reads the monotonic clock. Costs about 17 ns: at most once a stage boundary and batch.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// A coarse instant: tenths of a second since the worker started. Four bytes, for the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u32);

impl Tick {
    /// Later than any other.
    pub const NEVER: Self = Self(u32::MAX);

    /// The coarse form of `now`, counted from `origin`. Saturates after 13 years.
    pub fn at(origin: Instant, now: Instant) -> Self {
        let tenths = now.saturating_duration_since(origin).as_millis() / 100;
        Self(u32::try_from(tenths).unwrap_or(u32::MAX - 1).min(u32::MAX - 1))
    }

    /// This much later; half a tenth of a second counts as none.
    pub fn after(self, wait: Duration) -> Self {
        let tenths = u32::try_from(wait.as_millis() / 100).unwrap_or(u32::MAX);
        Self(self.0.saturating_add(tenths))
    }

    /// How long ago `earlier` was, rounded down to a tenth of a second.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::from(self.0.saturating_sub(earlier.0)) * 100)
    }
}
