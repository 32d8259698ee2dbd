//! `publish`, `presence`, `presence_stats` and `history`: what a client does in a channel without being
//! told of it (protocol, section 1.9).

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use weir_auth::Moment;

use super::{Client, Turn};
use crate::broker::{ClientInfo, PAGE_MAX, Publication, Publish, Range, Since};
use crate::hub::{wire_info, wire_publication};
use crate::metrics::Origin;
use crate::namespace::Channel;
use crate::protocol::codes::{DisconnectCode, ErrorCode};
use crate::protocol::command::{HistoryRequest, PublishRequest};
use crate::protocol::reply::{
    Body, HistoryResult, PresenceResult, PresenceStatsResult, PublishResult,
};
use crate::protocol::{Map, Reply};
use crate::traced::Traced;

/// What a user may do in a channel, subscribed or not.
type May = fn(&Channel<'_, '_>, &str, bool) -> Result<(), ErrorCode>;

/// What is published.
#[derive(Clone, Copy)]
pub(super) struct New<'a> {
    pub(super) data: &'a [u8],
    /// It is kept out of the history.
    pub(super) skip_history: bool,
}

impl Client {
    /// Whether the client may do something in a channel. Otherwise its command is answered.
    fn may(&mut self, id: u32, channel: &str, may: May, turn: &mut Turn<'_>) -> bool {
        if channel.is_empty() {
            self.end(DisconnectCode::BadRequest, turn);
            return false;
        }
        let subscribed = self.find(channel, turn).is_some();
        let policy = self.policy();
        let resolved = policy.namespaces.resolve(channel).map_err(|error| error.code());
        match resolved.and_then(|channel| may(&channel, &self.user, subscribed)) {
            Ok(()) => true,
            Err(code) => {
                self.fail(id, code, turn);
                false
            }
        }
    }

    pub(super) fn publish(&mut self, id: u32, request: &PublishRequest<'_>, turn: &mut Turn<'_>) {
        if request.kind != 0 {
            return self.fail(id, ErrorCode::NotAvailable, turn);
        }
        let policy = self.policy();
        let resolved = policy.namespaces.resolve(&request.channel);
        if resolved.is_ok_and(|channel| channel.namespace().options().publish_hook) {
            return self.ask_to_publish(id, request, turn);
        }
        let may: May = |channel, user, subscribed| channel.may_publish(user, subscribed);
        if self.may(id, &request.channel, may, turn) {
            let new = New { data: request.data.bytes(), skip_history: false };
            self.put(id, &request.channel, new, turn);
        }
    }

    /// Publishes what may be published, and answers the command.
    pub(super) fn put(&mut self, id: u32, name: &str, new: New<'_>, turn: &mut Turn<'_>) {
        let policy = self.policy();
        let channel = match policy.namespaces.resolve(name) {
            Ok(channel) => channel,
            Err(error) => return self.fail(id, error.code(), turn),
        };
        let options = channel.namespace().options();
        if !options.publication_data_format.accepts(new.data) {
            return self.fail(id, ErrorCode::BadRequest, turn);
        }
        let wall = Moment::at(turn.now).wall;
        let time_ms = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let publication = Publication::new(new.data, time_ms, turn.now).by(self.info());
        let stream = options.history.filter(|_| !new.skip_history);
        let publish = Publish { stream, ..Publish::default() };
        let broker = self.shared.broker.clone();
        let traced = Traced::begin(turn.trace.as_ref(), name);
        let publication = Traced::mark(traced.as_ref(), publication);
        let answer = broker.publish(name, publication, publish, turn.now);
        let counts = policy.counts(channel.namespace());
        let then = move |client: &mut Self, published: Result<_, _>, turn: &mut Turn<'_>| {
            if let Some(traced) = traced {
                traced.end();
            }
            match published {
                Ok(_) => {
                    counts.published(Origin::Client);
                    client.reply(&Reply { id, body: Body::Publish(PublishResult {}) }, turn);
                }
                Err(error) => client.fail(id, error, turn),
            }
        };
        self.settle(id, answer, then, turn);
    }

    pub(super) fn presence(&mut self, id: u32, channel: &str, turn: &mut Turn<'_>) {
        if !self.may(
            id,
            channel,
            |channel, user, subscribed| channel.may_presence(user, subscribed),
            turn,
        ) {
            return;
        }
        let answer = self.shared.broker.presence(channel, turn.now);
        let then = move |client: &mut Self,
                         present: Result<Vec<Arc<ClientInfo>>, _>,
                         turn: &mut Turn<'_>| {
            let present = match present {
                Ok(present) => present,
                Err(error) => return client.fail(id, error, turn),
            };
            let infos = present.iter().map(|info| wire_info(info));
            let presence = Map(infos.map(|info| (info.client.clone(), info)).collect());
            client.reply(&Reply { id, body: Body::Presence(PresenceResult { presence }) }, turn);
        };
        self.settle(id, answer, then, turn);
    }

    pub(super) fn presence_stats(&mut self, id: u32, channel: &str, turn: &mut Turn<'_>) {
        if !self.may(
            id,
            channel,
            |channel, user, subscribed| channel.may_presence(user, subscribed),
            turn,
        ) {
            return;
        }
        let answer = self.shared.broker.presence_stats(channel, turn.now);
        let then = move |client: &mut Self, stats: Result<_, _>, turn: &mut Turn<'_>| match stats {
            Ok(stats) => {
                let stats: crate::broker::PresenceStats = stats;
                let result = PresenceStatsResult {
                    num_clients: stats.clients as u32,
                    num_users: stats.users as u32,
                };
                client.reply(&Reply { id, body: Body::PresenceStats(result) }, turn);
            }
            Err(error) => client.fail(id, error, turn),
        };
        self.settle(id, answer, then, turn);
    }

    pub(super) fn history(&mut self, id: u32, request: &HistoryRequest<'_>, turn: &mut Turn<'_>) {
        if !self.may(
            id,
            &request.channel,
            |channel, user, subscribed| channel.may_history(user, subscribed),
            turn,
        ) {
            return;
        }
        let policy = self.policy();
        let channel = policy.namespaces.resolve(&request.channel).ok();
        let Some(options) = channel.and_then(|channel| channel.namespace().options().history)
        else {
            return self.fail(id, ErrorCode::NotAvailable, turn);
        };
        let since = request.since.as_ref();
        let range = Range {
            since: since.map(|since| Since { offset: since.offset, epoch: &since.epoch }),
            // A negative limit is as much as there may be.
            limit: usize::try_from(request.limit).unwrap_or(PAGE_MAX),
            reverse: request.reverse,
        };
        let broker = self.shared.broker.clone();
        let answer = broker.history(&request.channel, range, options.meta_ttl, turn.now);
        let then = move |client: &mut Self, page: Result<_, _>, turn: &mut Turn<'_>| match page {
            Ok(page) => {
                let page: crate::broker::Page = page;
                let result = HistoryResult {
                    publications: page
                        .publications
                        .iter()
                        .map(|one| wire_publication(one))
                        .collect(),
                    epoch: page.position.epoch.to_string().into(),
                    offset: page.position.offset,
                };
                client.reply(&Reply { id, body: Body::History(result) }, turn);
            }
            Err(error) => client.fail(id, error, turn),
        };
        self.settle(id, answer, then, turn);
    }
}
