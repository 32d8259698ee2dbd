//! What the integration tests share: an upstream under test with its metrics, requests, waits
//! that are bounded, and servers that misbehave on purpose.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod nginx;
pub mod server;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use weir_core::context::RequestId;
use weir_upstream::{
    CallTerms, Upstream, UpstreamError, UpstreamMetrics, UpstreamOptions, UpstreamRequest,
    UpstreamResponse,
};

/// An upstream with everything around it, named `backend`.
pub struct Bench {
    pub upstream: Arc<Upstream>,
    pub registry: Registry,
    pub tasks: TaskTracker,
}

/// Defaults with short waits, for these targets.
pub fn options<T: ToString>(targets: &[T]) -> UpstreamOptions {
    UpstreamOptions {
        name: "backend".to_owned(),
        targets: targets.iter().map(T::to_string).collect(),
        request_timeout: Duration::from_secs(5),
        ..UpstreamOptions::default()
    }
}

impl Bench {
    pub fn new(options: UpstreamOptions) -> Self {
        let registry = Registry::new();
        let metrics = UpstreamMetrics::register(&registry).expect("registers once");
        let tasks = TaskTracker::new();
        let upstream = Upstream::new(options, &metrics, &tasks, &Handle::current())
            .expect("the options are good");
        Self { upstream, registry, tasks }
    }

    pub async fn call(&self, request: UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        self.upstream.call(request).await
    }

    pub async fn get(&self, path: &'static str) -> Result<UpstreamResponse, UpstreamError> {
        self.call(get(path)).await
    }

    /// A call that runs beside the test.
    pub fn start(
        &self,
        request: UpstreamRequest,
    ) -> tokio::task::JoinHandle<Result<UpstreamResponse, UpstreamError>> {
        let upstream = Arc::clone(&self.upstream);
        self.tasks.spawn(async move { upstream.call(request).await })
    }

    /// The value of a series, written as on the metrics page: `name{label="value",...}`, where
    /// the label `pool` is added.
    pub fn metric(&self, series: &str) -> f64 {
        let series = match series.split_once('{') {
            // Labels are sorted by name on the page.
            Some((name, "state=\"idle\"}")) => format!("{name}{{pool=\"backend\",state=\"idle\"}}"),
            Some((name, "state=\"busy\"}")) => format!("{name}{{pool=\"backend\",state=\"busy\"}}"),
            Some((name, labels)) => format!("{name}{{pool=\"backend\",{labels}"),
            None => format!("{series}{{pool=\"backend\"}}"),
        };
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page).expect("text");
        let page = String::from_utf8(page).expect("UTF-8");
        let value = page.lines().find_map(|line| line.strip_prefix(&series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().expect("a number")
    }

    pub fn idle(&self) -> f64 {
        self.metric("weir_pool_connections{state=\"idle\"}")
    }

    pub fn busy(&self) -> f64 {
        self.metric("weir_pool_connections{state=\"busy\"}")
    }

    pub fn refused(&self, reason: &str) -> f64 {
        self.metric(&format!("weir_pool_refused_total{{reason=\"{reason}\"}}"))
    }

    pub fn requests(&self, status: &str) -> f64 {
        self.metric(&format!("weir_upstream_request_seconds_count{{status=\"{status}\"}}"))
    }

    pub fn transitions(&self, to: &str) -> f64 {
        self.metric(&format!("weir_breaker_transitions_total{{to=\"{to}\"}}"))
    }

    pub fn retries(&self, reason: &str) -> f64 {
        self.metric(&format!("weir_upstream_retries_total{{reason=\"{reason}\"}}"))
    }

    /// Waits until a condition on the metrics holds.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        until(what, || async { condition(self) }).await;
    }

    /// Drops the upstream and checks that nothing of it is left.
    pub async fn ends_clean(self) {
        assert_eq!(self.metric("weir_pool_waiting"), 0.0);
        self.upstream.close(Duration::from_secs(5)).await;
        assert_eq!((self.idle(), self.busy()), (0.0, 0.0));
        drop(self.upstream);
        self.tasks.close();
        within("the background tasks end", self.tasks.wait()).await;
    }
}

pub fn request(method: Method, path: &'static str, body: &'static [u8]) -> UpstreamRequest {
    UpstreamRequest {
        method,
        path_and_query: PathAndQuery::from_static(path),
        content_type: None,
        headers: HeaderMap::new(),
        body: Bytes::from_static(body),
        request_id: RequestId::given(b"test-1").expect("a well-formed id"),
        terms: CallTerms::default(),
    }
}

pub fn get(path: &'static str) -> UpstreamRequest {
    request(Method::GET, path, b"")
}

pub fn post(path: &'static str, body: &'static [u8]) -> UpstreamRequest {
    request(Method::POST, path, body)
}

/// Waits for something that must happen, and says what did not.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(10), future).await {
        Ok(output) => output,
        Err(_) => panic!("not within 10 s: {what}"),
    }
}

/// Looks again and again until a condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    within(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
