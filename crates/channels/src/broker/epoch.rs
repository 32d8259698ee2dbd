//! Names for the lives of streams: unique in one broker by construction, and between brokers by
//! their seeds. No randomness here: a seed is an argument.

use std::fmt;
use std::num::NonZeroU64;

use crate::sync::{AtomicU64, Ordering};

/// Which life of a stream an offset belongs to. Opaque to clients: sixteen hexadecimal digits on
/// the wire (protocol, section 1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(NonZeroU64);

impl Epoch {
    /// The bytes of its text form.
    pub const TEXT_BYTES: usize = 16;

    /// Writes its text form, which is ASCII.
    pub fn text(self) -> [u8; Self::TEXT_BYTES] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let bytes = self.0.get().to_be_bytes();
        std::array::from_fn(|i| {
            let byte = bytes[i / 2];
            DIGITS[usize::from(if i % 2 == 0 { byte >> 4 } else { byte & 15 })]
        })
    }

    /// Whether this is what `text` says. Any other text is another epoch, or nobody's.
    pub fn is(self, text: &str) -> bool {
        text.as_bytes() == self.text()
    }

    /// As [`Epoch::is`], and the empty text that stands for "unknown" is accepted too.
    pub fn accepts(self, text: &str) -> bool {
        text.is_empty() || self.is(text)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where epochs come from. The seed must differ between processes.
#[derive(Debug)]
pub(crate) struct Epochs {
    next: AtomicU64,
}

impl Epochs {
    pub(crate) fn new(seed: u64) -> Self {
        // Scattered, so that seeds in a row do not give the same epochs one after the other.
        Self { next: AtomicU64::new(scatter(!seed)) }
    }

    /// One that this source has not given before.
    pub(crate) fn draw(&self) -> Epoch {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if let Some(epoch) = NonZeroU64::new(scatter(number)) {
                return Epoch(epoch);
            }
        }
    }
}

/// The finish of SplitMix64: a one-to-one map, so that different numbers stay different.
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_epoch_comes_twice_not_even_from_seeds_in_a_row() {
        let mut drawn = HashSet::new();
        for seed in 0..10 {
            let epochs = Epochs::new(seed);
            drawn.extend((0..1_000).map(|_| epochs.draw()));
        }
        assert_eq!(drawn.len(), 10_000);
        // The first numbers of SplitMix64 from 0; the 0 before them is no epoch.
        let epochs = Epochs { next: AtomicU64::new(0) };
        assert_eq!(epochs.draw().to_string(), "e220a8397b1dcdaf");
        assert_eq!(epochs.draw().to_string(), "6e789e6aa1b965f4");
    }

    #[test]
    fn an_epoch_is_known_by_its_exact_text_only() {
        let epoch = Epochs::new(7).draw();
        let text = epoch.to_string();
        assert_eq!(text.as_bytes(), epoch.text());
        assert!(epoch.is(&text));
        for other in [&text[1..], &format!("0{text}"), &text.to_uppercase(), "+", "zX1"] {
            assert!(!epoch.accepts(other), "{other}");
        }
        assert!(epoch.accepts("") && !epoch.is(""));
    }
}
