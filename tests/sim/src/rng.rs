//! Chance that comes back the same for the same seed, on every machine and for ever.

use std::ops::Range;
use std::time::Duration;

/// A SplitMix64 generator (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The chance of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own, so that what one actor draws does not move what others draw.
    pub fn split(&mut self) -> Self {
        Self(self.draw())
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `range`, which must not be empty.
    pub fn below(&mut self, range: Range<usize>) -> usize {
        let width = (range.end - range.start) as u64;
        range.start + usize::try_from(self.draw() % width).expect("it is below a usize")
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.draw().is_multiple_of(n)
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(0..choices.len())]
    }

    /// A time from nothing up to `most`, in whole milliseconds.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        let millis = usize::try_from(most.as_millis()).expect("a short time");
        Duration::from_millis(self.below(0..millis + 1) as u64)
    }

    /// Many small sizes, few large ones: 0 up to `most`.
    pub fn size(&mut self, most: usize) -> usize {
        let bound = match self.below(0..10) {
            0 => most,
            1..=3 => most.min(300),
            _ => most.min(30),
        };
        self.below(0..bound + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_what_it_always_drew() {
        let mut rng = Rng::new(0);
        assert_eq!(rng.draw(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(rng.draw(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn a_split_actor_does_not_move_the_others() {
        let (mut one, mut two) = (Rng::new(7), Rng::new(7));
        one.split().draw();
        two.split();
        assert_eq!(one.draw(), two.draw());
    }
}
