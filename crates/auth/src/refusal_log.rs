//! Refusals in the log: a line now and then with counts, never one for each. No credential and no
//! principal comes near it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::refusal::{Door, Reason};

/// Least time between two lines.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// Counts what the next line will say.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<(&'static str, &'static str), u64>,
    written: Option<Instant>,
}

impl RefusalLog {
    /// Notes a refusal. The first one after a quiet time is written at once.
    pub(crate) fn note(&self, door: Door, reason: Reason, now: Instant) {
        *self.0.lock().counts.entry((door.as_str(), reason.as_str())).or_default() += 1;
        self.flush(now);
    }

    /// Writes what has gathered, when there is something and the last line is old enough.
    pub(crate) fn flush(&self, now: Instant) {
        if let Some((total, reasons)) = self.take(now) {
            tracing::warn!(refused = total, reasons, "peers were not let in");
        }
    }

    fn take(&self, now: Instant) -> Option<(u64, String)> {
        let mut state = self.0.lock();
        let recent = |at: Instant| now.saturating_duration_since(at) < INTERVAL;
        if state.counts.is_empty() || state.written.is_some_and(recent) {
            return None;
        }
        state.written = Some(now);
        let mut text = String::new();
        let mut total = 0;
        for ((door, reason), count) in std::mem::take(&mut state.counts) {
            let space = if text.is_empty() { "" } else { " " };
            write!(text, "{space}{door}/{reason}={count}").expect("a string takes it");
            total += count;
        }
        Some((total, text))
    }
}

#[cfg(test)]
mod tests {
    use weir_core::clock;

    use super::*;

    #[test]
    fn many_refusals_are_one_line() {
        let (log, now) = (RefusalLog::default(), clock::now());
        let note = |door: Door, reason: Reason| {
            *log.0.lock().counts.entry((door.as_str(), reason.as_str())).or_default() += 1;
        };
        note(Door::Token, Reason::Missing);
        assert_eq!(log.take(now), Some((1, "token/missing=1".to_owned())));
        for _ in 0..1000 {
            note(Door::Token, Reason::Missing);
            note(Door::ApiKey, Reason::UnknownApiKey);
        }
        assert_eq!(log.take(now + INTERVAL / 2), None);
        let text = "api_key/unknown_key=1000 token/missing=1000".to_owned();
        assert_eq!(log.take(now + INTERVAL), Some((2000, text)));
        assert_eq!(log.take(now + INTERVAL * 2), None);
    }
}
