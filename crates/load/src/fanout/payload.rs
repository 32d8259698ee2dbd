//! The payload of a publication: which it is, when it was published, and filler, of one size. It is a
//! JSON string, so that every server can carry the same bytes; nothing is counted here.

use std::time::Duration;

/// Which publication it is, and when it was due or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Publication {
    /// Its channel.
    pub(super) channel: u32,
    /// Its number in the channel, from 0.
    pub(super) number: u32,
    /// The time since the load began.
    pub(super) at: Duration,
}

/// A quote, the channel, the number, the nanoseconds; in hexadecimal.
const HEAD: usize = 1 + 8 + 8 + 16;
/// The least that holds a publication and both quotes.
pub(super) const SIZE_MIN: i64 = HEAD as i64 + 1;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes and reads payloads of one size.
pub(super) struct Payload {
    /// The last one written; only its head changes.
    bytes: Vec<u8>,
}

impl Payload {
    /// Of so many bytes, both quotes among them.
    pub(super) fn new(size: usize) -> Self {
        let filler = b"abcdefghijklmnopqrstuvwxyz";
        let mut bytes: Vec<u8> = filler.iter().copied().cycle().take(size).collect();
        (bytes[0], bytes[size - 1]) = (b'"', b'"');
        Self { bytes }
    }

    /// The payload of this publication.
    pub(super) fn write(&mut self, publication: Publication) -> &[u8] {
        let Publication { channel, number, at } = publication;
        let (which, nanos) = (u64::from(channel) << 32 | u64::from(number), at.as_nanos() as u64);
        let digit = |value: u64, place: usize| DIGITS[(value >> (60 - 4 * place)) as usize & 0xF];
        for place in 0..16 {
            self.bytes[1 + place] = digit(which, place);
            self.bytes[17 + place] = digit(nanos, place);
        }
        &self.bytes
    }

    /// The publication of a payload; `None` if a byte of it is not as it was written.
    pub(super) fn read(&self, payload: &[u8]) -> Option<Publication> {
        let (head, rest) = payload.split_first_chunk::<HEAD>()?;
        if head[0] != b'"' || *rest != self.bytes[HEAD..] {
            return None;
        }
        let (which, nanos) = (number(&head[1..17])?, number(&head[17..])?);
        Some(Publication {
            channel: (which >> 32) as u32,
            number: which as u32,
            at: Duration::from_nanos(nanos),
        })
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Publication =
        Publication { channel: 0xA1, number: 7, at: Duration::from_nanos(0xBEEF) };

    #[test]
    fn a_payload_is_a_json_string_of_its_size_and_is_read_back() {
        for size in [SIZE_MIN as usize, 128, 1000] {
            let mut payload = Payload::new(size);
            let bytes = payload.write(ONE).to_vec();
            assert_eq!(bytes.len(), size);
            assert!(serde_json::from_slice::<String>(&bytes).is_ok());
            assert_eq!(payload.read(&bytes), Some(ONE));
        }
    }

    #[test]
    fn one_wrong_byte_anywhere_in_filler_or_quotes_is_noticed() {
        let mut payload = Payload::new(64);
        let right = payload.write(ONE).to_vec();
        for at in std::iter::once(0).chain(HEAD..64) {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            assert_eq!(payload.read(&wrong), None, "byte {at}");
        }
        assert_eq!(payload.read(&right[..63]), None);
        assert_eq!(payload.read(&[&*right, b"x"].concat()), None);
    }
}
