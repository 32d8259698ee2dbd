//! What backends are told, as JSON has it (protocol, section 2.2). Payloads stay what they are; one
//! that is no JSON comes in base64, under a name that says so.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::ApiError;
use crate::broker::{self, Position};

/// The JSON of a value.
pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("memory takes every byte, and the keys of maps are text")
}

/// A payload: as JSON, or in base64.
fn split(bytes: &[u8]) -> (Option<&RawValue>, Option<String>) {
    match serde_json::from_slice(bytes) {
        Ok(json) => (Some(json), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// A place in a stream; empty where there is no history.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PublishResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

impl PublishResult {
    pub(super) fn new(position: Option<Position>) -> Self {
        let epoch = position.map(|position| position.epoch.to_string());
        Self { offset: position.map(|position| position.offset), epoch }
    }
}

/// One answer for each channel, in their order.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct BroadcastResult {
    pub(super) responses: Vec<PublishResponse>,
}

/// A result or an error.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum PublishResponse {
    Result(PublishResult),
    Error(#[cfg_attr(test, schemars(with = "Error"))] ApiError),
}

impl From<Result<PublishResult, ApiError>> for PublishResponse {
    fn from(result: Result<PublishResult, ApiError>) -> Self {
        result.map_or_else(Self::Error, Self::Result)
    }
}

/// Why a command failed.
#[cfg(test)]
#[derive(Serialize, schemars::JsonSchema)]
pub(super) struct Error {
    /// 100 internal, 102 unknown channel, 104 not found, 106 limit, 107 bad request, 108 not
    /// available, 110 expired, 112 unrecoverable position.
    code: u32,
    /// What the code means, and what was wrong.
    message: String,
}

/// It is done.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Done {}

/// Somebody in a channel.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ClientInfo<'a> {
    client: &'a str,
    user: &'a str,
    /// What the connection's token says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    conn_info: Option<&'a RawValue>,
    /// In place of `conn_info` when that is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    b64conn_info: Option<String>,
    /// What the subscription's token says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    chan_info: Option<&'a RawValue>,
    /// In place of `chan_info` when that is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    b64chan_info: Option<String>,
}

impl<'a> ClientInfo<'a> {
    pub(super) fn new(info: &'a broker::ClientInfo) -> Self {
        let (conn_info, b64conn_info) = info.conn_info.as_deref().map(split).unwrap_or_default();
        let (chan_info, b64chan_info) = info.chan_info.as_deref().map(split).unwrap_or_default();
        let (client, user) = (&*info.client, &*info.user);
        Self { client, user, conn_info, b64conn_info, chan_info, b64chan_info }
    }
}

/// Everybody in a channel, by client.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PresenceResult<'a> {
    pub(super) presence: BTreeMap<&'a str, ClientInfo<'a>>,
}

/// How many are in a channel.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PresenceStatsResult {
    pub(super) num_clients: usize,
    pub(super) num_users: usize,
}

/// One publication of a history.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Publication<'a> {
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    data: Option<&'a RawValue>,
    /// In place of `data` when that is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<&'a str, &'a str>,
    /// The publisher, when it was a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<ClientInfo<'a>>,
}

impl<'a> Publication<'a> {
    pub(super) fn new(publication: &'a broker::Publication) -> Self {
        let (data, b64data) = split(&publication.data);
        let tags = publication.tags.iter().flat_map(|tags| tags.iter());
        Self {
            offset: publication.offset(),
            data,
            b64data,
            tags: tags.map(|(name, value)| (&**name, &**value)).collect(),
            info: publication.info.as_deref().map(ClientInfo::new),
        }
    }
}

/// A part of a history, and the place of its stream.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct HistoryResult<'a> {
    pub(super) publications: Vec<Publication<'a>>,
    pub(super) offset: u64,
    pub(super) epoch: String,
}

/// The channels that have subscribers.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ChannelsResult<'a> {
    pub(super) channels: BTreeMap<&'a str, ChannelInfo>,
}

/// What is known of a channel.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ChannelInfo {
    /// Subscribers.
    pub(super) num_clients: usize,
}

/// What there is.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct InfoResult {
    /// One: this process.
    pub(super) nodes: [Node; 1],
}

/// A process.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Node {
    /// Another after each start.
    pub(super) uid: String,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) num_clients: usize,
    /// Users with a name; one with connections on two workers counts twice.
    pub(super) num_users: usize,
    pub(super) num_subs: usize,
    /// Channels with subscribers.
    pub(super) num_channels: usize,
    /// In seconds.
    pub(super) uptime: u64,
}

/// One answer for each command, in their order.
#[cfg(test)]
#[derive(Serialize, schemars::JsonSchema)]
pub(super) struct BatchResult {
    /// Each `{"<method>": {...}}` with the method's own result, or `{"error": {...}}`.
    replies: Vec<BTreeMap<String, serde_json::Value>>,
}
