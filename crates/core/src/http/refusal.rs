//! Why a request is refused, and how the peer is told. Texts are fixed and name the rule or limit.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::close::CloseReason;
use crate::context::RequestId;

/// Why the bytes of a peer are not served. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A rule of HTTP/1.1 is broken; the text names it.
    #[error("bad request: {0}")]
    Malformed(&'static str),
    /// The peer ended its side in the middle of a request.
    #[error("bad request: it ended before its end")]
    Unfinished,
    /// The head has too many bytes.
    #[error("head over limits.header_bytes_max = {max}")]
    HeadTooBig {
        /// The limit.
        max: usize,
    },
    /// The head has too many fields.
    #[error("head over limits.headers_max = {max}")]
    TooManyHeaders {
        /// The limit.
        max: usize,
    },
    /// The body is over the limit, as declared or as counted.
    #[error("body over limits.message_bytes_max = {max}")]
    BodyTooBig {
        /// The limit.
        max: usize,
    },
    /// The first head did not end before the connection had to be open.
    #[error("request slower than timeouts.handshake")]
    SlowHandshake,
    /// The head did not end in time.
    #[error("head slower than timeouts.header")]
    SlowHead,
    /// The body did not end in time.
    #[error("body slower than timeouts.read")]
    SlowBody,
}

impl Refusal {
    /// The status that the peer is told.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Unfinished => StatusCode::BAD_REQUEST,
            Self::HeadTooBig { .. } | Self::TooManyHeaders { .. } => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::BodyTooBig { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowHandshake | Self::SlowHead | Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl From<Refusal> for CloseReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(_)
            | Refusal::Unfinished
            | Refusal::HeadTooBig { .. }
            | Refusal::TooManyHeaders { .. }
            | Refusal::BodyTooBig { .. } => Self::BadRequest,
            Refusal::SlowHandshake => Self::HandshakeTimeout,
            Refusal::SlowHead => Self::HeaderTimeout,
            Refusal::SlowBody => Self::ReadTimeout,
        }
    }
}

/// An error response to go through hyper.
pub(super) fn error(status: StatusCode, text: &str, id: &RequestId) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(error_body(text, id))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The whole response to a request that hyper has not seen; the connection closes after it.
pub(super) fn last_words(refusal: Refusal, id: &RequestId) -> Vec<u8> {
    let (status, body) = (refusal.status(), error_body(&refusal.to_string(), id));
    format!(
        "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\nx-request-id: {id}\r\n\r\n{body}",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
    )
    .into_bytes()
}

/// Fixed texts and well-formed ids hold nothing that JSON would escape.
fn error_body(text: &str, id: &RequestId) -> String {
    debug_assert!(text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\'));
    format!("{{\"error\":\"{text}\",\"request_id\":\"{id}\"}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ConnId;

    #[test]
    fn last_words_are_a_whole_response_that_names_the_limit() {
        let id = RequestId::Message { conn: ConnId::from_raw(7), seq: 3 };
        let words = last_words(Refusal::BodyTooBig { max: 10 }, &id);
        assert_eq!(
            String::from_utf8(words).unwrap(),
            "HTTP/1.1 413 Payload Too Large\r\nContent-Type: application/json\r\n\
             Content-Length: 86\r\nConnection: close\r\nx-request-id: 0000000000000007-3\r\n\r\n\
             {\"error\":\"body over limits.message_bytes_max = 10\",\
             \"request_id\":\"0000000000000007-3\"}\n"
        );
    }
}
