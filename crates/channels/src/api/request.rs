//! What backends ask, as JSON has it (protocol, section 2.2). Unknown fields are passed over, and
//! `null` is as good as no field; whether what is asked can be is judged elsewhere.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::error::ApiError;
use crate::namespace::Overrides;

/// Reads a request.
///
/// # Errors
///
/// What is no JSON is malformed; JSON of another shape is a bad request that names the field.
pub(super) fn parsed<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(json).map_err(|error| match error.classify() {
        // It stopped there, and what follows may be no JSON.
        Category::Data => match serde_json::from_slice::<IgnoredAny>(json) {
            Ok(_) => ApiError::bad_request(error.to_string()),
            Err(error) => ApiError::malformed(&error),
        },
        Category::Syntax | Category::Eof | Category::Io => ApiError::malformed(&error),
    })
}

/// A payload that is given as JSON or in base64; the latter wins.
pub(super) fn payload<'a>(
    json: Option<&'a RawValue>,
    base64: Option<&str>,
    name: &str,
) -> Result<Option<Cow<'a, [u8]>>, ApiError> {
    match base64.filter(|text| !text.is_empty()) {
        None => Ok(json.map(|json| json.get().as_bytes().into())),
        Some(text) => match STANDARD.decode(text) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => Err(ApiError::bad_request(format!("b64{name}: {error}"))),
        },
    }
}

/// As the payload itself, `null` is a value.
fn even_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// `publish` and `broadcast` differ in one field.
macro_rules! publishing {
    ($(#[$doc:meta])* $name:ident { $(#[$field_doc:meta])* $field:ident: $type:ty }) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub(super) struct $name<'a> {
            $(#[$field_doc])*
            pub(super) $field: $type,
            /// The payload, as JSON.
            #[serde(default, borrow, deserialize_with = "even_null")]
            #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
            pub(super) data: Option<&'a RawValue>,
            /// The payload in base64, for any bytes. Wins over `data`.
            #[serde(borrow)]
            pub(super) b64data: Option<Cow<'a, str>>,
            /// Keeps it out of the history: it has no offset then.
            pub(super) skip_history: Option<bool>,
            /// Names and values beside the payload.
            pub(super) tags: Option<BTreeMap<String, String>>,
            /// A second publish to a channel with the same key within five minutes publishes
            /// nothing, and has the result of the first.
            #[serde(borrow)]
            pub(super) idempotency_key: Option<Cow<'a, str>>,
            /// Counts from 1. What is not above the version of the channel's last publication
            /// comes too late, and is not published. Only where there is a history.
            pub(super) version: Option<u64>,
            /// Versions of different epochs are not compared.
            #[serde(borrow)]
            pub(super) version_epoch: Option<Cow<'a, str>>,
        }

        impl $name<'_> {
            /// What both have in common.
            pub(super) fn publication(&self) -> NewPublication<'_> {
                NewPublication {
                    data: self.data,
                    b64data: self.b64data.as_deref(),
                    skip_history: self.skip_history.unwrap_or_default(),
                    tags: self.tags.as_ref(),
                    idempotency_key: self.idempotency_key.as_deref(),
                    version: self.version.unwrap_or_default(),
                    version_epoch: self.version_epoch.as_deref().unwrap_or_default(),
                }
            }
        }
    };
}

publishing! {
    /// One publication for one channel.
    PublishRequest {
        /// The channel.
        channel: Cow<'a, str>
    }
}

publishing! {
    /// One publication for many channels.
    BroadcastRequest {
        /// The channels.
        channels: Vec<String>
    }
}

/// What is published, wherever.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewPublication<'a> {
    pub(super) data: Option<&'a RawValue>,
    pub(super) b64data: Option<&'a str>,
    pub(super) skip_history: bool,
    pub(super) tags: Option<&'a BTreeMap<String, String>>,
    pub(super) idempotency_key: Option<&'a str>,
    pub(super) version: u64,
    pub(super) version_epoch: &'a str,
}

/// A subscription that the server makes.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct SubscribeRequest<'a> {
    /// Whose connections. Needed unless there is a client or a session.
    #[serde(borrow)]
    pub(super) user: Option<Cow<'a, str>>,
    /// The channel.
    #[serde(borrow)]
    pub(super) channel: Cow<'a, str>,
    /// Only the connection of this client.
    #[serde(borrow)]
    pub(super) client: Option<Cow<'a, str>>,
    /// Only the connection with this session, which a client of an HTTP stream has.
    #[serde(borrow)]
    pub(super) session: Option<Cow<'a, str>>,
    /// What others see of it in this channel.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    pub(super) info: Option<&'a RawValue>,
    /// The same in base64.
    #[serde(borrow)]
    pub(super) b64info: Option<Cow<'a, str>>,
    /// What the client is told.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    pub(super) data: Option<&'a RawValue>,
    /// The same in base64.
    #[serde(borrow)]
    pub(super) b64data: Option<Cow<'a, str>>,
    /// When it ends, in seconds since 1970; 0: not by itself.
    pub(super) expire_at: Option<i64>,
    /// A place to catch up from.
    pub(super) recover_since: Option<StreamPosition>,
    /// What holds in place of the namespace's options.
    #[serde(rename = "override")]
    pub(super) overrides: Option<OptionsOverride>,
}

/// A place in a channel's stream.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub(super) struct StreamPosition {
    /// The last offset that is known.
    pub(super) offset: u64,
    /// The stream's epoch; empty: any.
    pub(super) epoch: String,
}

/// Options of one subscription in place of its namespace's.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct OptionsOverride {
    presence: Option<BoolValue>,
    join_leave: Option<BoolValue>,
    force_push_join_leave: Option<BoolValue>,
    force_positioning: Option<BoolValue>,
    force_recovery: Option<BoolValue>,
}

/// A flag that may also be left out.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BoolValue {
    #[serde(default)]
    value: bool,
}

impl OptionsOverride {
    pub(super) fn overrides(&self) -> Overrides {
        let value = |flag: Option<BoolValue>| flag.map(|flag| flag.value);
        Overrides {
            presence: value(self.presence),
            join_leave: value(self.join_leave),
            force_push_join_leave: value(self.force_push_join_leave),
            force_positioning: value(self.force_positioning),
            force_recovery: value(self.force_recovery),
        }
    }
}

/// Subscriptions that end.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct UnsubscribeRequest<'a> {
    /// Whose connections. Needed unless there is a client or a session.
    #[serde(borrow)]
    pub(super) user: Option<Cow<'a, str>>,
    /// The channel. Without it every subscription ends.
    #[serde(borrow)]
    pub(super) channel: Option<Cow<'a, str>>,
    /// Only the connection of this client.
    #[serde(borrow)]
    pub(super) client: Option<Cow<'a, str>>,
    /// Only the connection with this session, which a client of an HTTP stream has.
    #[serde(borrow)]
    pub(super) session: Option<Cow<'a, str>>,
}

/// Connections that end.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct DisconnectRequest<'a> {
    /// Whose connections. Needed unless there is a client or a session.
    #[serde(borrow)]
    pub(super) user: Option<Cow<'a, str>>,
    /// Only the connection of this client.
    #[serde(borrow)]
    pub(super) client: Option<Cow<'a, str>>,
    /// Only the connection with this session, which a client of an HTTP stream has.
    #[serde(borrow)]
    pub(super) session: Option<Cow<'a, str>>,
    /// Clients whose connections stay.
    pub(super) whitelist: Option<Vec<String>>,
    /// What the clients are told; without it 3503, and they do not come back.
    #[serde(borrow)]
    pub(super) disconnect: Option<Disconnect<'a>>,
}

/// The last word to a client.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Disconnect<'a> {
    /// 3000 to 4999. The code says whether a client comes back: from 3500 and from 4500 it does not.
    pub(super) code: u16,
    /// A text of at most 123 bytes; what is longer is cut.
    #[serde(borrow)]
    pub(super) reason: Option<Cow<'a, str>>,
}

/// Connections that get another time to end.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct RefreshRequest<'a> {
    /// Whose connections. Needed unless there is a client or a session.
    #[serde(borrow)]
    pub(super) user: Option<Cow<'a, str>>,
    /// Only the connection of this client.
    #[serde(borrow)]
    pub(super) client: Option<Cow<'a, str>>,
    /// Only the connection with this session, which a client of an HTTP stream has.
    #[serde(borrow)]
    pub(super) session: Option<Cow<'a, str>>,
    /// They have expired already, and are closed with 3005.
    pub(super) expired: Option<bool>,
    /// When they end, in seconds since 1970; 0: not by themselves. A time that has passed is as good
    /// as `expired`.
    pub(super) expire_at: Option<i64>,
    /// What others see of them from now on.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    pub(super) info: Option<&'a RawValue>,
}

/// A channel, of which all is asked.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ChannelRequest<'a> {
    /// The channel.
    #[serde(borrow)]
    pub(super) channel: Cow<'a, str>,
}

/// A part of a history.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct HistoryRequest<'a> {
    /// The channel.
    #[serde(borrow)]
    pub(super) channel: Cow<'a, str>,
    /// How many publications, of which at most 300 are given. 0: none, only the position. Below 0:
    /// as many as there may be.
    pub(super) limit: Option<i64>,
    /// Only what comes after this place; with `reverse`, before it.
    pub(super) since: Option<StreamPosition>,
    /// The newest first.
    pub(super) reverse: Option<bool>,
}

/// Which channels.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ChannelsRequest<'a> {
    /// `*` stands for any text, `?` for one character, `[ab]`, `[a-c]` and `[!ab]` for one of a class,
    /// `{one,two}` for either. Without it every channel.
    #[serde(borrow)]
    pub(super) pattern: Option<Cow<'a, str>>,
}

/// Nothing is asked.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct InfoRequest {}

/// Many commands.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct BatchRequest<'a> {
    /// The commands, each `{"<method>": {...}}` with the method's own request.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Vec<BTreeMap<String, serde_json::Value>>"))]
    pub(super) commands: Vec<&'a RawValue>,
    /// Carries several of them out at a time, in no order.
    pub(super) parallel: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codes::ErrorCode;

    #[test]
    fn what_is_no_json_is_malformed_and_another_shape_is_a_bad_request_that_names_the_field() {
        for text in ["", "{", "{}x", "nul", "{\"channel\":\"\u{1}\"}"] {
            let error = parsed::<ChannelRequest<'_>>(text.as_bytes()).unwrap_err();
            assert_eq!(error.reply(super::super::ErrorMode::Body).status, 400, "{text:?}");
        }
        let error = parsed::<ChannelRequest<'_>>(b"\"\xff\"").unwrap_err();
        assert_eq!(error.code(), ErrorCode::BadRequest);
        for (text, part) in [
            ("{}", "missing field `channel`"),
            ("{\"channel\":1}", "expected a string"),
            ("[]", "missing field"),
        ] {
            let error = parsed::<ChannelRequest<'_>>(text.as_bytes()).unwrap_err();
            assert_eq!(error.reply(super::super::ErrorMode::Body).status, 200, "{text}");
            let body = String::from_utf8(error.body()).unwrap();
            assert!(body.contains(part) || text == "[]", "{body}");
        }
    }

    #[test]
    fn null_is_no_field_but_for_the_payload_of_a_publication() {
        let text = br#"{"channel":"a","data":null,"tags":null,"version":null,"unknown":{}}"#;
        let request: PublishRequest<'_> = parsed(text).unwrap();
        assert_eq!(request.data.map(RawValue::get), Some("null"));
        assert!(request.tags.is_none());
        let request: PublishRequest<'_> = parsed(br#"{"channel":"a"}"#).unwrap();
        assert!(request.data.is_none());
    }

    #[test]
    fn base64_wins_over_json_and_must_be_base64() {
        let json = serde_json::from_str::<&RawValue>("{}").unwrap();
        let bytes = |json, base64| payload(json, base64, "data").unwrap().map(Cow::into_owned);
        assert_eq!(bytes(Some(json), None), Some(b"{}".to_vec()));
        assert_eq!(bytes(Some(json), Some("")), Some(b"{}".to_vec()));
        assert_eq!(bytes(Some(json), Some("AP8=")), Some(vec![0, 255]));
        assert_eq!(bytes(None, None), None);
        let error = payload(None, Some("%"), "data").unwrap_err();
        assert!(String::from_utf8(error.body()).unwrap().contains("b64data"));
    }
}
