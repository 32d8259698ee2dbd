//! A raw WebSocket client with an encoder of its own, so that any frame can be sent, right or
//! wrong. It shares no code with weir's codec.

use std::net::SocketAddr;

use crate::http::{HttpPeer, Reply};
use crate::tcp::Peer;

/// Opcodes of RFC 6455, section 5.2.
pub mod opcode {
    /// A further fragment.
    pub const CONTINUATION: u8 = 0x0;
    /// Text.
    pub const TEXT: u8 = 0x1;
    /// Bytes.
    pub const BINARY: u8 = 0x2;
    /// Close.
    pub const CLOSE: u8 = 0x8;
    /// Ping.
    pub const PING: u8 = 0x9;
    /// Pong.
    pub const PONG: u8 = 0xa;
}

/// The sample key of RFC 6455, section 1.3, and the accept value it must be answered with.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// The sample masking key of RFC 6455, section 5.7.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame that weir sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The last of its message.
    pub last: bool,
    /// What it is.
    pub opcode: u8,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code and the reason of a close frame; 1005 when it has none.
    ///
    /// # Panics
    ///
    /// When it is not a close frame.
    pub fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, opcode::CLOSE, "not a close frame: {self:?}");
        match self.payload.as_slice() {
            [] => (1005, String::new()),
            [high, low, reason @ ..] => {
                (u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason).into_owned())
            }
            [_] => panic!("a close frame with one byte"),
        }
    }
}

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    /// Its socket.
    pub peer: Peer,
}

impl WebSocket {
    /// Connects to `/ws`.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_to(address, "/ws", "").await
    }

    /// Connects to `path` with more header lines, each with its end of line.
    ///
    /// # Panics
    ///
    /// When the upgrade is refused.
    pub async fn connect_to(address: SocketAddr, path: &str, headers: &str) -> Self {
        Self::upgrade(HttpPeer::connect(address).await, path, headers)
            .await
            .unwrap_or_else(|reply| panic!("no upgrade: {} {}", reply.status, reply.text()))
    }

    /// Asks for an upgrade on a connection that speaks HTTP.
    ///
    /// # Errors
    ///
    /// The reply that refused it.
    ///
    /// # Panics
    ///
    /// When the accept value is wrong, or nothing is answered.
    pub async fn upgrade(mut http: HttpPeer, path: &str, headers: &str) -> Result<Self, Reply> {
        http.request(&format!("GET {path}"), &format!("{}{headers}", Self::headers()), b"").await;
        let reply = http.reply().await;
        if reply.status != 101 {
            return Err(reply);
        }
        assert_eq!(reply.header("sec-websocket-accept"), Some(ACCEPT));
        Ok(Self { peer: http.peer })
    }

    /// The header lines that ask for an upgrade, without Host.
    pub fn headers() -> String {
        format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
        )
    }

    /// A whole text message as bytes on this wire.
    pub fn encode(text: &str) -> Vec<u8> {
        Self::frame(true, opcode::TEXT, text.as_bytes())
    }

    /// A frame as bytes, masked as a client must.
    pub fn frame(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Self::frame_head(last, opcode, payload.len() as u64);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// The head of a masked frame, in the shortest form, whatever payload follows.
    pub fn frame_head(last: bool, opcode: u8, length: u64) -> Vec<u8> {
        const MASKED: u8 = 0x80;
        let mut bytes = vec![u8::from(last) << 7 | opcode];
        match length {
            0..=125 => bytes.push(MASKED | length as u8),
            126..=0xffff => {
                bytes.push(MASKED | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(MASKED | 127);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
        }
        bytes.extend_from_slice(&MASK);
        bytes
    }

    /// A close frame as bytes.
    pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
        let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
        Self::frame(true, opcode::CLOSE, &payload)
    }

    /// Sends one text message.
    pub async fn say(&mut self, text: &str) {
        self.peer.send(&Self::encode(text)).await;
    }

    /// Sends one frame.
    pub async fn send_frame(&mut self, last: bool, opcode: u8, payload: &[u8]) {
        self.peer.send(&Self::frame(last, opcode, payload)).await;
    }

    /// The next text message. Pings before it are answered.
    ///
    /// # Panics
    ///
    /// When anything else comes.
    pub async fn hear(&mut self) -> String {
        let frame = self.next_message().await;
        assert_eq!((frame.opcode, frame.last), (opcode::TEXT, true), "not a text: {frame:?}");
        String::from_utf8(frame.payload).expect("a text of UTF-8")
    }

    /// The next text message, or `None` when weir closes before one; a close is answered.
    ///
    /// # Panics
    ///
    /// When the connection ends without a close frame.
    pub async fn try_hear(&mut self) -> Option<String> {
        let frame = self.next_message().await;
        if frame.opcode == opcode::CLOSE {
            self.send_frame(true, opcode::CLOSE, &frame.payload).await;
            return None;
        }
        Some(String::from_utf8(frame.payload).expect("a text of UTF-8"))
    }

    /// The next frame that is not a ping or a pong. Pings are answered.
    pub async fn next_message(&mut self) -> Frame {
        self.try_next_message().await.expect("a frame before the end of the connection")
    }

    /// The same, or `None` when the connection ends without one.
    pub async fn try_next_message(&mut self) -> Option<Frame> {
        loop {
            let frame = self.peer.take_parsed(parse).await?;
            match frame.opcode {
                opcode::PING => self.send_frame(true, opcode::PONG, &frame.payload).await,
                opcode::PONG => {}
                _ => return Some(frame),
            }
        }
    }

    /// The next frame, whatever it is.
    ///
    /// # Panics
    ///
    /// When none comes, or one that breaks the rules for servers.
    pub async fn next_frame(&mut self) -> Frame {
        let taken = self.peer.take_parsed(parse).await;
        taken.expect("a frame before the end of the connection")
    }

    /// Waits for weir to begin the close handshake, answers it, and waits for the end of the
    /// connection. Gives the code and the reason.
    pub async fn expect_close(&mut self) -> (u16, String) {
        let frame = self.next_message().await;
        let (code, reason) = frame.close();
        self.send_frame(true, opcode::CLOSE, &frame.payload).await;
        self.peer.expect_end().await;
        (code, reason)
    }
}

/// Reads one frame from the first bytes, if it is whole, and says how many bytes it was.
///
/// # Panics
///
/// When it breaks the rules for servers.
pub fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let ([first, second], rest) = bytes.split_first_chunk::<2>()?;
    assert_eq!(first & 0x70, 0, "reserved bits are set: {bytes:x?}");
    assert_eq!(second & 0x80, 0, "a server must not mask: {bytes:x?}");
    let (length, rest) = match second {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).expect("a length that fits"), rest)
        }
        short => (usize::from(*short), rest),
    };
    let payload = rest.get(..length)?.to_vec();
    let taken = bytes.len() - rest.len() + length;
    Some((Frame { last: first & 0x80 != 0, opcode: first & 0x0f, payload }, taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_the_masked_hello_of_rfc_6455_section_5_7() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(WebSocket::encode("Hello"), hello);
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        let sizes = [0, 125, 126, 0xffff, 0x1_0000];
        let heads = sizes.map(|size| WebSocket::frame_head(true, opcode::BINARY, size).len());
        assert_eq!(heads, [6, 6, 8, 8, 14]);
    }
}
