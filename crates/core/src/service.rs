//! The seam between connections and what they are for: a `Service` opens a `Session` for each
//! connection, and a session answers what it is told with actions.
//!
//! A session is sans-I/O: it holds no socket, no sleep, no metric name and no clock. Actions are
//! carried out after it has returned, so nothing it asks for can call back into it.

use std::any::Any;
use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::close::CloseReason;
use crate::context::{ConnId, RequestId};
use crate::door::{Doorkeeper, Principal};
use crate::local::{Address, Local, Note};
use crate::site::SiteWire;
use crate::tls::TlsInfo;
use crate::trace::current::Within;
use crate::trace::{Found, Trace, Tracing};
use crate::wire::lines;

/// How messages of a connection are carried. A session may answer in its carrier's own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Lines over TCP.
    Lines,
    /// Length-prefixed messages over TCP.
    Length,
    /// WebSocket messages.
    WebSocket,
    /// One HTTP request, one reply.
    Http,
    /// Server-Sent Events: the request may bring one message, and no more follow.
    Sse,
    /// An HTTP response that does not end: the request may bring one message, and no more follow.
    HttpStream,
}

/// Whether a message is text or bytes. Text has been checked to be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

/// One whole message, as a slice of the read buffer.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The bytes, without framing.
    pub payload: &'a [u8],
    /// Text or bytes.
    pub kind: MessageKind,
}

/// What a service is told of a connection that opens.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// The connection's id.
    pub conn: ConnId,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The listener's configured name.
    pub listener: &'a str,
    /// How its messages are carried.
    pub carrier: Carrier,
    /// The wire that carries them; `None` for a POST.
    pub wire: Option<SiteWire>,
    /// The handshake's request id: what the peer sent when it was well formed, else a new one.
    pub request_id: &'a RequestId,
    /// What TLS found out about the peer; `None` on a plain connection. Shared, so that a session
    /// may keep it.
    pub tls: Option<&'a Arc<TlsInfo>>,
    /// Who it speaks for, when a doorkeeper has looked.
    pub principal: Option<&'a Principal>,
    /// The path that it asked for, on HTTP.
    pub path: Option<&'a Arc<str>>,
    /// Headers of its handshake, on HTTP: at least those of [`Service::headers`].
    pub headers: Option<&'a HeaderMap>,
    /// What stood behind the `?` of its target, on HTTP.
    pub query: Option<&'a str>,
}

/// What a listener or a path does. One value for each configured route.
pub trait Service: Send + Sync + 'static {
    /// The configured route name: a metric label and a log field.
    fn route(&self) -> &str;

    /// Who decides whether a session may be opened over HTTP. `None`: everybody may.
    fn doorkeeper(&self) -> Option<&dyn Doorkeeper> {
        None
    }

    /// The headers of a handshake that its sessions want to see in [`Opening::headers`].
    fn headers(&self) -> &[HeaderName] {
        &[]
    }

    /// The WebSocket subprotocols that it speaks: the first of a peer's offers that is one of them
    /// is agreed on (RFC 6455, section 4.2.2).
    fn subprotocols(&self) -> &[&'static str] {
        &["weir"]
    }

    /// Whether the engine finds out who has gone, by pings and silence. A service whose protocol has
    /// its own way says no.
    fn heartbeats(&self) -> bool {
        true
    }

    /// The wire of a connection on lines whose first byte is not `{`, for a protocol that is JSON or
    /// something else. Its session is told ahead of all messages ([`Session::on_wire`]).
    fn wire_unless_json(&self) -> Option<SiteWire> {
        None
    }

    /// The content type of its replies over HTTP. `None`: that of text or of bytes, as each one is.
    fn content_type(&self) -> Option<&'static str> {
        None
    }

    /// What a reader of this path is answered with: a GET where otherwise only a POST is taken, and
    /// everybody on a path of documents. The doorkeeper is asked before.
    fn document(&self, _path: &str) -> Option<Document> {
        None
    }

    /// Opens a session for a connection.
    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session>;

    /// Whether messages of this route may carry a trace context.
    fn carries_trace(&self) -> bool {
        false
    }

    /// Looks for a trace context in a message, and gives the message without it: what the session
    /// is told of. Asked only of a route that [`Service::carries_trace`].
    fn trace<'m>(&self, message: &'m [u8]) -> (Found, &'m [u8]) {
        (Found::Nothing, message)
    }
}

/// Something to read that is the same for everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its content type.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: Bytes,
    /// Its entity tag, with its quotes (RFC 9110, section 8.8.3): a reader that has this version
    /// already is told so, and nothing else.
    pub etag: Option<HeaderValue>,
    /// Further headers of its response.
    pub headers: &'static [(HeaderName, HeaderValue)],
}

impl Document {
    /// A document without a tag or further headers.
    pub fn new(content_type: &'static str, body: Bytes) -> Self {
        Self { content_type, body, etag: None, headers: &[] }
    }
}

/// One connection's state above its wire.
pub trait Session: Send {
    /// The connection is open. Not told for a POST, whose one message comes at once.
    fn on_open(&mut self, _now: Instant, _actions: &mut Actions) {}

    /// The first byte says that the connection has another wire than it was opened with.
    fn on_wire(&mut self, _wire: SiteWire) {}

    /// The pings of the wire that this session wants, where its service has ways of its own. Asked when
    /// it is opened; one that has answered is asked again, and keeps to it.
    fn pings(&self) -> Option<Pings> {
        None
    }

    /// A whole message came. `request` is its id.
    ///
    /// Exactly one reply slot belongs to each message: [`Actions::reply`] fills it at once,
    /// [`Actions::ask`] leaves it to the answer, and doing neither fills it with nothing.
    fn on_message(
        &mut self,
        message: Message<'_>,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    );

    /// An earlier [`Actions::ask`] has its answer. A reply made here fills that message's slot.
    fn on_answer(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    );

    /// The drain has begun. The connection is closed at its place in the drain's pace whatever the
    /// session does; it may say a farewell or close earlier.
    fn on_drain(&mut self, _now: Instant, _actions: &mut Actions) {}

    /// The time of [`Actions::wake_at`] has come.
    fn on_time(&mut self, _now: Instant, _actions: &mut Actions) {}

    /// The worker's [`Local`] has something to tell.
    fn on_note(&mut self, _note: Note, _now: Instant, _actions: &mut Actions) {}

    /// After a delivery found the outbox full, or [`Actions::await_room`]: everything before it has
    /// been written.
    fn on_room(&mut self, _now: Instant, _actions: &mut Actions) {}

    /// The connection has ended. Nothing can be sent any more: what it wants done is forgotten. Not
    /// told to the session of a POST, which ends with its reply.
    fn on_close(&mut self, _reason: CloseReason, _now: Instant, _actions: &mut Actions) {}

    /// The last word to the peer, when it is not the peer who has closed.
    fn goodbye(&self, _reason: CloseReason) -> Goodbye {
        Goodbye::Usual
    }
}

/// How a peer is pinged, on a wire that has pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// From one ping to the next.
    pub interval: Duration,
    /// How long its pong may take.
    pub pong: Duration,
}

/// What a peer is told last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// What the wire has for the reason: [`CloseReason::code`] and [`CloseReason::text`], a farewell.
    Usual,
    /// On WebSocket this code and reason, of at most 123 bytes. The usual elsewhere.
    Close(u16, Cow<'static, str>),
    /// A message; on WebSocket the usual follows, on a stream its end.
    Message(Bytes, MessageKind),
}

/// Names one ask of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// What came of an ask: something like an HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body, within the asker's cap.
    pub body: Bytes,
}

/// Why an ask has no response. The text is fixed; the details are in logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// A deadline passed.
    #[error("upstream timed out")]
    Timeout,
    /// The wait queue is full or the wait for a connection was too long.
    #[error("upstream overloaded")]
    Overloaded,
    /// No target is usable: breakers open, names unresolved, connections refused.
    #[error("upstream unavailable")]
    Unavailable,
    /// The response was over its cap.
    #[error("upstream response over upstream.response_bytes_max")]
    ResponseTooBig,
    /// The call broke in the middle.
    #[error("upstream failed")]
    Failed,
}

impl AskError {
    /// The name in spans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::ResponseTooBig => "response_too_big",
            Self::Failed => "failed",
        }
    }
}

impl Response {
    /// Why this is a failure of the one who was asked, if it is: a status of 500 or more.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        fault(self.status)
    }
}

/// The name of a status that is a server's failure: the status itself, or its class.
pub(crate) fn fault(status: u16) -> Option<&'static str> {
    match status {
        ..500 => None,
        500 => Some("500"),
        501 => Some("501"),
        502 => Some("502"),
        503 => Some("503"),
        504 => Some("504"),
        _ => Some("5xx"),
    }
}

/// The end of an ask.
pub type Answer = Result<Response, AskError>;

/// Something that takes time. Runs on the service runtime, never on a worker; dropped (and so
/// cancelled) when its connection ends. It must end by its own deadline.
pub type AskFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One thing a session wants done.
pub enum Action {
    /// Fill the reply slot with these bytes of [`Actions::bytes`].
    Reply {
        /// The HTTP status on an HTTP carrier; otherwise not sent.
        status: u16,
        /// Where the payload lies in [`Actions::bytes`].
        payload: Range<usize>,
        /// Text or bytes, where the carrier tells them apart.
        kind: MessageKind,
    },
    /// Leave the reply slot to this future's answer.
    Ask(Ticket, AskFuture),
    /// Write a message that answers nothing.
    Push(Bytes, MessageKind),
    /// Close once every reply that is owed has been written.
    Close(CloseReason),
    /// Close for this reason at this time, up to 1 s late; `None` takes an earlier word back.
    CloseAt(Option<(Instant, CloseReason)>),
    /// Take no further message until this is taken back: the socket is not read.
    Hold(bool),
    /// Tell the session at this time, up to 1 s late; `None` takes an earlier word back.
    WakeAt(Option<Instant>),
    /// Tell the session when everything has been written.
    AwaitRoom,
}

/// What a session wants done, in order. One value a worker, reused.
///
/// A reply whose turn it is already is encoded for its wire at once, into the bytes that one write
/// will take: it is neither copied nor queued. Everything else is listed, and carried out after
/// the session has returned.
#[derive(Default)]
pub struct Actions {
    /// The wire that replies are encoded for at once; `None` lists them.
    direct: Option<SiteWire>,
    /// The message that is being answered, when it has no line ending inside.
    plain: lines::Plain,
    /// Encoded bytes on their way to the socket or the outbox; empty between turns.
    pub(crate) out: Vec<u8>,
    /// Messages in `out`.
    pub(crate) out_messages: u32,
    bytes: Vec<u8>,
    list: Vec<Action>,
    /// Who traces; `None` when nothing is traced.
    tracing: Option<Arc<Tracing>>,
    /// That of the message that is being answered, once it has one.
    trace: Option<Arc<Trace>>,
    /// Those whose replies are in `out`; empty between turns.
    pub(crate) out_traces: Vec<Arc<Trace>>,
    /// The connection whose session is told.
    address: Option<Address>,
    /// What was said to its peer before still waits.
    backlog: bool,
    /// What the sessions of this worker share; out of its place during its turn.
    local: Option<Box<dyn Local>>,
}

impl Actions {
    /// Actions that [`Actions::trace`] works for.
    pub(crate) fn traced(tracing: &Arc<Tracing>) -> Self {
        let tracing = tracing.is_on().then(|| Arc::clone(tracing));
        Self { tracing, ..Self::default() }
    }

    /// The trace of the message that is being answered, for what is asked on its behalf; `None`
    /// when nothing is traced. One that is not sampled is kept too: it may turn out slow.
    pub fn trace(&mut self, now: Instant) -> Option<Arc<Trace>> {
        let tracing = self.tracing.as_ref()?;
        Some(Arc::clone(self.trace.get_or_insert_with(|| tracing.begin(None, false, now))))
    }

    /// The trace of the message that is being answered, if it is sampled.
    #[inline]
    pub fn sampled(&self) -> Option<&Arc<Trace>> {
        self.trace.as_ref().filter(|trace| trace.context().is_some())
    }

    /// The message that is answered next has this trace.
    #[inline]
    pub(crate) fn begin_trace(&mut self, trace: Option<Arc<Trace>>) {
        self.trace = trace;
    }

    /// The trace of the message that was answered, if it has got one.
    #[inline]
    pub(crate) fn take_trace(&mut self) -> Option<Arc<Trace>> {
        self.trace.take()
    }

    /// Replies with these parts joined, in the message's place in the order of requests.
    #[inline]
    pub fn reply(&mut self, kind: MessageKind, parts: &[&[u8]]) {
        match self.direct {
            Some(wire) => {
                wire.encode_reply(parts, self.plain, kind, &mut self.out);
                self.out_messages += 1;
            }
            None => self.reply_with_status(200, kind, parts),
        }
    }

    /// Replies with a status, which an HTTP carrier sends and the others do not.
    pub fn reply_with_status(&mut self, status: u16, kind: MessageKind, parts: &[&[u8]]) {
        if self.direct.is_some() {
            return self.reply(kind, parts);
        }
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.list.push(Action::Reply { status, payload: start..self.bytes.len(), kind });
    }

    /// Asks for something that takes time; [`Session::on_answer`] is told of its end.
    pub fn ask(&mut self, ticket: Ticket, future: AskFuture) {
        // What follows belongs behind the answer.
        self.direct = None;
        let future = match self.trace.as_ref().and_then(|trace| trace.context()) {
            Some(context) => Box::pin(Within { context: context.clone(), inner: future }),
            None => future,
        };
        self.list.push(Action::Ask(ticket, future));
    }

    /// Sends a message that answers nothing.
    pub fn push(&mut self, message: Bytes, kind: MessageKind) {
        self.list.push(Action::Push(message, kind));
    }

    /// Sends a message that answers nothing, its parts joined, ahead of replies that wait for others.
    pub fn say(&mut self, kind: MessageKind, parts: &[&[u8]]) {
        match self.direct {
            Some(wire) if self.list.is_empty() => {
                wire.encode_reply(parts, lines::Plain::default(), kind, &mut self.out);
                self.out_messages += 1;
            }
            Some(_) | None => self.push(parts.concat().into(), kind),
        }
    }

    /// The connection whose session is told, as the worker's [`Local`] knows it. `None` on an HTTP
    /// carrier, whose connection belongs to nobody.
    pub fn address(&self) -> Option<Address> {
        self.address
    }

    /// Whether something that was said earlier still waits for the socket. Known where a session is told
    /// of the time, of a note, or that it has room; false elsewhere.
    pub fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// What the sessions of this worker share; `None` when it is of another type, when the engine has
    /// none, and on an HTTP carrier.
    pub fn local<L: Local>(&mut self) -> Option<&mut L> {
        let local: &mut dyn Any = &mut **self.local.as_mut()?;
        local.downcast_mut()
    }

    pub(crate) fn set_address(&mut self, address: Address) {
        self.address = Some(address);
    }

    pub(crate) fn set_backlog(&mut self, backlog: bool) {
        self.backlog = backlog;
    }

    pub(crate) fn set_local(&mut self, local: Box<dyn Local>) {
        self.local = Some(local);
    }

    pub(crate) fn take_local(&mut self) -> Option<Box<dyn Local>> {
        self.local.take()
    }

    /// Has the session told when this time has come, up to 1 s late; `None` takes an earlier word
    /// back. Only one stands. It waits while the connection is not read, so that a peer's silence is
    /// its own. Nothing on an HTTP carrier.
    pub fn wake_at(&mut self, at: Option<Instant>) {
        self.list.push(Action::WakeAt(at));
    }

    /// Has the session told ([`Session::on_room`]) when everything has been written that was said so
    /// far, at the earliest in a turn after this one. Nothing on an HTTP carrier.
    pub fn await_room(&mut self) {
        self.list.push(Action::AwaitRoom);
    }

    /// Closes after the replies that are owed.
    pub fn close(&mut self, reason: CloseReason) {
        self.list.push(Action::Close(reason));
    }

    /// Closes for this reason when this time has come, up to 1 s late; `None` takes an earlier word
    /// back. Only one stands. Nothing on an HTTP carrier, which has one message.
    pub fn close_at(&mut self, at: Option<(Instant, CloseReason)>) {
        self.list.push(Action::CloseAt(at));
    }

    /// Takes no further message of this connection until it is called with `false`: its socket is
    /// not read, and what was read waits. Nothing on an HTTP carrier, which has one message.
    pub fn hold(&mut self, hold: bool) {
        // What follows in this read waits, so nothing may be answered ahead of it.
        self.direct = None;
        self.list.push(Action::Hold(hold));
    }

    /// The gathered payloads that [`Action::Reply`] ranges point into.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is wanted so far, in order.
    pub fn list(&self) -> &[Action] {
        &self.list
    }

    /// Encodes replies for `wire` at once from now on, or lists them.
    #[inline]
    pub(crate) fn direct(&mut self, wire: Option<SiteWire>, plain: lines::Plain) {
        self.direct = wire;
        self.plain = plain;
    }

    /// Takes the list out to be carried out; give it back with [`Actions::restore`].
    pub fn take(&mut self) -> (Vec<u8>, Vec<Action>) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.list))
    }

    /// Gives the emptied buffers back, so that the next session allocates nothing.
    pub fn restore(&mut self, mut bytes: Vec<u8>, mut list: Vec<Action>) {
        bytes.clear();
        list.clear();
        self.bytes = bytes;
        self.list = list;
    }
}
