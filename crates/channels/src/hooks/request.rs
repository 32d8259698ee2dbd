//! What a backend is asked, as JSON has it: who asks, and what. A field that says nothing is left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use weir_core::service::Carrier;

use crate::protocol::{Encoding, Payload};

/// Who asks.
pub(crate) struct Who<'a> {
    pub(crate) client: &'a str,
    pub(crate) carrier: Carrier,
    pub(crate) encoding: Encoding,
    /// `None` before it is known.
    pub(crate) user: Option<&'a str>,
    pub(crate) meta: Option<&'a [u8]>,
}

/// What is asked: each hook has some of these.
#[derive(Default)]
pub(crate) struct Asked<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) version: Option<&'a str>,
    /// Server-side subscriptions of an earlier connection.
    pub(crate) channels: Vec<&'a str>,
    pub(crate) channel: Option<&'a str>,
    pub(crate) method: Option<&'a str>,
    pub(crate) data: Payload<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    client: &'a str,
    transport: &'static str,
    protocol: &'static str,
    encoding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    channels: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
}

/// The transport, as backends know it.
pub(crate) const fn transport(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::WebSocket => "websocket",
        Carrier::Sse => "sse",
        Carrier::HttpStream | Carrier::Http => "http_stream",
        Carrier::Lines | Carrier::Length => "tcp",
    }
}

/// The protocol's encoding, and that of the client's payloads.
pub(crate) const fn encodings(encoding: Encoding) -> (&'static str, &'static str) {
    match encoding {
        Encoding::Json => ("json", "json"),
        Encoding::Protobuf => ("protobuf", "binary"),
    }
}

/// The body of a request. A payload that is no JSON goes in base64; with `binary`, every one does.
pub(crate) fn body(who: &Who<'_>, asked: &Asked<'_>, binary: bool) -> Bytes {
    let payload = Some(asked.data.bytes()).filter(|payload| !payload.is_empty());
    let data = payload.filter(|_| !binary).and_then(json);
    let b64data = payload.filter(|_| data.is_none()).map(|payload| STANDARD.encode(payload));
    let (protocol, encoding) = encodings(who.encoding);
    let body = Body {
        client: who.client,
        transport: transport(who.carrier),
        protocol,
        encoding,
        user: who.user,
        name: asked.name.filter(|text| !text.is_empty()),
        version: asked.version.filter(|text| !text.is_empty()),
        channels: &asked.channels,
        channel: asked.channel,
        method: asked.method,
        data,
        b64data,
        meta: who.meta.and_then(json),
    };
    serde_json::to_vec(&body).expect("text and JSON are JSON").into()
}

fn json(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Who<'static> = Who {
        client: "c1",
        carrier: Carrier::WebSocket,
        encoding: Encoding::Json,
        user: Some("ann"),
        meta: None,
    };

    fn check(who: &Who<'_>, asked: &Asked<'_>, binary: bool, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&body(who, asked, binary)), expected);
    }

    const HEAD: &str = r#"{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"ann""#;

    #[test]
    fn a_request_says_who_asks_what_and_leaves_out_what_nobody_said() {
        check(&WHO, &Asked::default(), false, &format!("{HEAD}}}"));
        let asked = Asked {
            method: Some("sum"),
            data: Payload::new(br#"{"a": [1, 2]}"#),
            ..Asked::default()
        };
        check(&WHO, &asked, false, &format!(r#"{HEAD},"method":"sum","data":{{"a": [1, 2]}}}}"#));
        let asked = Asked {
            name: Some("js"),
            version: Some(""),
            channels: vec!["news"],
            ..Asked::default()
        };
        let who = Who { user: None, meta: Some(br#"{"k":1}"#), ..WHO };
        let head = HEAD.trim_end_matches(r#","user":"ann""#);
        let expected = format!(r#"{head},"name":"js","channels":["news"],"meta":{{"k":1}}}}"#);
        check(&who, &asked, false, &expected);
    }

    #[test]
    fn a_payload_that_is_no_json_goes_in_base64_and_with_binary_encoding_every_one_does() {
        let asked = |data| Asked { data: Payload::new(data), ..Asked::default() };
        check(&WHO, &asked(&[0, 255]), false, &format!(r#"{HEAD},"b64data":"AP8="}}"#));
        check(&WHO, &asked(b"1"), true, &format!(r#"{HEAD},"b64data":"MQ=="}}"#));
        check(&WHO, &asked(b"1"), false, &format!(r#"{HEAD},"data":1}}"#));
    }

    #[test]
    fn transports_have_the_names_that_backends_know() {
        let all = [Carrier::WebSocket, Carrier::Sse, Carrier::HttpStream, Carrier::Lines];
        let who = all.map(transport);
        assert_eq!(who, ["websocket", "sse", "http_stream", "tcp"]);
        assert_eq!(encodings(Encoding::Protobuf), ("protobuf", "binary"));
    }
}
