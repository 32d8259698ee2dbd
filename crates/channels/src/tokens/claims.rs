//! What the claims of a good token give (protocol, section 1.15). Payloads stay as they were signed,
//! byte for byte.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use weir_auth::{Moment, Token, TokenError};

use crate::namespace::Overrides;

use super::refusal::Reason;

/// What a connection token gives, or a backend in place of one.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionToken {
    /// Who it is; empty: nobody.
    pub user: Arc<str>,
    /// When the connection ends unless it is refreshed (`expire_at`, else `exp`).
    pub expires: Option<Instant>,
    /// What others see of it (`info`, `b64info`).
    pub info: Option<Box<[u8]>>,
    /// What the client is told when it is connected (`data`, `b64data`).
    pub data: Option<Box<[u8]>>,
    /// What backends are told, and no client ever is: JSON.
    pub meta: Option<Box<[u8]>>,
    /// The channels that the server subscribes it to (`subs`; without them `channels`).
    pub subs: BTreeMap<Box<str>, Grant>,
}

/// What a subscription token gives.
#[derive(Clone, PartialEq, Eq)]
pub struct SubscriptionToken {
    /// The channel.
    pub channel: Box<str>,
    /// When the subscription ends unless it is refreshed (`expire_at`, else `exp`).
    pub expires: Option<Instant>,
    /// What the subscription is like.
    pub grant: Grant,
}

/// What a token says of one subscription.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// What others see of it in this channel (`info`, `b64info`).
    pub info: Option<Box<[u8]>>,
    /// What the client is told when it is subscribed (`data`, `b64data`).
    pub data: Option<Box<[u8]>>,
    /// What holds in place of the namespace's options (`override`).
    pub overrides: Overrides,
}

/// Whose and which a subscription token is, before anybody has compared.
pub(super) struct Holder {
    pub(super) user: Arc<str>,
    /// `client`; `None`: any of the user's connections.
    pub(super) client: Option<Box<str>>,
}

/// Shows no payload: they are whatever an issuer knows of somebody.
impl std::fmt::Debug for ConnectionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionToken")
            .field("user", &self.user)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SubscriptionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubscriptionToken")
            .field("channel", &self.channel)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("overrides", &self.overrides).finish_non_exhaustive()
    }
}

/// What both kinds have, read beside the rest.
#[derive(Deserialize)]
struct CommonClaims<'a> {
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    client: Option<Cow<'a, str>>,
    expire_at: Option<f64>,
}

#[derive(Deserialize)]
struct ConnectionClaims<'a> {
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    #[serde(borrow)]
    subs: Option<BTreeMap<Box<str>, GrantClaims<'a>>>,
    channels: Option<Vec<Box<str>>>,
}

/// What is said of one subscription, by a token or by a backend.
#[derive(Deserialize)]
pub(crate) struct GrantClaims<'a> {
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    b64info: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    b64data: Option<Cow<'a, str>>,
    #[serde(rename = "override", default)]
    overrides: Option<OverrideClaims>,
}

#[derive(Default, Deserialize)]
struct OverrideClaims {
    presence: Option<Flag>,
    join_leave: Option<Flag>,
    force_push_join_leave: Option<Flag>,
    force_positioning: Option<Flag>,
    force_recovery: Option<Flag>,
}

/// `{"value": true}`. A value that is left out is false, as in the protocol's other encoders.
#[derive(Clone, Copy, Deserialize)]
struct Flag {
    #[serde(default)]
    value: bool,
}

impl ConnectionToken {
    /// Reads a token that is good.
    pub(super) fn read(token: &Token, at: Moment) -> Result<Self, Reason> {
        let common: CommonClaims<'_> = parsed(&token.json)?;
        if common.channel.is_some_and(|channel| !channel.is_empty()) {
            return Err(Reason::Channel);
        }
        let claims: ConnectionClaims<'_> = parsed(&token.json)?;
        let Grant { info, data, overrides: _ } = parsed::<GrantClaims<'_>>(&token.json)?.grant()?;
        let listed = claims.subs.unwrap_or_default().into_iter();
        let mut subs = BTreeMap::new();
        for (channel, claims) in listed {
            subs.insert(channel, claims.grant()?);
        }
        if subs.is_empty() {
            let plain = claims.channels.unwrap_or_default().into_iter();
            subs.extend(plain.map(|channel| (channel, Grant::default())));
        }
        Ok(Self {
            user: Arc::clone(&token.principal),
            expires: expires(common.expire_at, token.expires, at)?,
            info,
            data,
            meta: claims.meta.map(raw),
            subs,
        })
    }
}

impl SubscriptionToken {
    /// Reads a token that is good, and whose it is.
    pub(super) fn read(token: &Token, at: Moment) -> Result<(Self, Holder), Reason> {
        let common: CommonClaims<'_> = parsed(&token.json)?;
        let channel = common.channel.filter(|channel| !channel.is_empty());
        let channel = channel.ok_or(Reason::Channel)?.into_owned().into_boxed_str();
        let grant = parsed::<GrantClaims<'_>>(&token.json)?.grant()?;
        let expires = expires(common.expire_at, token.expires, at)?;
        let client = common.client.filter(|client| !client.is_empty());
        let client = client.map(|client| client.into_owned().into_boxed_str());
        let holder = Holder { user: Arc::clone(&token.principal), client };
        Ok((Self { channel, expires, grant }, holder))
    }
}

impl GrantClaims<'_> {
    /// The payloads as bytes. What is given in base64 wins.
    pub(crate) fn grant(self) -> Result<Grant, Reason> {
        let overrides = self.overrides.unwrap_or_default();
        let flag = |flag: Option<Flag>| flag.map(|flag| flag.value);
        Ok(Grant {
            info: bytes(self.info, self.b64info)?,
            data: bytes(self.data, self.b64data)?,
            overrides: Overrides {
                presence: flag(overrides.presence),
                join_leave: flag(overrides.join_leave),
                force_push_join_leave: flag(overrides.force_push_join_leave),
                force_positioning: flag(overrides.force_positioning),
                force_recovery: flag(overrides.force_recovery),
            },
        })
    }
}

fn parsed<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Reason> {
    serde_json::from_slice(json).map_err(|_| Reason::Token(TokenError::Claims))
}

fn raw(value: &RawValue) -> Box<[u8]> {
    value.get().as_bytes().into()
}

fn bytes(
    json: Option<&RawValue>,
    base64: Option<Cow<'_, str>>,
) -> Result<Option<Box<[u8]>>, Reason> {
    match base64.filter(|text| !text.is_empty()) {
        None => Ok(json.map(raw)),
        Some(text) => match STANDARD.decode(&*text) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(_) => Err(Reason::Token(TokenError::Claims)),
        },
    }
}

/// When what a token gives ends: `expire_at` when it says so, of which 0 and less mean never, else
/// with the token. A time that no clock shows is as good as none.
pub(crate) fn expires(
    expire_at: Option<f64>,
    token: Option<SystemTime>,
    at: Moment,
) -> Result<Option<Instant>, Reason> {
    let end = match expire_at {
        None => token,
        Some(seconds) if seconds > 0.0 => Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)),
        Some(_) => None,
    };
    let Some(end) = end else { return Ok(None) };
    match end.duration_since(at.wall) {
        Ok(left) if !left.is_zero() => Ok(at.now.checked_add(left)),
        Ok(_) | Err(_) => Err(Reason::Over),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use weir_core::clock;

    use super::*;

    /// The wall clock of these tests, in seconds.
    const NOW: u64 = 1000;

    fn token(json: &str, expires: Option<u64>) -> Token {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Token {
            principal: "ann".into(),
            expires: expires.map(at),
            claims: Map::new(),
            json: json.as_bytes().into(),
        }
    }

    fn at() -> Moment {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        Moment { now: clock::now(), wall }
    }

    fn connection(json: &str) -> Result<ConnectionToken, Reason> {
        ConnectionToken::read(&token(json, None), at())
    }

    fn subscription(json: &str) -> Result<SubscriptionToken, Reason> {
        SubscriptionToken::read(&token(json, None), at()).map(|(token, _)| token)
    }

    const WRONG: Reason = Reason::Token(TokenError::Claims);

    #[test]
    fn payloads_stay_as_they_were_signed() {
        let odd = r#"{ "b": 1e2,"a" :12345678901234567890123}"#;
        let json = format!(r#"{{"info":{odd},"data":"x","meta":[1, 2],"b64data":"AAEC"}}"#);
        let token = connection(&json).expect("a token");
        assert_eq!(token.info.as_deref(), Some(odd.as_bytes()));
        assert_eq!(token.data.as_deref(), Some(&[0, 1, 2][..]), "base64 wins");
        assert_eq!(token.meta.as_deref(), Some(&b"[1, 2]"[..]));
        let token = subscription(&format!(r#"{{"channel":"news","info":{odd},"data":null}}"#));
        let grant = token.expect("a token").grant;
        assert_eq!((grant.info.as_deref(), grant.data), (Some(odd.as_bytes()), None));
    }

    #[test]
    fn a_connection_token_names_no_channel_and_a_subscription_token_one() {
        assert!(connection("{}").is_ok());
        assert!(connection(r#"{"channel":""}"#).is_ok());
        assert_eq!(connection(r#"{"channel":"news"}"#), Err(Reason::Channel));
        assert_eq!(&*subscription(r#"{"channel":"news"}"#).expect("a token").channel, "news");
        for none in ["{}", r#"{"channel":""}"#, r#"{"channel":null}"#] {
            assert_eq!(subscription(none), Err(Reason::Channel), "{none}");
        }
    }

    #[test]
    fn subs_are_read_with_what_they_override_and_win_over_channels() {
        let json = json!({
            "channels": ["plain"],
            "subs": {
                "news": {
                    "b64info": "AA==",
                    "data": {"hello": 1},
                    "override": {"presence": {"value": true}, "force_recovery": {}},
                },
                "quiet": {},
            },
        });
        let token = connection(&json.to_string()).expect("a token");
        let names: Vec<&str> = token.subs.keys().map(|name| &**name).collect();
        assert_eq!(names, ["news", "quiet"]);
        let expected = Grant {
            info: Some([0].into()),
            data: Some(br#"{"hello":1}"#[..].into()),
            overrides: Overrides {
                presence: Some(true),
                force_recovery: Some(false),
                ..Overrides::default()
            },
        };
        assert!(token.subs["news"] == expected);
        assert!(token.subs["quiet"] == Grant::default());
        let token = connection(r#"{"channels":["b","a","b"],"subs":{}}"#).expect("a token");
        assert_eq!(token.subs.keys().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn expire_at_wins_over_exp_and_zero_means_never() {
        let check = |expire_at: &str, exp: Option<u64>, expected: Result<Option<u64>, Reason>| {
            let json = format!(r#"{{"channel":"news"{expire_at}}}"#);
            let at = at();
            let read = SubscriptionToken::read(&token(&json, exp), at);
            let left = |end: Instant| end.saturating_duration_since(at.now).as_secs();
            let got = read.map(|(token, _)| token.expires.map(left));
            assert_eq!(got, expected, "{expire_at} {exp:?}");
        };
        check("", None, Ok(None));
        check("", Some(NOW + 60), Ok(Some(60)));
        check(r#","expire_at":1030"#, Some(NOW + 60), Ok(Some(30)));
        check(r#","expire_at":1030"#, None, Ok(Some(30)));
        check(r#","expire_at":0"#, Some(NOW + 60), Ok(None));
        check(r#","expire_at":-1"#, Some(NOW + 60), Ok(None));
        check(r#","expire_at":1e300"#, Some(NOW + 60), Ok(None));
        check(r#","expire_at":1000"#, Some(NOW + 60), Err(Reason::Over));
        check(r#","expire_at":"1030""#, Some(NOW + 60), Err(WRONG));
    }

    #[test]
    fn a_claim_of_a_wrong_type_is_refused() {
        for wrong in [
            r#"{"channel":7}"#,
            r#"{"channels":"news"}"#,
            r#"{"channels":[7]}"#,
            r#"{"subs":["news"]}"#,
            r#"{"subs":{"news":7}}"#,
            r#"{"subs":{"news":{"override":{"presence":true}}}}"#,
            r#"{"b64info":"not base64"}"#,
            r#"{"b64data":"AA"}"#,
            r#"{"info":1,"info":2}"#,
        ] {
            assert_eq!(connection(wrong), Err(WRONG), "{wrong}");
        }
    }

    #[test]
    fn payloads_are_never_shown() {
        let json =
            r#"{"info":"secret","data":"secret","meta":"secret","subs":{"a":{"info":"secret"}}}"#;
        let token = connection(json).expect("a token");
        assert!(!format!("{token:?} {:?}", token.subs).contains("secret"));
        let token = subscription(r#"{"channel":"news","info":"secret"}"#).expect("a token");
        assert!(!format!("{token:?}").contains("secret"));
    }
}
