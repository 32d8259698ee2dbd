//! What the hub tells a session: holes in streams, and what backends want done.

use std::sync::Arc;

use super::connect::time_left;
use super::failure::Failure;
use super::wanted::Wanted;
use super::{Client, State, Turn};
use crate::hub::orders::{ForClient, NewSubscription};
use crate::hub::{Place, Told};
use crate::protocol::codes::{DisconnectCode, UnsubscribeCode};
use crate::protocol::push::{Event, Refresh, Subscribe};
use crate::tokens::Grant;

impl Client {
    pub(super) fn told(&mut self, told: Told, turn: &mut Turn<'_>) {
        if self.state != State::Connected {
            return;
        }
        match told {
            Told::Insufficient(place) => self.insufficient(place, turn),
            Told::Behind(place, position) => self.fall_behind(place, position, turn),
            Told::NotJson => self.end(DisconnectCode::InappropriateProtocol, turn),
            Told::Order(order) => self.obey(order, turn),
        }
    }

    /// What comes next for a subscription is not there: the client is told, so that it comes back and
    /// learns what there is.
    pub(super) fn insufficient(&mut self, place: Place, turn: &mut Turn<'_>) {
        let Some(at) = self.at_place(place) else { return };
        if self.subs[at].by_server {
            return self.end(DisconnectCode::InsufficientState, turn);
        }
        self.end_subscription(at, UnsubscribeCode::InsufficientState, turn);
    }

    fn obey(&mut self, order: ForClient, turn: &mut Turn<'_>) {
        match order {
            ForClient::Commands { frame, trace } => {
                turn.trace = trace;
                self.commands(&frame, turn);
            }
            ForClient::Subscribe(new) => self.join_for_backend(&new, turn),
            ForClient::Unsubscribe { channel: Some(channel) } => {
                if let Some(at) = self.find(&channel, turn) {
                    self.end_subscription(at, UnsubscribeCode::Server, turn);
                }
            }
            ForClient::Unsubscribe { channel: None } => {
                while !self.subs.is_empty() {
                    self.end_subscription(self.subs.len() - 1, UnsubscribeCode::Server, turn);
                }
            }
            ForClient::Disconnect { code, reason, except } => {
                if !except.contains(&self.uid()) {
                    self.shared.metrics.disconnect(None);
                    self.end_with(code, reason.to_string().into(), turn);
                }
            }
            ForClient::Refresh { expired: true, .. } => self.end(DisconnectCode::Expired, turn),
            ForClient::Refresh { expired: false, ttl, info } => {
                self.expires = ttl.map(|ttl| turn.now + ttl);
                if let Some(info) = info {
                    self.conn_info = Some((&*info).into());
                    self.info = None;
                }
                let (expires, ttl) = time_left(self.renewal.told(self.expires), turn.now);
                self.push("", Event::Refresh(Refresh { expires, ttl }), turn);
                self.set_alarm(turn);
            }
        }
    }

    /// A server-side subscription that a backend makes. One that is there already stays as it is.
    fn join_for_backend(&mut self, new: &Arc<NewSubscription>, turn: &mut Turn<'_>) {
        let grant =
            Grant { info: new.info.clone(), data: new.data.clone(), overrides: new.overrides };
        let mut wanted = Wanted::by_server(grant, new.recover_since.clone());
        wanted.expires = new.ttl.map(|ttl| turn.now + ttl);
        let mut prepared = match self.prepare(&new.channel, wanted, turn) {
            Ok(prepared) => prepared,
            Err(why) => return self.not_joined(why),
        };
        let answer = self.ask_broker(&prepared, turn);
        let then = move |client: &mut Self, begins: Result<_, _>, turn: &mut Turn<'_>| match client
            .begin(&mut prepared, begins, turn)
        {
            Ok(joined) => {
                let position = joined.position;
                let epoch = position.map(|position| position.epoch.to_string());
                let subscribe = Subscribe {
                    recoverable: joined.modes.recoverable,
                    positioned: joined.modes.positioned,
                    epoch: epoch.unwrap_or_default().into(),
                    offset: position.map_or(0, |position| position.offset),
                    data: joined.data(),
                };
                client.push(&joined.channel, Event::Subscribe(subscribe), turn);
                client.announce(&joined, turn);
                client.set_alarm(turn);
            }
            Err(why) => client.not_joined(why),
        };
        self.settle(0, answer, then, turn);
    }

    /// A backend's subscription cannot be. The backend has its answer already, so it is counted.
    fn not_joined(&self, why: Failure) {
        self.shared.metrics.error(why.code());
        tracing::debug!(conn = %self.conn, %why, "a backend's subscription cannot be");
    }
}
