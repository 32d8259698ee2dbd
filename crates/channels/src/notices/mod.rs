//! Notices: what a backend is told of clients that have gone and subscriptions that have ended. They
//! wait in one bounded queue and are sent in batches ([`sender`]), each at least once while the process
//! lives and the backend comes back in time. Nobody waits for them; what is dropped is counted by reason.

mod event;
mod metrics;
mod sender;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

pub(crate) use self::event::{About, Ended, What};
pub(crate) use self::metrics::NoticeMetrics;
use self::metrics::{Fate, Named};
pub use self::sender::NoticeSender;

/// Bounds of what waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeOptions {
    /// Clients that have gone.
    pub disconnects: bool,
    /// Subscriptions that have ended while their client stayed.
    pub unsubscribes: bool,
    /// Most notices that wait. The next one is dropped.
    pub count_max: usize,
    /// Most bytes of them. What does not fit is dropped.
    pub bytes_max: usize,
    /// How long one waits for a backend that is away. After it, it is dropped.
    pub age_max: Duration,
    /// Most notices in one call.
    pub batch_max: usize,
    /// How long one call may take, the wait for a connection included.
    pub timeout: Duration,
}

/// What waits to be told.
pub struct Notices {
    queue: Mutex<Queue>,
    /// What ids begin with: another after a restart.
    node: String,
    /// Something has come, or it is closing.
    arrived: Notify,
    /// Nothing waits any more.
    emptied: Notify,
    closing: AtomicBool,
    /// Wakes a sender that waits for a backend to come back.
    closed: Notify,
    metrics: NoticeMetrics,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Notice>,
    bytes: usize,
    /// The number of the last one.
    last: u64,
}

/// One notice.
struct Notice {
    number: u64,
    event: Named,
    taken: Instant,
    /// A JSON object, without its id.
    json: Arc<[u8]>,
}

impl Queue {
    fn pop(&mut self) -> Option<Notice> {
        let notice = self.waiting.pop_front()?;
        self.bytes -= notice.json.len();
        Some(notice)
    }
}

impl Notices {
    /// Nothing waits. Ids begin with `node`.
    pub(crate) fn new(node: String, metrics: NoticeMetrics) -> Self {
        Self {
            queue: Mutex::default(),
            node,
            arrived: Notify::new(),
            emptied: Notify::new(),
            closing: AtomicBool::new(false),
            closed: Notify::new(),
            metrics,
        }
    }

    /// Queues a notice, or drops it when there is no room. Never waits.
    pub(crate) fn put(&self, ended: &Ended<'_>, options: &NoticeOptions, now: Instant) {
        let (event, json): (_, Arc<[u8]>) = (ended.named(), ended.json().into());
        let mut queue = self.queue.lock();
        queue.last += 1;
        let number = queue.last;
        let bytes = queue.bytes + json.len();
        if queue.waiting.len() >= options.count_max || bytes > options.bytes_max {
            return self.metrics.ended(event, Fate::Full);
        }
        queue.bytes = bytes;
        queue.waiting.push_back(Notice { number, event, taken: now, json });
        self.metrics.waiting(queue.waiting.len());
        drop(queue);
        self.arrived.notify_one();
    }

    /// Sends what waits now, and drops what is left after `within`. Gives how many that were. Nothing is
    /// sent afterwards.
    pub async fn flush(&self, within: Duration) -> u64 {
        self.closing.store(true, Ordering::Release);
        self.closed.notify_one();
        self.arrived.notify_one();
        let empty = async {
            while !self.queue.lock().waiting.is_empty() {
                self.emptied.notified().await;
            }
        };
        if timeout(within, empty).await.is_ok() {
            return 0;
        }
        let dropped = self.drop_while(Fate::Shutdown, |_| true);
        // The sender ends with the queue.
        self.arrived.notify_one();
        dropped
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Drops from the oldest on, as long as `which` says so. Gives how many.
    fn drop_while(&self, fate: Fate, which: impl Fn(&Notice) -> bool) -> u64 {
        let mut queue = self.queue.lock();
        let mut dropped = 0;
        while queue.waiting.front().is_some_and(&which) {
            if let Some(notice) = queue.pop() {
                self.metrics.ended(notice.event, fate);
                dropped += 1;
            }
        }
        self.metrics.waiting(queue.waiting.len());
        if queue.waiting.is_empty() {
            self.emptied.notify_one();
        }
        drop(queue);
        if dropped > 0 && fate.is_loss() {
            tracing::warn!(dropped, reason = fate.as_str(), "notices to the backend were dropped");
        }
        dropped
    }
}
