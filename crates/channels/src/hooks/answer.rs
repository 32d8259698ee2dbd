//! What a backend answers: a result, an error for the client, or a disconnect. Only a 2xx is an answer,
//! and what is not of the right shape grants nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use weir_core::service::{AskError, Response};

use super::metrics::Outcome;
use crate::tokens::Grant;
use crate::tokens::claims::GrantClaims;

/// Why something is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Declined {
    /// The backend's own error, which the client is told.
    Error(BackendError),
    /// The backend wants the connection to end with this code and reason.
    Disconnect(u16, String),
    /// There is no answer that counts.
    Failed,
}

/// An error as a backend gives it (protocol, section 1.11).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct BackendError {
    pub(crate) code: u32,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) temporary: bool,
}

#[derive(Deserialize)]
struct Disconnect {
    code: u16,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<BackendError>,
    disconnect: Option<Disconnect>,
}

/// An answer that is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadAnswer;

/// What a hook's result becomes.
pub(crate) trait Granted: Sized + Send + 'static {
    /// Reads the result. `None`: the answer says nothing.
    fn grant(result: Option<&RawValue>) -> Result<Self, BadAnswer>;
}

/// What an answer grants or why it does not, and what a trace is told of a failure.
pub(super) type Read<T> = Result<T, (Declined, Option<AskError>)>;

/// Reads a response.
pub(super) fn read<T: Granted>(response: &Response) -> (Outcome, Read<T>) {
    let failed = |outcome| (outcome, Err((Declined::Failed, Some(AskError::Failed))));
    if !(200..300).contains(&response.status) {
        return failed(Outcome::Failed);
    }
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&response.body) else {
        return failed(Outcome::Invalid);
    };
    if let Some(Disconnect { code, reason }) = envelope.disconnect {
        return match code {
            3000..=4999 => (Outcome::Disconnect, Err((Declined::Disconnect(code, reason), None))),
            _ => failed(Outcome::Invalid),
        };
    }
    if let Some(error) = envelope.error {
        return match error.code {
            100..=1999 => (Outcome::Error, Err((Declined::Error(error), None))),
            _ => failed(Outcome::Invalid),
        };
    }
    match T::grant(envelope.result) {
        Ok(granted) => (Outcome::Result, Ok(granted)),
        Err(BadAnswer) => failed(Outcome::Invalid),
    }
}

fn parsed<'a, T: Deserialize<'a>>(result: Option<&'a RawValue>) -> Result<T, BadAnswer> {
    serde_json::from_str(result.ok_or(BadAnswer)?.get()).map_err(|_| BadAnswer)
}

/// A payload as JSON or in base64; the latter wins.
fn payload(json: Option<&RawValue>, base64: Option<&str>) -> Result<Option<Box<[u8]>>, BadAnswer> {
    match base64.filter(|text| !text.is_empty()) {
        None => Ok(json.map(raw)),
        Some(text) => STANDARD.decode(text).map(|bytes| Some(bytes.into())).map_err(|_| BadAnswer),
    }
}

fn raw(json: &RawValue) -> Box<[u8]> {
    json.get().as_bytes().into()
}

/// What an rpc is answered with.
pub(crate) struct RpcAnswer {
    /// Empty when there is nothing.
    pub(crate) data: Box<[u8]>,
}

#[derive(Deserialize)]
struct RpcResult<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    b64data: Option<Cow<'a, str>>,
}

impl Granted for RpcAnswer {
    fn grant(result: Option<&RawValue>) -> Result<Self, BadAnswer> {
        let RpcResult { data, b64data } = parsed(result)?;
        Ok(Self { data: payload(data, b64data.as_deref())?.unwrap_or_default() })
    }
}

/// Who a client is.
#[derive(Default)]
pub(crate) struct ConnectAnswer {
    /// Empty: nobody in particular.
    pub(crate) user: Box<str>,
    /// In seconds since 1970; 0: it does not end by itself.
    pub(crate) expire_at: f64,
    pub(crate) info: Option<Box<[u8]>>,
    pub(crate) data: Option<Box<[u8]>>,
    pub(crate) meta: Option<Box<[u8]>>,
    /// The channels that it is subscribed to.
    pub(crate) subs: BTreeMap<Box<str>, Grant>,
}

#[derive(Deserialize)]
struct ConnectResult<'a> {
    user: Option<Box<str>>,
    expire_at: Option<f64>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    b64info: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    b64data: Option<Cow<'a, str>>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    channels: Option<Vec<Box<str>>>,
    #[serde(borrow)]
    subs: Option<BTreeMap<Box<str>, GrantClaims<'a>>>,
}

/// `None`: the backend does not know the client, and it is as if it had not been asked.
impl Granted for Option<ConnectAnswer> {
    fn grant(result: Option<&RawValue>) -> Result<Self, BadAnswer> {
        if result.is_none() {
            return Ok(None);
        }
        let result: ConnectResult<'_> = parsed(result)?;
        let mut subs = BTreeMap::new();
        for (channel, claims) in result.subs.unwrap_or_default() {
            subs.insert(channel, claims.grant().map_err(|_| BadAnswer)?);
        }
        for channel in result.channels.unwrap_or_default() {
            subs.entry(channel).or_default();
        }
        Ok(Some(ConnectAnswer {
            user: result.user.unwrap_or_default(),
            expire_at: result.expire_at.unwrap_or_default(),
            info: payload(result.info, result.b64info.as_deref())?,
            data: payload(result.data, result.b64data.as_deref())?,
            meta: result.meta.map(raw),
            subs,
        }))
    }
}

/// Whether a connection or a subscription goes on.
pub(crate) struct RefreshAnswer {
    /// It is over.
    pub(crate) expired: bool,
    /// Until then, in seconds since 1970; 0: it does not end by itself.
    pub(crate) expire_at: f64,
    pub(crate) info: Option<Box<[u8]>>,
    pub(crate) meta: Option<Box<[u8]>>,
}

#[derive(Deserialize)]
struct RefreshResult<'a> {
    expired: Option<bool>,
    expire_at: Option<f64>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    b64info: Option<Cow<'a, str>>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

impl Granted for RefreshAnswer {
    fn grant(result: Option<&RawValue>) -> Result<Self, BadAnswer> {
        let result: RefreshResult<'_> = parsed(result)?;
        Ok(Self {
            expired: result.expired.unwrap_or_default(),
            expire_at: result.expire_at.unwrap_or_default(),
            info: payload(result.info, result.b64info.as_deref())?,
            meta: result.meta.map(raw),
        })
    }
}

/// What a subscription is like.
pub(crate) struct SubscribeAnswer {
    pub(crate) grant: Grant,
    /// In seconds since 1970; 0: it does not end by itself.
    pub(crate) expire_at: f64,
}

#[derive(Deserialize)]
struct ExpireAt {
    expire_at: Option<f64>,
}

impl Granted for SubscribeAnswer {
    fn grant(result: Option<&RawValue>) -> Result<Self, BadAnswer> {
        let ExpireAt { expire_at } = parsed(result)?;
        let grant = parsed::<GrantClaims<'_>>(result)?.grant().map_err(|_| BadAnswer)?;
        Ok(Self { grant, expire_at: expire_at.unwrap_or_default() })
    }
}

/// What is published.
pub(crate) struct PublishAnswer {
    /// In place of what the client wants to publish.
    pub(crate) data: Option<Box<[u8]>>,
    /// It is kept out of the history.
    pub(crate) skip_history: bool,
}

#[derive(Deserialize)]
struct PublishResult<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    b64data: Option<Cow<'a, str>>,
    skip_history: Option<bool>,
}

impl Granted for PublishAnswer {
    fn grant(result: Option<&RawValue>) -> Result<Self, BadAnswer> {
        let result: PublishResult<'_> = parsed(result)?;
        Ok(Self {
            data: payload(result.data, result.b64data.as_deref())?,
            skip_history: result.skip_history.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer<T: Granted>(status: u16, body: &str) -> (Outcome, Read<T>) {
        read(&Response { status, body: body.to_owned().into() })
    }

    fn rpc(status: u16, body: &str) -> (Outcome, Result<String, Declined>) {
        let (outcome, answer) = answer::<RpcAnswer>(status, body);
        let text = |answer: RpcAnswer| String::from_utf8_lossy(&answer.data).into_owned();
        (outcome, answer.map(text).map_err(|(declined, _)| declined))
    }

    #[test]
    fn a_result_is_granted_as_it_was_written_and_base64_wins() {
        let (outcome, data) = rpc(200, r#"{"result": {"data": {"a" :1e2}, "unknown": 1}}"#);
        assert_eq!((outcome, data), (Outcome::Result, Ok(r#"{"a" :1e2}"#.to_owned())));
        let (_, data) = rpc(201, r#"{"result":{"data":1,"b64data":"aGk="}}"#);
        assert_eq!(data, Ok("hi".to_owned()));
        assert_eq!(rpc(200, r#"{"result":{"data":null}}"#).1, Ok(String::new()));
    }

    #[test]
    fn an_error_and_a_disconnect_are_the_backends_own_and_stand_before_a_result() {
        let error = |code, message: &str, temporary| {
            Err(Declined::Error(BackendError { code, message: message.to_owned(), temporary }))
        };
        let said = r#"{"result":{},"error":{"code":1000,"message":"no","temporary":true}}"#;
        assert_eq!(rpc(200, said), (Outcome::Error, error(1000, "no", true)));
        assert_eq!(rpc(200, r#"{"error":{"code":103}}"#), (Outcome::Error, error(103, "", false)));
        let gone = r#"{"error":{"code":1000},"disconnect":{"code":4500,"reason":"banned"}}"#;
        let expected = Err(Declined::Disconnect(4500, "banned".to_owned()));
        assert_eq!(rpc(200, gone), (Outcome::Disconnect, expected));
    }

    #[test]
    fn what_is_no_answer_grants_nothing() {
        for invalid in [
            "",
            "{}",
            "[]",
            "ok",
            r#"{"result":null}"#,
            r#"{"result":1}"#,
            r#"{"result":{"b64data":"%"}}"#,
            r#"{"error":{"code":0}}"#,
            r#"{"error":{"code":2000}}"#,
            r#"{"error":{"message":"no code"}}"#,
            r#"{"disconnect":{"code":1000}}"#,
            r#"{"disconnect":{"code":5000}}"#,
        ] {
            let said = rpc(200, invalid);
            assert_eq!(said, (Outcome::Invalid, Err(Declined::Failed)), "{invalid}");
        }
        for status in [199, 301, 404, 500] {
            let said = rpc(status, r#"{"result":{}}"#);
            assert_eq!(said, (Outcome::Failed, Err(Declined::Failed)), "{status}");
        }
    }

    #[test]
    fn a_connect_without_a_result_is_of_nobody_that_the_backend_knows() {
        let (outcome, answer) = answer::<Option<ConnectAnswer>>(200, "{}");
        assert_eq!(outcome, Outcome::Result);
        assert!(answer.is_ok_and(|answer| answer.is_none()));
        let said = r#"{"result":{"user":"ann","channels":["a","b"],
            "subs":{"b":{"data":1,"override":{"presence":{"value":true}}}}}}"#;
        let (_, answer) = self::answer::<Option<ConnectAnswer>>(200, said);
        let answer = answer.ok().flatten().expect("somebody");
        assert_eq!((&*answer.user, answer.subs.len()), ("ann", 2));
        let b = &answer.subs["b"];
        assert_eq!((b.data.as_deref(), b.overrides.presence), (Some(&b"1"[..]), Some(true)));
    }
}
