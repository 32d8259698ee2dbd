//! Frames to be written: a server's, without a mask, and a client's for tests and the load
//! generator. Nothing here checks the order of frames.

use super::mask;

/// A server's longest frame header.
const HEADER_BYTES_MAX: usize = 10;
/// A close reason's most bytes: a control frame's 125 without the code's two.
const REASON_BYTES_MAX: usize = 123;

/// What a frame is (RFC 6455, section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0x0,
    /// A text message, or its first fragment.
    Text = 0x1,
    /// A message of bytes, or its first fragment.
    Binary = 0x2,
    /// The end of what an endpoint sends.
    Close = 0x8,
    /// Wants a pong.
    Ping = 0x9,
    /// Answers a ping, or nothing.
    Pong = 0xa,
}

impl Opcode {
    /// The opcode of these four bits, `None` for the reserved ones.
    #[inline]
    pub(super) const fn parse(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Whether this is a control frame: never in fragments, at most 125 bytes.
    #[inline]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

impl From<Opcode> for u8 {
    fn from(opcode: Opcode) -> Self {
        opcode as Self
    }
}

/// The header of a server's frame: 2, 4 or 10 bytes. Dereferences to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; 10],
    len: u8,
}

impl std::ops::Deref for Header {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// The header of a whole, unmasked frame with a payload of `len` bytes.
#[inline]
pub fn header(opcode: Opcode, len: usize) -> Header {
    let mut bytes = [0; 10];
    bytes[0] = 0x80 | opcode as u8;
    let len = match len {
        0..=125 => {
            bytes[1] = len as u8;
            2
        }
        126..=0xffff => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(len as u64).to_be_bytes());
            10
        }
    };
    Header { bytes, len }
}

/// Appends a whole, unmasked frame. A control frame's payload must be within 125 bytes.
#[inline]
pub fn frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(!opcode.is_control() || payload.len() <= 125, "control frame over 125 bytes");
    out.reserve(HEADER_BYTES_MAX + payload.len());
    match payload.len() {
        // Most frames: two bytes stored without a copy's call.
        len @ 0..=125 => out.extend_from_slice(&[0x80 | opcode as u8, len as u8]),
        len => out.extend_from_slice(&header(opcode, len)),
    }
    out.extend_from_slice(payload);
}

/// Appends a close frame. Without a code it is empty, reason or not; a reason over 123 bytes is
/// cut between characters.
pub fn close(code: Option<u16>, text: &str, out: &mut Vec<u8>) {
    let Some(code) = code else {
        return frame(Opcode::Close, &[], out);
    };
    let reason = &text.as_bytes()[..text.floor_char_boundary(REASON_BYTES_MAX)];
    out.extend_from_slice(&header(Opcode::Close, 2 + reason.len()));
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}

/// Appends a client's frame, masked. Takes opcodes and reserved bits (`rsv`, 0 to 7) that no
/// client may send, for tests.
pub fn client_frame(
    opcode: impl Into<u8>,
    fin: bool,
    rsv: u8,
    key: [u8; 4],
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&header(Opcode::Binary, payload.len()));
    out[start] = u8::from(fin) << 7 | (rsv & 7) << 4 | (opcode.into() & 0xf);
    out[start + 1] |= 0x80;
    out.extend_from_slice(&key);
    let payload_start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[payload_start..], key, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_the_shortest_length() {
        #[track_caller]
        fn check(len: usize, expected: &[u8]) {
            assert_eq!(&*header(Opcode::Text, len), expected);
        }
        check(0, &[0x81, 0]);
        check(125, &[0x81, 125]);
        check(126, &[0x81, 126, 0, 126]);
        check(0xffff, &[0x81, 126, 0xff, 0xff]);
        check(0x10000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_close_fits_a_control_frame_and_cuts_between_characters() {
        #[track_caller]
        fn check(code: Option<u16>, text: &str, expected: &[u8]) {
            let mut out = Vec::new();
            close(code, text, &mut out);
            assert_eq!(out, expected);
        }
        check(None, "unsaid", &[0x88, 0]);
        check(Some(1000), "", &[0x88, 2, 0x03, 0xe8]);
        check(Some(1001), "bye", &[0x88, 5, 0x03, 0xe9, b'b', b'y', b'e']);
        let long = "é".repeat(100);
        let cut = [&[0x88, 124, 0x03, 0xe8], &long.as_bytes()[..122]].concat();
        check(Some(1000), &long, &cut);
    }

    #[test]
    fn a_client_frame_is_the_one_of_rfc_6455_section_5_7() {
        let mut out = Vec::new();
        client_frame(Opcode::Text, true, 0, [0x37, 0xfa, 0x21, 0x3d], b"Hello", &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }
}
