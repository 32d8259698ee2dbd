//! Asks leave the worker here: each runs as a task of the service runtime, and its answer comes
//! back as mail. Dropping the guard cancels the task.

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use super::table::Key;
use crate::service::{Answer, AskFuture, Ticket};

/// An answer on its way to the connection that asked.
pub(crate) struct Answered {
    pub(crate) key: Key,
    pub(crate) ticket: Ticket,
    pub(crate) answer: Answer,
}

/// Starts asks for one worker.
#[derive(Clone)]
pub(crate) struct AskSpawner {
    runtime: Handle,
    tasks: TaskTracker,
    answers: mpsc::Sender<Answered>,
}

impl AskSpawner {
    /// Asks run on `runtime`; answers are sent to `answers`, waiting there when it is full.
    pub(crate) fn new(
        runtime: Handle,
        tasks: TaskTracker,
        answers: mpsc::Sender<Answered>,
    ) -> Self {
        Self { runtime, tasks, answers }
    }

    /// Starts one. Their number is bounded by `in_flight_max` of each connection, and what they
    /// do by the limits of what they call.
    pub(crate) fn spawn(&self, key: Key, ticket: Ticket, future: AskFuture) -> AskGuard {
        let answers = self.answers.clone();
        let task = async move {
            let answer = future.await;
            if answers.send(Answered { key, ticket, answer }).await.is_err() {
                tracing::debug!("an answer came after its worker had ended");
            }
        };
        AskGuard(self.tasks.spawn_on(task, &self.runtime).abort_handle())
    }
}

/// Cancels its ask when dropped; harmless once the ask has ended.
pub(crate) struct AskGuard(AbortHandle);

impl Drop for AskGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}
