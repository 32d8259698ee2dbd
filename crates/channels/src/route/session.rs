//! One connection of a route that publishes: what it is told of by the engine, and how it ends.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use weir_core::close::CloseReason;
use weir_core::context::RequestId;
use weir_core::local::{Address, Note};
use weir_core::service::{Actions, Answer, Goodbye, Message, MessageKind, Session, Ticket};
use weir_core::site::SiteWire;

use super::Plan;
use super::later::Waits;
use super::name::Bound;
use super::refusal::Refusal;
use super::subscribe::Sub;
use crate::broker::ClientInfo;
use crate::hub::orders::ForClient;
use crate::hub::{Hub, Told, Uid};
use crate::protocol::codes::close_reason;
use crate::shared::Shared;

/// The code of an end that a WebSocket is told, where weir decides it: policy violation, and try again
/// later (RFC 6455, section 7.4.1, and its registry).
const POLICY_VIOLATION: u16 = 1008;
const TRY_AGAIN_LATER: u16 = 1013;

/// The session.
pub(super) struct RouteSession {
    pub(super) shared: Arc<Shared>,
    pub(super) plan: Arc<Plan>,
    pub(super) uid: Uid,
    /// The principal; empty when nobody has asked who it is.
    pub(super) user: Arc<str>,
    /// What subscribers see of it.
    pub(super) info: Arc<ClientInfo>,
    /// `None` for a POST, which no hub knows.
    pub(super) wire: Option<SiteWire>,
    pub(super) address: Option<Address>,
    pub(super) channel: Option<Bound>,
    /// The channels that it has published into, where messages choose them.
    pub(super) published: HashSet<Box<str>>,
    /// What it is to be subscribed to, until it is open.
    pub(super) wanted: Vec<Result<String, Refusal>>,
    pub(super) subs: Vec<Sub>,
    pub(super) waits: Option<Box<Waits>>,
    /// Why it was told to go, for the last word.
    farewell: Option<Box<(u16, String)>>,
}

/// What a session is opened with.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    pub(super) plan: Arc<Plan>,
    pub(super) uid: Uid,
    pub(super) user: Option<Arc<str>>,
    pub(super) wire: Option<SiteWire>,
    pub(super) channel: Option<Bound>,
    pub(super) wanted: Vec<Result<String, Refusal>>,
}

impl RouteSession {
    pub(super) fn new(opened: Opened) -> Self {
        let Opened { shared, plan, uid, user, wire, channel, wanted } = opened;
        let user = user.unwrap_or_default();
        let client = uid.to_string().into();
        let info = ClientInfo { user: (&*user).into(), client, ..ClientInfo::default() };
        Self {
            shared,
            plan,
            uid,
            user,
            info: Arc::new(info),
            wire,
            address: None,
            channel,
            published: HashSet::new(),
            wanted,
            subs: Vec::new(),
            waits: None,
            farewell: None,
        }
    }

    /// The worker's hub. Only a connection that has an address asks for it.
    pub(super) fn hub<'a>(&self, actions: &'a mut Actions) -> &'a mut Hub {
        actions.local().expect("every worker has a hub where there are channels")
    }

    /// Ends the connection because what it is there for cannot be.
    pub(super) fn end_for(&mut self, refusal: &Refusal, actions: &mut Actions) {
        let code = match refusal {
            Refusal::Subscribers(_) | Refusal::Limit(_) | Refusal::Silent => TRY_AGAIN_LATER,
            Refusal::NoChannel
            | Refusal::NotJson
            | Refusal::NotText
            | Refusal::Format
            | Refusal::NotAnObject { .. }
            | Refusal::Missing { .. }
            | Refusal::Twice { .. }
            | Refusal::Kind { .. }
            | Refusal::Segment { .. }
            | Refusal::Name { .. }
            | Refusal::Permission { .. }
            | Refusal::ManyChannels { .. } => POLICY_VIOLATION,
        };
        self.plan.refused.count(refusal.reason());
        self.end(code, format!("cannot subscribe: {refusal}"), actions);
    }

    /// Ends the connection. The first word stands.
    pub(super) fn end(&mut self, code: u16, text: String, actions: &mut Actions) {
        if self.farewell.is_none() {
            tracing::debug!(client = %self.uid, text, "a connection of a route is ended");
            self.farewell = Some(Box::new((code, text)));
            actions.close(CloseReason::Disconnected);
        }
    }

    /// Tells it something that answers nothing, where it is told of errors.
    pub(super) fn complain(&mut self, text: &str, actions: &mut Actions) {
        if self.plan.errors {
            actions.say(MessageKind::Text, &[b"error: ", text.as_bytes()]);
        } else {
            // It must not go on as if nothing were wrong.
            self.end(POLICY_VIOLATION, text.to_owned(), actions);
        }
    }

    fn told(&mut self, told: Told, now: Instant, actions: &mut Actions) {
        match told {
            // Nobody here reads from a history: see `slow_peers`.
            Told::Insufficient(place) | Told::Behind(place, _) => {
                self.begin_anew(place, now, actions);
            }
            // Every payload can be written plainly.
            Told::NotJson => {}
            Told::Order(order) => self.obey(order, now, actions),
        }
    }

    /// What backends want done. A subscription that one makes is for clients of the protocol.
    fn obey(&mut self, order: ForClient, now: Instant, actions: &mut Actions) {
        match order {
            ForClient::Unsubscribe { channel: Some(channel) } => {
                if let Some(at) = self.find(&channel, actions) {
                    self.unsubscribe(at, now, actions);
                }
            }
            ForClient::Unsubscribe { channel: None } => self.unsubscribe_all(now, actions),
            ForClient::Disconnect { code, reason, except } => {
                if !except.contains(&self.uid) {
                    self.end(code, reason.to_string(), actions);
                }
            }
            ForClient::Refresh { expired: true, .. } => {
                self.end(POLICY_VIOLATION, "expired".to_owned(), actions);
            }
            ForClient::Refresh { expired: false, .. }
            | ForClient::Subscribe(_)
            | ForClient::Commands { .. } => {
                tracing::debug!(client = %self.uid, "an order that only clients can carry out");
            }
        }
    }
}

impl Session for RouteSession {
    fn on_open(&mut self, now: Instant, actions: &mut Actions) {
        self.opened(now, actions);
    }

    fn on_message(
        &mut self,
        message: Message<'_>,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        // The request of a stream may bring a message; an empty one is none.
        let is_stream = matches!(self.wire, Some(SiteWire::Stream(_)));
        // What comes behind its last word is not taken.
        if self.farewell.is_none() && !(is_stream && message.payload.is_empty()) {
            self.publish(message, request, now, actions);
        }
    }

    fn on_answer(
        &mut self,
        ticket: Ticket,
        _answer: Answer,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        if let Some(wait) = self.waits.as_mut().and_then(|waits| waits.take(ticket)) {
            self.go_on(wait, request, now, actions);
        }
    }

    fn on_time(&mut self, now: Instant, actions: &mut Actions) {
        self.keep_present(now, actions);
    }

    fn on_note(&mut self, note: Note, now: Instant, actions: &mut Actions) {
        if let Ok(told) = note.downcast::<Told>()
            && self.farewell.is_none()
        {
            self.told(*told, now, actions);
        }
    }

    fn on_close(&mut self, _reason: CloseReason, now: Instant, actions: &mut Actions) {
        self.leave(now, actions);
    }

    fn goodbye(&self, reason: CloseReason) -> Goodbye {
        let Some(farewell) = self.farewell.as_ref().filter(|_| reason == CloseReason::Disconnected)
        else {
            return Goodbye::Usual;
        };
        let (code, text) = &**farewell;
        if self.wire == Some(SiteWire::WebSocket) {
            return Goodbye::Close(*code, Cow::Owned(close_reason(text).into_owned()));
        }
        Goodbye::Message(Bytes::from(format!("error: {text}")), MessageKind::Text)
    }
}
