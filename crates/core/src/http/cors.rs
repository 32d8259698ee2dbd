//! What pages of other origins may do with a path: preflights, and the headers that let a page read
//! its answer (WHATWG Fetch, section 3.2). Pure; which origins those are is `origin`'s.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, request};
use http_body_util::Full;

use super::PathKind;
use super::origin;

/// How long a browser may remember what a preflight said, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("300");

/// A page whose origin the path does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign;

/// A page that may use the path, by its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page(HeaderValue);

/// The page that a request comes from; `None` when it comes from none, or the path looks at none:
/// a WebSocket has a check of its own.
///
/// # Errors
/// When the page may not use the path.
pub(super) fn page(head: &request::Parts, kind: &PathKind) -> Result<Option<Page>, Foreign> {
    let origins = match kind {
        PathKind::Stream { origins, .. } => origins,
        PathKind::Post { origins } if !origins.is_empty() => origins,
        PathKind::Post { .. } | PathKind::WebSocket { .. } | PathKind::Page => return Ok(None),
    };
    if !origin::is_allowed(&head.headers, origins) {
        return Err(Foreign);
    }
    Ok(head.headers.get(ORIGIN).cloned().map(Page))
}

impl Page {
    /// The answer to a preflight, if this request is one: what `methods` and headers the page may send.
    pub(super) fn preflight(
        &self,
        head: &request::Parts,
        methods: &'static str,
    ) -> Option<Response<Full<Bytes>>> {
        let asks = head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if head.method != Method::OPTIONS || !asks {
            return None;
        }
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        // Names only, and the page's own: what they mean is for the doors and the route.
        if let Some(names) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        Some(response)
    }

    /// Lets the page read the response, which may depend on its user's cookies.
    pub(super) fn may_read(self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}
