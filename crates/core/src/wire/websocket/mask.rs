//! The mask of a client's payload (RFC 6455, section 5.3): its own inverse, applied in place.

/// Masks or unmasks `bytes`, which lie `offset` bytes into their frame's payload.
#[inline]
pub(super) fn apply(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let mask = u32::from_ne_bytes(mask);
    // Turned so that the mask's next byte comes first in memory.
    let bits = 8 * (offset % 4) as u32;
    let mask = if cfg!(target_endian = "little") {
        mask.rotate_right(bits)
    } else {
        mask.rotate_left(bits)
    };
    let word = (u64::from(mask) << 32 | u64::from(mask)).to_ne_bytes();
    let wide = u64::from_ne_bytes(word);

    // Words of a fixed size, which the compiler joins into vectors.
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(word) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_at_every_offset_is_masked_byte_by_byte() {
        let mask = [0x11, 0x22, 0x33, 0x44];
        for len in 0..100 {
            for offset in 0..9 {
                let plain: Vec<u8> = (0..len).collect();
                let expected: Vec<u8> =
                    plain.iter().enumerate().map(|(i, b)| b ^ mask[(offset + i) % 4]).collect();
                let mut bytes = plain;
                apply(&mut bytes, mask, offset);
                assert_eq!(bytes, expected, "{len} bytes at {offset}");
            }
        }
    }
}
