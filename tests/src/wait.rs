//! Bounded waits. Nothing in the tests waits without a limit and a name for what it waits for.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// The wait for anything that weir does at once: long enough for a busy machine of two cores.
pub const SOON: Duration = Duration::from_secs(15);

/// Awaits `future` for at most `limit`.
///
/// # Panics
///
/// When the time is over; the message says what was waited for.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} for {what}"),
    }
}

/// Asks `probe` again and again, with pauses of 20 ms, until it gives a value, for at most
/// [`SOON`].
///
/// # Panics
///
/// When the time is over; the message says what was waited for.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {SOON:?} for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
