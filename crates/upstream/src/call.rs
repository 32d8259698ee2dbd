//! What goes into a call and what comes out of it, as plain values. Nothing here does I/O.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use weir_core::context::RequestId;
use weir_core::service::Response;

/// One HTTP request. Scheme, address and `Host` are the target's.
#[derive(Clone, Debug)]
pub struct UpstreamRequest {
    /// The method. `CONNECT` makes no sense here and fails.
    pub method: Method,
    /// The path and query, as they are sent.
    pub path_and_query: PathAndQuery,
    /// `content-type`; replaces one in `headers`.
    pub content_type: Option<HeaderValue>,
    /// More headers. Hop-by-hop ones, `host`, `content-length` and `expect` are left out.
    pub headers: HeaderMap,
    /// The body, sent with its `content-length`.
    pub body: Bytes,
    /// Sent as `x-request-id`; replaces one in `headers`.
    pub request_id: RequestId,
    /// How it differs from other calls of its upstream.
    pub terms: CallTerms,
}

/// How one call differs from others of the same upstream. By default in nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallTerms {
    /// The whole call ends within it, the wait for a connection included, when that is sooner than the
    /// upstream's own timeouts. A target that has not answered by then has failed.
    pub timeout: Option<Duration>,
    /// Sending it twice means the same as once, whatever its method says.
    pub repeatable: bool,
}

/// One whole HTTP response, whatever its status.
#[derive(Clone, Debug)]
pub struct UpstreamResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers without the hop-by-hop ones.
    pub headers: HeaderMap,
    /// The body: at most `response_bytes_max` bytes.
    pub body: Bytes,
    /// Where the time went.
    pub timings: CallTimings,
}

impl From<UpstreamResponse> for Response {
    fn from(response: UpstreamResponse) -> Self {
        Self { status: response.status.as_u16(), body: response.body }
    }
}

/// Where a call's time went. The two follow each other: their sum is the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallTimings {
    /// Until a connection was there: the wait queue and connecting (stage `pool_wait`).
    pub pool_wait: Duration,
    /// From then to the last byte of the response (stage `upstream`).
    pub upstream: Duration,
}

/// The header that carries the request id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers of one connection, not of the message: RFC 9110 section 7.6.1 and its older kin.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes the hop-by-hop headers and those that `connection` names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

impl UpstreamRequest {
    /// Whether sending it twice means the same as once: by its method (RFC 9110 section 9.2.2), or
    /// because the caller says so.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent() || self.terms.repeatable
    }

    /// The headers that go out to a target with this authority.
    pub(crate) fn outgoing_headers(&self, authority: &HeaderValue) -> HeaderMap {
        let mut headers = self.headers.clone();
        strip_hop_by_hop(&mut headers);
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::EXPECT);
        headers.insert(header::HOST, authority.clone());
        if let Some(content_type) = &self.content_type {
            headers.insert(header::CONTENT_TYPE, content_type.clone());
        }
        // A request id is visible ASCII by construction, so the other arm is never taken; losing
        // the header would still be better than losing the call.
        match HeaderValue::try_from(self.request_id.to_string()) {
            Ok(id) => headers.insert(REQUEST_ID, id),
            Err(_) => headers.remove(REQUEST_ID),
        };
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> UpstreamRequest {
        UpstreamRequest {
            method: Method::POST,
            path_and_query: PathAndQuery::from_static("/orders"),
            content_type: Some(HeaderValue::from_static("text/plain")),
            headers: headers
                .iter()
                .map(|(name, value)| {
                    (HeaderName::from_static(name), HeaderValue::from_static(value))
                })
                .collect(),
            body: Bytes::new(),
            request_id: RequestId::given(b"r-1").expect("a well-formed id"),
            terms: CallTerms::default(),
        }
    }

    #[test]
    fn hop_by_hop_headers_and_those_that_connection_names_are_not_forwarded() {
        let request = request(&[
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic eA=="),
            ("expect", "100-continue"),
            ("content-length", "9"),
            ("x-end-to-end", "stays"),
        ]);
        let sent = request.outgoing_headers(&HeaderValue::from_static("backend:9000"));
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "host", "x-end-to-end", "x-request-id"]);
    }

    #[test]
    fn host_content_type_and_request_id_are_the_calls_own() {
        let request = request(&[
            ("host", "elsewhere"),
            ("content-type", "application/json"),
            ("x-request-id", "forged"),
        ]);
        let sent = request.outgoing_headers(&HeaderValue::from_static("backend:9000"));
        assert_eq!(sent["host"], "backend:9000");
        assert_eq!(sent["content-type"], "text/plain");
        assert_eq!(sent["x-request-id"], "r-1");
    }
}
