//! Messages behind a length: a fixed integer, a varint, or the decimal octet count of syslog over
//! TCP. A declared length is judged before anything is awaited; nothing here allocates.

use super::utf8;
use super::{FrameError, Step};
use crate::service::MessageKind;

/// How the length of a message is written before it. Every form counts the payload alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// One byte.
    U8,
    /// Two bytes, most significant first.
    U16Be,
    /// Two bytes, least significant first.
    U16Le,
    /// Four bytes, most significant first.
    U32Be,
    /// Four bytes, least significant first.
    U32Le,
    /// The Protobuf varint of a u32: 7 bits a byte, least significant first, 1 to 5 bytes. A
    /// number written longer than it need be is refused.
    Varint,
    /// RFC 6587, section 3.4.1: decimal digits without a leading zero (so an empty message has no
    /// form), at most 10, then one space.
    OctetCounting,
}

/// Decimal digits of the largest u32.
const DIGITS_MAX: usize = 10;
/// Bytes of the longest varint of a u32.
const VARINT_MAX: usize = 5;

/// Finds length-prefixed messages in a stream.
#[derive(Clone, Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    prefix: Prefix,
    text: bool,
}

impl Decoder {
    /// A decoder for payloads of at most `message_bytes_max` bytes, which are text, checked to be
    /// UTF-8, or bytes.
    pub fn new(prefix: Prefix, text: bool, message_bytes_max: usize) -> Self {
        Self { message_bytes_max, prefix, text }
    }

    /// Finds the next message in `buf`, which starts at the first byte not yet taken.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooBig`] as soon as the length is known, [`FrameError::Protocol`] for a
    /// length that is not written as it should be, [`FrameError::InvalidUtf8`] when messages are
    /// text and this one is not. All are final.
    pub fn step(&mut self, buf: &mut [u8]) -> Result<Step, FrameError> {
        let (start, len) = match self.prefix.parse(buf)? {
            Parsed::Length { start, len } => (start, len),
            Parsed::More { need } => return Ok(Step::More { need }),
        };
        if len > self.message_bytes_max as u64 {
            return Err(FrameError::TooBig { size: len, max: self.message_bytes_max });
        }
        let end = start + len as usize; // Fits: it is within the cap, a usize.
        let Some(payload) = buf.get(start..end) else {
            return Ok(Step::More { need: end });
        };
        let kind = if self.text {
            utf8::check(payload)?;
            MessageKind::Text
        } else {
            MessageKind::Binary
        };
        Ok(Step::Message { payload: start..end, taken: end, kind })
    }
}

/// What the bytes say of the length.
enum Parsed {
    /// The payload starts at `start` and has `len` bytes.
    Length { start: usize, len: u64 },
    /// The prefix is not whole before there are `need` bytes.
    More { need: usize },
}

impl Prefix {
    fn parse(self, buf: &[u8]) -> Result<Parsed, FrameError> {
        Ok(match self {
            Self::U8 => fixed(buf, |[byte]: [u8; 1]| u64::from(byte)),
            Self::U16Be => fixed(buf, |bytes| u64::from(u16::from_be_bytes(bytes))),
            Self::U16Le => fixed(buf, |bytes| u64::from(u16::from_le_bytes(bytes))),
            Self::U32Be => fixed(buf, |bytes| u64::from(u32::from_be_bytes(bytes))),
            Self::U32Le => fixed(buf, |bytes| u64::from(u32::from_le_bytes(bytes))),
            Self::Varint => varint(buf)?,
            Self::OctetCounting => octet_count(buf)?,
        })
    }

    /// The longest payload that the prefix can tell of.
    const fn payload_max(self) -> usize {
        match self {
            Self::U8 => u8::MAX as usize,
            Self::U16Be | Self::U16Le => u16::MAX as usize,
            Self::U32Be | Self::U32Le | Self::Varint | Self::OctetCounting => u32::MAX as usize,
        }
    }
}

fn fixed<const N: usize>(buf: &[u8], read: impl FnOnce([u8; N]) -> u64) -> Parsed {
    match buf.first_chunk() {
        Some(bytes) => Parsed::Length { start: N, len: read(*bytes) },
        None => Parsed::More { need: N },
    }
}

fn varint(buf: &[u8]) -> Result<Parsed, FrameError> {
    let mut len = 0;
    for (at, byte) in buf.iter().take(VARINT_MAX).enumerate() {
        len |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 != 0 {
            continue;
        }
        if *byte == 0 && at > 0 {
            return Err(FrameError::Protocol("varint length is longer than it need be"));
        }
        if len > u64::from(u32::MAX) {
            return Err(FrameError::Protocol("varint length is over 32 bits"));
        }
        return Ok(Parsed::Length { start: at + 1, len });
    }
    if buf.len() >= VARINT_MAX {
        return Err(FrameError::Protocol("varint length is over 5 bytes"));
    }
    Ok(Parsed::More { need: buf.len() + 1 })
}

fn octet_count(buf: &[u8]) -> Result<Parsed, FrameError> {
    let mut len = 0;
    for (at, byte) in buf.iter().enumerate() {
        match byte {
            b'0' if at == 0 => {
                return Err(FrameError::Protocol("octet count starts with a zero"));
            }
            b'0'..=b'9' if at == DIGITS_MAX => {
                return Err(FrameError::Protocol("octet count is over 10 digits"));
            }
            b'0'..=b'9' => len = len * 10 + u64::from(byte - b'0'),
            b' ' if at > 0 => return Ok(Parsed::Length { start: at + 1, len }),
            _ => return Err(FrameError::Protocol("octet count is not digits and a space")),
        }
    }
    Ok(Parsed::More { need: buf.len().max(1) + 1 })
}

/// Appends the payload behind its length.
///
/// # Errors
///
/// [`FrameError::TooBig`] when the prefix cannot tell of so many bytes, [`FrameError::Protocol`]
/// for an empty payload with [`Prefix::OctetCounting`]. Nothing is appended then.
pub fn encode(prefix: Prefix, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let max = prefix.payload_max();
    if payload.len() > max {
        return Err(FrameError::TooBig { size: payload.len() as u64, max });
    }
    let len = payload.len() as u32; // Fits: every prefix has at most 32 bits.
    match prefix {
        Prefix::U8 => out.push(len as u8),
        Prefix::U16Be => out.extend_from_slice(&(len as u16).to_be_bytes()),
        Prefix::U16Le => out.extend_from_slice(&(len as u16).to_le_bytes()),
        Prefix::U32Be => out.extend_from_slice(&len.to_be_bytes()),
        Prefix::U32Le => out.extend_from_slice(&len.to_le_bytes()),
        Prefix::Varint => push_varint(len, out),
        Prefix::OctetCounting if len == 0 => {
            return Err(FrameError::Protocol("octet counting has no form for an empty message"));
        }
        Prefix::OctetCounting => push_decimal(len, out),
    }
    out.extend_from_slice(payload);
    Ok(())
}

fn push_varint(mut len: u32, out: &mut Vec<u8>) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

fn push_decimal(mut len: u32, out: &mut Vec<u8>) {
    let mut digits = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    while len > 0 {
        at -= 1;
        digits[at] = b'0' + (len % 10) as u8;
        len /= 10;
    }
    out.extend_from_slice(&digits[at..]);
    out.push(b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 300;

    /// What one step makes of the input: a payload, `need`, or a refusal.
    #[derive(Debug, PartialEq)]
    enum Verdict {
        Payload(Vec<u8>),
        Need(usize),
        Refused(FrameError),
    }
    use Verdict::{Need, Payload, Refused};

    #[track_caller]
    fn check(prefix: Prefix, input: &[u8], expected: Verdict) {
        let mut buf = input.to_vec();
        let verdict = match Decoder::new(prefix, false, MAX).step(&mut buf) {
            Ok(Step::Message { payload, taken, kind }) => {
                assert_eq!((payload.end, kind), (taken, MessageKind::Binary));
                Payload(buf[payload].to_vec())
            }
            Ok(Step::More { need }) => Need(need),
            Ok(other) => panic!("not a step of length prefixes: {other:?}"),
            Err(error) => Refused(error),
        };
        assert_eq!(verdict, expected, "{prefix:?} {input:?}");
    }

    fn too_big(size: u64) -> Verdict {
        Refused(FrameError::TooBig { size, max: MAX })
    }

    #[test]
    fn fixed_prefixes_are_read_in_their_byte_order() {
        check(Prefix::U8, b"\x02ab!", Payload(b"ab".to_vec()));
        check(Prefix::U16Be, b"\x00\x02ab!", Payload(b"ab".to_vec()));
        check(Prefix::U16Le, b"\x02\x00ab!", Payload(b"ab".to_vec()));
        check(Prefix::U32Be, b"\x00\x00\x00\x02ab!", Payload(b"ab".to_vec()));
        check(Prefix::U32Le, b"\x02\x00\x00\x00ab!", Payload(b"ab".to_vec()));
        check(Prefix::U32Le, b"\x00\x00\x00\x00", Payload(Vec::new()));
    }

    #[test]
    fn what_is_missing_is_told() {
        check(Prefix::U8, b"", Need(1));
        check(Prefix::U32Be, b"\x00\x00", Need(4));
        check(Prefix::U32Be, b"\x00\x00\x00\x09abc", Need(13));
        check(Prefix::Varint, b"", Need(1));
        check(Prefix::Varint, b"\x80", Need(2));
        check(Prefix::OctetCounting, b"", Need(2));
        check(Prefix::OctetCounting, b"12", Need(3));
        check(Prefix::OctetCounting, b"12 abc", Need(15));
    }

    #[test]
    fn a_declared_length_over_the_cap_is_refused_before_its_bytes() {
        check(Prefix::U16Be, b"\x01\x2d", too_big(301));
        check(Prefix::U16Be, b"\x01\x2c", Need(302));
        check(Prefix::U32Be, b"\xff\xff\xff\xff", too_big(u64::from(u32::MAX)));
        check(Prefix::Varint, b"\xff\xff\xff\xff\x0f", too_big(u64::from(u32::MAX)));
        check(Prefix::OctetCounting, b"9999999999 ", too_big(9_999_999_999));
    }

    #[test]
    fn varints_are_protobuf_ones_and_the_shortest() {
        check(Prefix::Varint, b"\x03abc", Payload(b"abc".to_vec()));
        check(Prefix::Varint, b"\xac\x02", Need(302));
        let refused = |text| Refused(FrameError::Protocol(text));
        check(Prefix::Varint, b"\x81\x00", refused("varint length is longer than it need be"));
        check(Prefix::Varint, b"\xff\xff\xff\xff\x10", refused("varint length is over 32 bits"));
        check(Prefix::Varint, b"\xff\xff\xff\xff\x8f", refused("varint length is over 5 bytes"));
    }

    #[test]
    fn octet_counts_are_those_of_rfc_6587() {
        check(Prefix::OctetCounting, b"5 <13>a3 b", Payload(b"<13>a".to_vec()));
        let refused = |text| Refused(FrameError::Protocol(text));
        check(Prefix::OctetCounting, b"0 ", refused("octet count starts with a zero"));
        check(Prefix::OctetCounting, b"05 ", refused("octet count starts with a zero"));
        check(Prefix::OctetCounting, b"12345678901", refused("octet count is over 10 digits"));
        for bad in [b" 5 ".as_slice(), b"-5 ", b"5\n", b"<13>"] {
            check(Prefix::OctetCounting, bad, refused("octet count is not digits and a space"));
        }
    }

    #[test]
    fn text_is_checked() {
        let step = |text| Decoder::new(Prefix::U8, text, MAX).step(&mut [1, 0xff]);
        assert_eq!(step(true), Err(FrameError::InvalidUtf8));
        assert!(matches!(step(false), Ok(Step::Message { .. })));
    }

    #[test]
    fn a_payload_that_its_prefix_cannot_tell_of_is_not_written() {
        let mut out = Vec::new();
        let refused = encode(Prefix::U8, &[0; 256], &mut out);
        assert_eq!(refused, Err(FrameError::TooBig { size: 256, max: 255 }));
        let refused = encode(Prefix::U16Le, &[0; 65_536], &mut out);
        assert_eq!(refused, Err(FrameError::TooBig { size: 65_536, max: 65_535 }));
        assert!(encode(Prefix::OctetCounting, b"", &mut out).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn what_is_written_is_read_back() {
        for prefix in [
            Prefix::U8,
            Prefix::U16Be,
            Prefix::U16Le,
            Prefix::U32Be,
            Prefix::U32Le,
            Prefix::Varint,
            Prefix::OctetCounting,
        ] {
            for len in [1, 9, 10, 127, 128, 255, 256, 300] {
                let payload = vec![7; len];
                let mut out = Vec::new();
                if encode(prefix, &payload, &mut out).is_ok() {
                    check(prefix, &out, Payload(payload));
                } else {
                    assert!(prefix == Prefix::U8 && len > 255);
                }
            }
        }
    }
}
