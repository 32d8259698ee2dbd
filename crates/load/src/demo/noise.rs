//! Numbers that look like chance, the same in every run: the demo needs no better ones.

/// A sequence of them (xorshift).
pub(super) struct Noise(u64);

impl Noise {
    /// A sequence of its own for each seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// From -1 to 1.
    pub(super) fn draw(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_stays_within_its_range_and_centres_on_nothing() {
        let mut noise = Noise::new(3);
        let values: Vec<f64> = (0..10_000).map(|_| noise.draw()).collect();
        assert!(values.iter().all(|value| (-1.0..=1.0).contains(value)));
        assert!(values.iter().sum::<f64>().abs() < 300.0);
    }
}
