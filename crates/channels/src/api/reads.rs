//! `presence`, `presence_stats`, `history`, `history_remove`, `channels` and `info`: what backends are
//! told of channels, and the one that makes them forget.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_auth::Moment;

use super::Api;
use super::error::ApiError;
use super::glob::Glob;
use super::reply::{
    ChannelInfo, ChannelsResult, ClientInfo, Done, HistoryResult, InfoResult, Node, PresenceResult,
    PresenceStatsResult, Publication, json,
};
use super::request::{ChannelRequest, ChannelsRequest, HistoryRequest, InfoRequest};
use crate::broker::{PAGE_MAX, Range, Since, StreamOptions};
use crate::hub::orders::{HubCounts, Order};
use crate::protocol::codes::ErrorCode;

impl Api {
    /// Refuses a channel whose namespace keeps no presence.
    fn check_presence(&self, channel: &str) -> Result<(), ApiError> {
        let policy = self.shared.policy.load();
        match policy.namespaces.resolve(channel)?.namespace().options().presence {
            true => Ok(()),
            false => Err(ApiError::not_available("the channel's namespace has no presence")),
        }
    }

    /// How a channel remembers; refuses one that does not.
    fn history_of(&self, channel: &str) -> Result<StreamOptions, ApiError> {
        let policy = self.shared.policy.load();
        let history = policy.namespaces.resolve(channel)?.namespace().options().history;
        history.ok_or_else(|| ApiError::not_available("the channel's namespace has no history"))
    }

    pub(super) async fn presence(
        &self,
        request: &ChannelRequest<'_>,
        at: Moment,
    ) -> Result<Vec<u8>, ApiError> {
        self.check_presence(&request.channel)?;
        let present = self.shared.broker.presence(&request.channel, at.now).wait().await?;
        let infos = present.iter().map(|info| (&*info.client, ClientInfo::new(info)));
        Ok(json(&PresenceResult { presence: infos.collect() }))
    }

    pub(super) async fn presence_stats(
        &self,
        request: &ChannelRequest<'_>,
        at: Moment,
    ) -> Result<Vec<u8>, ApiError> {
        self.check_presence(&request.channel)?;
        let stats = self.shared.broker.presence_stats(&request.channel, at.now).wait().await?;
        Ok(json(&PresenceStatsResult { num_clients: stats.clients, num_users: stats.users }))
    }

    pub(super) async fn history(
        &self,
        request: &HistoryRequest<'_>,
        at: Moment,
    ) -> Result<Vec<u8>, ApiError> {
        let options = self.history_of(&request.channel)?;
        let since = request.since.as_ref();
        let range = Range {
            since: since.map(|since| Since { offset: since.offset, epoch: &since.epoch }),
            limit: usize::try_from(request.limit.unwrap_or_default()).unwrap_or(PAGE_MAX),
            reverse: request.reverse.unwrap_or_default(),
        };
        let broker = &self.shared.broker;
        let page = broker.history(&request.channel, range, options.meta_ttl, at.now).wait().await?;
        let publications = page.publications.iter().map(|one| Publication::new(one));
        Ok(json(&HistoryResult {
            publications: publications.collect(),
            offset: page.position.offset,
            epoch: page.position.epoch.to_string(),
        }))
    }

    pub(super) async fn history_remove(
        &self,
        request: &ChannelRequest<'_>,
        at: Moment,
    ) -> Result<Vec<u8>, ApiError> {
        self.history_of(&request.channel)?;
        self.shared.broker.remove_history(&request.channel, at.now).wait().await?;
        Ok(json(&Done {}))
    }

    pub(super) async fn channels(
        &self,
        request: &ChannelsRequest<'_>,
    ) -> Result<Vec<u8>, ApiError> {
        let pattern = request.pattern.as_deref().filter(|pattern| !pattern.is_empty());
        let glob = pattern.map(Glob::new).transpose()?;
        let workers: Vec<Vec<(Arc<str>, usize)>> = self.workers(Order::Channels).await?;
        let mut channels = BTreeMap::<&str, ChannelInfo>::new();
        let listed = workers.iter().flatten();
        for (name, clients) in
            listed.filter(|(name, _)| glob.as_ref().is_none_or(|glob| glob.matches(name)))
        {
            channels.entry(name).or_default().num_clients += clients;
        }
        let max = self.limits.channels_max;
        if channels.len() > max {
            let detail = format!("{} channels, and at most {max} are listed", channels.len());
            return Err(ApiError::new(ErrorCode::LimitExceeded, detail));
        }
        Ok(json(&ChannelsResult { channels }))
    }

    pub(super) async fn info(&self, _: &InfoRequest, at: Moment) -> Result<Vec<u8>, ApiError> {
        let workers: Vec<HubCounts> = self.workers(Order::Counts).await?;
        let sum = |of: fn(&HubCounts) -> usize| workers.iter().map(of).sum();
        let node = Node {
            uid: self.shared.node(),
            name: "weir",
            version: env!("CARGO_PKG_VERSION"),
            num_clients: sum(|counts| counts.clients),
            num_users: sum(|counts| counts.users),
            num_subs: sum(|counts| counts.subscriptions),
            num_channels: sum(|counts| counts.channels),
            uptime: at.now.saturating_duration_since(self.started).as_secs(),
        };
        Ok(json(&InfoResult { nodes: [node] }))
    }
}
