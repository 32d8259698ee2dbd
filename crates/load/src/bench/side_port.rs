//! weir's side port as the benchmarks read it: one answer, and the histograms of `/metrics` between
//! two of them. What a figure is good for is the benchmarks' business.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer and how long the whole of it took.
pub(super) struct Answer {
    pub(super) took: Duration,
    pub(super) body: String,
}

/// GETs a path on a connection of its own.
///
/// # Errors
/// When it is not a 200, or none comes.
pub(super) fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let start = clock::now();
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("GET {path}"))?;
    let took = start.elapsed();
    let status = answer.lines().next().unwrap_or_default();
    ensure!(status.starts_with("HTTP/1.1 200"), "GET {path}: {status}");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Ok(Answer { took, body })
}

/// One page of `/metrics`.
pub(super) struct Page(String);

impl Page {
    /// Scrapes it.
    ///
    /// # Errors
    /// Those of [`get`].
    pub(super) fn scrape(address: SocketAddr) -> Result<Self> {
        Ok(Self(get(address, "/metrics")?.body))
    }

    /// What a histogram with these labels has counted since `earlier`.
    pub(super) fn times_since(&self, earlier: &Self, name: &str, labels: &str) -> Times {
        let mut buckets = self.buckets(name, labels);
        for (bound, count) in earlier.buckets(name, labels) {
            *buckets.entry(bound).or_default() -= count;
        }
        let bound = |(bound, count): (u64, f64)| (f64::from_bits(bound), count);
        Times(buckets.into_iter().map(bound).collect())
    }

    /// Cumulative counts by upper bound, of all series with these labels together. The bits of
    /// floats that are not negative order as the floats do.
    fn buckets(&self, name: &str, labels: &str) -> BTreeMap<u64, f64> {
        let mut buckets = BTreeMap::new();
        for (all, count) in self.series(&format!("{name}_bucket")) {
            let bound = all.split_once("le=\"").and_then(|(_, rest)| rest.split('"').next());
            let bound = bound.map(|bound| bound.replace("+Inf", "inf").parse::<f64>());
            if let Some(Ok(bound)) = bound
                && all.contains(labels)
            {
                *buckets.entry(bound.to_bits()).or_default() += count;
            }
        }
        buckets
    }

    /// Labels, as they are written, and values of a metric.
    fn series(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
            Some((labels, value.parse().ok()?))
        })
    }
}

/// A histogram of seconds: upper bounds, ascending, and how many values do not exceed each.
pub(super) struct Times(Vec<(f64, f64)>);

impl Times {
    /// How many values there are.
    pub(super) fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |&(_, count)| count)
    }

    /// Seconds that this share (0 to 1) of the values do not exceed, straight between the bounds
    /// of its bucket, as Prometheus has it. Not a number when there are no values.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let wanted = self.count() * share;
        let mut below = (0.0, 0.0);
        for &(bound, count) in &self.0 {
            if count >= wanted && count > below.1 {
                let part = (wanted - below.1) / (count - below.1);
                let bound = if bound.is_finite() { bound } else { below.0 };
                return below.0 + (bound - below.0) * part;
            }
            below = (bound, count);
        }
        f64::NAN
    }

    /// The upper bound of the largest value. Not a number when there are no values.
    pub(super) fn most(&self) -> f64 {
        let all = |&&(_, count): &&(f64, f64)| count > 0.0 && count >= self.count();
        self.0.iter().find(all).map_or(f64::NAN, |&(bound, _)| bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# HELP t x\nt_bucket{a=\"1\",le=\"1\"} 5\nt_bucket{a=\"1\",le=\"2\"} 5\n\
                          t_bucket{a=\"1\",le=\"+Inf\"} 5\nt_sum{a=\"1\"} 3\n";
    const AFTER: &str = "t_bucket{a=\"1\",le=\"1\"} 7\nt_bucket{a=\"1\",le=\"2\"} 9\n\
                         t_bucket{a=\"1\",le=\"+Inf\"} 9\nt_bucket{a=\"2\",le=\"1\"} 50\n\
                         t_bucket{a=\"2\",le=\"+Inf\"} 90\ntt_bucket{a=\"1\",le=\"1\"} 90\n";

    fn page(text: &str) -> Page {
        Page(text.to_owned())
    }

    #[test]
    fn what_came_between_two_pages_is_counted_and_nothing_else() {
        let times = page(AFTER).times_since(&page(BEFORE), "t", "a=\"1\"");
        assert_eq!(times.0, [(1.0, 2.0), (2.0, 4.0), (f64::INFINITY, 4.0)]);
        assert_eq!((times.count(), times.most()), (4.0, 2.0));
        assert_eq!((times.quantile(0.25), times.quantile(0.75)), (0.5, 1.5));
    }

    #[test]
    fn values_beyond_the_last_bound_are_told_as_infinite() {
        let times = page(AFTER).times_since(&page(""), "t", "a=\"2\"");
        assert_eq!((times.most(), times.quantile(0.99)), (f64::INFINITY, 1.0));
        assert!(page("").times_since(&page(""), "t", "").quantile(0.5).is_nan());
    }
}
