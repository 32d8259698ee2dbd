//! The client's side of the wires: messages to bytes, and the server's bytes to messages.
//! It is written apart from weir's own codecs, so that a mistake in one shows against the other.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How messages are told apart on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wire {
    /// Each message ends with a line feed.
    Lines,
    /// A four-byte big-endian length stands before each message.
    Length,
    /// WebSocket text frames (RFC 6455), after an upgrade.
    Ws,
    /// Server-Sent Events, each a chunk of a response; nothing but the request goes the other way (idle
    /// --channels only).
    Sse,
}

/// What a server sent, borrowed from the bytes it was read into.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A whole message.
    Message(&'a [u8]),
    /// A WebSocket ping; its payload belongs into the pong.
    Ping(&'a [u8]),
    /// A WebSocket pong.
    Pong,
    /// A WebSocket close with its code, if it has one.
    Close(Option<u16>),
    /// What stands around events: the head of the response, comments, blank lines, the end of the body.
    Nothing,
}

/// Bytes that no correct server sends: a masked, reserved or fragmented frame, a bad length, or a
/// response that is none of events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Garbled;

/// The opcodes that the generator uses (RFC 6455, 5.2).
mod opcode {
    pub(super) const TEXT: u8 = 0x1;
    pub(super) const BINARY: u8 = 0x2;
    pub(super) const CLOSE: u8 = 0x8;
    pub(super) const PING: u8 = 0x9;
    pub(super) const PONG: u8 = 0xA;
}

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

impl Wire {
    /// Appends `payload` as one message. `mask` is the WebSocket masking key; others ignore it.
    pub(crate) fn encode(self, payload: &[u8], mask: u32, out: &mut Vec<u8>) {
        match self {
            Self::Lines => {
                out.extend_from_slice(payload);
                out.push(b'\n');
            }
            Self::Length => {
                let length = u32::try_from(payload.len()).expect("messages are below 4 GiB");
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(payload);
            }
            Self::Ws => encode_frame(opcode::TEXT, payload, mask, out),
            Self::Sse => unreachable!("what is said on it is said in its request"),
        }
    }

    /// Takes the first item off `bytes`: it and the bytes it took, or `None` if it is not whole yet.
    ///
    /// # Errors
    /// [`Garbled`] if the bytes are no server's.
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<Option<(Item<'_>, usize)>, Garbled> {
        match self {
            Self::Lines => Ok(memchr::memchr(b'\n', bytes)
                .map(|end| (Item::Message(without_cr(&bytes[..end])), end + 1))),
            Self::Length => Ok(bytes.split_first_chunk().and_then(|(length, rest)| {
                let length = u32::from_be_bytes(*length) as usize;
                Some((Item::Message(rest.get(..length)?), 4 + length))
            })),
            Self::Ws => decode_frame(bytes),
            Self::Sse => decode_events(bytes),
        }
    }
}

/// Appends the pong that answers a ping with this payload.
pub(crate) fn encode_pong(payload: &[u8], mask: u32, out: &mut Vec<u8>) {
    encode_frame(opcode::PONG, payload, mask, out);
}

/// Appends a close with this code.
pub(crate) fn encode_close(code: u16, mask: u32, out: &mut Vec<u8>) {
    encode_frame(opcode::CLOSE, &code.to_be_bytes(), mask, out);
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn encode_frame(opcode: u8, payload: &[u8], mask: u32, out: &mut Vec<u8>) {
    out.push(FINAL | opcode);
    match payload.len() {
        short @ 0..=125 => out.push(MASKED | short as u8),
        medium @ 126..=0xFFFF => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    let key = mask.to_ne_bytes();
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    let wide = u64::from(mask) | u64::from(mask) << 32;
    let mut chunks = out[start..].chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes((&*chunk).try_into().expect("a chunk is 8 bytes"));
        chunk.copy_from_slice(&(word ^ wide).to_ne_bytes());
    }
    // A chunk is two keys long, so the rest starts at the key's first byte.
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

fn decode_frame(bytes: &[u8]) -> Result<Option<(Item<'_>, usize)>, Garbled> {
    let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
    // Nothing was negotiated that needs the reserved bits, echoes come unfragmented, and servers
    // do not mask (RFC 6455, 5.1).
    if first & 0xF0 != FINAL || second & MASKED != 0 {
        return Err(Garbled);
    }
    let (length, head) = match second {
        126 => match rest.first_chunk() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    let end = usize::try_from(length).ok().and_then(|length| length.checked_add(head));
    let end = end.ok_or(Garbled)?;
    let Some(payload) = bytes.get(head..end) else { return Ok(None) };
    let item = match first & 0x0F {
        opcode::TEXT | opcode::BINARY => Item::Message(payload),
        opcode::PING => Item::Ping(payload),
        opcode::PONG => Item::Pong,
        opcode::CLOSE => Item::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        _ => return Err(Garbled),
    };
    Ok(Some((item, end)))
}

/// Takes the head of a response or a chunk of its body (RFC 9112, section 7.1). The message of an event
/// is its `data:` lines as they are, without the blank line behind them.
fn decode_events(bytes: &[u8]) -> Result<Option<(Item<'_>, usize)>, Garbled> {
    const LINE_BYTES_MAX: usize = 18;
    let starts = |start: &[u8]| bytes.starts_with(&start[..start.len().min(bytes.len())]);
    if starts(b"HTTP/1.1 ") {
        if !starts(b"HTTP/1.1 200 ") {
            return Err(Garbled);
        }
        let end = memchr::memmem::find(bytes, b"\r\n\r\n");
        return Ok(end.map(|end| (Item::Nothing, end + 4)));
    }
    let Some(line) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_BYTES_MAX)]) else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(Garbled) };
    };
    let size = std::str::from_utf8(without_cr(&bytes[..line])).map_err(|_| Garbled)?;
    let size = usize::from_str_radix(size, 16).map_err(|_| Garbled)?;
    let (start, end) = (line + 1, (line + 1).checked_add(size).ok_or(Garbled)?);
    let Some(after) = bytes.get(start..).and_then(|rest| rest.get(size..)?.get(..2)) else {
        return Ok(None);
    };
    if after != b"\r\n" {
        return Err(Garbled);
    }
    let event = bytes[start..end].strip_suffix(b"\n\n");
    let message = event.filter(|event| event.starts_with(b"data: ")).map(Item::Message);
    Ok(Some((message.unwrap_or(Item::Nothing), end + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server would send back for an encoded message: the same frame without its mask.
    fn served(wire: Wire, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        wire.encode(payload, 0, &mut out);
        if wire == Wire::Ws {
            let head = out.len() - payload.len() - 4;
            out.drain(head..head + 4);
            out[1] &= !MASKED;
        }
        out
    }

    #[test]
    fn a_message_of_any_size_comes_back_whole_from_any_split() {
        for wire in [Wire::Lines, Wire::Length, Wire::Ws] {
            for size in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
                let payload = vec![b'x'; size];
                let bytes = served(wire, &payload);
                assert_eq!(
                    wire.decode(&bytes),
                    Ok(Some((Item::Message(&payload), bytes.len()))),
                    "{wire:?} {size}"
                );
                for cut in (0..bytes.len().min(20)).chain([bytes.len() - 1]) {
                    assert_eq!(wire.decode(&bytes[..cut]), Ok(None), "{wire:?} {size} at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_masked_frame_is_the_one_of_rfc_6455_section_5_7() {
        let mut out = Vec::new();
        let mask = u32::from_ne_bytes([0x37, 0xfa, 0x21, 0x3d]);
        Wire::Ws.encode(b"Hello", mask, &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn the_whole_of_a_long_payload_is_masked() {
        let mut out = Vec::new();
        let payload: Vec<u8> = (0..=200).collect();
        Wire::Ws.encode(&payload, 0xDEAD_BEEF, &mut out);
        let (head, masked) = out.split_at(8);
        let unmasked: Vec<u8> =
            masked.iter().zip(head[4..].iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert_eq!(unmasked, payload);
    }

    #[test]
    fn control_frames_are_told_apart() {
        let check = |bytes: &[u8], item| {
            assert_eq!(Wire::Ws.decode(bytes), Ok(Some((item, bytes.len()))));
        };
        check(&[0x89, 2, b'h', b'i'], Item::Ping(b"hi"));
        check(&[0x8A, 0], Item::Pong);
        check(&[0x88, 2, 0x03, 0xE9], Item::Close(Some(1001)));
        check(&[0x88, 0], Item::Close(None));
    }

    #[test]
    fn an_event_is_a_chunk_of_a_response() {
        let response =
            b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n2\r\n\r\n\r\n13\r\ndata: ab\ndata: cd\n\n\r\n\
                         3\r\n:\n\n\r\n0\r\n\r\n";
        let mut items = Vec::new();
        let mut rest = &response[..];
        while let Some((item, taken)) = Wire::Sse.decode(rest).unwrap() {
            for cut in 0..taken {
                assert_eq!(Wire::Sse.decode(&rest[..cut]), Ok(None), "{item:?} at {cut}");
            }
            items.push(item);
            rest = &rest[taken..];
        }
        let event = Item::Message(b"data: ab\ndata: cd");
        let nothing = || Item::Nothing;
        assert_eq!(items, [nothing(), nothing(), event, nothing(), nothing()]);
        for bad in [&b"HTTP/1.1 503 x"[..], b"xyz\r\n", b"1\r\nabc", b"0000000000000000001"] {
            assert_eq!(Wire::Sse.decode(bad), Err(Garbled), "{bad:?}");
        }
    }

    #[test]
    fn frames_that_no_server_sends_are_garbled() {
        for bytes in [[0x81, 0x80], [0x01, 0x00], [0xC1, 0x00], [0x83, 0x00]] {
            assert_eq!(Wire::Ws.decode(&bytes), Err(Garbled), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_carriage_return_is_no_part_of_a_line() {
        assert_eq!(Wire::Lines.decode(b"a\r\nb"), Ok(Some((Item::Message(b"a"), 3))));
    }
}
