//! `GET /log` and `PUT /log`: the filter in force, changed for a while. It does not know how a
//! filter is parsed or where lines go.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::query::Query;
use crate::reply::{self, Refusal, Reply};

/// How long a change lasts when the request does not say.
const TTL: Duration = Duration::from_secs(10 * 60);
/// How long a change lasts at most.
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The filter of the process's log.
pub trait LogControl: Send + Sync {
    /// The filter in force.
    fn filter(&self) -> String;

    /// The filter that is configured, which a change for a while reverts to.
    fn configured(&self) -> String;

    /// Puts `filter` in force.
    ///
    /// # Errors
    /// The words of the parser, when `filter` is not one.
    fn set(&self, filter: &str) -> Result<(), String>;
}

/// The filter with its time to live.
pub(crate) struct LogFilter {
    control: Arc<dyn LogControl>,
    temporary: Mutex<Option<Temporary>>,
    changed: Notify,
}

#[derive(Clone, Debug)]
struct Temporary {
    until: Instant,
}

impl LogFilter {
    pub(crate) fn new(control: Arc<dyn LogControl>) -> Self {
        Self { control, temporary: Mutex::new(None), changed: Notify::new() }
    }

    /// `GET /log`.
    pub(crate) fn show(&self) -> Reply {
        let temporary = self.temporary.lock().clone();
        let mut body = json!({ "filter": self.control.filter() });
        if let Some(temporary) = temporary {
            let left = temporary.until.saturating_duration_since(Instant::now());
            body["reverts_to"] = json!(self.control.configured());
            body["reverts_in_seconds"] = json!(left.as_secs_f64());
        }
        reply::json(StatusCode::OK, &body)
    }

    /// `PUT /log?ttl=`: puts the filter in `body` in force until the time to live is over;
    /// then the configured filter is in force again.
    ///
    /// # Errors
    /// 400 for a filter that the parser refuses, in its words, and for a time to live of zero or
    /// over a day.
    pub(crate) fn put(&self, query: &Query, body: &[u8]) -> Result<Reply, Refusal> {
        let ttl = query.duration("ttl")?.unwrap_or(TTL);
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(Refusal::bad_request("ttl is more than 0 and at most 24h"));
        }
        let filter = std::str::from_utf8(body)
            .map_err(|_| Refusal::bad_request("the filter is not UTF-8"))?
            .trim();
        if filter.is_empty() {
            return Err(Refusal::bad_request("the body is a filter such as info,weir_core=debug"));
        }
        {
            let mut temporary = self.temporary.lock();
            let before = self.control.filter();
            self.control.set(filter).map_err(Refusal::bad_request)?;
            tracing::info!(filter, before, ttl_ms = ttl.as_millis() as u64, "log filter changed");
            *temporary = Some(Temporary { until: Instant::now() + ttl });
        }
        self.changed.notify_one();
        Ok(self.show())
    }

    /// Reverts each change when its time is over. Runs as long as the side port.
    pub(crate) async fn revert(self: Arc<Self>) {
        loop {
            let until = self.temporary.lock().as_ref().map(|temporary| temporary.until);
            let Some(until) = until else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                () = self.changed.notified() => continue,
                () = sleep_until(until) => self.revert_due(),
            }
        }
    }

    fn revert_due(&self) {
        let mut temporary = self.temporary.lock();
        // A change that came at the last moment has moved the time.
        if temporary.take_if(|temporary| temporary.until <= Instant::now()).is_none() {
            return;
        }
        let filter = self.control.configured();
        match self.control.set(&filter) {
            Ok(()) => tracing::info!(filter, "log filter reverted"),
            Err(error) => tracing::error!(filter, error, "log filter cannot be reverted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;
    use tokio::time::advance;

    use super::*;

    struct Filter(Mutex<String>);

    impl LogControl for Filter {
        fn filter(&self) -> String {
            self.0.lock().clone()
        }

        fn configured(&self) -> String {
            "info".to_owned()
        }

        fn set(&self, filter: &str) -> Result<(), String> {
            if filter.contains("==") {
                return Err("invalid filter directive".to_owned());
            }
            *self.0.lock() = filter.to_owned();
            Ok(())
        }
    }

    fn put(logs: &LogFilter, query: &str, body: &str) -> Result<Reply, Refusal> {
        logs.put(&Query::parse(Some(query), &["ttl"])?, body.as_bytes())
    }

    #[expect(clippy::disallowed_methods, reason = "the task lives as long as the test's runtime")]
    fn start() -> (Arc<Filter>, Arc<LogFilter>) {
        let filter = Arc::new(Filter(Mutex::new("info".to_owned())));
        let logs = Arc::new(LogFilter::new(filter.clone()));
        tokio::spawn(logs.clone().revert());
        (filter, logs)
    }

    async fn pass(time: Duration) {
        yield_now().await;
        advance(time).await;
        yield_now().await;
        yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_reverts_after_its_time_to_live() {
        let (filter, logs) = start();
        put(&logs, "ttl=60s", "debug\n").expect("a change");
        assert_eq!(filter.filter(), "debug");
        pass(Duration::from_secs(59)).await;
        assert_eq!(filter.filter(), "debug");
        pass(Duration::from_secs(2)).await;
        assert_eq!(filter.filter(), "info");
        put(&logs, "", "trace").expect("a change");
        pass(TTL - Duration::from_secs(1)).await;
        assert_eq!(filter.filter(), "trace");
        pass(Duration::from_secs(2)).await;
        assert_eq!(filter.filter(), "info");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_change_moves_the_time_and_reverts_to_what_is_configured() {
        let (filter, logs) = start();
        put(&logs, "ttl=60s", "debug").expect("a change");
        pass(Duration::from_secs(50)).await;
        put(&logs, "ttl=60s", "trace").expect("a change");
        pass(Duration::from_secs(30)).await;
        assert_eq!(filter.filter(), "trace");
        pass(Duration::from_secs(31)).await;
        assert_eq!(filter.filter(), "info");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_put_in_force_is_refused_and_changes_nothing() {
        let (filter, logs) = start();
        for (query, body, error) in [
            ("ttl=25h", "debug", "ttl is more than 0 and at most 24h"),
            ("ttl=0s", "debug", "ttl is more than 0 and at most 24h"),
            ("ttl=1s", "a==b", "invalid filter directive"),
            ("ttl=1s", "  \n", "the body is a filter such as info,weir_core=debug"),
        ] {
            assert_eq!(put(&logs, query, body).expect_err(query).error, error);
        }
        assert_eq!(filter.filter(), "info");
        assert!(logs.temporary.lock().is_none());
    }
}
