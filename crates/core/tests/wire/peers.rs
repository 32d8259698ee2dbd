//! Two other WebSocket servers fed with the same bytes, their answers in our words.

use std::io::{Cursor, Read, Write};
use std::pin::Pin;

use futures_core::Stream as _;
use tokio_websockets::{Limits, ServerBuilder};
use tungstenite::protocol::{Role, WebSocketConfig};
use weir_core::service::MessageKind;

use crate::fuzz::feed::Event;

/// Every refusal of a peer: why is not compared, since each has words of its own.
pub(crate) const REFUSED: Event = Event::Refused("refused");

/// What tungstenite makes of the stream.
pub(crate) fn tungstenite(stream: &[u8], cap: usize) -> Vec<Event> {
    use tungstenite::{Error, Message};

    let config = WebSocketConfig::default().max_message_size(Some(cap)).max_frame_size(Some(cap));
    let duplex = Duplex(Cursor::new(stream));
    let mut socket = tungstenite::WebSocket::from_raw_socket(duplex, Role::Server, Some(config));
    let mut events = Vec::new();
    loop {
        events.push(match socket.read() {
            Ok(Message::Text(text)) => Event::Message(MessageKind::Text, text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Event::Message(MessageKind::Binary, bytes.to_vec()),
            Ok(Message::Ping(payload)) => Event::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Event::Pong(payload.to_vec()),
            // What it makes of a close that it refuses.
            Ok(Message::Close(Some(frame))) if frame.reason == "Protocol violation" => {
                events.push(REFUSED);
                return events;
            }
            Ok(Message::Close(frame)) => {
                events.push(Event::Close(frame.map(|frame| frame.code.into())));
                return events;
            }
            Ok(Message::Frame(_)) => panic!("never read, says its documentation"),
            Err(Error::Io(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "the end of the stream");
                return events;
            }
            Err(_) => {
                events.push(REFUSED);
                return events;
            }
        });
    }
}

/// What tokio-websockets makes of the stream.
pub(crate) fn tokio_websockets(stream: &[u8], cap: usize) -> Vec<Event> {
    let limits = Limits::default().max_payload_len(Some(cap));
    let duplex = tokio::io::join(stream, tokio::io::sink());
    let mut socket = ServerBuilder::new().limits(limits).serve(duplex);
    let mut events = Vec::new();
    let read_all = async {
        while let Some(message) =
            std::future::poll_fn(|context| Pin::new(&mut socket).poll_next(context)).await
        {
            let Ok(message) = message else {
                events.push(REFUSED);
                return;
            };
            let payload = message.as_payload().to_vec();
            events.push(if message.is_close() {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                events.push(Event::Close(code));
                return;
            } else if message.is_ping() {
                Event::Ping(payload)
            } else if message.is_pong() {
                Event::Pong(payload)
            } else if message.is_text() {
                Event::Message(MessageKind::Text, payload)
            } else {
                Event::Message(MessageKind::Binary, payload)
            });
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without I/O").block_on(read_all);
    events
}

/// Reads the stream, then would block; writes nowhere.
struct Duplex<'a>(Cursor<&'a [u8]>);

impl Read for Duplex<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(std::io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Duplex<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
