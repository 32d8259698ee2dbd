//! What HTTP adds to traces: the context in a request's head, and a request as a span tells it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, USER_AGENT};
use http::{Version, request};

use super::PathKind;
use super::answer::Answerer;
use crate::context::RequestId;
use crate::metrics::Exemplar;
use crate::service::fault;
use crate::trace::{About, Found, RequestSpan, Source, Trace, TraceContext, What};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Most bytes of a `user-agent` that a span carries.
const USER_AGENT_BYTES_MAX: usize = 256;

/// The context in these headers: one `traceparent`, and every `tracestate` joined (W3C Trace
/// Context, sections 3.2 and 3.3).
fn context(headers: &HeaderMap) -> Found {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let parent = match (parents.next(), parents.next()) {
        (None, _) => return Found::Nothing,
        (Some(parent), None) => TraceContext::parse(parent.as_bytes()),
        (Some(_), Some(_)) => None,
    };
    let Some(parent) = parent else { return Found::Malformed };
    let states: Vec<&[u8]> =
        headers.get_all(TRACESTATE).iter().map(http::HeaderValue::as_bytes).collect();
    Found::Context(parent.with_state(&states.join(&b',')))
}

/// A request that ends with this status.
pub(super) struct Ended<'a> {
    pub(super) head: &'a request::Parts,
    pub(super) path: Option<usize>,
    pub(super) id: &'a RequestId,
    pub(super) status: u16,
    pub(super) bytes: usize,
}

impl Answerer {
    /// Begins the trace of a request whose body is here, and gives the body without a context that
    /// it carries. `None` when nothing is traced.
    pub(super) fn begin_trace(
        &self,
        head: &request::Parts,
        body: Bytes,
        begun: Instant,
    ) -> (Option<Arc<Trace>>, Bytes) {
        let tracing = &self.site.tracing;
        // Only a POST is a message here; that of a stream is looked at where it is handled.
        let service = self.path(head).and_then(|(path, kind)| match kind {
            PathKind::Post { .. } => Some(&self.site.paths[path].service),
            PathKind::WebSocket { .. } | PathKind::Stream { .. } | PathKind::Page => None,
        });
        let (carried, body) = match service.filter(|service| service.carries_trace()) {
            Some(service) => {
                let (found, rest) = service.trace(&body);
                let whole = rest.len() == body.len();
                let rest = if whole { body.clone() } else { Bytes::copy_from_slice(rest) };
                (found, rest)
            }
            None => (Found::Nothing, body),
        };
        if !tracing.is_on() {
            return (None, body);
        }
        let carried = tracing.take(Source::Message, carried);
        let parent = tracing.take(Source::Http, context(&head.headers)).or(carried);
        let own = || tracing.sample(begun);
        let client = self.site.trust.client(self.peer.addr, &head.headers);
        let sampled = tracing.decide(parent.as_ref(), client.ip(), begun, own);
        (Some(tracing.begin(parent, sampled, begun)), body)
    }

    /// Ends the trace of a request at `now`.
    pub(super) fn end_trace(
        &self,
        trace: &Trace,
        now: Instant,
        ended: &Ended<'_>,
    ) -> Option<Exemplar> {
        if let Some(fault) = fault(ended.status) {
            trace.fail(fault);
        }
        self.site.tracing.finish(trace, now, || self.about(ended))
    }

    fn about(&self, ended: &Ended<'_>) -> About {
        let Ended { head, path, id, status, bytes } = *ended;
        let path = path.map(|path| &self.site.paths[path]);
        let agent = head.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        let cut = |agent: &str| agent.chars().take(USER_AGENT_BYTES_MAX).collect();
        About {
            listener: self.site.listener.clone(),
            route: path.map(|path| path.service.route().to_owned()).unwrap_or_default(),
            conn: self.peer.conn,
            peer: self.site.trust.client(self.peer.addr, &head.headers),
            request: id.clone(),
            handshake: None,
            what: What::Request(Box::new(RequestSpan {
                method: head.method.clone(),
                path: head.uri.path().to_owned(),
                route: path.map(|path| path.path.to_string()),
                status,
                bytes,
                user_agent: agent.map(cut),
                is_http_10: head.version == Version::HTTP_10,
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        let pair = |(name, value): &(HeaderName, &str)| {
            (name.clone(), HeaderValue::from_str(value).unwrap())
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn one_traceparent_is_a_context_and_its_states_are_joined() {
        assert_eq!(context(&headers(&[])), Found::Nothing);
        assert_eq!(context(&headers(&[(TRACESTATE, "a=1")])), Found::Nothing);
        let found =
            context(&headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1"), (TRACESTATE, "b=2")]));
        let Found::Context(context) = found else { panic!("{found:?}") };
        assert_eq!(context.to_string(), PARENT);
        assert_eq!(context.state.as_deref(), Some("a=1,b=2"));
    }

    #[test]
    fn two_parents_or_a_bad_one_are_malformed_and_a_bad_state_is_left_out() {
        let twice = [(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)];
        assert_eq!(context(&headers(&twice)), Found::Malformed);
        assert_eq!(context(&headers(&[(TRACEPARENT, "00-x")])), Found::Malformed);
        let found = context(&headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "no equals")]));
        let Found::Context(context) = found else { panic!("{found:?}") };
        assert_eq!(context.state, None);
    }
}
