//! The server API as a service of an HTTP listener: the path says the method, the body is its request,
//! and the answer is JSON. Who may use it is decided by the route's guard, before.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use weir_core::context::RequestId;
use weir_core::service::{
    Actions, Answer, Document, Message, MessageKind, Opening, Response, Service, Session, Ticket,
};

use super::error::ApiError;
use super::{Api, At, DOCUMENT, ErrorMode, Method};
use crate::protocol::codes::ErrorCode;

/// The header in which a request chooses its error mode.
const ERROR_MODE: &str = "x-centrifugo-error-mode";

/// The type of every answer.
const JSON: &str = "application/json";

/// Where the document lies, behind the base.
const DOCUMENT_PATH: &str = "/openapi.json";

/// A route that is the server API.
pub struct ServerApi {
    route: String,
    /// What paths begin with: `/api` for `/api/publish`.
    base: String,
    mode: ErrorMode,
    api: Arc<Api>,
}

impl ServerApi {
    /// The route of this name, for paths behind `base`. `mode` holds for requests that do not say.
    pub fn new(route: String, base: String, mode: ErrorMode, api: Arc<Api>) -> Self {
        Self { route, base, mode, api }
    }

    fn target(&self, opening: &Opening<'_>) -> Target {
        let behind = opening.path.and_then(|path| path.strip_prefix(&*self.base));
        match behind.map(|rest| rest.strip_prefix('/').ok_or(rest)) {
            Some(Ok(name)) => Method::parse(name).map_or(Target::Nothing, Target::Method),
            Some(Err("")) => Target::Lines,
            Some(Err(_)) | None => Target::Nothing,
        }
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// One method.
    Method(Method),
    /// The older form.
    Lines,
    /// No method has this name.
    Nothing,
}

impl Service for ServerApi {
    fn route(&self) -> &str {
        &self.route
    }

    fn content_type(&self) -> Option<&'static str> {
        Some(JSON)
    }

    fn document(&self, path: &str) -> Option<Document> {
        let body = Bytes::from_static(DOCUMENT.as_bytes());
        let is_it = path.strip_prefix(&*self.base) == Some(DOCUMENT_PATH);
        is_it.then(|| Document::new(JSON, body))
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        Box::new(ApiSession {
            api: Arc::clone(&self.api),
            target: self.target(opening),
            mode: opening.headers.map_or(self.mode, |headers| mode(headers, self.mode)),
        })
    }
}

/// The error mode that a request asks for.
fn mode(headers: &HeaderMap, usual: ErrorMode) -> ErrorMode {
    match headers.get(ERROR_MODE).map(http::HeaderValue::as_bytes) {
        Some(b"transport") => ErrorMode::Transport,
        Some(_) | None => usual,
    }
}

/// One request.
struct ApiSession {
    api: Arc<Api>,
    target: Target,
    mode: ErrorMode,
}

impl Session for ApiSession {
    fn on_message(
        &mut self,
        message: Message<'_>,
        _request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        let (api, target, mode) = (Arc::clone(&self.api), self.target, self.mode);
        let body = Bytes::copy_from_slice(message.payload);
        let trace = actions.sampled().cloned();
        let serve = async move {
            let at = At::new(now, trace.as_ref());
            let reply = match target {
                Target::Method(method) => api.serve(method, &body, mode, at).await,
                Target::Lines => api.serve_lines(&body, at).await,
                Target::Nothing => {
                    api.metrics.error(ErrorCode::MethodNotFound);
                    // It is the path that is not there, in either mode.
                    ApiError::from(ErrorCode::MethodNotFound).reply(ErrorMode::Transport)
                }
            };
            Ok(Response { status: reply.status, body: reply.body.into() })
        };
        // A session of a POST has one message, and so one ask.
        actions.ask(Ticket(0), Box::pin(serve));
    }

    fn on_answer(
        &mut self,
        _ticket: Ticket,
        answer: Answer,
        _request: &RequestId,
        _now: Instant,
        actions: &mut Actions,
    ) {
        let (status, body) = match answer {
            Ok(Response { status, body }) => (status, body),
            // It broke, or the process ends.
            Err(_) => {
                self.api.metrics.error(ErrorCode::Internal);
                let reply = ApiError::from(ErrorCode::Internal).reply(ErrorMode::Transport);
                (reply.status, reply.body.into())
            }
        };
        actions.reply_with_status(status, MessageKind::Text, &[&body]);
    }
}
