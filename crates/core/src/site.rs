//! What every connection of one listener (or of one path of HTTP) shares: its wire, its service,
//! its limits. One value for each, made at start, never changed.

use std::sync::Arc;

use bytes::Bytes;

use crate::close::CloseReason;
use crate::limits::{Limits, Timeouts};
use crate::service::{Carrier, MessageKind, Service};
use crate::wire::websocket::encode::Opcode;
use crate::wire::{length, lines, stream, websocket};

/// What any wire adds to a message: around an event in a chunk it is this, short of its line ends.
const FRAMING_BYTES_MAX: usize = 28;

/// The wire of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteWire {
    /// Lines.
    Lines(lines::Options),
    /// Length-prefixed messages.
    Length {
        /// The form of the prefix.
        prefix: length::Prefix,
        /// Whether messages must be UTF-8.
        text: bool,
    },
    /// WebSocket.
    WebSocket,
    /// An HTTP response that does not end.
    Stream(stream::Options),
}

impl SiteWire {
    /// `payload` as one whole message of this wire, to be shared by those who are sent it.
    pub fn frame(self, kind: MessageKind, payload: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(payload.len() + FRAMING_BYTES_MAX);
        self.encode(payload, kind, &mut out);
        out.into()
    }

    /// Appends `payload` as one message of this wire.
    pub(crate) fn encode(self, payload: &[u8], kind: MessageKind, out: &mut Vec<u8>) {
        self.encode_reply(&[payload], lines::Plain::default(), kind, out);
    }

    /// Appends `parts`, joined, as one message of this wire. On lines the part that is `plain`
    /// needs no search for line endings.
    #[inline]
    pub(crate) fn encode_reply(
        self,
        parts: &[&[u8]],
        plain: lines::Plain,
        kind: MessageKind,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Lines(_) => lines::encode_parts(parts, plain, out),
            Self::Length { prefix, .. } => match parts {
                [one] => encode_length(prefix, one, out),
                many => encode_length(prefix, &many.concat(), out),
            },
            Self::WebSocket => {
                let opcode = match kind {
                    MessageKind::Text => Opcode::Text,
                    MessageKind::Binary => Opcode::Binary,
                };
                let len = parts.iter().map(|part| part.len()).sum();
                out.extend_from_slice(&websocket::encode::header(opcode, len));
                for part in parts {
                    out.extend_from_slice(part);
                }
            }
            Self::Stream(options) => options.encode(parts, kind, out),
        }
    }
}

fn encode_length(prefix: length::Prefix, payload: &[u8], out: &mut Vec<u8>) {
    if length::encode(prefix, payload, out).is_err() {
        // A reply that the prefix cannot carry: the peer must still get its answer.
        let text = b"error: reply has no form for the length prefix";
        if length::encode(prefix, text, out).is_err() {
            tracing::error!("a length prefix that carries nothing");
        }
    }
}

/// What the connections of one listener, or of one WebSocket or stream path, share.
pub struct Site {
    /// The listener's configured name.
    pub listener: String,
    /// This site's index in the engine's list.
    pub index: u16,
    /// Its place among the message counters, shared by sites of one listener and route.
    pub cells: u16,
    /// How bytes become messages.
    pub wire: SiteWire,
    /// What is done with them.
    pub service: Arc<dyn Service>,
    /// Caps.
    pub limits: Limits,
    /// Waits.
    pub timeouts: Timeouts,
    /// A line sent each `ping_interval`, on a lines wire.
    pub heartbeat: Option<Bytes>,
    /// A line sent when the drain closes the connection, on a lines wire.
    pub farewell: Option<Bytes>,
    /// Where a connection goes on whose first byte is not `{`: the site, and its wire. Its limits are
    /// these.
    pub unless_json: Option<(u16, SiteWire)>,
}

/// The sites of the connections that one path of an HTTP listener hands to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathSites {
    /// None: each request is answered where it is read.
    Nowhere,
    /// WebSockets.
    WebSocket(u16),
    /// Streams: those in chunks, and those of HTTP/1.0.
    Stream { chunked: u16, close: u16 },
}

impl PathSites {
    /// The site of a connection that leaves HTTP; `framing` is that of its stream.
    pub(crate) fn of(self, framing: Option<stream::Framing>) -> Option<u16> {
        match (self, framing) {
            (Self::WebSocket(site), None) => Some(site),
            (Self::Stream { chunked, .. }, Some(stream::Framing::Chunked)) => Some(chunked),
            (Self::Stream { close, .. }, Some(stream::Framing::Close)) => Some(close),
            (Self::Nowhere, _) | (Self::WebSocket(_), Some(_)) | (Self::Stream { .. }, None) => {
                None
            }
        }
    }

    /// One of them: all count at one place.
    pub(crate) fn any(self) -> Option<u16> {
        match self {
            Self::Nowhere => None,
            Self::WebSocket(site) | Self::Stream { chunked: site, .. } => Some(site),
        }
    }
}

/// The decoder of one connection.
pub(crate) enum Decoder {
    Lines(lines::Decoder),
    Length(length::Decoder),
    WebSocket(websocket::Decoder),
    Stream(stream::Decoder),
}

impl Site {
    /// How messages are carried here.
    pub fn carrier(&self) -> Carrier {
        match self.wire {
            SiteWire::Lines(_) => Carrier::Lines,
            SiteWire::Length { .. } => Carrier::Length,
            SiteWire::WebSocket => Carrier::WebSocket,
            SiteWire::Stream(options) => match options.form {
                stream::Form::Sse => Carrier::Sse,
                stream::Form::HttpStream => Carrier::HttpStream,
            },
        }
    }

    /// A decoder at the first byte of a connection; on a stream the first are those of `request`.
    pub(crate) fn decoder(&self, request: Option<stream::Request>) -> Decoder {
        self.decoder_of(self.wire, request)
    }

    /// As [`Site::decoder`], for a connection that goes on with another wire.
    pub(crate) fn decoder_of(&self, wire: SiteWire, request: Option<stream::Request>) -> Decoder {
        let max = self.limits.message_bytes_max;
        match wire {
            SiteWire::Lines(options) => Decoder::Lines(lines::Decoder::new(options, max)),
            SiteWire::Length { prefix, text } => {
                Decoder::Length(length::Decoder::new(prefix, text, max))
            }
            SiteWire::WebSocket => {
                let options = websocket::Options { message_bytes_max: max };
                Decoder::WebSocket(websocket::Decoder::new(options))
            }
            SiteWire::Stream(_) => Decoder::Stream(stream::Decoder::new(request)),
        }
    }

    /// Appends the heartbeat of this wire; false when it has none.
    pub(crate) fn encode_heartbeat(&self, out: &mut Vec<u8>) -> bool {
        match (self.wire, &self.heartbeat) {
            (SiteWire::WebSocket, _) => websocket::encode::frame(Opcode::Ping, b"", out),
            (SiteWire::Lines(_), Some(line)) => lines::encode(line, out),
            (SiteWire::Stream(options), _) => return options.heartbeat(out),
            _ => return false,
        }
        true
    }

    /// Whether the heartbeat of this wire wants an answer.
    pub(crate) fn expects_pong(&self) -> bool {
        self.wire == SiteWire::WebSocket
    }

    /// Appends what a peer is told last, in the wire's own form: a Close frame (with `echo` in
    /// place of our code when the peer closed first), an error line, a farewell, or nothing; and
    /// then the end of a stream.
    pub(crate) fn encode_goodbye(
        &self,
        reason: CloseReason,
        echo: Option<Option<u16>>,
        out: &mut Vec<u8>,
    ) {
        match self.wire {
            SiteWire::WebSocket => match echo {
                Some(code) => websocket::encode::close(code, "", out),
                None => websocket::encode::close(Some(reason.code()), &self.text(reason), out),
            },
            SiteWire::Lines(_) | SiteWire::Length { .. } | SiteWire::Stream(_) => {
                self.encode_last_message(reason, out);
                self.encode_end(out);
            }
        }
    }

    /// Appends what stands behind the last message.
    pub(crate) fn encode_end(&self, out: &mut Vec<u8>) {
        if let SiteWire::Stream(options) = self.wire {
            options.end(out);
        }
    }

    fn encode_last_message(&self, reason: CloseReason, out: &mut Vec<u8>) {
        if matches!(reason, CloseReason::Exit | CloseReason::PeerClosed) {
            return;
        }
        if matches!(reason, CloseReason::Aged | CloseReason::Drained | CloseReason::Forced) {
            if let Some(line) = &self.farewell {
                self.wire.encode(line, MessageKind::Text, out);
            }
            return;
        }
        let text = format!("error: {}", self.text(reason));
        self.wire.encode(text.as_bytes(), MessageKind::Text, out);
    }

    /// The text of a reason, with the number of the limit where there is one.
    fn text(&self, reason: CloseReason) -> String {
        let text = reason.text();
        if reason == CloseReason::MessageTooBig {
            return format!("{text} = {} bytes", self.limits.message_bytes_max);
        }
        if reason == CloseReason::SlowConsumer {
            return format!("{text} = {} bytes", self.limits.outbox_bytes_max);
        }
        text.to_owned()
    }
}
