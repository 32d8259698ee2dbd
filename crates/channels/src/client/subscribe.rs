//! `subscribe`, `unsubscribe` and `sub_refresh`: how a subscription begins, and how it ends (protocol,
//! sections 1.6 and 1.10).

use std::sync::Arc;

use weir_auth::Moment;

use super::connect::time_left;
use super::failure::Failure;
use super::time::PRESENCE_TTL;
use super::wanted::{Joined, Prepared, Renewal, Sub, Wanted};
use super::{Client, Turn};
use crate::broker::{Answer, BrokerError, ClientInfo, Notice, Subscribe, Subscribed};
use crate::hooks::Hook;
use crate::hub::{Dialect, Place, Subscription};
use crate::metrics::RecoveryOutcome;
use crate::namespace::{Access, Asked};
use crate::protocol::Reply;
use crate::protocol::codes::{DisconnectCode, ErrorCode, UnsubscribeCode};
use crate::protocol::command::{SubRefreshRequest, SubscribeRequest};
use crate::protocol::push::Event;
use crate::protocol::reply::{Body, SubRefreshResult, UnsubscribeResult};
use crate::tokens::{Bearer, Refusal, SubscriptionToken, SubscriptionUse};

impl Client {
    pub(super) fn subscribe(
        &mut self,
        id: u32,
        request: &SubscribeRequest<'_>,
        turn: &mut Turn<'_>,
    ) {
        if request.channel.is_empty() {
            return self.end(DisconnectCode::BadRequest, turn);
        }
        if request.kind != 0 {
            // Experimental types are not offered.
            return self.fail(id, ErrorCode::NotAvailable, turn);
        }
        if request.tf.is_some() {
            return self.fail(id, ErrorCode::BadRequest, turn);
        }
        let policy = self.policy();
        let channel = match policy.namespaces.resolve(&request.channel) {
            Ok(channel) => channel,
            Err(error) => return self.fail(id, error.code(), turn),
        };
        let wanted = Wanted {
            asked: Asked {
                positioned: request.positioned,
                recoverable: request.recoverable,
                join_leave: request.join_leave,
            },
            recover: request.recover.then(|| (request.offset, (&*request.epoch).into())),
            reject_unrecovered: request.flag & SubscribeRequest::REJECT_UNRECOVERED != 0,
            ..Wanted::default()
        };
        match channel.may_subscribe(&self.user, !request.token.is_empty()) {
            Access::Allowed => self.join(id, &request.channel, wanted, turn),
            Access::Denied(code) => self.fail(id, code, turn),
            Access::NeedsToken => self.join_by_token(id, request, wanted, turn),
            Access::AsksBackend => self.ask_to_join(id, request, wanted, turn),
        }
    }

    fn join_by_token(
        &mut self,
        id: u32,
        request: &SubscribeRequest<'_>,
        wanted: Wanted,
        turn: &mut Turn<'_>,
    ) {
        let policy = self.policy();
        let Some(tokens) = &policy.tokens else {
            return self.fail(id, ErrorCode::PermissionDenied, turn);
        };
        let client = self.uid().to_string();
        let bearer = Bearer { user: &self.user, client: &client };
        let shown = SubscriptionUse::Subscribe { channel: &request.channel };
        let checked = tokens.subscription(&request.token, bearer, shown, Moment::at(turn.now));
        if let Some(checked) = checked {
            return self.join_checked(id, &request.channel, checked, wanted, turn);
        }
        let (token, channel) = (request.token.clone().into_owned(), request.channel.to_string());
        let (user, name) = (Arc::clone(&self.user), channel.clone());
        let look = async move {
            let tokens = policy.tokens.as_ref()?;
            let bearer = Bearer { user: &user, client: &client };
            let shown = SubscriptionUse::Subscribe { channel: &channel };
            Some(tokens.subscription_later(&token, bearer, shown).await)
        };
        let then = move |client: &mut Self, found: Option<_>, turn: &mut Turn<'_>| match found {
            Some(checked) => client.join_checked(id, &name, checked, wanted, turn),
            None => client.fail(id, ErrorCode::Internal, turn),
        };
        self.later(id, look, then, turn);
    }

    fn join_checked(
        &mut self,
        id: u32,
        channel: &str,
        checked: Result<SubscriptionToken, Refusal>,
        wanted: Wanted,
        turn: &mut Turn<'_>,
    ) {
        match checked {
            Ok(token) => self.join(id, channel, wanted.granted(token), turn),
            Err(refusal) => self.refuse(id, refusal, turn),
        }
    }

    /// Subscribes the client, and answers its command.
    pub(super) fn join(&mut self, id: u32, channel: &str, wanted: Wanted, turn: &mut Turn<'_>) {
        let mut prepared = match self.prepare(channel, wanted, turn) {
            Ok(prepared) => prepared,
            Err(why) => return self.fail(id, why, turn),
        };
        let answer = self.ask_broker(&prepared, turn);
        let then = move |client: &mut Self, begins: Result<_, _>, turn: &mut Turn<'_>| match client
            .begin(&mut prepared, begins, turn)
        {
            Ok(joined) => {
                let body = Body::Subscribe(joined.result(turn.now));
                client.reply(&Reply { id, body }, turn);
                client.announce(&joined, turn);
                client.set_alarm(turn);
            }
            Err(why) => client.fail(id, why, turn),
        };
        self.settle(id, answer, then, turn);
    }

    /// Whether the connection may have one more subscription, and this one.
    pub(super) fn has_room(&self, channel: &str, turn: &mut Turn<'_>) -> Result<(), Failure> {
        if self.find(channel, turn).is_some() {
            return Err(ErrorCode::AlreadySubscribed.into());
        }
        let max = self.shared.policy.load().options.channels_max;
        if self.subs.len() >= max {
            return Err(Failure::ConnectionChannels { max });
        }
        Ok(())
    }

    /// Whether a subscription may be added, and what it will do. Its seat is taken from here on.
    pub(super) fn prepare(
        &mut self,
        channel: &str,
        wanted: Wanted,
        turn: &mut Turn<'_>,
    ) -> Result<Prepared, Failure> {
        let policy = self.policy();
        let resolved = policy.namespaces.resolve(channel).map_err(|error| error.code())?;
        self.has_room(channel, turn)?;
        let modes = resolved.modes(&self.user, wanted.asked, &wanted.grant.overrides);
        let counts = policy.counts(resolved.namespace());
        let asks = resolved.namespace().options().sub_refresh_hook;
        let renewal = Renewal::by_backend(asks && self.has_hook(Hook::SubRefresh));
        let options = resolved.namespace().options();
        let slow = options.slow.clone();
        let seat = Some(self.shared.seats.take(channel, options.subscribers_max)?);
        Ok(Prepared { channel: channel.into(), seat, wanted, modes, renewal, counts, slow })
    }

    /// Has the worker told of the channel from here on.
    pub(super) fn ask_broker(
        &mut self,
        prepared: &Prepared,
        turn: &mut Turn<'_>,
    ) -> Answer<Subscribed> {
        let policy = self.policy();
        let history = policy.namespaces.resolve(&prepared.channel).ok();
        let history = history.and_then(|channel| channel.namespace().options().history);
        let meta_ttl =
            history.filter(|_| prepared.modes.positioned).map(|options| options.meta_ttl);
        let recover = prepared.wanted.since().filter(|_| prepared.modes.recoverable);
        let subscribe = Subscribe { meta_ttl, recover };
        let inbox = Arc::clone(turn.hub().inbox());
        let answer = self.shared.broker.subscribe(&inbox, &prepared.channel, subscribe, turn.now);
        if let Answer::Later(_) = answer {
            turn.hub().expect(&prepared.channel);
            self.waits.get_or_insert_default().expect(&prepared.channel);
        }
        answer
    }

    /// The broker has said where the subscription begins.
    pub(super) fn begin(
        &mut self,
        prepared: &mut Prepared,
        begins: Result<Subscribed, BrokerError>,
        turn: &mut Turn<'_>,
    ) -> Result<Joined, Failure> {
        let waited = self.waits.as_mut().is_some_and(|waits| waits.forget(&prepared.channel));
        let begun = self.begin_in_hub(prepared, begins, turn);
        if waited {
            turn.hub().expected(&prepared.channel);
        }
        begun
    }

    fn begin_in_hub(
        &mut self,
        prepared: &mut Prepared,
        begins: Result<Subscribed, BrokerError>,
        turn: &mut Turn<'_>,
    ) -> Result<Joined, Failure> {
        let begins = begins?;
        let (Some(address), Some(seat)) = (self.address, prepared.seat.take()) else {
            return Err(ErrorCode::Internal.into());
        };
        // Another one may have come while this one was waited for.
        if self.find(&prepared.channel, turn).is_some() {
            return Err(ErrorCode::AlreadySubscribed.into());
        }
        let subscription = Subscription {
            address,
            dialect: Dialect::Protocol(self.form),
            modes: prepared.modes,
            counts: Arc::clone(&prepared.counts),
            slow: prepared.slow.clone(),
            offset: begins.position.map_or(0, |position| position.offset),
        };
        let place = turn.hub().add(&prepared.channel, &begins, subscription);
        let joined = Joined::new(prepared, begins);
        if let Some(recovered) = joined.recovered() {
            prepared.counts.recovery(match recovered {
                true => RecoveryOutcome::Recovered,
                false => RecoveryOutcome::Unrecovered,
            });
        }
        if prepared.wanted.reject_unrecovered && joined.is_unrecovered() {
            turn.forget(place);
            return Err(ErrorCode::UnrecoverablePosition.into());
        }
        let sub = Sub {
            place,
            seat,
            modes: prepared.modes,
            by_server: prepared.wanted.by_server,
            expires: prepared.wanted.expires,
            renewal: prepared.renewal,
            chan_info: prepared.wanted.grant.info.take(),
            counts: Arc::clone(&prepared.counts),
        };
        if let Err(error) = self.be_present(&prepared.channel, &sub, turn) {
            turn.forget(place);
            return Err(error.into());
        }
        sub.counts.subscriptions.inc();
        self.subs.push(sub);
        Ok(joined)
    }

    /// Says that the client is present where that is known. A broker that answers later may still
    /// refuse: then it is said again with the next refresh.
    fn be_present(
        &mut self,
        channel: &str,
        sub: &Sub,
        turn: &mut Turn<'_>,
    ) -> Result<(), BrokerError> {
        if !sub.modes.presence {
            return Ok(());
        }
        let info = self.info_in(sub);
        match self.shared.broker.keep_present(channel, &info, PRESENCE_TTL, turn.now) {
            Answer::Now(kept) => kept.map(|_| ()),
            later @ Answer::Later(_) => {
                self.settle(0, later, |_, _, _| {}, turn);
                Ok(())
            }
        }
    }

    /// Says again that the client is present in all channels where that is known.
    pub(super) fn keep_present(&mut self, turn: &mut Turn<'_>) {
        let subs = std::mem::take(&mut self.subs);
        for sub in &subs {
            let Some(channel) = turn.hub().name(sub.place).cloned() else { continue };
            if let Err(error) = self.be_present(&channel, sub, turn) {
                tracing::debug!(conn = %self.conn, %error, "presence is not kept");
            }
        }
        self.subs = subs;
    }

    /// What others see of the client in a channel.
    fn info_in(&mut self, sub: &Sub) -> Arc<ClientInfo> {
        let info = self.info();
        match &sub.chan_info {
            Some(_) => Arc::new(ClientInfo { chan_info: sub.chan_info.clone(), ..(*info).clone() }),
            None => info,
        }
    }

    /// Tells the channel that the client has come. Behind the answer, since the client is told too.
    pub(super) fn announce(&mut self, joined: &Joined, turn: &mut Turn<'_>) {
        if !joined.modes.announced {
            return;
        }
        let Some(at) = self.find(&joined.channel, turn) else { return };
        let info = self.info_with(at);
        let answer = self.shared.broker.announce(&joined.channel, Notice::Join(info), turn.now);
        self.settle(0, answer, |_, _, _| {}, turn);
    }

    fn info_with(&mut self, at: usize) -> Arc<ClientInfo> {
        let subs = std::mem::take(&mut self.subs);
        let info = self.info_in(&subs[at]);
        self.subs = subs;
        info
    }

    /// The subscription to a channel.
    pub(super) fn find(&self, channel: &str, turn: &mut Turn<'_>) -> Option<usize> {
        let found = turn.hub().find(channel)?;
        self.subs.iter().position(|sub| sub.place.is_of(found))
    }

    pub(super) fn at_place(&self, place: Place) -> Option<usize> {
        self.subs.iter().position(|sub| sub.place == place)
    }

    pub(super) fn unsubscribe(&mut self, id: u32, channel: &str, turn: &mut Turn<'_>) {
        if channel.is_empty() {
            return self.end(DisconnectCode::BadRequest, turn);
        }
        if let Some(at) = self.find(channel, turn) {
            self.remove(at, turn);
            self.tell_unsubscribed(channel, UnsubscribeCode::Client, turn.now);
        }
        self.reply(&Reply { id, body: Body::Unsubscribe(UnsubscribeResult {}) }, turn);
    }

    /// Ends a subscription and tells the client.
    pub(super) fn end_subscription(
        &mut self,
        at: usize,
        code: UnsubscribeCode,
        turn: &mut Turn<'_>,
    ) {
        if let Some(channel) = self.remove(at, turn) {
            self.push(&channel, Event::Unsubscribe(code.into()), turn);
            self.tell_unsubscribed(&channel, code, turn.now);
        }
    }

    /// Takes a subscription away, and tells the channel where that is wanted. Gives its channel.
    fn remove(&mut self, at: usize, turn: &mut Turn<'_>) -> Option<Arc<str>> {
        let sub = self.subs.swap_remove(at);
        sub.counts.subscriptions.dec();
        let channel = turn.hub().name(sub.place).cloned()?;
        self.forget_behind(sub.place);
        turn.forget(sub.place);
        let broker = Arc::clone(&self.shared.broker);
        if sub.modes.presence {
            let client = self.uid().to_string();
            let answer = broker.end_present(&channel, &client, turn.now);
            self.settle(0, answer, |_, _, _| {}, turn);
        }
        if sub.modes.announced {
            let info = self.info_in(&sub);
            let answer = broker.announce(&channel, Notice::Leave(info), turn.now);
            self.settle(0, answer, |_, _, _| {}, turn);
        }
        Some(channel)
    }

    /// The connection has ended: it is nowhere any more.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>) {
        while !self.subs.is_empty() {
            self.remove(self.subs.len() - 1, turn);
        }
        for channel in self.waits.take().map(|waits| waits.expected()).unwrap_or_default() {
            turn.hub().expected(&channel);
        }
        if let Some(address) = self.address.take() {
            let uid = self.uid();
            turn.hub().clients().leave(uid, &self.user, address);
            self.shared.metrics.clients().dec();
        }
    }

    pub(super) fn sub_refresh(
        &mut self,
        id: u32,
        request: &SubRefreshRequest<'_>,
        turn: &mut Turn<'_>,
    ) {
        if request.kind != 0 {
            return self.fail(id, ErrorCode::NotAvailable, turn);
        }
        if !request.channel.is_empty() {
            let Some(at) = self.find(&request.channel, turn) else {
                return self.fail(id, ErrorCode::PermissionDenied, turn);
            };
            if self.subs[at].renewal != Renewal::Client || self.subs[at].by_server {
                return self.end(DisconnectCode::BadRequest, turn);
            }
        }
        let policy = self.policy();
        let Some(tokens) = policy.tokens.as_ref().filter(|_| !request.token.is_empty()) else {
            return self.fail(id, ErrorCode::BadRequest, turn);
        };
        let client = self.uid().to_string();
        let bearer = Bearer { user: &self.user, client: &client };
        // Some SDKs leave the channel to the token (protocol, section 1.16).
        let channel = Some(&*request.channel).filter(|channel| !channel.is_empty());
        let shown = SubscriptionUse::Refresh { channel };
        let checked = tokens.subscription(&request.token, bearer, shown, Moment::at(turn.now));
        if let Some(checked) = checked {
            return self.sub_refreshed(id, checked, turn);
        }
        let (token, channel) = (request.token.clone().into_owned(), channel.map(str::to_owned));
        let user = Arc::clone(&self.user);
        let look = async move {
            let tokens = policy.tokens.as_ref()?;
            let bearer = Bearer { user: &user, client: &client };
            let shown = SubscriptionUse::Refresh { channel: channel.as_deref() };
            Some(tokens.subscription_later(&token, bearer, shown).await)
        };
        let then = move |client: &mut Self, found: Option<_>, turn: &mut Turn<'_>| match found {
            Some(checked) => client.sub_refreshed(id, checked, turn),
            None => client.fail(id, ErrorCode::Internal, turn),
        };
        self.later(id, look, then, turn);
    }

    fn sub_refreshed(
        &mut self,
        id: u32,
        checked: Result<SubscriptionToken, Refusal>,
        turn: &mut Turn<'_>,
    ) {
        let token = match checked {
            Ok(token) => token,
            Err(refusal) => return self.refuse(id, refusal, turn),
        };
        let Some(at) = self.find(&token.channel, turn) else {
            return self.fail(id, ErrorCode::PermissionDenied, turn);
        };
        if self.subs[at].renewal != Renewal::Client || self.subs[at].by_server {
            return self.end(DisconnectCode::BadRequest, turn);
        }
        self.subs[at].expires = token.expires;
        let (expires, ttl) = time_left(token.expires, turn.now);
        let result = SubRefreshResult { expires, ttl, ..SubRefreshResult::default() };
        self.reply(&Reply { id, body: Body::SubRefresh(result) }, turn);
        self.set_alarm(turn);
    }
}
