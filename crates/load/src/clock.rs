//! The generator's one reader of time, of the time of day, and of the processor time it has used
//! itself. weir's own clock is not used, so that the generator shares no code with what it measures.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The present, from the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the generator's one reader of the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day in milliseconds since 1970, with their fractions; 0 for a clock that is before.
pub(crate) fn unix_millis() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as f64 / 1000.0
}

/// Processor time, user and system, that this process has used since it started.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Neither part is ever negative for this clock.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
