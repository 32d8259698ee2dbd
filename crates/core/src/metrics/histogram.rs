//! Histograms of durations that take n observations at once and keep an exemplar a bucket: the
//! trace of a message that landed there. They name no metric; families and collectors do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::cell::Cell;

/// Powers of two of a microsecond before infinity.
const OCTAVES: usize = 24;

/// The upper bounds of a histogram's buckets. One more bucket behind them takes everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Powers of two of a microsecond, 1 µs to 2^23 µs (8.4 s): the index is one instruction, and
    /// an error of a quantile is at most a factor of two.
    Octaves,
    /// These, in nanoseconds, ascending.
    Steps(&'static [u64]),
}

impl Scale {
    /// 0.5 ms to 30 s in steps: calls to other programs.
    pub const CALLS: Self = Self::Steps(&[
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
        30_000_000_000,
    ]);

    /// How many bounds there are; infinity is not one of them.
    pub fn bounds(self) -> usize {
        match self {
            Self::Octaves => OCTAVES,
            Self::Steps(steps) => steps.len(),
        }
    }

    /// The bound of a bucket in seconds; infinity behind the last.
    pub fn bound(self, bucket: usize) -> f64 {
        let nanos = match self {
            Self::Octaves if bucket < OCTAVES => Some(1000_u64 << bucket),
            Self::Octaves => None,
            Self::Steps(steps) => steps.get(bucket).copied(),
        };
        nanos.map_or(f64::INFINITY, |nanos| nanos as f64 / 1e9)
    }

    /// The first bucket that holds a duration.
    #[inline]
    fn bucket(self, nanos: u64) -> usize {
        match self {
            Self::Octaves => {
                let micros = nanos.saturating_sub(1) / 1000;
                ((64 - micros.leading_zeros()) as usize).min(OCTAVES)
            }
            Self::Steps(steps) => steps.partition_point(|step| *step < nanos),
        }
    }
}

/// The trace of one observation, as a histogram's bucket shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The trace.
    pub trace_id: u128,
    /// The span in it.
    pub span_id: u64,
    /// What was observed.
    pub value: Duration,
    /// When.
    pub at: SystemTime,
}

/// A histogram of durations.
#[derive(Debug)]
pub struct Histogram {
    scale: Scale,
    /// One for each bound, and one for infinity.
    counts: Box<[Cell]>,
    sum_nanos: Cell,
    /// By bucket; empty until the first. Only sampled messages come here, so the lock is free.
    exemplars: Mutex<Vec<Option<Exemplar>>>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new(Scale::Octaves)
    }
}

impl Histogram {
    /// A histogram of this scale, at zero.
    pub fn new(scale: Scale) -> Self {
        Self {
            scale,
            counts: (0..=scale.bounds()).map(|_| Cell::default()).collect(),
            sum_nanos: Cell::default(),
            exemplars: Mutex::default(),
        }
    }

    /// Counts `n` observations of `value`; only the owning thread may call it.
    #[inline]
    pub(crate) fn observe(&self, value: Duration, n: u64) {
        let nanos = value.as_nanos() as u64;
        self.counts[self.scale.bucket(nanos)].add(n);
        self.sum_nanos.add(nanos.wrapping_mul(n));
    }

    /// Counts one observation from any thread.
    pub fn observe_shared(&self, value: Duration) {
        let nanos = value.as_nanos() as u64;
        self.counts[self.scale.bucket(nanos)].add_shared(1);
        self.sum_nanos.add_shared(nanos);
    }

    /// Counts from any thread what was gathered.
    pub fn observe_gathered(&self, gathered: Gathered) {
        if gathered.n > 0 {
            self.counts[gathered.bucket].add_shared(gathered.n);
            self.sum_nanos.add_shared(gathered.nanos);
        }
    }

    /// Adds `n` observations to what is gathered, when they land in the same bucket; otherwise that is
    /// counted, and it begins anew with these.
    pub fn gather(&self, gathered: &mut Gathered, value: Duration, n: u64) {
        let nanos = value.as_nanos() as u64;
        let bucket = self.scale.bucket(nanos);
        if gathered.bucket != bucket {
            self.observe_gathered(std::mem::take(gathered));
            gathered.bucket = bucket;
        }
        gathered.n += n;
        gathered.nanos = gathered.nanos.wrapping_add(nanos.wrapping_mul(n));
    }

    /// Shows `exemplar` at its bucket in place of the one before. The observation itself is
    /// counted by itself.
    pub fn show(&self, exemplar: Exemplar) {
        let bucket = self.scale.bucket(exemplar.value.as_nanos() as u64);
        let mut exemplars = self.exemplars.lock();
        exemplars.resize(self.counts.len(), None);
        exemplars[bucket] = Some(exemplar);
    }

    /// Adds this histogram's values to `total`, which has the same scale.
    pub(crate) fn add_to(&self, total: &mut HistogramTotal) {
        for (sum, count) in total.counts.iter_mut().zip(&self.counts) {
            *sum += count.get();
        }
        total.sum_nanos += self.sum_nanos.get();
        for (newest, one) in total.exemplars.iter_mut().zip(self.exemplars.lock().iter()) {
            if newest.map(|exemplar| exemplar.at) < one.map(|exemplar| exemplar.at) {
                *newest = *one;
            }
        }
    }

    /// What it has counted.
    pub(crate) fn total(&self) -> HistogramTotal {
        let mut total = HistogramTotal::new(self.scale);
        self.add_to(&mut total);
        total
    }
}

/// Observations of one bucket that are counted at once: a shared histogram costs two adds that other
/// threads see, however many they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gathered {
    bucket: usize,
    n: u64,
    nanos: u64,
}

/// The sum of the histograms of several threads, with the newest exemplar of each bucket.
#[derive(Debug)]
pub(crate) struct HistogramTotal {
    pub(crate) scale: Scale,
    pub(crate) counts: Vec<u64>,
    pub(crate) sum_nanos: u64,
    pub(crate) exemplars: Vec<Option<Exemplar>>,
}

impl HistogramTotal {
    pub(crate) fn new(scale: Scale) -> Self {
        let buckets = scale.bounds() + 1;
        Self { scale, counts: vec![0; buckets], sum_nanos: 0, exemplars: vec![None; buckets] }
    }

    /// The sum of these, which all have the same scale.
    pub(crate) fn of<'a>(all: impl IntoIterator<Item = &'a Histogram>) -> Self {
        let mut all = all.into_iter().peekable();
        let mut total = Self::new(all.peek().map_or(Scale::Octaves, |first| first.scale));
        all.for_each(|one| one.add_to(&mut total));
        total
    }
}

/// An exemplar and the series that it stands at.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarRow {
    /// The name of the histogram.
    pub family: String,
    /// The labels of the series, without `le`.
    pub labels: Vec<(String, String)>,
    /// The bucket's upper bound in seconds.
    pub bound: f64,
    /// The exemplar.
    pub exemplar: Exemplar,
}

impl ExemplarRow {
    /// The rows of one series.
    pub(crate) fn of(
        family: &str,
        labels: &[(&str, &str)],
        total: &HistogramTotal,
    ) -> impl Iterator<Item = Self> {
        total.exemplars.iter().enumerate().filter_map(move |(bucket, exemplar)| {
            let label = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            Some(Self {
                family: family.to_owned(),
                labels: labels.iter().map(label).collect(),
                bound: total.scale.bound(bucket),
                exemplar: (*exemplar)?,
            })
        })
    }
}

/// A histogram that several hold, such as the handle of one series of a family.
pub type SharedHistogram = Arc<Histogram>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lands_in_the_first_bucket_that_holds_it() {
        let index = |nanos| Scale::Octaves.bucket(nanos);
        assert_eq!(index(0), 0);
        assert_eq!(index(1_000), 0);
        assert_eq!(index(1_001), 1);
        assert_eq!(index(2_000), 1);
        assert_eq!(index(2_001), 2);
        assert_eq!(index(8_388_608_000), 23);
        assert_eq!(index(8_388_608_001), OCTAVES);
        let steps = Scale::Steps(&[100, 250]);
        assert_eq!([0, 100, 101, 250, 251].map(|nanos| steps.bucket(nanos)), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn bounds_are_in_seconds_and_end_in_infinity() {
        assert_eq!(Scale::Octaves.bound(0), 0.000_001);
        assert_eq!(Scale::Octaves.bound(23), 8.388_608);
        assert_eq!(Scale::Octaves.bound(24), f64::INFINITY);
        let steps = Scale::Steps(&[100_000, 250_000]);
        assert_eq!([0, 1, 2].map(|n| steps.bound(n)), [0.0001, 0.000_25, f64::INFINITY]);
    }

    #[test]
    fn what_is_gathered_is_counted_in_its_own_buckets() {
        let (one, other) = (Histogram::default(), Histogram::default());
        let mut gathered = Gathered::default();
        for (micros, n) in [(3, 5), (4, 1), (100, 2), (3, 1)] {
            let value = Duration::from_micros(micros);
            one.gather(&mut gathered, value, n);
            other.observe(value, n);
        }
        one.observe_gathered(gathered);
        let (one, other) = (one.total(), other.total());
        assert_eq!((one.counts, one.sum_nanos), (other.counts, other.sum_nanos));
    }

    #[test]
    fn a_bucket_shows_the_newest_exemplar_of_all_threads() {
        let exemplar = |trace_id, micros, second| Exemplar {
            trace_id,
            span_id: 1,
            value: Duration::from_micros(micros),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
        };
        let (one, other) = (Histogram::default(), Histogram::default());
        one.show(exemplar(1, 3, 10));
        one.show(exemplar(2, 4, 11));
        other.show(exemplar(3, 4, 9));
        other.show(exemplar(4, 100, 1));
        let total = HistogramTotal::of([&one, &other]);
        let rows: Vec<_> = ExemplarRow::of("x", &[("a", "b")], &total).collect();
        let shown: Vec<_> = rows.iter().map(|row| (row.exemplar.trace_id, row.bound)).collect();
        assert_eq!(shown, [(2, 0.000_004), (4, 0.000_128)]);
        assert_eq!(rows[0].labels, [("a".to_owned(), "b".to_owned())]);
    }
}
