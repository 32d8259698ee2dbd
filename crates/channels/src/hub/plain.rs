//! A publication for connections that do not speak the client protocol: what is published, or an
//! envelope around it, as one message of their wire.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use weir_core::service::MessageKind;
use weir_core::site::SiteWire;
use weir_core::wire::stream;

use crate::broker::Publication;

/// What is written of a publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Written {
    /// A JSON string as its text, everything else as it was published.
    #[default]
    Text,
    /// Everything as it was published.
    Data,
    /// A JSON object with `channel`, `offset` where there is a history, `user` where one is known, and
    /// `data`; or `b64data` where that is neither JSON nor text.
    Envelope,
}

/// How a connection reads publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// The wire that it is reached by.
    pub(crate) wire: SiteWire,
    /// What is written.
    pub(crate) written: Written,
}

#[derive(Serialize)]
struct Envelope<'a> {
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(flatten)]
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json { data: &'a RawValue },
    Text { data: &'a str },
    Bytes { b64data: String },
}

impl<'a> Data<'a> {
    fn of(data: &'a [u8]) -> Self {
        use base64::Engine as _;
        match (serde_json::from_slice(data), std::str::from_utf8(data)) {
            (Ok(data), _) => Self::Json { data },
            (Err(_), Ok(data)) => Self::Text { data },
            (Err(_), Err(_)) => {
                Self::Bytes { b64data: base64::engine::general_purpose::STANDARD.encode(data) }
            }
        }
    }
}

impl Plain {
    /// The whole message, to be shared by all that read it so.
    pub(super) fn frame(self, channel: &str, publication: &Publication) -> Bytes {
        let payload = match self.written {
            Written::Text => text(&publication.data),
            Written::Data => Cow::Borrowed(&*publication.data),
            Written::Envelope => Cow::Owned(envelope(channel, publication)),
        };
        let kind = match std::str::from_utf8(&payload) {
            Ok(_) => MessageKind::Text,
            Err(_) => MessageKind::Binary,
        };
        self.wire.frame(kind, &self.in_one_line(payload))
    }

    /// Lines have one line a message by themselves. A stream of text has its line ends where the
    /// message has them, and nobody but weir may begin the next message.
    fn in_one_line(self, payload: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
        let is_text_stream = matches!(
            self.wire,
            SiteWire::Stream(stream::Options { form: stream::Form::HttpStream, .. })
        );
        if !is_text_stream || memchr::memchr2(b'\n', b'\r', &payload).is_none() {
            return payload;
        }
        let mut payload = payload.into_owned();
        for byte in &mut payload {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        Cow::Owned(payload)
    }
}

/// A JSON string as its text.
fn text(data: &[u8]) -> Cow<'_, [u8]> {
    if data.trim_ascii_start().first() != Some(&b'"') {
        return Cow::Borrowed(data);
    }
    match serde_json::from_slice::<String>(data) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        Err(_) => Cow::Borrowed(data),
    }
}

fn envelope(channel: &str, publication: &Publication) -> Vec<u8> {
    let user = publication.info.as_deref().map(|info| &*info.user);
    let envelope = Envelope {
        channel,
        offset: publication.position.map(|position| position.offset),
        user: user.filter(|user| !user.is_empty()),
        data: Data::of(&publication.data),
    };
    serde_json::to_vec(&envelope).expect("texts, numbers and what is JSON already")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_core::clock;
    use weir_core::wire::length::Prefix;
    use weir_core::wire::lines;

    use super::*;
    use crate::broker::{Answer, Broker as _, ClientInfo, Limits, Memory, Publish, StreamOptions};

    const LINES: SiteWire = SiteWire::Lines(lines::Options {
        text: true,
        empty: lines::EmptyLines::Skip,
        unfinished: lines::UnfinishedLine::Drop,
    });
    const LENGTH: SiteWire = SiteWire::Length { prefix: Prefix::U16Be, text: false };
    const STREAM: SiteWire = SiteWire::Stream(stream::Options {
        form: stream::Form::HttpStream,
        framing: stream::Framing::Close,
    });

    fn publication(data: &[u8]) -> Publication {
        Publication::new(data, 0, clock::now())
    }

    #[track_caller]
    fn check(wire: SiteWire, written: Written, data: &[u8], expected: &[u8]) {
        let frame = Plain { wire, written }.frame("news", &publication(data));
        assert_eq!(frame, expected, "{:?}", String::from_utf8_lossy(&frame));
    }

    #[test]
    fn a_string_is_written_as_its_text_and_other_json_as_it_is() {
        check(LINES, Written::Text, br#""open \"it\"""#, b"open \"it\"\n");
        check(LINES, Written::Text, br#"{"a":"x"}"#, b"{\"a\":\"x\"}\n");
        check(LINES, Written::Data, br#""open""#, b"\"open\"\n");
        check(LINES, Written::Text, b"\"open", b"\"open\n");
        check(LENGTH, Written::Text, br#""open""#, b"\x00\x04open");
        check(SiteWire::WebSocket, Written::Text, br#""open""#, b"\x81\x04open");
        check(SiteWire::WebSocket, Written::Text, b"\xff", b"\x82\x01\xff");
    }

    #[test]
    fn nobody_begins_a_line_inside_of_another() {
        check(LINES, Written::Text, br#""a\nb""#, b"a b\n");
        check(STREAM, Written::Text, br#""a\r\nb""#, b"a  b\n");
        check(STREAM, Written::Data, b"[1,\n2]", b"[1, 2]\n");
        check(LENGTH, Written::Text, br#""a\nb""#, b"\x00\x03a\nb");
    }

    #[test]
    fn an_envelope_says_where_it_is_from_and_holds_anything() {
        check(LINES, Written::Envelope, b"[1]", b"{\"channel\":\"news\",\"data\":[1]}\n");
        check(LINES, Written::Envelope, b"warm", b"{\"channel\":\"news\",\"data\":\"warm\"}\n");
        check(LINES, Written::Envelope, b"\xff", b"{\"channel\":\"news\",\"b64data\":\"/w==\"}\n");
        let ann = ClientInfo { user: "ann".into(), ..ClientInfo::default() };
        let mut one = publication(b"1").by(Arc::new(ann));
        let minute = std::time::Duration::from_secs(60);
        let stream = Some(StreamOptions { size: 1, ttl: minute, meta_ttl: minute });
        let publish = Publish { stream, ..Publish::default() };
        let broker = Memory::new(Limits::default(), 7);
        let Answer::Now(Ok(published)) = broker.publish("news", one.clone(), publish, one.taken)
        else {
            panic!("it is published")
        };
        one.position = published.position;
        let frame = Plain { wire: LINES, written: Written::Envelope }.frame("news", &one);
        let line = "{\"channel\":\"news\",\"offset\":1,\"user\":\"ann\",\"data\":1}\n";
        assert_eq!(frame, line);
    }
}
