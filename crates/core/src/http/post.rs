//! One POST is one message to a session of its own, and the reply is the response.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode, request};
use http_body_util::Full;

use super::answer::{Answerer, Asked};
use super::refusal;
use crate::clock;
use crate::close::CloseReason;
use crate::door::Principal;
use crate::service::{
    Action, Actions, AskFuture, Carrier, Message, MessageKind, Opening, Session, Ticket,
};
use crate::stage::Stage;

/// A POST on a path that takes it.
pub(super) struct Post<'a> {
    pub(super) asked: Asked<'a>,
    /// Who the request speaks for, when a doorkeeper has looked.
    pub(super) principal: Option<Principal>,
}

/// The code of a session or of its service panicked.
struct Panicked;

/// What a session's actions come to for HTTP.
#[derive(Default)]
struct Carried {
    reply: Option<(u16, MessageKind, Bytes)>,
    ask: Option<(Ticket, AskFuture)>,
    close: Option<CloseReason>,
}

impl Post<'_> {
    /// Gives the body to a session and makes its reply a response.
    pub(super) async fn carry(self) -> Response<Full<Bytes>> {
        let kind = kind_of(self.asked.head);
        if kind == MessageKind::Text && simdutf8::basic::from_utf8(&self.asked.body).is_err() {
            return self.asked.answerer.error(
                StatusCode::BAD_REQUEST,
                "invalid utf-8",
                self.asked.id,
            );
        }
        let begun = clock::now();
        let conversed = self.converse(kind).await;
        let took = clock::now().saturating_duration_since(begun);
        self.asked.answerer.peer.traffic.message_answered(self.asked.path, took);
        match conversed {
            Ok(carried) => self.respond(carried),
            Err(Panicked) => {
                refusal::error(StatusCode::INTERNAL_SERVER_ERROR, "internal error", self.asked.id)
            }
        }
    }

    /// Tells the session of the message, and of every answer that it asks for.
    async fn converse(&self, kind: MessageKind) -> Result<Carried, Panicked> {
        let peer = &self.asked.answerer.peer;
        let mut actions = Actions::traced(&self.asked.answerer.site.tracing);
        let mut session = guard(|| self.open())?;
        peer.traffic.message_received(self.asked.path);
        actions.begin_trace(self.asked.trace.cloned());
        let begun = clock::now();
        guard(|| {
            let message = Message { payload: &self.asked.body, kind };
            self.within(|| session.on_message(message, self.asked.id, begun, &mut actions));
        })?;
        if let Some(trace) = self.asked.trace {
            trace.stage(Stage::Decode, begun, clock::now());
        }
        let mut carried = Carried::default();
        loop {
            carried.take(&mut actions);
            let Some((ticket, ask)) = carried.ask.take() else { return Ok(carried) };
            let answer = peer.asks.spawn(ask).await;
            if let (Some(trace), Err(error)) = (self.asked.trace, &answer) {
                trace.fail(error.as_str());
            }
            actions.begin_trace(self.asked.trace.cloned());
            guard(|| {
                let now = clock::now();
                self.within(|| session.on_answer(ticket, answer, self.asked.id, now, &mut actions));
            })?;
        }
    }

    /// Runs code of the session so that what it logs names the trace.
    fn within(&self, run: impl FnOnce()) {
        match self.asked.trace {
            Some(trace) => trace.within(run),
            None => run(),
        }
    }

    fn open(&self) -> Box<dyn Session> {
        let Answerer { site, peer, .. } = self.asked.answerer;
        let target = self.asked.target();
        site.paths[self.asked.path].service.open(&Opening {
            conn: peer.conn,
            peer: self.asked.client,
            listener: &site.listener,
            carrier: Carrier::Http,
            wire: None,
            request_id: self.asked.id,
            tls: peer.tls.as_ref(),
            principal: self.principal.as_ref(),
            path: Some(&target),
            headers: Some(&self.asked.head.headers),
            query: self.asked.head.uri.query(),
        })
    }

    fn respond(&self, carried: Carried) -> Response<Full<Bytes>> {
        if let Some(reason) = carried.close {
            self.asked.answerer.exchange.close_after_response(reason);
        }
        let mut response = Response::new(Full::default());
        let Some((status, kind, payload)) = carried.reply else {
            *response.status_mut() = StatusCode::NO_CONTENT;
            return response;
        };
        // 1xx is no final response: a session that says so has failed.
        let status = StatusCode::from_u16(status).ok().filter(|s| !s.is_informational());
        *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
        *response.body_mut() = Full::new(payload);
        let service = &self.asked.answerer.site.paths[self.asked.path].service;
        let own = service.content_type().map(HeaderValue::from_static);
        response.headers_mut().insert(CONTENT_TYPE, own.unwrap_or_else(|| content_type(kind)));
        self.asked.answerer.peer.traffic.message_sent(self.asked.path);
        response
    }
}

impl Carried {
    /// Takes what the session wants: the first reply and the first ask count, and what is pushed
    /// has no place in a response. A reply leaves nothing to ask for.
    fn take(&mut self, actions: &mut Actions) {
        let (bytes, mut list) = actions.take();
        for action in list.drain(..) {
            match action {
                Action::Reply { status, payload, kind } => {
                    let payload = || Bytes::copy_from_slice(&bytes[payload]);
                    self.reply.get_or_insert_with(|| (status, kind, payload()));
                }
                Action::Ask(ticket, ask) => {
                    self.ask.get_or_insert((ticket, ask));
                }
                Action::Push(..)
                | Action::CloseAt(_)
                | Action::Hold(_)
                | Action::WakeAt(_)
                | Action::AwaitRoom => {}
                Action::Close(reason) => {
                    self.close.get_or_insert(reason);
                }
            }
        }
        if self.reply.is_some() {
            self.ask = None;
        }
        actions.restore(bytes, list);
    }
}

/// Runs code of a session. One that panics loses its request, not the worker.
fn guard<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    // The session is dropped after a panic; nothing looks at its broken state.
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| Panicked)
}

/// The media type of the body, in lower case, without parameters.
fn essence(head: &request::Parts) -> String {
    let value = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// The messages of a stream are text, unless its request says that it has bytes.
pub(super) fn kind_of_stream(head: &request::Parts) -> MessageKind {
    if essence(head) == "application/octet-stream" {
        MessageKind::Binary
    } else {
        MessageKind::Text
    }
}

/// Text is what says so: `text/*` and JSON.
fn kind_of(head: &request::Parts) -> MessageKind {
    let essence = essence(head);
    if essence.starts_with("text/") || essence == "application/json" {
        MessageKind::Text
    } else {
        MessageKind::Binary
    }
}

/// How the messages of a kind are labelled.
pub(super) fn content_type(kind: MessageKind) -> HeaderValue {
    HeaderValue::from_static(match kind {
        MessageKind::Text => "text/plain; charset=utf-8",
        MessageKind::Binary => "application/octet-stream",
    })
}
