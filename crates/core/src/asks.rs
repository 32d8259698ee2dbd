//! Where asks run: the service runtime, never a worker. It knows no connection and no upstream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::service::{Answer, AskError, AskFuture};

/// Spawns asks on the service runtime, as tasks that the end of the process waits for.
#[derive(Clone, Debug)]
pub struct Asks {
    handle: Handle,
    tasks: TaskTracker,
}

impl Asks {
    /// Asks run on the runtime of `handle` and are counted by `tasks`.
    pub fn new(handle: Handle, tasks: TaskTracker) -> Self {
        Self { handle, tasks }
    }

    /// Starts an ask. It is cancelled when the returned handle is dropped.
    pub fn spawn(&self, ask: AskFuture) -> AskHandle {
        AskHandle { task: Cancelling(self.tasks.spawn_on(ask, &self.handle)) }
    }

    /// Runs other work that takes time. `None` when it panicked, or the runtime is being shut down.
    ///
    /// # Cancel safety
    /// The work is cancelled when the future is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        work: Pin<Box<dyn Future<Output = T> + Send>>,
    ) -> Option<T> {
        let mut task = Cancelling(self.tasks.spawn_on(work, &self.handle));
        (&mut task.0).await.ok()
    }
}

/// Cancels its task when dropped; harmless once the task has ended.
#[derive(Debug)]
struct Cancelling<T>(JoinHandle<T>);

impl<T> Drop for Cancelling<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An ask that runs. Yields its answer; dropping it cancels the ask.
///
/// # Cancel safety
/// Awaiting it by reference may be given up and taken up again; no answer is lost.
#[derive(Debug)]
#[must_use = "dropping it cancels the ask"]
pub struct AskHandle {
    task: Cancelling<Answer>,
}

impl Future for AskHandle {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.task.0).poll(cx).map(|ended| match ended {
            Ok(answer) => answer,
            // A panic, or the runtime is being shut down: there will be no answer.
            Err(_) => Err(AskError::Failed),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::service::Response;

    fn asks() -> Asks {
        Asks::new(Handle::current(), TaskTracker::new())
    }

    #[tokio::test]
    async fn an_ask_yields_its_answer() {
        let answer = Ok(Response { status: 200, body: Bytes::from_static(b"yes") });
        let expected = answer.clone();
        assert_eq!(asks().spawn(Box::pin(async move { answer })).await, expected);
    }

    #[tokio::test]
    async fn an_ask_that_panics_is_a_failed_one() {
        assert_eq!(
            asks().spawn(Box::pin(async { panic!("as the test wants") })).await,
            Err(AskError::Failed)
        );
    }

    #[tokio::test]
    async fn an_ask_that_nobody_waits_for_is_cancelled() {
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let asks = asks();
        let ask = asks.spawn(Box::pin(async move {
            let _inside = inside;
            std::future::pending().await
        }));
        tokio::task::yield_now().await;
        drop(ask);
        asks.tasks.close();
        asks.tasks.wait().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
