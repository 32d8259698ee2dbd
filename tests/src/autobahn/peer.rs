//! The client's end of the wire: an upgrade, frames as they are given, and the server's frames
//! held to the rules for servers. What goes wrong is a value, so that a case can be judged by it.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::case::Frame;

/// A connection after the upgrade.
pub(super) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What the server sent.
pub(super) enum Incoming {
    Frame(Frame),
    /// The connection ended, with a FIN or a reset.
    End,
}

impl Peer {
    /// Connects and upgrades.
    pub(super) async fn open(address: SocketAddr, path: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut peer = Self { stream, buffer: Vec::new() };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        peer.send(request.as_bytes()).await.map_err(|error| error.to_string())?;
        loop {
            if let Some(end) = peer.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&peer.buffer[..end]).into_owned();
                peer.buffer.drain(..end + 4);
                let upgraded = head.starts_with("HTTP/1.1 101");
                return if upgraded { Ok(peer) } else { Err(format!("no upgrade: {head}")) };
            }
            if !peer.fill().await {
                return Err("the connection ended before the upgrade".to_owned());
            }
        }
    }

    /// Sends bytes and lets the server run.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        tokio::task::yield_now().await;
        Ok(())
    }

    /// The server's next frame.
    ///
    /// # Errors
    ///
    /// A rule that the frame breaks.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, it has taken nothing.
    pub(super) async fn receive(&mut self) -> Result<Incoming, String> {
        loop {
            if let Some((frame, taken)) = decode(&self.buffer)? {
                self.buffer.drain(..taken);
                return Ok(Incoming::Frame(frame));
            }
            if !self.fill().await {
                return Ok(Incoming::End);
            }
        }
    }

    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..))
    }
}

/// Reads an unmasked frame, if it is whole.
fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>, String> {
    let Some(([first, second], rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    if second & 0x80 != 0 {
        return Err("the server masked a frame".to_owned());
    }
    let (len, size) = match (second, rest) {
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, rest) => match rest.first_chunk() {
            Some(len) => (u64::from_be_bytes(*len), 10),
            None => return Ok(None),
        },
        (126, _) => return Ok(None),
        (short, _) => (u64::from(*short), 2),
    };
    let end = size + usize::try_from(len).map_err(|_| format!("a frame of {len} bytes"))?;
    let Some(payload) = bytes.get(size..end) else {
        return Ok(None);
    };
    let payload = payload.to_vec();
    let frame = Frame { fin: first & 0x80 != 0, rsv: first >> 4 & 7, opcode: first & 0xf, payload };
    Ok(Some((frame, end)))
}

/// Appends a frame, masked with `key`, its length in the shortest form.
pub(super) fn encode(frame: &Frame, key: [u8; 4], out: &mut Vec<u8>) {
    out.push(u8::from(frame.fin) << 7 | frame.rsv << 4 | frame.opcode);
    match frame.payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(&frame.payload);
    let (words, rest) = out[start..].as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}
