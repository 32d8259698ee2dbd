//! Sends what waits, a batch at a time and in order. A batch stays at the front of the queue until the
//! backend has it, so a failure costs nothing but time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::timeout;

use super::metrics::Fate;
use super::{NoticeOptions, Notices};
use crate::shared::Shared;

/// The first pause after a failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause, as while no backend is configured any more.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Bytes of a batch after which no further notice is added.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// About what an id adds to a notice.
const ID_BYTES: usize = 40;

const BEGIN: &[u8] = b"{\"notices\":[";
const END: &[u8] = b"]}";

/// Sends the notices of one process.
pub struct NoticeSender(Arc<Shared>);

/// Notices that leave together.
struct Batch {
    body: Bytes,
    /// The number of the last one.
    last: u64,
}

impl NoticeSender {
    /// Sends what waits there.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Sends until it is all flushed at the end of the process.
    pub async fn run(self) {
        let mut pause = PAUSE_MIN;
        loop {
            let notices = &self.0.notices;
            let arrived = notices.arrived.notified();
            if notices.queue.lock().waiting.is_empty() {
                if notices.is_closing() {
                    return;
                }
                arrived.await;
                continue;
            }
            if self.send_batch().await {
                pause = PAUSE_MIN;
                continue;
            }
            // While it closes there is no time for more, and what arrives is no reason to try.
            let length = if notices.is_closing() { PAUSE_MIN } else { pause };
            let closed = timeout(length, notices.closed.notified()).await.is_ok();
            pause = if closed { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        }
    }

    /// Sends the oldest notices. False when the backend does not have them.
    async fn send_batch(&self) -> bool {
        let notices = &self.0.notices;
        let Some(hooks) = self.0.policy.load().hooks.clone() else { return false };
        let Some(options) = hooks.notices() else { return false };
        // Time as the runtime has it.
        let now = tokio::time::Instant::now().into_std();
        notices.drop_old(options.age_max, now);
        let Some(batch) = notices.batch(options) else { return true };
        let delivered = hooks.tell(batch.body).await;
        if delivered {
            notices.drop_while(Fate::Delivered, |notice| notice.number <= batch.last);
        }
        delivered
    }
}

impl Notices {
    /// Drops what the backend was away for too long for.
    fn drop_old(&self, age_max: Duration, now: Instant) {
        self.drop_while(Fate::TooOld, |notice| {
            now.saturating_duration_since(notice.taken) > age_max
        });
    }

    /// The oldest notices, as one body. They stay where they are.
    fn batch(&self, options: &NoticeOptions) -> Option<Batch> {
        let mut taken = Vec::new();
        let (mut bytes, mut last) = (0, 0);
        // Only references are taken under the lock, which connections that end wait for.
        for notice in self.queue.lock().waiting.iter().take(options.batch_max) {
            if bytes > 0 && bytes + notice.json.len() > BATCH_BYTES_MAX {
                break;
            }
            bytes += notice.json.len();
            last = notice.number;
            taken.push((notice.number, Arc::clone(&notice.json)));
        }
        if taken.is_empty() {
            return None;
        }
        let mut body = BytesMut::with_capacity(bytes + taken.len() * ID_BYTES + END.len());
        body.put_slice(BEGIN);
        for (at, (number, json)) in taken.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            body.put_slice(format!("{comma}{{\"id\":\"{}-{number}\",", self.node).as_bytes());
            body.put_slice(&json[1..]);
        }
        body.put_slice(END);
        Some(Batch { body: body.freeze(), last })
    }
}
