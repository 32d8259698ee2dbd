//! Protobuf's varints: 7 bits a byte, least significant first. Frames, streams and fields are read with it.

/// Bytes of the longest varint of 64 bits.
pub const BYTES_MAX: usize = 10;

/// More than 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("varint over 64 bits")]
pub struct Overlong;

/// The number at the start of `bytes` and how many of them it takes; `None` when they end inside it.
/// A number written longer than it need be is taken, as everywhere in Protobuf.
///
/// # Errors
///
/// [`Overlong`].
#[inline]
pub fn read(bytes: &[u8]) -> Result<Option<(u64, usize)>, Overlong> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(BYTES_MAX) {
        if at == BYTES_MAX - 1 && *byte > 1 {
            return Err(Overlong);
        }
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((number, at + 1)));
        }
    }
    Ok(None)
}

/// Appends `number` in as few bytes as it needs.
#[inline]
pub fn write(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// How many bytes [`write`] appends.
#[inline]
pub const fn size(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_in_the_size_that_was_told() {
        for shift in 0..64 {
            for number in [1 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                write(number, &mut out);
                assert_eq!(out.len(), size(number));
                assert_eq!(read(&out), Ok(Some((number, out.len()))));
                assert_eq!(read(&out[..out.len() - 1]), Ok(None));
            }
        }
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        assert_eq!(read(&[0xff; 10]), Err(Overlong));
        let mut bytes = [0x80; 10];
        bytes[9] = 2;
        assert_eq!(read(&bytes), Err(Overlong));
        bytes[9] = 1;
        assert_eq!(read(&bytes), Ok(Some((1 << 63, 10))));
    }

    #[test]
    fn a_number_may_be_longer_than_it_need_be() {
        assert_eq!(read(&[0x81, 0x00, 7]), Ok(Some((1, 2))));
        assert_eq!(read(&[]), Ok(None));
    }
}
