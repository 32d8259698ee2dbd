//! The peer's side of the wires, written without weir's codecs so that the two check each other.
//!
//! Nothing here knows time or what a message means.

use crate::rng::Rng;

/// How a client's messages are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// LF or CRLF, as chance has it.
    Lines,
    /// A four-byte big-endian length.
    Length,
    /// RFC 6455 after its handshake.
    WebSocket,
}

/// What a peer is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message.
    Message(Vec<u8>),
    /// A WebSocket ping with its payload.
    Ping(Vec<u8>),
    /// A WebSocket pong with its payload.
    Pong(Vec<u8>),
    /// A WebSocket close frame and its code.
    Close(Option<u16>),
}

/// WebSocket opcodes (RFC 6455, section 5.2).
pub mod opcode {
    /// A fragment that is not the first.
    pub const CONTINUATION: u8 = 0;
    /// UTF-8.
    pub const TEXT: u8 = 1;
    /// Bytes.
    pub const BINARY: u8 = 2;
    /// The close handshake.
    pub const CLOSE: u8 = 8;
    /// A heartbeat.
    pub const PING: u8 = 9;
    /// Its answer.
    pub const PONG: u8 = 10;
}

impl Wire {
    /// One message as a peer sends it. WebSocket messages come in fragments now and then, with a
    /// ping between them.
    pub fn encode(self, payload: &[u8], text: bool, rng: &mut Rng, out: &mut Vec<u8>) {
        match self {
            Self::Lines => {
                out.extend_from_slice(payload);
                out.extend_from_slice(if rng.one_in(2) { b"\n" } else { b"\r\n" });
            }
            Self::Length => {
                let length = u32::try_from(payload.len()).expect("a short message");
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(payload);
            }
            Self::WebSocket => fragments(payload, text, rng, out),
        }
    }
}

fn fragments(payload: &[u8], text: bool, rng: &mut Rng, out: &mut Vec<u8>) {
    let mut op = if text { opcode::TEXT } else { opcode::BINARY };
    let mut rest = payload;
    while rng.one_in(4) {
        let (piece, after) = rest.split_at(rng.below(0..rest.len() + 1));
        frame(op, piece, rng, out);
        op = opcode::CONTINUATION;
        rest = after;
        if rng.one_in(3) {
            frame(0x80 | opcode::PING, b"between", rng, out);
        }
    }
    frame(0x80 | op, rest, rng, out);
}

/// One masked frame; `first` is FIN, the reserved bits and the opcode.
pub fn frame(first: u8, payload: &[u8], rng: &mut Rng, out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | u8::try_from(length).expect("small")),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(length).expect("small").to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = rng.draw().to_be_bytes();
    out.extend_from_slice(&mask[..4]);
    out.extend(payload.iter().zip(mask[..4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Reads what weir sends.
#[derive(Debug)]
pub struct Reader {
    wire: Wire,
    rest: Vec<u8>,
}

impl Reader {
    /// A reader of this wire's server side.
    pub fn new(wire: Wire) -> Self {
        Self { wire, rest: Vec::new() }
    }

    /// Takes bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// Whether every byte belonged to something whole.
    pub fn is_at_a_boundary(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next whole thing, if there is one.
    ///
    /// # Errors
    ///
    /// What a server must not send: a masked or fragmented frame, an unknown opcode.
    pub fn take(&mut self) -> Result<Option<Incoming>, String> {
        let (incoming, taken) = match self.wire {
            Wire::Lines => match self.rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => (Incoming::Message(self.rest[..end].to_vec()), end + 1),
                None => return Ok(None),
            },
            Wire::Length => {
                let Some(prefix) = self.rest.first_chunk::<4>() else { return Ok(None) };
                let end = 4 + u32::from_be_bytes(*prefix) as usize;
                let Some(payload) = self.rest.get(4..end) else { return Ok(None) };
                (Incoming::Message(payload.to_vec()), end)
            }
            Wire::WebSocket => match read_frame(&self.rest)? {
                Some(read) => read,
                None => return Ok(None),
            },
        };
        self.rest.drain(..taken);
        Ok(Some(incoming))
    }
}

fn read_frame(bytes: &[u8]) -> Result<Option<(Incoming, usize)>, String> {
    let Some(&[first, second]) = bytes.first_chunk::<2>() else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err("a server's frame is masked".into());
    }
    let (length, start): (usize, usize) = match second {
        126 => match bytes[2..].first_chunk::<2>() {
            Some(long) => (usize::from(u16::from_be_bytes(*long)), 4),
            None => return Ok(None),
        },
        127 => match bytes[2..].first_chunk::<8>() {
            Some(long) => {
                (usize::try_from(u64::from_be_bytes(*long)).map_err(|e| e.to_string())?, 10)
            }
            None => return Ok(None),
        },
        short => (usize::from(short), 2),
    };
    let end = start.checked_add(length).ok_or("a frame as long as memory")?;
    let Some(payload) = bytes.get(start..end) else { return Ok(None) };
    let payload = payload.to_vec();
    let incoming = match first {
        0x81 | 0x82 => Incoming::Message(payload),
        0x88 => Incoming::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        0x89 => Incoming::Ping(payload),
        0x8a => Incoming::Pong(payload),
        other => return Err(format!("a server's frame starts with {other:#04x}")),
    };
    Ok(Some((incoming, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wire: Wire, bytes: &[u8], expected: &[Incoming]) {
        let mut reader = Reader::new(wire);
        let mut read = Vec::new();
        for byte in bytes {
            reader.feed(&[*byte]);
            while let Some(incoming) = reader.take().expect("good bytes") {
                read.push(incoming);
            }
        }
        assert_eq!(read, expected);
        assert!(reader.is_at_a_boundary());
    }

    #[test]
    fn a_reader_takes_whole_things_from_any_split() {
        let message = |text: &str| Incoming::Message(text.into());
        check(Wire::Lines, b"one\n\ntwo\n", &[message("one"), message(""), message("two")]);
        check(Wire::Length, b"\0\0\0\x03one\0\0\0\0", &[message("one"), message("")]);
        let frames = b"\x81\x02hi\x89\x01p\x8a\0\x88\x02\x03\xe8";
        let pong = Incoming::Pong(Vec::new());
        let ping = Incoming::Ping(b"p".to_vec());
        check(Wire::WebSocket, frames, &[message("hi"), ping, pong, Incoming::Close(Some(1000))]);
    }

    #[test]
    fn a_masked_frame_from_a_server_is_a_fault() {
        let mut reader = Reader::new(Wire::WebSocket);
        reader.feed(b"\x81\x80\0\0\0\0");
        assert!(reader.take().is_err());
    }
}
