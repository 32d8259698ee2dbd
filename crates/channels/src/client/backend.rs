//! Where the backend decides in a session: who a client is, whether it stays, and what it may do in a
//! channel (protocol, sections 1.5, 1.6, 1.9 and 1.10).

use std::time::{Duration, Instant};

use weir_auth::Moment;

use super::connect::Positions;
use super::publish::New;
use super::wanted::{Renewal, Wanted};
use super::{Client, Turn};
use crate::hooks::Hook;
use crate::hooks::answer::{
    ConnectAnswer, Declined, PublishAnswer, RefreshAnswer, SubscribeAnswer,
};
use crate::hooks::request::Asked;
use crate::protocol::codes::{DisconnectCode, ErrorCode};
use crate::protocol::command::{ConnectRequest, PublishRequest, SubscribeRequest};
use crate::tokens::ConnectionToken;
use crate::tokens::claims::expires;

/// How much longer something stays that the backend could not be asked about.
const RENEWAL_RETRY: Duration = Duration::from_secs(60);

/// The time of something is over already.
struct Over;

/// When something ends, by what a backend says of it.
fn end(expire_at: f64, now: Instant) -> Result<Option<Instant>, Over> {
    expires(Some(expire_at), None, Moment::at(now)).map_err(|_| Over)
}

impl Client {
    /// Asks who a client is that has no token.
    pub(super) fn ask_who(
        &mut self,
        id: u32,
        request: &ConnectRequest<'_>,
        positions: Positions,
        turn: &mut Turn<'_>,
    ) {
        // What comes behind waits where it is.
        turn.actions.hold(true);
        let asked = Asked {
            name: Some(&request.name),
            version: Some(&request.version),
            channels: request.subs.0.iter().map(|(channel, _)| &**channel).collect(),
            data: request.data,
            ..Asked::default()
        };
        let then = move |client: &mut Self,
                         answer: Result<Option<ConnectAnswer>, _>,
                         turn: &mut Turn<'_>| match answer {
            Ok(Some(answer)) => client.is_known(id, answer, &positions, turn),
            Ok(None) => client.connect_without_token(id, &positions, turn),
            Err(declined) => client.decline(id, declined, turn),
        };
        if !self.ask_backend(Hook::Connect, &asked, then, turn) {
            self.fail(id, ErrorCode::TooManyRequests, turn);
        }
    }

    fn is_known(
        &mut self,
        id: u32,
        answer: ConnectAnswer,
        positions: &Positions,
        turn: &mut Turn<'_>,
    ) {
        let Ok(expires) = end(answer.expire_at, turn.now) else {
            return self.fail(id, ErrorCode::Expired, turn);
        };
        // Whom the door of the route has let in stays that, unless the backend names somebody.
        let user = match &*answer.user {
            "" => self.user.clone(),
            named => named.into(),
        };
        let ConnectAnswer { info, data, meta, subs, .. } = answer;
        let token = ConnectionToken { user, expires, info, data, meta, subs };
        self.enter(id, Some(token), positions, turn);
    }

    /// The connection's time is over: asks whether it may stay. It is asked once at a time.
    pub(super) fn ask_to_stay(&mut self, turn: &mut Turn<'_>) {
        if !self.has_hook(Hook::Refresh) {
            // Nobody answers any more.
            self.renewal = Renewal::Client;
            return;
        }
        let then = |client: &mut Self, answer: Result<RefreshAnswer, _>, turn: &mut Turn<'_>| {
            client.renewal = Renewal::Backend;
            client.stays(answer, turn);
        };
        if self.ask_backend(Hook::Refresh, &Asked::default(), then, turn) {
            self.renewal = Renewal::Asked;
        }
    }

    fn stays(&mut self, answer: Result<RefreshAnswer, Declined>, turn: &mut Turn<'_>) {
        match answer {
            Err(Declined::Disconnect(code, reason)) => {
                return self.end_by_backend(code, reason, turn);
            }
            Err(Declined::Error(_) | Declined::Failed) => {
                self.expires = Some(turn.now + RENEWAL_RETRY);
            }
            Ok(answer) => {
                let (false, Ok(expires)) = (answer.expired, end(answer.expire_at, turn.now)) else {
                    return self.end(DisconnectCode::Expired, turn);
                };
                self.expires = expires;
                if answer.info.is_some() {
                    self.conn_info = answer.info;
                    self.info = None;
                }
                if let (Some(caller), Some(meta)) = (&mut self.caller, answer.meta) {
                    caller.meta = Some(meta);
                }
            }
        }
        self.set_alarm(turn);
    }

    /// Asks whether a client may subscribe.
    pub(super) fn ask_to_join(
        &mut self,
        id: u32,
        request: &SubscribeRequest<'_>,
        wanted: Wanted,
        turn: &mut Turn<'_>,
    ) {
        if !self.has_hook(Hook::Subscribe) {
            return self.fail(id, ErrorCode::NotAvailable, turn);
        }
        let channel: Box<str> = (&*request.channel).into();
        if let Err(why) = self.has_room(&channel, turn) {
            return self.fail(id, why, turn);
        }
        let asked =
            Asked { channel: Some(&request.channel), data: request.data, ..Asked::default() };
        let name = channel.clone();
        let then = move |client: &mut Self, answer: Result<_, _>, turn: &mut Turn<'_>| {
            client.may_join(id, &channel, wanted, answer, turn);
            client.release_channel(&channel, turn);
        };
        if self.ask_backend(Hook::Subscribe, &asked, then, turn) {
            self.hold_channel(&name);
        } else {
            self.fail(id, ErrorCode::TooManyRequests, turn);
        }
    }

    fn may_join(
        &mut self,
        id: u32,
        channel: &str,
        mut wanted: Wanted,
        answer: Result<SubscribeAnswer, Declined>,
        turn: &mut Turn<'_>,
    ) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(declined) => return self.decline(id, declined, turn),
        };
        let Ok(expires) = end(answer.expire_at, turn.now) else {
            return self.fail(id, ErrorCode::Expired, turn);
        };
        wanted.grant = answer.grant;
        wanted.expires = expires;
        self.join(id, channel, wanted, turn);
    }

    /// A subscription's time is over: asks whether it may stay. It is asked once at a time.
    pub(super) fn ask_to_stay_in(&mut self, at: usize, turn: &mut Turn<'_>) {
        let place = self.subs[at].place;
        let Some(channel) = turn.hub().name(place).cloned() else { return };
        if !self.has_hook(Hook::SubRefresh) {
            self.subs[at].renewal = Renewal::Client;
            return;
        }
        let asked = Asked { channel: Some(&channel), ..Asked::default() };
        let name = channel.clone();
        let then = move |client: &mut Self, answer: Result<_, _>, turn: &mut Turn<'_>| {
            // It may have ended, and another one may have begun.
            let found = client.find(&name, turn);
            let found = found.filter(|at| client.subs[*at].renewal == Renewal::Asked);
            if let Some(at) = found {
                client.subs[at].renewal = Renewal::Backend;
                client.stays_in(at, answer, turn);
            }
        };
        if self.ask_backend(Hook::SubRefresh, &asked, then, turn) {
            self.subs[at].renewal = Renewal::Asked;
        }
    }

    fn stays_in(
        &mut self,
        at: usize,
        answer: Result<RefreshAnswer, Declined>,
        turn: &mut Turn<'_>,
    ) {
        match answer {
            Err(Declined::Disconnect(code, reason)) => {
                return self.end_by_backend(code, reason, turn);
            }
            Err(Declined::Error(_) | Declined::Failed) => {
                self.subs[at].expires = Some(turn.now + RENEWAL_RETRY);
            }
            Ok(answer) => match (answer.expired, end(answer.expire_at, turn.now)) {
                (false, Ok(expires)) => {
                    self.subs[at].expires = expires;
                    if answer.info.is_some() {
                        self.subs[at].chan_info = answer.info;
                    }
                }
                (true, _) | (false, Err(Over)) => self.end_expired_one(at, turn),
            },
        }
        self.set_alarm(turn);
    }

    /// Asks whether a client may publish, and what.
    pub(super) fn ask_to_publish(
        &mut self,
        id: u32,
        request: &PublishRequest<'_>,
        turn: &mut Turn<'_>,
    ) {
        if !self.has_hook(Hook::Publish) {
            return self.fail(id, ErrorCode::NotAvailable, turn);
        }
        let (channel, data): (Box<str>, Box<[u8]>) =
            ((&*request.channel).into(), request.data.bytes().into());
        let asked =
            Asked { channel: Some(&request.channel), data: request.data, ..Asked::default() };
        let name = channel.clone();
        let then =
            move |client: &mut Self, answer: Result<PublishAnswer, _>, turn: &mut Turn<'_>| {
                match answer {
                    Ok(answer) => {
                        let (own, skip_history) = (answer.data, answer.skip_history);
                        let data = own.as_deref().unwrap_or(&data);
                        client.put(id, &channel, New { data, skip_history }, turn);
                    }
                    Err(declined) => client.decline(id, declined, turn),
                }
                client.release_channel(&channel, turn);
            };
        if self.ask_backend(Hook::Publish, &asked, then, turn) {
            self.hold_channel(&name);
        } else {
            self.fail(id, ErrorCode::TooManyRequests, turn);
        }
    }
}
