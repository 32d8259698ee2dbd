//! A push for many: encoded once in each encoding that somebody speaks, and shared by everybody in the form of
//! their wire. Who they are, and in which turn they are sent it, is the hub's business.

use bytes::Bytes;
use weir_core::budget::SharedFrames;
use weir_core::service::MessageKind;
use weir_core::site::SiteWire;
use weir_core::wire::length::Prefix;
use weir_core::wire::stream::{self, Framing};
use weir_core::wire::websocket::encode::{Opcode, header};

use super::push::{Event, Push};
use super::reply::Reply;
use super::{EncodeError, Encoding};

/// Room for the header of a WebSocket's frame: RFC 6455, section 5.2. A shorter one stands at its end.
const HEADER_BYTES_MAX: usize = 10;

/// The envelope, and the few fields that most pushes have beside their payload.
const ENVELOPE_BYTES: usize = 96;

/// How a push looks where it leaves: its encoding, and what the wire has around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A JSON object alone, for who frames it elsewhere.
    Json,
    /// JSON as a whole text frame of a WebSocket.
    JsonFrame,
    /// JSON and the end of its line: TCP, HTTP stream.
    JsonLine,
    /// The same in a chunk: HTTP/1.1.
    JsonLineChunk,
    /// JSON as one event of an event stream: SSE.
    JsonEvent,
    /// The same in a chunk: HTTP/1.1.
    JsonEventChunk,
    /// Protobuf behind its length, which needs no more on TCP and in an HTTP stream.
    Protobuf,
    /// The same in a chunk: HTTP/1.1.
    ProtobufChunk,
    /// Protobuf behind its length as a whole binary frame of a WebSocket.
    ProtobufFrame,
}

impl Form {
    /// Every form; `form as usize` is its index here.
    pub const ALL: [Self; 9] = [
        Self::Json,
        Self::JsonFrame,
        Self::JsonLine,
        Self::JsonLineChunk,
        Self::JsonEvent,
        Self::JsonEventChunk,
        Self::Protobuf,
        Self::ProtobufChunk,
        Self::ProtobufFrame,
    ];

    /// The form on a wire of the engine. `None`: the protocol does not go over it in this encoding.
    pub const fn of(wire: SiteWire, encoding: Encoding) -> Option<Self> {
        match (wire, encoding) {
            (SiteWire::WebSocket, Encoding::Json) => Some(Self::JsonFrame),
            (SiteWire::WebSocket, Encoding::Protobuf) => Some(Self::ProtobufFrame),
            (SiteWire::Lines(_), Encoding::Json) => Some(Self::JsonLine),
            (SiteWire::Length { prefix: Prefix::Varint, .. }, Encoding::Protobuf) => {
                Some(Self::Protobuf)
            }
            (SiteWire::Stream(options), encoding) => Self::of_stream(options, encoding),
            (SiteWire::Lines(_), Encoding::Protobuf) | (SiteWire::Length { .. }, _) => None,
        }
    }

    const fn of_stream(options: stream::Options, encoding: Encoding) -> Option<Self> {
        Some(match (options.form, options.framing, encoding) {
            (stream::Form::Sse, Framing::Chunked, Encoding::Json) => Self::JsonEventChunk,
            (stream::Form::Sse, Framing::Close, Encoding::Json) => Self::JsonEvent,
            (stream::Form::HttpStream, Framing::Chunked, Encoding::Json) => Self::JsonLineChunk,
            (stream::Form::HttpStream, Framing::Close, Encoding::Json) => Self::JsonLine,
            (stream::Form::HttpStream, Framing::Chunked, Encoding::Protobuf) => Self::ProtobufChunk,
            (stream::Form::HttpStream, Framing::Close, Encoding::Protobuf) => Self::Protobuf,
            (stream::Form::Sse, _, Encoding::Protobuf) => return None,
        })
    }

    /// What it is a copy of, and the stream whose framing is around that copy.
    const fn copied(self) -> Option<(Self, stream::Options)> {
        let (of, form, framing) = match self {
            Self::JsonEvent => (Self::Json, stream::Form::Sse, Framing::Close),
            Self::JsonEventChunk => (Self::Json, stream::Form::Sse, Framing::Chunked),
            Self::JsonLineChunk => (Self::Json, stream::Form::HttpStream, Framing::Chunked),
            Self::ProtobufChunk => (Self::Protobuf, stream::Form::HttpStream, Framing::Chunked),
            Self::Json
            | Self::JsonFrame
            | Self::JsonLine
            | Self::Protobuf
            | Self::ProtobufFrame => {
                return None;
            }
        };
        Some((of, stream::Options { form, framing }))
    }

    /// The encoding of what is in it.
    pub const fn encoding(self) -> Encoding {
        match self {
            Self::Json
            | Self::JsonFrame
            | Self::JsonLine
            | Self::JsonLineChunk
            | Self::JsonEvent
            | Self::JsonEventChunk => Encoding::Json,
            Self::Protobuf | Self::ProtobufChunk | Self::ProtobufFrame => Encoding::Protobuf,
        }
    }
}

/// The bytes of one push, in the forms that were wanted so far. The push itself is not kept, so this can wait
/// between the turns of a fan-out.
///
/// All forms of an encoding are parts of one buffer, but for events and chunks, which are copies.
#[derive(Clone, Debug, Default)]
pub struct SharedPush {
    /// By form.
    made: [Option<Bytes>; Form::ALL.len()],
    /// By encoding: why there is none.
    refused: [Option<EncodeError>; 2],
    /// Where its bytes are counted.
    frames: SharedFrames,
}

impl SharedPush {
    /// One whose bytes are counted here for as long as anybody has them.
    pub fn counted(frames: SharedFrames) -> Self {
        Self { frames, ..Self::default() }
    }

    /// The bytes in this form. `push` is asked for when its encoding is wanted for the first time, and
    /// never again, not even when it cannot be encoded.
    ///
    /// # Errors
    ///
    /// Those of [`Reply::encode`]: nobody with this form can be sent it.
    #[inline]
    pub fn form<'p>(
        &mut self,
        form: Form,
        push: impl FnOnce() -> Push<'p>,
    ) -> Result<&Bytes, EncodeError> {
        if self.made[form as usize].is_none() {
            self.make(form, push)?;
        }
        Ok(self.made[form as usize].as_ref().expect("it was there or is made"))
    }

    #[cold]
    fn make<'p>(&mut self, form: Form, push: impl FnOnce() -> Push<'p>) -> Result<(), EncodeError> {
        let encoding = form.encoding();
        if let Some(error) = self.refused[encoding as usize] {
            return Err(error);
        }
        let copied = form.copied();
        // A copy may be wanted when the rest of its encoding is there.
        if copied.is_none_or(|(of, _)| self.made[of as usize].is_none()) {
            let encoded = match encoding {
                Encoding::Json => self.make_json(push()),
                Encoding::Protobuf => self.make_protobuf(push()),
            };
            encoded.inspect_err(|error| self.refused[encoding as usize] = Some(*error))?;
        }
        if let Some((of, options)) = copied {
            let kind = match encoding {
                Encoding::Json => MessageKind::Text,
                Encoding::Protobuf => MessageKind::Binary,
            };
            let frames = &self.frames;
            let frame =
                |reply: &[u8]| frames.frame(SiteWire::Stream(options).frame(kind, reply).into());
            self.made[form as usize] = self.made[of as usize].as_deref().map(frame);
        }
        Ok(())
    }

    fn make_json(&mut self, push: Push<'_>) -> Result<(), EncodeError> {
        let (mut buffer, start) = framed(Encoding::Json, push)?;
        let end = buffer.len();
        buffer.push(b'\n');
        let buffer = self.frames.frame(buffer);
        self.made[Form::Json as usize] = Some(buffer.slice(HEADER_BYTES_MAX..end));
        self.made[Form::JsonFrame as usize] = Some(buffer.slice(start..end));
        self.made[Form::JsonLine as usize] = Some(buffer.slice(HEADER_BYTES_MAX..));
        Ok(())
    }

    fn make_protobuf(&mut self, push: Push<'_>) -> Result<(), EncodeError> {
        let (buffer, start) = framed(Encoding::Protobuf, push)?;
        let buffer = self.frames.frame(buffer);
        self.made[Form::Protobuf as usize] = Some(buffer.slice(HEADER_BYTES_MAX..));
        self.made[Form::ProtobufFrame as usize] = Some(buffer.slice(start..));
        Ok(())
    }
}

/// The reply, from [`HEADER_BYTES_MAX`] on, and where the header of its WebSocket frame begins before it.
fn framed(encoding: Encoding, push: Push<'_>) -> Result<(Vec<u8>, usize), EncodeError> {
    let mut size = HEADER_BYTES_MAX + ENVELOPE_BYTES + push.channel.len();
    if let Event::Publication(publication) = &push.event {
        size += publication.data.bytes().len();
    }
    let mut buffer = Vec::with_capacity(size);
    buffer.resize(HEADER_BYTES_MAX, 0);
    Reply::push(push).encode(encoding, &mut buffer)?;
    let opcode = match encoding {
        Encoding::Json => Opcode::Text,
        Encoding::Protobuf => Opcode::Binary,
    };
    let header = header(opcode, buffer.len() - HEADER_BYTES_MAX);
    let start = HEADER_BYTES_MAX - header.len();
    buffer[start..HEADER_BYTES_MAX].copy_from_slice(&header);
    Ok((buffer, start))
}

#[cfg(test)]
mod tests {
    use weir_core::wire::lines;

    use super::*;
    use crate::protocol::Payload;
    use crate::protocol::push::{Join, Publication};

    const LINES: SiteWire = SiteWire::Lines(lines::Options {
        text: true,
        empty: lines::EmptyLines::Skip,
        unfinished: lines::UnfinishedLine::Drop,
    });
    const SSE: stream::Form = stream::Form::Sse;
    const STREAM: stream::Form = stream::Form::HttpStream;
    const LENGTHS: SiteWire = SiteWire::Length { prefix: Prefix::Varint, text: false };

    /// What the form is to be: the ordinary reply, framed by the ordinary wire.
    fn ordinary(form: Form, push: Push<'_>) -> Vec<u8> {
        let mut reply = Vec::new();
        Reply::push(push).encode(form.encoding(), &mut reply).expect("it can be written");
        match form {
            Form::Json | Form::Protobuf => reply,
            Form::JsonFrame => SiteWire::WebSocket.frame(MessageKind::Text, &reply).into(),
            Form::ProtobufFrame => SiteWire::WebSocket.frame(MessageKind::Binary, &reply).into(),
            Form::JsonLine => LINES.frame(MessageKind::Text, &reply).into(),
            Form::JsonEvent => [b"data: ", &reply[..], b"\n\n"].concat(),
            Form::JsonEventChunk => chunk(&[b"data: ", &reply[..], b"\n\n"].concat()),
            Form::JsonLineChunk => chunk(&[&reply[..], b"\n"].concat()),
            Form::ProtobufChunk => chunk(&reply),
        }
    }

    fn chunk(bytes: &[u8]) -> Vec<u8> {
        [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
    }

    fn streams(form: stream::Form, framing: Framing) -> SiteWire {
        SiteWire::Stream(stream::Options { form, framing })
    }

    #[test]
    fn a_wire_has_the_form_that_the_engine_would_make() {
        for (wire, encoding, form) in [
            (SiteWire::WebSocket, Encoding::Json, Some(Form::JsonFrame)),
            (SiteWire::WebSocket, Encoding::Protobuf, Some(Form::ProtobufFrame)),
            (LINES, Encoding::Json, Some(Form::JsonLine)),
            (LINES, Encoding::Protobuf, None),
            (LENGTHS, Encoding::Json, None),
            (LENGTHS, Encoding::Protobuf, Some(Form::Protobuf)),
            (SiteWire::Length { prefix: Prefix::U8, text: false }, Encoding::Protobuf, None),
            (streams(SSE, Framing::Chunked), Encoding::Json, Some(Form::JsonEventChunk)),
            (streams(SSE, Framing::Close), Encoding::Json, Some(Form::JsonEvent)),
            (streams(SSE, Framing::Chunked), Encoding::Protobuf, None),
            (streams(STREAM, Framing::Chunked), Encoding::Json, Some(Form::JsonLineChunk)),
            (streams(STREAM, Framing::Close), Encoding::Json, Some(Form::JsonLine)),
            (streams(STREAM, Framing::Chunked), Encoding::Protobuf, Some(Form::ProtobufChunk)),
            (streams(STREAM, Framing::Close), Encoding::Protobuf, Some(Form::Protobuf)),
        ] {
            assert_eq!(Form::of(wire, encoding), form);
        }
        let reply = ordinary(Form::Protobuf, publication("a", Payload::json(b"1")));
        assert_eq!(LENGTHS.frame(MessageKind::Binary, &reply[1..]), reply);
    }

    #[track_caller]
    fn check(push: &Push<'_>) {
        for first in Form::ALL {
            let mut shared = SharedPush::default();
            let mut asked = [0; 2];
            for form in [first].into_iter().chain(Form::ALL) {
                let made = shared.form(form, || {
                    asked[form.encoding() as usize] += 1;
                    push.clone()
                });
                let made = made.expect("it can be written");
                assert_eq!(made, &ordinary(form, push.clone()), "{form:?} after {first:?}");
            }
            assert_eq!(asked, [1, 1]);
        }
    }

    fn publication<'a>(channel: &'a str, data: Payload<'a>) -> Push<'a> {
        let publication = Publication { data, offset: 42, ..Publication::default() };
        Push::publication(channel, publication)
    }

    #[test]
    fn every_form_is_the_ordinary_reply_in_the_ordinary_frame() {
        check(&publication("news:\"ż\"", Payload::new(b"{\"a\":\r\n [1,\n2]}\n")));
        check(&Push {
            channel: "news".into(),
            event: Event::Join(Join::default()),
            ..Push::default()
        });
    }

    #[test]
    fn a_frame_has_the_header_of_its_length() {
        // Around the lengths at which a header grows, in both encodings.
        for len in (20..130).chain(65_440..65_540) {
            let data = format!("\"{}\"", "x".repeat(len));
            check(&publication("a", Payload::json(data.as_bytes())));
        }
    }

    #[test]
    fn what_cannot_be_encoded_is_refused_to_everybody_and_tried_once() {
        let (mut shared, mut asked) = (SharedPush::default(), 0);
        let bytes = publication("a", Payload::new(b"\x00\xff"));
        for form in Form::ALL {
            let made = shared.form(form, || {
                asked += 1;
                bytes.clone()
            });
            match form.encoding() {
                Encoding::Json => assert_eq!(made, Err(EncodeError::NotJson { field: "data" })),
                Encoding::Protobuf => {
                    assert_eq!(made.expect("bytes"), &ordinary(form, bytes.clone()))
                }
            }
        }
        assert_eq!(asked, 2);
    }

    #[test]
    fn those_who_have_a_form_share_its_bytes() {
        let mut shared = SharedPush::default();
        let push = || publication("a", Payload::json(b"1"));
        let starts: Vec<_> = [Form::JsonLine, Form::Json, Form::JsonFrame, Form::JsonLine]
            .map(|form| shared.form(form, push).expect("it is JSON").as_ptr().addr())
            .to_vec();
        let header = 2;
        assert_eq!(starts, [starts[0], starts[0], starts[0] - header, starts[0]]);
    }

    #[test]
    fn every_form_is_where_its_index_says() {
        assert!(Form::ALL.iter().enumerate().all(|(at, form)| *form as usize == at));
    }
}
