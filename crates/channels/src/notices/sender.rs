//! Sends what waits, a batch at a time and in order. A batch stays at the front of the queue until the
//! backend has it, so a failure costs nothing but time.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::timeout;

use super::metrics::Fate;
use super::{NoticeOptions, Notices};
use crate::shared::Shared;

/// The longest first pause after a failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause of all, as while no backend is configured any more.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Bytes of a batch after which no further notice is added.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// About what an id adds to a notice.
const ID_BYTES: usize = 40;

const BEGIN: &[u8] = b"{\"notices\":[";
const END: &[u8] = b"]}";

/// Sends the notices of one process.
pub struct NoticeSender {
    shared: Arc<Shared>,
    /// Draws the jitter of pauses: other draws in each process.
    draws: RandomState,
}

/// Notices that leave together.
struct Batch {
    body: Bytes,
    /// The number of the last one.
    last: u64,
}

impl NoticeSender {
    /// Sends what waits there.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, draws: RandomState::new() }
    }

    /// Sends until it is all flushed at the end of the process.
    pub async fn run(self) {
        let mut failures = 0;
        loop {
            let notices = &self.shared.notices;
            let arrived = notices.arrived.notified();
            if notices.queue.lock().waiting.is_empty() {
                if notices.is_closing() {
                    return;
                }
                arrived.await;
                continue;
            }
            if self.send_batch().await {
                failures = 0;
                continue;
            }
            // While it closes there is no time for more, and what arrives is no reason to try.
            let doublings = if notices.is_closing() { 0 } else { failures };
            let length = pause(doublings, self.draws.hash_one(failures));
            let closed = timeout(length, notices.closed.notified()).await.is_ok();
            failures = if closed { 0 } else { failures.saturating_add(1) };
        }
    }

    /// Sends the oldest notices. False when the backend does not have them.
    async fn send_batch(&self) -> bool {
        let notices = &self.shared.notices;
        let Some(hooks) = self.shared.policy.load().hooks.clone() else { return false };
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

/// How long is waited after so many failures before this one: what doubles each time, less up to half of
/// it, which is drawn so that many weirs whose backend comes back do not all ask it in one moment.
fn pause(failures: u32, draw: u64) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
    let share = (draw >> 32) as f64 / f64::from(u32::MAX);
    whole - (whole / 2).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_the_longest_one_and_is_never_less_than_half_of_itself() {
        for (failures, whole) in [(0, 100), (1, 200), (2, 400), (6, 5_000), (u32::MAX, 5_000)] {
            let whole = Duration::from_millis(whole);
            assert_eq!(pause(failures, 0), whole);
            assert_eq!(pause(failures, u64::MAX), whole / 2);
        }
    }

    #[test]
    fn weirs_that_fail_together_do_not_come_back_together() {
        let mut pauses: Vec<_> =
            (0..100).map(|_| pause(6, RandomState::new().hash_one(6_u32))).collect();
        pauses.sort();
        let (first, last) = (pauses[0], pauses[99]);
        assert!(last - first > Duration::from_secs(1), "{first:?} to {last:?}");
        let widest = pauses.windows(2).map(|two| two[1] - two[0]).max();
        assert!(widest < Some(Duration::from_millis(700)), "{widest:?}");
    }
}
