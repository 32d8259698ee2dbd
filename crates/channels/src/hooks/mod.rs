//! Hooks: what a backend is asked over HTTP while a client waits, in the form that Centrifugo's proxy
//! has. A POST of JSON says who asks what ([`request`]), and its answer is a result, an error or a
//! disconnect ([`answer`]).
//!
//! Nothing here knows a connection, and nothing retries: a client tries again by itself what may succeed
//! later. The calls are made behind [`Backend`], with the limits, waits and breaker of an upstream.

pub(crate) mod answer;
mod backend;
pub(crate) mod caller;
pub mod metrics;
pub(crate) mod request;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};
use weir_core::context::{ConnId, RequestId};
use weir_core::service::AskError;
use weir_core::trace::CallTrace;

use self::answer::{Declined, Granted, read};
pub use self::backend::{Backend, Call, CallFuture, Called};
pub use self::metrics::HookMetrics;
use self::metrics::Outcome;
use crate::notices::NoticeOptions;

/// Most calls that one connection may have waiting: fewer than what it may wait for in all.
pub const CALLS_MAX: usize = 24;

/// What a backend is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Who a client without a token is.
    Connect,
    /// Whether a connection whose time is over may stay.
    Refresh,
    /// Whether a client may subscribe.
    Subscribe,
    /// Whether a client may publish, and what.
    Publish,
    /// Whether a subscription whose time is over may stay.
    SubRefresh,
    /// What a client's `rpc` is answered with.
    Rpc,
}

impl Hook {
    /// Every hook; `hook as usize` is its index here.
    pub const ALL: [Self; 6] =
        [Self::Connect, Self::Refresh, Self::Subscribe, Self::Publish, Self::SubRefresh, Self::Rpc];

    /// The label in metrics, and the key in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::SubRefresh => "sub_refresh",
            Self::Rpc => "rpc",
        }
    }

    /// Whether being asked twice means the same as once. What a publish or an rpc does is the backend's
    /// to know, so it is never sent again where a first one may have arrived.
    const fn is_question(self) -> bool {
        match self {
            Self::Connect | Self::Refresh | Self::Subscribe | Self::SubRefresh => true,
            Self::Publish | Self::Rpc => false,
        }
    }
}

/// How a backend is asked.
#[derive(Clone, Debug)]
pub struct HookOptions {
    /// The path of each hook, by [`Hook`]. `None`: it is not asked that.
    pub paths: [Option<PathAndQuery>; Hook::ALL.len()],
    /// How long one call may take, the wait for a connection included.
    pub timeout: Duration,
    /// Calls of one connection that wait at a time. At it: error 111.
    pub calls_max: usize,
    /// Headers of a handshake that are passed on.
    pub forward_headers: Vec<HeaderName>,
    /// Headers that a client may name in its `connect` where it cannot set them (protocol, section
    /// 1.16). What the handshake has itself wins.
    pub forward_emulated_headers: Vec<HeaderName>,
    /// Payloads go in base64 (`b64data`) also where they are JSON.
    pub binary_encoding: bool,
    /// Where notices go, and how many may wait. `None`: there are none.
    pub notices: Option<(PathAndQuery, NoticeOptions)>,
}

/// One backend, and what it is asked. It never changes: a reload makes another one.
pub struct Hooks {
    backend: Arc<dyn Backend>,
    options: HookOptions,
    metrics: HookMetrics,
}

/// What is asked, ready to be sent.
pub(crate) struct Question {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) request: RequestId,
    pub(crate) trace: Option<CallTrace>,
}

impl Hooks {
    /// Asks this backend so.
    pub fn new(backend: Arc<dyn Backend>, options: HookOptions, metrics: HookMetrics) -> Self {
        Self { backend, options, metrics }
    }

    /// How it is asked.
    pub(crate) fn options(&self) -> &HookOptions {
        &self.options
    }

    /// Whether it is asked that.
    pub(crate) fn has(&self, hook: Hook) -> bool {
        self.options.paths[hook as usize].is_some()
    }

    /// Which notices the backend wants.
    pub(crate) fn notices(&self) -> Option<&NoticeOptions> {
        self.options.notices.as_ref().map(|(_, options)| options)
    }

    /// Sends a batch of notices. Whether the backend has it: any 2xx says so.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; nothing is counted then, and the backend may have it.
    pub(crate) async fn tell(&self, body: Bytes) -> bool {
        let Some((path, NoticeOptions { timeout, .. })) = self.options.notices.clone() else {
            return false;
        };
        // The backend knows each notice by its id.
        let (request, repeatable) =
            (RequestId::Message { conn: ConnId::from_raw(0), seq: 0 }, true);
        let headers = HeaderMap::new();
        let call = Call { path, headers, body, request, trace: None, timeout, repeatable };
        let Called { took, answer } = self.backend.call(call).await;
        let outcome = match answer {
            Ok(response) if (200..300).contains(&response.status) => Outcome::Result,
            Ok(_) => Outcome::Failed,
            Err(error) => Outcome::of(error),
        };
        self.metrics.told(outcome, took);
        outcome == Outcome::Result
    }

    /// A connection has as many calls waiting as it may, so this one is not made.
    pub(crate) fn refused(&self, hook: Hook) {
        self.metrics.ended(hook, Outcome::TooMany, None);
    }

    /// Asks. Beside the answer stands why there is none, for the trace of who waits.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; nothing is counted then.
    pub(crate) async fn ask<T: Granted>(
        &self,
        hook: Hook,
        question: Question,
    ) -> (Result<T, Declined>, Option<AskError>) {
        let Some(path) = self.options.paths[hook as usize].clone() else {
            return (Err(Declined::Failed), Some(AskError::Unavailable));
        };
        let Question { headers, body, request, trace } = question;
        let (timeout, repeatable) = (self.options.timeout, hook.is_question());
        let call = Call { path, headers, body, request, trace, timeout, repeatable };
        let Called { took, answer } = self.backend.call(call).await;
        let (outcome, answer) = match answer {
            Ok(response) => read(&response),
            Err(error) => (Outcome::of(error), Err((Declined::Failed, Some(error)))),
        };
        self.metrics.ended(hook, outcome, Some(took));
        match answer {
            Ok(granted) => (Ok(granted), None),
            Err((declined, fault)) => {
                if let Declined::Failed = declined {
                    tracing::debug!(hook = hook.as_str(), outcome = outcome.as_str(), "failed");
                }
                (Err(declined), fault)
            }
        }
    }
}
