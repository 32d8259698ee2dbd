//! The seam to whoever makes HTTP calls for hooks: an upstream in the program, a fake in tests.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::uri::PathAndQuery;
use weir_core::context::RequestId;
use weir_core::service::{AskError, Response};
use weir_core::trace::CallTrace;

/// One POST of JSON.
#[derive(Clone)]
pub struct Call {
    /// Path and query.
    pub path: PathAndQuery,
    /// Headers beside `content-type` and `x-request-id`.
    pub headers: HeaderMap,
    /// JSON.
    pub body: Bytes,
    /// Sent as `x-request-id`.
    pub request: RequestId,
    /// The trace that it is a part of; sent as `traceparent`.
    pub trace: Option<CallTrace>,
    /// How long the call may take in all.
    pub timeout: Duration,
    /// Sending it twice means the same as once.
    pub repeatable: bool,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Called {
    /// How long it took.
    pub took: Duration,
    /// A whole response of any status, or why there is none.
    pub answer: Result<Response, AskError>,
}

/// A call that is being made. It ends by its own timeout.
pub type CallFuture = Pin<Box<dyn Future<Output = Called> + Send>>;

/// Makes calls, on the service runtime.
pub trait Backend: Send + Sync {
    /// Makes one call. Dropping the future gives it up.
    fn call(&self, call: Call) -> CallFuture;
}
