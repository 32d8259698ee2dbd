//! The header of a client's frame (RFC 6455, section 5.2), with every rule that it alone can
//! break. Nothing here sees a payload.

use super::encode::Opcode;
use crate::wire::FrameError;

/// A control frame's longest payload (section 5.5).
pub(super) const CONTROL_BYTES_MAX: u64 = 125;

/// A whole, valid header of a masked frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    /// Bytes of payload; below 2^63.
    pub(super) len: u64,
    /// Bytes of this header.
    pub(super) size: usize,
}

/// What the bytes say of a header.
pub(super) enum Parsed {
    Header(Header),
    /// It is not whole before there are `need` bytes.
    More {
        need: usize,
    },
}

impl Header {
    #[inline(always)]
    pub(super) fn parse(buf: &[u8]) -> Result<Parsed, FrameError> {
        let [first, second, rest @ ..] = buf else {
            return Ok(Parsed::More { need: 2 + 4 });
        };
        let fin = first & 0x80 != 0;
        let opcode = opcode(*first)?;
        if second & 0x80 == 0 {
            return Err(FrameError::Protocol("client frame without a mask"));
        }
        let short = u64::from(second & 0x7f);
        if opcode.is_control() {
            if !fin {
                return Err(FrameError::Protocol("control frame in fragments"));
            }
            if short > CONTROL_BYTES_MAX {
                return Err(FrameError::Protocol("control frame over 125 bytes"));
            }
        }
        let (len, extended) = match short {
            126 => (extended_16(rest)?, 2),
            127 => (extended_64(rest)?, 8),
            short => (Some(short), 0),
        };
        let size = 2 + extended + 4;
        let (Some(len), Some(mask)) = (len, rest.get(extended..).and_then(<[u8]>::first_chunk))
        else {
            return Ok(Parsed::More { need: size });
        };
        Ok(Parsed::Header(Self { fin, opcode, mask: *mask, len, size }))
    }

    /// The frame's length. Saturates where a `usize` cannot hold it, which no cap allows.
    #[inline]
    pub(super) fn end(&self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX).saturating_add(self.size)
    }
}

/// The opcode, and the reserved bits before it. This is where an extension would claim its bits:
/// permessage-deflate owns RSV1 of a message's first frame.
#[inline]
fn opcode(first: u8) -> Result<Opcode, FrameError> {
    if first & 0x70 != 0 {
        return Err(FrameError::Protocol("reserved bit without an extension"));
    }
    Opcode::parse(first & 0x0f).ok_or(FrameError::Protocol("reserved opcode"))
}

fn extended_16(rest: &[u8]) -> Result<Option<u64>, FrameError> {
    let Some(bytes) = rest.first_chunk() else {
        return Ok(None);
    };
    let len = u64::from(u16::from_be_bytes(*bytes));
    if len < 126 {
        return Err(FrameError::Protocol("length is longer than it need be"));
    }
    Ok(Some(len))
}

fn extended_64(rest: &[u8]) -> Result<Option<u64>, FrameError> {
    let Some(bytes) = rest.first_chunk() else {
        return Ok(None);
    };
    let len = u64::from_be_bytes(*bytes);
    if len >> 63 != 0 {
        return Err(FrameError::Protocol("length with its top bit set"));
    }
    if len <= u64::from(u16::MAX) {
        return Err(FrameError::Protocol("length is longer than it need be"));
    }
    Ok(Some(len))
}
