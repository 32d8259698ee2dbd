//! A request for a response that does not end: what it brings, whether it is taken, and the head of
//! its response. What follows the head is written by the table's connection.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER, TRANSFER_ENCODING,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body_util::Full;

use super::answer::Asked;
use super::{StreamStart, post, query, refusal};
use crate::close::CloseReason;
use crate::service::{Carrier, MessageKind};
use crate::wire::stream::{Form, Framing, Options, Request};

/// The field of a query in which a GET brings its message.
const MESSAGE_FIELD: &str = "cf_connect";
/// Tells nginx, and who follows it, to pass every byte on at once.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How long to wait before another try, in seconds.
const RETRY: HeaderValue = HeaderValue::from_static("1");

/// The methods that a path of this form takes.
pub(super) fn methods(form: Form) -> &'static str {
    match form {
        Form::Sse => "GET, POST",
        Form::HttpStream => "POST",
    }
}

/// Whether a path of this form takes this method.
pub(super) fn takes(form: Form, method: &Method) -> bool {
    *method == Method::POST || (form == Form::Sse && *method == Method::GET)
}

/// A request on a path of streams.
pub(super) struct Stream<'a> {
    pub(super) asked: Asked<'a>,
    pub(super) form: Form,
}

impl Stream<'_> {
    /// Takes the request, or says why not: always before the stream begins, never inside it. After
    /// a stream is taken its connection leaves hyper.
    pub(super) async fn open(self) -> Response<Full<Bytes>> {
        let Asked { answerer, id, .. } = self.asked;
        if let Some(response) = self.leaving() {
            return response;
        }
        let (message, kind) = match self.message() {
            Ok(message) => message,
            Err((status, text)) => return answerer.error(status, &text, id),
        };
        let carrier = match self.form {
            Form::Sse => Carrier::Sse,
            Form::HttpStream => Carrier::HttpStream,
        };
        let principal = match answerer.admit(&self.asked, carrier).await {
            Ok(principal) => principal,
            Err(denial) => return answerer.denied(denial, id),
        };
        // The doorkeeper may have taken its time.
        if let Some(response) = self.leaving() {
            return response;
        }
        if let Err(refusal) = answerer.readmit(self.asked.client) {
            answerer.exchange.close_after_response(CloseReason::Refused);
            return later(refusal::error(StatusCode::SERVICE_UNAVAILABLE, refusal.text(), id));
        }
        let is_http_10 = self.asked.head.version == Version::HTTP_10;
        let framing = if is_http_10 { Framing::Close } else { Framing::Chunked };
        let options = Options { form: self.form, framing };
        let bytes = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let request = (bytes > 0).then_some(Request { bytes, kind });
        let start = StreamStart { options, request, message };
        answerer.exchange.accept(self.asked.taken(principal, Some(start)));
        response(options, kind)
    }

    /// The refusal of a stream while the process goes or is pressed. A reader that was told so inside
    /// a stream would come back without a pause.
    fn leaving(&self) -> Option<Response<Full<Bytes>>> {
        let Asked { answerer, id, .. } = self.asked;
        let stop = &answerer.peer.stop;
        stop.is_leaving().then(|| {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            later(answerer.error(status, stop.reason().text(), id))
        })
    }

    /// The message that the request brings, maybe an empty one, and the kind of all messages.
    fn message(&self) -> Result<(Bytes, MessageKind), (StatusCode, String)> {
        let Asked { answerer, head, body, .. } = &self.asked;
        let kind = match self.form {
            Form::Sse => MessageKind::Text,
            Form::HttpStream => post::kind_of_stream(head),
        };
        let message = match (&head.method, head.uri.query()) {
            (&Method::GET, Some(query)) => {
                query::value(query, MESSAGE_FIELD).unwrap_or_default().into()
            }
            (&Method::GET, None) => Bytes::new(),
            _ => body.clone(),
        };
        let max = answerer.site.limits.message_bytes_max;
        if message.len() > max {
            let text = format!("{MESSAGE_FIELD} over limits.message_bytes_max = {max}");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        if kind == MessageKind::Text && simdutf8::basic::from_utf8(&message).is_err() {
            return Err((StatusCode::BAD_REQUEST, "invalid utf-8".to_owned()));
        }
        Ok((message, kind))
    }
}

/// The response, and when to try again.
fn later(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(RETRY_AFTER, RETRY);
    response
}

/// The response of a stream; its body is none of hyper's.
fn response(options: Options, kind: MessageKind) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    let content_type = match options.form {
        Form::Sse => HeaderValue::from_static("text/event-stream"),
        Form::HttpStream => post::content_type(kind),
    };
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let cache = "private, no-cache, no-store, must-revalidate, no-transform, max-age=0";
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if options.framing == Framing::Chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    response
}

/// The head of a stream as it is written, and what its body starts with.
pub(super) fn first_words(response: &Response<Full<Bytes>>, options: Options) -> Vec<u8> {
    let version = match options.framing {
        Framing::Chunked => "HTTP/1.1",
        Framing::Close => "HTTP/1.0",
    };
    let mut words = format!("{version} 200 OK\r\n").into_bytes();
    for (name, value) in response.headers() {
        words.extend_from_slice(name.as_str().as_bytes());
        words.extend_from_slice(b": ");
        words.extend_from_slice(value.as_bytes());
        words.extend_from_slice(b"\r\n");
    }
    words.extend_from_slice(b"\r\n");
    options.begin(&mut words);
    words
}
