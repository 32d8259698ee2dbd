//! `connect` and `refresh`: who the client is, and for how long (protocol, sections 1.5 and 1.10).

use std::collections::VecDeque;
use std::time::{Instant, UNIX_EPOCH};

use weir_auth::Moment;
use weir_core::service::Carrier;

use super::failure::Failure;
use super::wanted::{Joined, Renewal, Wanted};
use super::{Client, State, Turn};
use crate::broker::Answer;
use crate::hooks::Hook;
use crate::protocol::codes::{DisconnectCode, ErrorCode};
use crate::protocol::command::{ConnectRequest, RefreshRequest};
use crate::protocol::reply::{Body, ConnectResult, RefreshResult};
use crate::protocol::{Map, Payload, Reply};
use crate::tokens::Grant;
use crate::tokens::{ConnectionToken, ConnectionUse, Refusal, Verdict};

/// What weir calls itself to clients.
const VERSION: &str = concat!("weir ", env!("CARGO_PKG_VERSION"));

/// Where a client says that it was in its server-side subscriptions: channel, offset, epoch.
pub(super) type Positions = Vec<(Box<str>, u64, Box<str>)>;

/// A client that is let in, on its way to its answer.
struct Entering {
    id: u32,
    token: Option<ConnectionToken>,
    /// Server-side subscriptions that have not begun.
    wanted: VecDeque<(Box<str>, Wanted)>,
    /// Those that have.
    joined: Vec<Joined>,
}

impl Client {
    /// The connection is open: it has so long until it must have connected.
    pub(super) fn opened(&mut self, turn: &mut Turn<'_>) {
        turn.actions.wake_at(Some(turn.now + self.policy().options.connect_timeout));
    }

    pub(super) fn connect(&mut self, id: u32, request: &ConnectRequest<'_>, turn: &mut Turn<'_>) {
        self.state = State::Connecting;
        let recovering = request.subs.0.iter().filter(|(_, sub)| sub.recover);
        let positions: Positions = recovering
            .map(|(channel, sub)| ((&**channel).into(), sub.offset, (&*sub.epoch).into()))
            .collect();
        let policy = self.policy();
        if let (Some(hooks), Some(caller)) = (&policy.hooks, &mut self.caller) {
            caller.emulate(&request.headers, hooks.options());
        }
        if request.token.is_empty() {
            return match self.has_hook(Hook::Connect) {
                true => self.ask_who(id, request, positions, turn),
                false => self.connect_without_token(id, &positions, turn),
            };
        }
        let Some(tokens) = &policy.tokens else {
            return self.end(DisconnectCode::InvalidToken, turn);
        };
        let at = Moment::at(turn.now);
        if let Some(checked) = tokens.connection(&request.token, ConnectionUse::Connect, at) {
            return self.checked(id, checked, &positions, turn);
        }
        // What comes behind waits where it is.
        turn.actions.hold(true);
        let token = request.token.clone().into_owned();
        let look = async move {
            let tokens = policy.tokens.as_ref()?;
            Some(tokens.connection_later(&token, ConnectionUse::Connect).await)
        };
        let then = move |client: &mut Self, found: Option<_>, turn: &mut Turn<'_>| match found {
            Some(found) => client.checked(id, found, &positions, turn),
            None => client.fail(id, ErrorCode::Internal, turn),
        };
        self.later(id, look, then, turn);
    }

    /// The client has nothing to show.
    pub(super) fn connect_without_token(
        &mut self,
        id: u32,
        positions: &Positions,
        turn: &mut Turn<'_>,
    ) {
        let known = !self.user.is_empty();
        match known || self.policy().namespaces.may_connect_without_token() {
            true => self.enter(id, None, positions, turn),
            false => self.end(DisconnectCode::BadRequest, turn),
        }
    }

    fn checked(
        &mut self,
        id: u32,
        checked: Result<ConnectionToken, Refusal>,
        positions: &Positions,
        turn: &mut Turn<'_>,
    ) {
        match checked {
            Ok(token) => self.enter(id, Some(token), positions, turn),
            Err(refusal) => self.refuse(id, refusal, turn),
        }
    }

    /// Does what the protocol does about a token that is not taken.
    pub(super) fn refuse(&mut self, id: u32, refusal: Refusal, turn: &mut Turn<'_>) {
        match refusal.verdict() {
            Verdict::Error(code) => self.fail(id, code, turn),
            Verdict::Disconnect(code) => self.end(code, turn),
        }
    }

    /// The client is in.
    pub(super) fn enter(
        &mut self,
        id: u32,
        mut token: Option<ConnectionToken>,
        positions: &Positions,
        turn: &mut Turn<'_>,
    ) {
        let Some(address) = turn.actions.address() else {
            return self.end(DisconnectCode::ServerError, turn);
        };
        if let Some(token) = &mut token {
            self.user = token.user.clone();
            self.conn_info = token.info.take();
            self.expires = token.expires;
            self.renewal = Renewal::by_backend(self.has_hook(Hook::Refresh));
            if let Some(caller) = &mut self.caller {
                caller.meta = token.meta.take();
            }
        }
        self.address = Some(address);
        let uid = self.uid();
        turn.hub().clients().enter(uid, &self.user, address);
        self.shared.metrics.clients().inc();

        let subs = token.as_mut().map(|token| std::mem::take(&mut token.subs));
        let mut subs = subs.unwrap_or_default();
        if let Some(personal) = self.policy().namespaces.personal_channel(&self.user) {
            subs.entry(personal).or_default();
        }
        let wanted = subs.into_iter().map(|(channel, grant): (Box<str>, Grant)| {
            let since = positions.iter().find(|(name, ..)| *name == channel);
            let recover = since.map(|(_, offset, epoch)| (*offset, epoch.clone()));
            (channel, Wanted::by_server(grant, recover))
        });
        let entering = Entering { id, token, wanted: wanted.collect(), joined: Vec::new() };
        self.join_granted(entering, turn);
    }

    /// Begins the subscriptions that the token gives, one after the other, and then answers.
    fn join_granted(&mut self, mut entering: Entering, turn: &mut Turn<'_>) {
        let Some((channel, wanted)) = entering.wanted.pop_front() else {
            return self.entered(&entering, turn);
        };
        let mut prepared = match self.prepare(&channel, wanted, turn) {
            Ok(prepared) => prepared,
            Err(why) => return self.turn_away(entering.id, why, turn),
        };
        let answer = self.ask_broker(&prepared, turn);
        if let Answer::Later(_) = answer {
            turn.actions.hold(true);
        }
        let id = entering.id;
        let then = move |client: &mut Self, begins: Result<_, _>, turn: &mut Turn<'_>| match client
            .begin(&mut prepared, begins, turn)
        {
            Ok(joined) => {
                entering.joined.push(joined);
                client.join_granted(entering, turn);
            }
            Err(why) => client.turn_away(id, why, turn),
        };
        self.settle(id, answer, then, turn);
    }

    fn entered(&mut self, entering: &Entering, turn: &mut Turn<'_>) {
        self.state = State::Connected;
        self.welcome(entering.id, entering.token.as_ref(), &entering.joined, turn);
        for joined in &entering.joined {
            self.announce(joined, turn);
        }
        self.start_pings(turn);
        turn.actions.hold(false);
        for command in std::mem::take(&mut self.behind) {
            self.command(&command, turn);
        }
    }

    /// A connect that failed after the client was let in.
    fn turn_away(&mut self, id: u32, why: Failure, turn: &mut Turn<'_>) {
        self.leave(turn);
        self.fail(id, why, turn);
    }

    fn welcome(
        &mut self,
        id: u32,
        token: Option<&ConnectionToken>,
        joined: &[Joined],
        turn: &mut Turn<'_>,
    ) {
        let policy = self.policy();
        let client = self.uid().to_string();
        let (expires, ttl) = time_left(self.renewal.told(self.expires), turn.now);
        let now = turn.now;
        let subs = joined.iter().map(|one| ((&*one.channel).into(), one.result(now)));
        let ping = self.ping_interval().map_or(0, |interval| interval.as_secs() as u32);
        // Only where commands cannot come the way that replies go.
        let (session, node) = match self.carrier {
            Carrier::Sse | Carrier::HttpStream => {
                (self.shared.session_key(self.conn), self.shared.node())
            }
            Carrier::Lines | Carrier::Length | Carrier::WebSocket | Carrier::Http => <_>::default(),
        };
        let result = ConnectResult {
            client: client.into(),
            version: VERSION.into(),
            expires,
            ttl,
            data: Payload::new(token.and_then(|token| token.data.as_deref()).unwrap_or_default()),
            subs: Map(subs.collect()),
            ping,
            pong: ping > 0,
            session: session.into(),
            node: node.into(),
            time: if policy.options.includes_time { milliseconds(turn.now) } else { 0 },
            ..ConnectResult::default()
        };
        self.reply(&Reply { id, body: Body::Connect(result) }, turn);
    }

    pub(super) fn refresh(&mut self, id: u32, request: &RefreshRequest<'_>, turn: &mut Turn<'_>) {
        let policy = self.policy();
        let by_client = !request.token.is_empty() && self.renewal == Renewal::Client;
        let Some(tokens) = policy.tokens.as_ref().filter(|_| by_client) else {
            return self.end(DisconnectCode::BadRequest, turn);
        };
        let shown = ConnectionUse::Refresh { user: &self.user };
        if let Some(checked) = tokens.connection(&request.token, shown, Moment::at(turn.now)) {
            return self.refreshed(id, checked, turn);
        }
        let (token, user) = (request.token.clone().into_owned(), self.user.clone());
        let look = async move {
            let tokens = policy.tokens.as_ref()?;
            Some(tokens.connection_later(&token, ConnectionUse::Refresh { user: &user }).await)
        };
        let then = move |client: &mut Self, found: Option<_>, turn: &mut Turn<'_>| match found {
            Some(found) => client.refreshed(id, found, turn),
            None => client.fail(id, ErrorCode::Internal, turn),
        };
        self.later(id, look, then, turn);
    }

    fn refreshed(
        &mut self,
        id: u32,
        checked: Result<ConnectionToken, Refusal>,
        turn: &mut Turn<'_>,
    ) {
        let mut token = match checked {
            Ok(token) => token,
            Err(refusal) => return self.refuse(id, refusal, turn),
        };
        self.expires = token.expires;
        if let (Some(caller), Some(meta)) = (&mut self.caller, token.meta.take()) {
            caller.meta = Some(meta);
        }
        if token.info.is_some() {
            self.conn_info = token.info;
            self.info = None;
        }
        let (expires, ttl) = time_left(self.expires, turn.now);
        let client = self.uid().to_string().into();
        let result = RefreshResult { client, version: VERSION.into(), expires, ttl };
        self.reply(&Reply { id, body: Body::Refresh(result) }, turn);
        self.set_alarm(turn);
    }
}

/// The time of day, in milliseconds since 1970.
fn milliseconds(now: Instant) -> i64 {
    let since = Moment::at(now).wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Whether something ends, and in how many seconds: at least one, since none would be now.
pub(super) fn time_left(expires: Option<Instant>, now: Instant) -> (bool, u32) {
    match expires {
        Some(at) => {
            let left = at.saturating_duration_since(now).as_secs();
            (true, u32::try_from(left).unwrap_or(u32::MAX).max(1))
        }
        None => (false, 0),
    }
}
