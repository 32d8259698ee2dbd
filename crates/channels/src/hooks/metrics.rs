//! What is counted of hooks.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use weir_core::metrics::{Histograms, Scale, SharedHistogram};
use weir_core::service::AskError;

use super::Hook;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The backend granted it.
    Result,
    /// The backend answered with an error of its own.
    Error,
    /// The backend wants the client gone.
    Disconnect,
    /// It did not answer in time.
    Timeout,
    /// The upstream's queue was full, or the wait in it too long.
    Overloaded,
    /// No server could be reached.
    Unavailable,
    /// The call broke, or the status of the answer was not 2xx.
    Failed,
    /// The answer is not what an answer must be.
    Invalid,
    /// Not made: the connection had as many calls waiting as it may.
    TooMany,
}

impl Outcome {
    const ALL: [Self; 9] = [
        Self::Result,
        Self::Error,
        Self::Disconnect,
        Self::Timeout,
        Self::Overloaded,
        Self::Unavailable,
        Self::Failed,
        Self::Invalid,
        Self::TooMany,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Error => "error",
            Self::Disconnect => "disconnect",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::TooMany => "too_many",
        }
    }

    /// That of a call without a response.
    pub(super) const fn of(error: AskError) -> Self {
        match error {
            AskError::Timeout => Self::Timeout,
            AskError::Overloaded => Self::Overloaded,
            AskError::Unavailable => Self::Unavailable,
            AskError::ResponseTooBig | AskError::Failed => Self::Failed,
        }
    }
}

/// From 0.5 ms to 30 s, as the times of upstreams.
const SCALE: Scale = Scale::CALLS;

/// The metrics of hooks. Clones count in the same place.
#[derive(Clone, Debug)]
pub struct HookMetrics(Arc<Series>);

#[derive(Debug)]
struct Series {
    hooks: [OfHook; Hook::ALL.len()],
    notices: OfHook,
}

/// The label of batches of notices.
const NOTICES: &str = "notices";

#[derive(Debug)]
struct OfHook {
    calls: [IntCounter; Outcome::ALL.len()],
    seconds: SharedHistogram,
}

impl HookMetrics {
    /// Makes the metrics, every series at zero, and registers them.
    ///
    /// # Errors
    ///
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let calls = IntCounterVec::new(
            Opts::new(
                "weir_channels_hook_calls_total",
                "Calls of hooks, by what came of them. result: granted. error, disconnect: refused \
                 by the backend. too_many: not made, the connection had \
                 channels.hooks.calls_max waiting. All others: the hook failed.",
            ),
            &["hook", "outcome"],
        )?;
        let seconds = Histograms::new(
            "weir_channels_hook_seconds",
            "Time that a hook's call took, the wait for a connection included.",
            &["hook"],
            SCALE,
        )?;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        let of = |name: &str| OfHook {
            calls: Outcome::ALL.map(|outcome| calls.with_label_values(&[name, outcome.as_str()])),
            seconds: seconds.with(&[name]),
        };
        let hooks = Hook::ALL.map(|hook| of(hook.as_str()));
        Ok(Self(Arc::new(Series { hooks, notices: of(NOTICES) })))
    }

    /// Counts a call, and how long it took when it was made.
    pub(super) fn ended(&self, hook: Hook, outcome: Outcome, took: Option<Duration>) {
        self.0.hooks[hook as usize].ended(outcome, took);
    }

    /// Counts a batch of notices, and how long it took.
    pub(super) fn told(&self, outcome: Outcome, took: Duration) {
        self.0.notices.ended(outcome, Some(took));
    }
}

impl OfHook {
    fn ended(&self, outcome: Outcome, took: Option<Duration>) {
        self.calls[outcome as usize].inc();
        if let Some(took) = took {
            self.seconds.observe_shared(took);
        }
    }
}
