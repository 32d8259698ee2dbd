//! One connection in the client protocol: commands in, replies and pushes out, in the order that the
//! protocol wants (section 1.5). Sans-I/O: what takes time is asked for, the rest happens in place.

mod backend;
mod behind;
mod connect;
mod failure;
mod gone;
mod hooks;
mod later;
mod notes;
mod out;
mod publish;
mod subscribe;
mod time;
mod wanted;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use weir_core::close::CloseReason;
use weir_core::context::{ConnId, RequestId};
use weir_core::local::{Address, Note};
use weir_core::service::{
    Actions, Answer, Carrier, Goodbye, Message, MessageKind, Pings, Session, Ticket,
};
use weir_core::site::SiteWire;
use weir_core::trace::Trace;

use self::behind::Behinds;
use self::failure::Failure;
use self::later::Waits;
use self::out::Out;
pub(crate) use self::time::{PRESENCE_INTERVAL, PRESENCE_TTL};
use self::wanted::{Renewal, Sub};
use crate::broker::ClientInfo;
use crate::hooks::caller::Caller;
use crate::hub::{Hub, Place, Told, Uid};
use crate::protocol::codes::{DisconnectCode, ErrorCode, close_reason, reconnects};
use crate::protocol::push::{self, Event, Push};
use crate::protocol::{Command, DecodeError, Encoding, Form, Limits, Reply, Request, frame, reply};
use crate::shared::{Policy, Shared};

/// What commands may be: as long as a message of the listener, which its wire has judged.
const LIMITS: Limits = Limits { command_bytes_max: usize::MAX, elements_max: 1024 };

/// Commands that wait behind a `connect`; one more, and the connection is ended. They come in one frame
/// with it, or beside a stream.
const BEHIND_MAX: usize = 1024;

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its first command must be `connect`.
    Fresh,
    /// It waits for what comes of its `connect`.
    Connecting,
    /// It may do everything.
    Connected,
    /// Its `connect` was answered with an error: one more command is one too many.
    Refused,
    /// It was told to go: nothing more is done for it.
    Over,
}

/// The session.
pub(crate) struct Client {
    shared: Arc<Shared>,
    wire: SiteWire,
    carrier: Carrier,
    encoding: Encoding,
    state: State,
    conn: ConnId,
    form: Form,
    /// Known to the hub once it is connected.
    address: Option<Address>,
    user: Arc<str>,
    /// What others see of it, made when the first of them does.
    info: Option<Arc<ClientInfo>>,
    conn_info: Option<Box<[u8]>>,
    subs: Vec<Sub>,
    /// When it ends unless it is refreshed.
    expires: Option<Instant>,
    /// Who sees to it that it does not.
    renewal: Renewal,
    /// What backends are told of it, where there are hooks.
    caller: Option<Box<Caller>>,
    ping: time::Ping,
    /// It has pings of the WebSocket in place of the protocol's.
    frame_pings: bool,
    /// Why it was told to go, for the last word.
    farewell: Option<Box<(u16, Cow<'static, str>)>>,
    waits: Option<Box<Waits>>,
    /// Subscriptions that do not keep up, mostly none.
    behinds: Option<Box<Behinds>>,
    /// Commands that came behind a `connect` that is not answered yet.
    behind: Vec<Box<[u8]>>,
}

/// One turn of a session.
struct Turn<'a> {
    actions: &'a mut Actions,
    out: Out,
    now: Instant,
    /// The message that has caused it, when one has.
    request: Option<&'a RequestId>,
    /// That of the message whose turn it is, when it is sampled.
    trace: Option<Arc<Trace>>,
}

impl Turn<'_> {
    /// The worker's hub. A session of channels is only opened where there is one.
    fn hub(&mut self) -> &mut Hub {
        self.actions.local().expect("every worker has a hub where there are channels")
    }

    /// Takes a subscriber out of the hub.
    fn forget(&mut self, place: Place) {
        let now = self.now;
        self.hub().remove(place, now);
    }
}

/// What a session is opened with.
pub(crate) struct Opened {
    pub(crate) shared: Arc<Shared>,
    pub(crate) wire: SiteWire,
    pub(crate) carrier: Carrier,
    pub(crate) encoding: Encoding,
    /// What pushes look like on the wire.
    pub(crate) form: Form,
    pub(crate) conn: ConnId,
    /// It wants pings of the WebSocket.
    pub(crate) frame_pings: bool,
    /// Who a doorkeeper says that it is.
    pub(crate) principal: Option<Arc<str>>,
    /// What backends are told of it, where there are hooks.
    pub(crate) caller: Option<Box<Caller>>,
}

impl Client {
    pub(crate) fn new(opened: Opened) -> Self {
        Self {
            shared: opened.shared,
            wire: opened.wire,
            carrier: opened.carrier,
            encoding: opened.encoding,
            state: State::Fresh,
            conn: opened.conn,
            form: opened.form,
            address: None,
            user: opened.principal.unwrap_or_default(),
            info: None,
            conn_info: None,
            subs: Vec::new(),
            expires: None,
            renewal: Renewal::default(),
            caller: opened.caller,
            ping: time::Ping::default(),
            frame_pings: opened.frame_pings,
            farewell: None,
            waits: None,
            behinds: None,
            behind: Vec::new(),
        }
    }

    /// The rules as they are now.
    fn policy(&self) -> Arc<Policy> {
        self.shared.policy.load_full()
    }

    fn uid(&self) -> Uid {
        Uid::new(self.conn, self.shared.secret)
    }

    /// What others see of it.
    fn info(&mut self) -> Arc<ClientInfo> {
        if self.info.is_none() {
            let client = self.uid().to_string().into();
            let conn_info = self.conn_info.clone();
            let user = (&*self.user).into();
            self.info = Some(Arc::new(ClientInfo { user, client, conn_info, chan_info: None }));
        }
        self.info.clone().unwrap_or_default()
    }

    /// Does something in a turn that this message has caused, and says what came of it.
    fn turn(
        &mut self,
        request: Option<&RequestId>,
        now: Instant,
        actions: &mut Actions,
        act: impl FnOnce(&mut Self, &mut Turn<'_>),
    ) {
        let out = Out::new(self.wire, self.encoding);
        let trace = actions.sampled().cloned();
        let mut turn = Turn { actions, out, now, request, trace };
        act(self, &mut turn);
        turn.out.flush(turn.actions);
    }

    /// Handles the commands of one message.
    fn commands(&mut self, message: &[u8], turn: &mut Turn<'_>) {
        match self.carrier {
            Carrier::WebSocket | Carrier::Http | Carrier::Sse | Carrier::HttpStream => {
                for command in frame::split(self.encoding, message, &LIMITS) {
                    match command {
                        Ok(command) => self.command(command, turn),
                        Err(error) => self.malformed(&error, turn),
                    }
                }
            }
            // There the wire has found where a command begins and ends.
            Carrier::Lines | Carrier::Length => self.command(message, turn),
        }
    }

    fn command(&mut self, bytes: &[u8], turn: &mut Turn<'_>) {
        match self.state {
            State::Connecting if self.behind.len() >= BEHIND_MAX => {
                self.end(DisconnectCode::TooManyRequests, turn);
            }
            State::Connecting => self.behind.push(bytes.into()),
            State::Over => {}
            State::Refused => self.end(DisconnectCode::BadRequest, turn),
            State::Fresh | State::Connected => {
                match Command::decode(self.encoding, bytes, &LIMITS) {
                    Ok(command) => self.in_its_turn(&command, bytes, turn),
                    Err(error) => self.malformed(&error, turn),
                }
            }
        }
    }

    /// Handles a command, unless an earlier one of its channel waits for a backend.
    fn in_its_turn(&mut self, command: &Command<'_>, bytes: &[u8], turn: &mut Turn<'_>) {
        if let (Some(waits), Some(channel)) = (&mut self.waits, channel_of(&command.request))
            && waits.is_busy(channel)
        {
            if !waits.stay_behind(channel, bytes) {
                self.fail(command.id, ErrorCode::TooManyRequests, turn);
            }
            return;
        }
        self.request(command, turn);
    }

    fn request(&mut self, command: &Command<'_>, turn: &mut Turn<'_>) {
        let id = command.id;
        match (&command.request, self.state) {
            (Request::Connect(request), State::Fresh) => self.connect(id, request, turn),
            // The first command is `connect`, and no other one is.
            (Request::Connect(_), _) | (_, State::Fresh) => {
                self.end(DisconnectCode::BadRequest, turn);
            }
            (Request::Pong, _) => self.pong(turn),
            (Request::Subscribe(request), _) => self.subscribe(id, request, turn),
            (Request::Unsubscribe(request), _) => self.unsubscribe(id, &request.channel, turn),
            (Request::Publish(request), _) => self.publish(id, request, turn),
            (Request::Presence(request), _) => self.presence(id, &request.channel, turn),
            (Request::PresenceStats(request), _) => self.presence_stats(id, &request.channel, turn),
            (Request::History(request), _) => self.history(id, request, turn),
            (Request::Rpc(request), _) => self.rpc(id, request, turn),
            (Request::Send(_), _) => self.end(DisconnectCode::NotAvailable, turn),
            (Request::Refresh(request), _) => self.refresh(id, request, turn),
            (Request::SubRefresh(request), _) => self.sub_refresh(id, request, turn),
            (Request::Ping(_), _) => self.end(DisconnectCode::BadRequest, turn),
        }
    }

    /// Answers a command.
    fn reply(&mut self, reply: &Reply<'_>, turn: &mut Turn<'_>) {
        if let Err(error) = turn.out.reply(reply) {
            tracing::debug!(conn = %self.conn, %error, "a reply has no form");
            self.end(error.into(), turn);
        }
    }

    /// Answers a command with an error.
    fn fail(&mut self, id: u32, why: impl Into<Failure>, turn: &mut Turn<'_>) {
        let why = why.into();
        self.shared.metrics.error(why.code());
        self.fail_with(id, why.into(), turn);
    }

    /// Answers a command with any error, which is counted already.
    fn fail_with(&mut self, id: u32, error: reply::Error<'_>, turn: &mut Turn<'_>) {
        if id == 0 {
            // Nobody has asked, so nobody is told.
            return;
        }
        self.reply(&Reply::error(id, error), turn);
        if self.state == State::Connecting {
            self.state = State::Refused;
            turn.actions.hold(false);
            if !std::mem::take(&mut self.behind).is_empty() {
                self.end(DisconnectCode::BadRequest, turn);
            }
        }
    }

    /// Pushes something of a channel.
    fn push(&mut self, channel: &str, event: Event<'_>, turn: &mut Turn<'_>) {
        self.reply(&Reply::push(Push { id: 0, channel: channel.into(), event }), turn);
    }

    fn malformed(&mut self, error: &DecodeError, turn: &mut Turn<'_>) {
        tracing::debug!(conn = %self.conn, %error, "a command cannot be read");
        self.end(error.into(), turn);
    }

    /// Ends the connection with a code of the protocol. The first one stands.
    fn end(&mut self, code: DisconnectCode, turn: &mut Turn<'_>) {
        if self.farewell.is_none() {
            self.shared.metrics.disconnect(Some(code));
        }
        self.end_with(code.number() as u16, code.text().into(), turn);
    }

    /// Ends the connection with any code. The first one stands.
    fn end_with(&mut self, code: u16, reason: Cow<'static, str>, turn: &mut Turn<'_>) {
        if self.farewell.is_some() {
            return;
        }
        self.farewell = Some(Box::new((code, reason)));
        self.state = State::Over;
        self.behind = Vec::new();
        turn.out.flush(turn.actions);
        turn.actions.close(CloseReason::Disconnected);
    }
}

impl Session for Client {
    fn on_open(&mut self, now: Instant, actions: &mut Actions) {
        self.turn(None, now, actions, |client, turn| client.opened(turn));
    }

    fn on_wire(&mut self, wire: SiteWire) {
        (self.wire, self.carrier, self.encoding) = (wire, Carrier::Length, Encoding::Protobuf);
        self.form = Form::of(wire, self.encoding).unwrap_or(Form::Protobuf);
    }

    fn pings(&self) -> Option<Pings> {
        self.frame_pings.then_some(time::FRAME_PINGS)
    }

    fn on_message(
        &mut self,
        message: Message<'_>,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        let request = Some(request);
        self.turn(request, now, actions, |client, turn| client.commands(message.payload, turn));
    }

    fn on_answer(
        &mut self,
        ticket: Ticket,
        _answer: Answer,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        let Some(then) = self.waits.as_mut().and_then(|waits| waits.take(ticket)) else { return };
        self.turn(Some(request), now, actions, |client, turn| {
            if client.state != State::Over {
                then(client, turn);
            }
        });
    }

    fn on_time(&mut self, now: Instant, actions: &mut Actions) {
        self.turn(None, now, actions, |client, turn| client.time(turn));
    }

    fn on_note(&mut self, note: Note, now: Instant, actions: &mut Actions) {
        if let Ok(told) = note.downcast::<Told>() {
            self.turn(None, now, actions, |client, turn| client.told(*told, turn));
        }
    }

    fn on_room(&mut self, now: Instant, actions: &mut Actions) {
        self.turn(None, now, actions, |client, turn| client.catch_up(turn));
    }

    fn on_close(&mut self, reason: CloseReason, now: Instant, actions: &mut Actions) {
        self.turn(None, now, actions, |client, turn| {
            client.tell_gone(reason, turn);
            client.leave(turn);
        });
    }

    fn goodbye(&self, reason: CloseReason) -> Goodbye {
        let (code, text) = match (&self.farewell, reason) {
            (Some(farewell), CloseReason::Disconnected) => (farewell.0, farewell.1.clone()),
            _ => {
                let Some(code) = disconnect_code(reason) else { return Goodbye::Usual };
                (code.number() as u16, code.text().into())
            }
        };
        if self.wire == SiteWire::WebSocket {
            return Goodbye::Close(code, Cow::Owned(close_reason(&text).into_owned()));
        }
        self.disconnect_push(code, text)
    }
}

impl Client {
    /// Where no close frame can say it, a push does (protocol, section 3).
    fn disconnect_push(&self, code: u16, reason: Cow<'_, str>) -> Goodbye {
        let reconnect = reconnects(u32::from(code));
        let event =
            Event::Disconnect(push::Disconnect { code: u32::from(code), reason, reconnect });
        let reply = Reply::push(Push { id: 0, channel: "".into(), event });
        let mut bytes = Vec::new();
        if reply.encode(self.encoding, &mut bytes).is_err() {
            return Goodbye::Usual;
        }
        match self.encoding {
            Encoding::Json => Goodbye::Message(bytes.into(), MessageKind::Text),
            Encoding::Protobuf => {
                let bytes = crate::hub::without_length(self.wire, &bytes).to_vec();
                Goodbye::Message(bytes.into(), MessageKind::Binary)
            }
        }
    }
}

/// The channel that a command is about; its place among others of that channel matters.
fn channel_of<'a>(request: &'a Request<'_>) -> Option<&'a str> {
    match request {
        Request::Subscribe(request) => Some(&request.channel),
        Request::Unsubscribe(request) => Some(&request.channel),
        Request::Publish(request) => Some(&request.channel),
        Request::SubRefresh(request) => Some(&request.channel),
        Request::Presence(request) => Some(&request.channel),
        Request::PresenceStats(request) => Some(&request.channel),
        Request::History(request) => Some(&request.channel),
        Request::Pong
        | Request::Connect(_)
        | Request::Rpc(_)
        | Request::Send(_)
        | Request::Refresh(_)
        | Request::Ping(_) => None,
    }
}

/// The protocol's code for an end that the connection, not its session, has decided. `None`: the
/// wire's own code says it.
fn disconnect_code(reason: CloseReason) -> Option<DisconnectCode> {
    match reason {
        CloseReason::Drained | CloseReason::Aged | CloseReason::Forced => {
            Some(DisconnectCode::Shutdown)
        }
        CloseReason::SlowConsumer | CloseReason::WriteTimeout | CloseReason::Overload => {
            Some(DisconnectCode::Slow)
        }
        CloseReason::PongTimeout | CloseReason::IdleTimeout => Some(DisconnectCode::NoPong),
        CloseReason::TokenExpired => Some(DisconnectCode::Expired),
        CloseReason::InternalError => Some(DisconnectCode::ServerError),
        CloseReason::HandshakeTimeout
        | CloseReason::TlsFailed
        | CloseReason::Refused
        | CloseReason::HeaderTimeout
        | CloseReason::BadRequest
        | CloseReason::Unauthorized
        | CloseReason::PeerClosed
        | CloseReason::PeerReset
        | CloseReason::Exit
        | CloseReason::ProtocolError
        | CloseReason::UnsupportedData
        | CloseReason::InvalidUtf8
        | CloseReason::MessageTooBig
        | CloseReason::ReadTimeout
        | CloseReason::Disconnected
        | CloseReason::Aborted => None,
    }
}
