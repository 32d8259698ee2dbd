//! A histogram of times whose relative error is at most 1/64, whatever their size.
//! It records in constant time and space and merges with others; it does no I/O.

/// Values below this are counted exactly; above it each power of two is cut into this many parts.
const PARTS: u64 = 64;
const PARTS_BITS: u32 = PARTS.trailing_zeros();
/// 64-bit values need one row of parts for each remaining bit, and one for the exact ones.
const BUCKETS: usize = ((64 - PARTS_BITS + 1) as usize) * PARTS as usize;

/// Counts of values by size.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Histogram {
    /// A histogram without a value.
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS].into_boxed_slice(), count: 0, max: 0 }
    }

    /// Counts one value.
    pub(crate) fn record(&mut self, value: u64) {
        self.buckets[bucket(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// The smallest bucket's upper end that at least `share` (0 to 1) of the values do not exceed;
    /// 0 when there is none.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_end(index).min(self.max);
            }
        }
        self.max
    }

    /// The largest value, exactly.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

fn bucket(value: u64) -> usize {
    if value < PARTS {
        return value as usize;
    }
    let row = u64::from(63 - value.leading_zeros() - PARTS_BITS);
    // The leading bit is always set, so the parts of a row are numbered from PARTS to 2 PARTS − 1.
    ((row * PARTS) + (value >> row)) as usize
}

fn upper_end(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * PARTS {
        return index;
    }
    let row = index / PARTS - 1;
    let part = index - row * PARTS;
    (part << row) + ((1 << row) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_within_a_64th() {
        for value in (0..1000).chain([1 << 20, (1 << 20) + 12345, u64::MAX / 3, u64::MAX]) {
            let end = upper_end(bucket(value));
            assert!(end >= value && end - value <= value / 64, "{value} ends at {end}");
        }
    }

    #[test]
    fn quantiles_of_one_to_a_thousand_are_where_they_should_be() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|value| histogram.record(value));
        assert!((500..=508).contains(&histogram.quantile(0.5)));
        assert!((990..=1000).contains(&histogram.quantile(0.99)));
        assert_eq!((histogram.quantile(1.0), histogram.max()), (1000, 1000));
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::new().quantile(0.99), 0);
    }
}
