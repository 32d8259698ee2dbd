//! What is remembered of verdicts, whatever keys and rules are in force: failures by address, and
//! what the next line of the log says.

use std::sync::Arc;

use weir_core::clock;

use crate::metrics::AuthMetrics;
use crate::refusal_log::{INTERVAL, RefusalLog};
use crate::slowdown::Slowdown;

/// The memory of a process. It outlives a change of keys.
#[derive(Debug)]
pub struct Refusals {
    pub(crate) metrics: AuthMetrics,
    pub(crate) log: RefusalLog,
    pub(crate) slowdown: Slowdown,
}

impl Refusals {
    /// Remembers nothing yet.
    pub fn new(metrics: AuthMetrics) -> Arc<Self> {
        Arc::new(Self { metrics, log: RefusalLog::default(), slowdown: Slowdown::default() })
    }

    /// Writes what refusals there were, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.log.flush(clock::now());
        }
    }
}
