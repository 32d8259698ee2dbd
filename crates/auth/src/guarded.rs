//! A route behind a guard. On a wire without headers the first message is the credential: nothing
//! of the route exists before it is good, and nothing behind it is read.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderName;
use parking_lot::Mutex;
use weir_core::close::CloseReason;
use weir_core::context::RequestId;
use weir_core::door::{Doorkeeper, Principal, Verdict, VerdictFuture};
use weir_core::local::Note;
use weir_core::service::{
    Actions, Answer, Carrier, Document, Goodbye, Message, Opening, Response, Service, Session,
    Ticket,
};
use weir_core::site::SiteWire;
use weir_core::tls::TlsInfo;
use weir_core::trace::Found;

use crate::credential::Credential;
use crate::guard::{Guard, Knock};

/// A service that only those reach whom a guard lets in.
pub struct Guarded {
    inner: Arc<dyn Service>,
    guard: Guard,
}

impl Guarded {
    /// `inner` behind `guard`.
    pub fn new(inner: Arc<dyn Service>, guard: Guard) -> Self {
        Self { inner, guard }
    }
}

impl Service for Guarded {
    fn route(&self) -> &str {
        self.inner.route()
    }

    fn doorkeeper(&self) -> Option<&dyn Doorkeeper> {
        Some(&self.guard)
    }

    fn headers(&self) -> &[HeaderName] {
        self.inner.headers()
    }

    fn heartbeats(&self) -> bool {
        self.inner.heartbeats()
    }

    fn subprotocols(&self) -> &[&'static str] {
        self.inner.subprotocols()
    }

    fn content_type(&self) -> Option<&'static str> {
        self.inner.content_type()
    }

    fn document(&self, path: &str) -> Option<Document> {
        self.inner.document(path)
    }

    fn carries_trace(&self) -> bool {
        self.inner.carries_trace()
    }

    fn trace<'m>(&self, message: &'m [u8]) -> (Found, &'m [u8]) {
        self.inner.trace(message)
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        let expires = |principal: &Principal| principal.expires;
        match (opening.carrier, opening.principal) {
            // Its one message is here already.
            (Carrier::Http, Some(_)) => self.inner.open(opening),
            (_, Some(principal)) if expires(principal).is_none() => self.inner.open(opening),
            (_, Some(principal)) => {
                let session = self.inner.open(opening);
                Box::new(GuardedSession(State::Open { session, expires: principal.expires }))
            }
            (_, None) => Box::new(GuardedSession(State::Waiting(Waiting::of(self, opening)))),
        }
    }
}

struct GuardedSession(State);

enum State {
    /// The first message has not come.
    Waiting(Box<Waiting>),
    /// It has come, and the verdict has not.
    Asked(Box<Waiting>, Arc<Mutex<Option<Verdict>>>),
    /// Let in.
    Open { session: Box<dyn Session>, expires: Option<Instant> },
    /// Not let in; the connection is on its way out.
    Refused,
}

/// What the session of the route will be opened with.
struct Waiting {
    service: Arc<dyn Service>,
    guard: Guard,
    conn: weir_core::context::ConnId,
    peer: std::net::SocketAddr,
    listener: String,
    carrier: Carrier,
    wire: Option<SiteWire>,
    request_id: RequestId,
    tls: Option<Arc<TlsInfo>>,
}

impl Waiting {
    fn of(guarded: &Guarded, opening: &Opening<'_>) -> Box<Self> {
        Box::new(Self {
            service: Arc::clone(&guarded.inner),
            guard: guarded.guard.clone(),
            conn: opening.conn,
            peer: opening.peer,
            listener: opening.listener.to_owned(),
            carrier: opening.carrier,
            wire: opening.wire,
            request_id: opening.request_id.clone(),
            tls: opening.tls.cloned(),
        })
    }

    fn opening<'a>(&'a self, principal: Option<&'a Principal>) -> Opening<'a> {
        Opening {
            conn: self.conn,
            peer: self.peer,
            listener: &self.listener,
            carrier: self.carrier,
            wire: self.wire,
            request_id: &self.request_id,
            tls: self.tls.as_ref(),
            principal,
            path: None,
            headers: None,
            query: None,
        }
    }

    /// The verdict on the first message.
    fn judge(&self, payload: &[u8], now: Instant) -> Verdict {
        let knock = Knock::of(&self.opening(None));
        self.guard.judge(knock, Credential::of_message(payload), now)
    }
}

impl GuardedSession {
    /// Acts on a verdict, which is final unless it is to wait.
    fn obey(
        &mut self,
        waiting: Box<Waiting>,
        verdict: Verdict,
        now: Instant,
        actions: &mut Actions,
    ) {
        self.0 = match verdict {
            Verdict::Pass(principal) => {
                let session = waiting.service.open(&waiting.opening(Some(&principal)));
                let mut open = State::Open { session, expires: principal.expires };
                open.enter(now, actions);
                open
            }
            Verdict::Refuse(_) => {
                actions.close(CloseReason::Unauthorized);
                State::Refused
            }
            Verdict::Wait(verdict) => {
                let slot = Arc::new(Mutex::new(None));
                // No other ask of this connection is on its way.
                actions.ask(Ticket(0), Box::pin(deliver(verdict, Arc::clone(&slot))));
                actions.hold(true);
                State::Asked(waiting, slot)
            }
        };
    }
}

/// Runs a verdict as an ask, whose answer says no more than that it is there.
async fn deliver(verdict: VerdictFuture, slot: Arc<Mutex<Option<Verdict>>>) -> Answer {
    let verdict = verdict.await;
    *slot.lock() = Some(verdict);
    Ok(Response { status: 204, body: bytes::Bytes::new() })
}

impl State {
    /// Begins the time of a session that was let in.
    fn enter(&mut self, now: Instant, actions: &mut Actions) {
        if let Self::Open { session, expires } = self {
            actions.close_at(expires.map(|at| (at, CloseReason::TokenExpired)));
            session.on_open(now, actions);
        }
    }
}

impl Session for GuardedSession {
    fn on_open(&mut self, now: Instant, actions: &mut Actions) {
        match &mut self.0 {
            State::Waiting(waiting) => {
                if let Some(verdict) = waiting.guard.by_certificate(&waiting.opening(None), now)
                    && let State::Waiting(waiting) = std::mem::replace(&mut self.0, State::Refused)
                {
                    return self.obey(waiting, verdict, now, actions);
                }
                let State::Waiting(waiting) = &self.0 else { return };
                let deadline = now + waiting.guard.handshake_timeout();
                actions.close_at(Some((deadline, CloseReason::HandshakeTimeout)));
            }
            open @ State::Open { .. } => open.enter(now, actions),
            State::Asked(..) | State::Refused => {}
        }
    }

    fn on_message(
        &mut self,
        message: Message<'_>,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        if let State::Open { session, .. } = &mut self.0 {
            return session.on_message(message, request, now, actions);
        }
        match std::mem::replace(&mut self.0, State::Refused) {
            State::Waiting(waiting) => {
                let verdict = waiting.judge(message.payload, now);
                self.obey(waiting, verdict, now, actions);
            }
            // While it is held, no message comes; one that did would be as good as none.
            other @ (State::Asked(..) | State::Open { .. } | State::Refused) => self.0 = other,
        }
    }

    fn on_answer(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        if let State::Open { session, .. } = &mut self.0 {
            return session.on_answer(ticket, answer, request, now, actions);
        }
        if let State::Asked(waiting, slot) = std::mem::replace(&mut self.0, State::Refused) {
            actions.hold(false);
            let verdict = slot.lock().take();
            match verdict {
                Some(verdict) => self.obey(waiting, verdict, now, actions),
                // The ask broke: whoever it is, it is not let in.
                None => actions.close(CloseReason::Unauthorized),
            }
        }
    }

    fn pings(&self) -> Option<weir_core::service::Pings> {
        match &self.0 {
            State::Open { session, .. } => session.pings(),
            State::Waiting(_) | State::Asked(..) | State::Refused => None,
        }
    }

    fn on_drain(&mut self, now: Instant, actions: &mut Actions) {
        if let State::Open { session, .. } = &mut self.0 {
            session.on_drain(now, actions);
        }
    }

    fn on_time(&mut self, now: Instant, actions: &mut Actions) {
        if let State::Open { session, .. } = &mut self.0 {
            session.on_time(now, actions);
        }
    }

    fn on_note(&mut self, note: Note, now: Instant, actions: &mut Actions) {
        if let State::Open { session, .. } = &mut self.0 {
            session.on_note(note, now, actions);
        }
    }

    fn on_room(&mut self, now: Instant, actions: &mut Actions) {
        if let State::Open { session, .. } = &mut self.0 {
            session.on_room(now, actions);
        }
    }

    fn on_close(&mut self, reason: CloseReason, now: Instant, actions: &mut Actions) {
        if let State::Open { session, .. } = &mut self.0 {
            session.on_close(reason, now, actions);
        }
    }

    fn goodbye(&self, reason: CloseReason) -> Goodbye {
        match &self.0 {
            State::Open { session, .. } => session.goodbye(reason),
            State::Waiting(_) | State::Asked(..) | State::Refused => Goodbye::Usual,
        }
    }
}
