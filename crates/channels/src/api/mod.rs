//! The server API: what backends ask of channels over HTTP (protocol, section 2). A request's JSON
//! becomes a typed method, the method is carried out, and its result becomes JSON again.
//!
//! [`Api`] does that over the broker, the namespaces and the workers; it knows no HTTP beyond the
//! status of an error. [`ServerApi`] carries it on the POST paths of an HTTP listener. A permission of
//! a namespace is for clients: whoever may use the API may do everything in every channel.

mod batch;
mod clients;
mod error;
mod glob;
mod legacy;
mod method;
mod metrics;
mod openapi;
mod publish;
mod reads;
mod reply;
mod request;
mod service;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use weir_auth::Moment;
use weir_core::trace::Trace;

pub use error::ErrorMode;
pub use method::Method;
pub use metrics::ApiMetrics;
pub use openapi::DOCUMENT;
pub use service::ServerApi;

use self::error::ApiError;
use self::reply::json;
use self::request::parsed;
use crate::hub::orders::Order;
use crate::protocol::codes::ErrorCode;
use crate::shared::Shared;

/// How long a command waits for the workers: an order is carried out within one turn of theirs, so
/// one that waits longer has met a process that is stuck.
const WORKERS_TIMEOUT: Duration = Duration::from_secs(5);

/// What one request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiLimits {
    /// Commands of one `batch`, and of one request in the older form.
    pub batch_commands_max: usize,
    /// Channels of one `broadcast`.
    pub broadcast_channels_max: usize,
    /// Channels in one answer of `channels`.
    pub channels_max: usize,
    /// Bytes of the answers in a batch after which no further command of it is begun.
    pub batch_reply_bytes_max: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            batch_commands_max: 1_000,
            broadcast_channels_max: 10_000,
            channels_max: 100_000,
            batch_reply_bytes_max: 16 << 20,
        }
    }
}

/// What a backend is answered: JSON and its HTTP status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiReply {
    /// The HTTP status.
    pub status: u16,
    /// One JSON object; one a line in the older form.
    pub body: Vec<u8>,
}

/// When a request came, and the trace that it is part of when that is sampled.
#[derive(Clone, Copy)]
pub struct At<'t> {
    moment: Moment,
    trace: Option<&'t Arc<Trace>>,
}

impl<'t> At<'t> {
    /// A request that came at `now`.
    pub fn new(now: Instant, trace: Option<&'t Arc<Trace>>) -> Self {
        Self { moment: Moment::at(now), trace }
    }
}

impl From<Instant> for At<'_> {
    fn from(now: Instant) -> Self {
        Self::new(now, None)
    }
}

/// See the module.
pub struct Api {
    shared: Arc<Shared>,
    limits: ApiLimits,
    metrics: ApiMetrics,
    started: Instant,
}

impl Api {
    /// The API of these channels, in a process that runs since `started`.
    pub fn new(
        shared: Arc<Shared>,
        limits: ApiLimits,
        metrics: ApiMetrics,
        started: Instant,
    ) -> Self {
        Self { shared, limits, metrics, started }
    }

    /// Carries out the method that a path names.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, what has been done stays done: of a broadcast or a batch perhaps a part.
    pub async fn serve(
        &self,
        method: Method,
        body: &[u8],
        mode: ErrorMode,
        at: impl Into<At<'_>>,
    ) -> ApiReply {
        let result = self.call(method, body, at.into()).await;
        match (method, result) {
            // The one whose result has no wrapper.
            (Method::Batch, Ok(body)) => ApiReply { status: 200, body },
            (_, Ok(result)) => ApiReply { status: 200, body: wrapped(&result) },
            (_, Err(error)) => error.reply(mode),
        }
    }

    /// The result of a method, as JSON.
    async fn call(&self, method: Method, params: &[u8], at: At<'_>) -> Result<Vec<u8>, ApiError> {
        match method {
            Method::Batch => {
                self.metrics.command(method);
                let replies = self.batch(params, at).await;
                replies.inspect_err(|error| self.metrics.error(error.code()))
            }
            Method::Publish
            | Method::Broadcast
            | Method::Subscribe
            | Method::Unsubscribe
            | Method::Disconnect
            | Method::Refresh
            | Method::Presence
            | Method::PresenceStats
            | Method::History
            | Method::HistoryRemove
            | Method::Channels
            | Method::Info => self.command(method, params, at).await,
        }
    }

    /// The result of any method but `batch`, counted.
    async fn command(
        &self,
        method: Method,
        params: &[u8],
        at: At<'_>,
    ) -> Result<Vec<u8>, ApiError> {
        self.metrics.command(method);
        let result = self.one(method, params, at).await;
        result.inspect_err(|error| self.metrics.error(error.code()))
    }

    async fn one(&self, method: Method, params: &[u8], asked: At<'_>) -> Result<Vec<u8>, ApiError> {
        let at = asked.moment;
        match method {
            Method::Publish => {
                self.publish(&parsed(params)?, asked).await.map(|found| json(&found))
            }
            Method::Broadcast => self.broadcast(&parsed(params)?, asked).await,
            Method::Subscribe => self.subscribe(&parsed(params)?, at).await,
            Method::Unsubscribe => self.unsubscribe(&parsed(params)?).await,
            Method::Disconnect => self.disconnect(&parsed(params)?).await,
            Method::Refresh => self.refresh(&parsed(params)?, at).await,
            Method::Presence => self.presence(&parsed(params)?, at).await,
            Method::PresenceStats => self.presence_stats(&parsed(params)?, at).await,
            Method::History => self.history(&parsed(params)?, at).await,
            Method::HistoryRemove => self.history_remove(&parsed(params)?, at).await,
            Method::Channels => self.channels(&parsed(params)?).await,
            Method::Info => self.info(&parsed(params)?, at).await,
            Method::Batch => Err(ApiError::bad_request("a batch inside of a batch")),
        }
    }

    /// Gives every worker an order, and waits for what each of them says. One that has ended says
    /// nothing.
    async fn workers<T: Send>(
        &self,
        order: impl Fn(oneshot::Sender<T>) -> Order + Send + Sync,
    ) -> Result<Vec<T>, ApiError> {
        let answers = Mutex::new(Vec::new());
        let make = || {
            let (reply, answer) = oneshot::channel();
            answers.lock().push(answer);
            order(reply)
        };
        let all = async {
            self.shared.order(make).await;
            let waiting = std::mem::take(&mut *answers.lock());
            let mut said = Vec::with_capacity(waiting.len());
            for answer in waiting {
                said.extend(answer.await.ok());
            }
            said
        };
        let silent = ApiError::new(ErrorCode::Internal, "a worker does not answer");
        timeout(WORKERS_TIMEOUT, all).await.map_err(|_| silent)
    }
}

/// A result as the protocol wraps it.
fn wrapped(result: &[u8]) -> Vec<u8> {
    [br#"{"result":"#, result, b"}"].concat()
}
