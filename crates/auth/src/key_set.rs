//! Keys that somebody else publishes (a JWKS, RFC 7517): fetched, kept and refreshed. The last good
//! set stays while its source is down, for a bounded time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;
use weir_core::clock;
use weir_core::context::{ConnId, RequestId};
use weir_upstream::{CallTerms, Upstream, UpstreamRequest};

use crate::key::{Jwk, Key};
use crate::metrics::{JwksMetrics, RefreshResult};

/// What a key set is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetLimits {
    /// Between two refreshes when nothing asks for one.
    pub refresh_interval: Duration,
    /// Least time between two refreshes, whatever asks for them.
    pub refresh_interval_min: Duration,
    /// How long the last good set is used without a refresh that works.
    pub age_max: Duration,
    /// Most keys that are taken from a set; a bigger one is refused.
    pub keys_max: usize,
}

/// A key set and where it comes from.
pub struct RemoteKeys {
    upstream: Arc<Upstream>,
    path: PathAndQuery,
    limits: KeySetLimits,
    metrics: JwksMetrics,
    current: RwLock<Current>,
    /// One refresh at a time: who comes while one runs waits for it.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Current {
    keys: Arc<[Key]>,
    /// When the keys came.
    good: Option<Instant>,
    /// When they were asked for last, whatever came of it.
    asked: Option<Instant>,
}

impl std::fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteKeys").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RemoteKeys {
    /// The key set at `path` of an upstream. Nothing is asked yet: see [`RemoteKeys::run`].
    pub fn new(
        upstream: Arc<Upstream>,
        path: PathAndQuery,
        limits: KeySetLimits,
        metrics: JwksMetrics,
    ) -> Arc<Self> {
        let (current, turn) = (RwLock::default(), tokio::sync::Mutex::default());
        Arc::new(Self { upstream, path, limits, metrics, current, turn })
    }

    /// The keys that may be used at `now`.
    pub(crate) fn keys(&self, now: Instant) -> Arc<[Key]> {
        let current = self.current.read();
        let young = |good: Instant| now.saturating_duration_since(good) < self.limits.age_max;
        if current.good.is_some_and(young) { Arc::clone(&current.keys) } else { Arc::default() }
    }

    /// Whether a refresh would ask its source, and not just repeat what is known.
    pub(crate) fn may_refresh(&self, now: Instant) -> bool {
        let asked = self.current.read().asked;
        // One that runs now may bring the key.
        self.turn.try_lock().is_err() || self.is_due(asked, now)
    }

    /// Refreshes because a key is not known, at the bounded rate.
    pub(crate) async fn refresh_on_demand(&self) {
        let asked = self.current.read().asked;
        let _turn = self.turn.lock().await;
        let unchanged = self.current.read().asked == asked;
        if unchanged && self.is_due(asked, clock::now()) {
            self.refresh().await;
        }
    }

    /// Keeps the set fresh, for as long as it is polled: at once, then each `refresh_interval`; each
    /// `refresh_interval_min` while the source is down.
    pub async fn run(self: Arc<Self>) {
        loop {
            let good = {
                let _turn = self.turn.lock().await;
                self.refresh().await
            };
            let limits = &self.limits;
            tokio::time::sleep(match good {
                true => limits.refresh_interval,
                false => limits.refresh_interval_min.min(limits.refresh_interval),
            })
            .await;
        }
    }

    /// Lets its connection go.
    pub async fn close(&self, within: Duration) {
        self.upstream.close(within).await;
    }

    /// Whether it may be asked again, whatever for.
    fn is_due(&self, asked: Option<Instant>, now: Instant) -> bool {
        let interval = self.limits.refresh_interval_min;
        asked.is_none_or(|asked| now.saturating_duration_since(asked) >= interval)
    }

    /// Asks once; true when there is a new set. The caller has the turn.
    async fn refresh(&self) -> bool {
        self.current.write().asked = Some(clock::now());
        let fetched = self.fetch().await;
        let result = match &fetched {
            Ok(_) => RefreshResult::Good,
            Err(result) => *result,
        };
        self.metrics.refreshed(result);
        match fetched {
            Ok(keys) => {
                self.metrics.keys.set(keys.len() as i64);
                let mut current = self.current.write();
                current.keys = keys.into();
                current.good = Some(clock::now());
                true
            }
            Err(result) => {
                // At most one line each `refresh_interval_min`: the source is weir's own choice.
                tracing::warn!(
                    set = self.metrics.set(),
                    result = result.as_str(),
                    "key set not refreshed"
                );
                if self.keys(clock::now()).is_empty() {
                    self.metrics.keys.set(0);
                }
                false
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, RefreshResult> {
        let request = UpstreamRequest {
            method: Method::GET,
            path_and_query: self.path.clone(),
            content_type: None,
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            request_id: RequestId::Message { conn: ConnId::from_raw(0), seq: 0 },
            terms: CallTerms::default(),
        };
        let response = self.upstream.call(request).await.map_err(|_| RefreshResult::Unreachable)?;
        if response.status != StatusCode::OK {
            return Err(RefreshResult::Status);
        }
        parse(&response.body, self.limits.keys_max)
    }
}

/// The usable keys of a set. Those that are not usable are left out, as RFC 7517, section 5 says;
/// a set without any is no set.
pub(crate) fn parse(body: &[u8], keys_max: usize) -> Result<Vec<Key>, RefreshResult> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(body).map_err(|_| RefreshResult::Malformed)?;
    if set.keys.len() > keys_max {
        return Err(RefreshResult::TooManyKeys);
    }
    let usable = |entry: Value| {
        let jwk: Jwk = serde_json::from_value(entry).ok()?;
        Key::from_jwk(&jwk).ok()
    };
    let keys: Vec<Key> = set.keys.into_iter().filter_map(usable).collect();
    if keys.is_empty() { Err(RefreshResult::NoKeys) } else { Ok(keys) }
}
