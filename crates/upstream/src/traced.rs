//! What a traced call tells its trace: the wait, the call, and how it ended. Makes no decision.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_core::metrics::Histogram;
use weir_core::trace::{Call, CallTrace};

use crate::call::{UpstreamRequest, UpstreamResponse};
use crate::error::UpstreamError;

/// One call on behalf of a traced message.
pub(crate) struct TracedCall {
    trace: CallTrace,
    call: Call,
}

impl TracedCall {
    pub(crate) fn new(trace: CallTrace, upstream: &str, request: &UpstreamRequest) -> Self {
        let call = Call {
            upstream: upstream.to_owned(),
            method: request.method.clone(),
            path: request.path_and_query.path().to_owned(),
            // Until it is told otherwise: the caller has gone.
            error: Some("cancelled"),
            ..Call::default()
        };
        Self { trace, call }
    }

    /// The request was sent again.
    pub(crate) fn resent(&mut self, times: u32) {
        self.call.resends = times;
    }

    /// How the call ended, with whom.
    pub(crate) fn answered<T>(
        &mut self,
        target: SocketAddr,
        result: &Result<(UpstreamResponse, T), UpstreamError>,
    ) {
        self.call.target = Some(target);
        self.call.error = result.as_ref().err().map(UpstreamError::kind);
        self.call.status = result.as_ref().ok().map(|(response, _)| response.status.as_u16());
    }

    /// Tells the trace of the wait.
    pub(crate) fn waited(&self, begun: Instant, ended: Instant) {
        self.trace.waited(begun, ended);
    }

    /// Tells the trace of the call itself.
    pub(crate) fn called(&mut self, begun: Instant, ended: Instant) {
        self.trace.called(begun, ended, std::mem::take(&mut self.call));
    }

    /// Shows the trace at a histogram that `value` was counted in.
    pub(crate) fn show(&self, histogram: &Histogram, value: Duration) {
        if let Some(exemplar) = self.trace.exemplar(value) {
            histogram.show(exemplar);
        }
    }
}
