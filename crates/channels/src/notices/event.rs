//! What a notice says, as JSON has it.

use serde::Serialize;
use serde_json::value::RawValue;
use weir_core::service::Carrier;

use super::metrics::Named;
use crate::hooks::request::{encodings, transport};
use crate::protocol::Encoding;

/// Whose notice it is.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) client: &'a str,
    pub(crate) carrier: Carrier,
    pub(crate) encoding: Encoding,
    pub(crate) user: &'a str,
    pub(crate) meta: Option<&'a [u8]>,
    /// Wall time, in milliseconds since 1970.
    pub(crate) time_ms: i64,
}

/// Something that has ended.
pub(crate) struct Ended<'a> {
    pub(crate) about: About<'a>,
    pub(crate) code: u32,
    pub(crate) reason: &'a str,
    pub(crate) what: What<'a>,
}

/// What that was.
pub(crate) enum What<'a> {
    /// A connection, with its subscriptions to these channels.
    Connection(Vec<&'a str>),
    /// A subscription to this channel.
    Subscription(&'a str),
}

#[derive(Serialize)]
struct Json<'a> {
    event: &'static str,
    /// Milliseconds since 1970.
    time: i64,
    client: &'a str,
    transport: &'static str,
    protocol: &'static str,
    encoding: &'static str,
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    code: u32,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<&'a [&'a str]>,
}

impl Ended<'_> {
    pub(super) const fn named(&self) -> Named {
        match self.what {
            What::Connection(_) => Named::Disconnect,
            What::Subscription(_) => Named::Unsubscribe,
        }
    }

    /// All of it but its id, as a JSON object.
    pub(super) fn json(&self) -> Vec<u8> {
        let About { client, carrier, encoding, user, meta, time_ms } = self.about;
        let (protocol, encoding) = encodings(encoding);
        let (channel, channels) = match &self.what {
            What::Connection(channels) => (None, Some(&**channels)),
            What::Subscription(channel) => (Some(*channel), None),
        };
        let json = Json {
            event: self.named().as_str(),
            time: time_ms,
            client,
            transport: transport(carrier),
            protocol,
            encoding,
            user,
            meta: meta.and_then(|meta| serde_json::from_slice(meta).ok()),
            channel,
            code: self.code,
            reason: self.reason,
            channels,
        };
        serde_json::to_vec(&json).expect("text and numbers are JSON")
    }
}
