//! How values become what a `prometheus` registry gathers: families, and histograms by labels.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as HistogramProto, LabelPair, Metric, MetricFamily,
    MetricType,
};

use super::histogram::{ExemplarRow, Histogram, HistogramTotal, Scale, SharedHistogram};

/// A family of histograms that differ in their labels: what `HistogramVec` is to `prometheus`' own.
/// Clones are the same family.
#[derive(Clone, Debug)]
pub struct Histograms(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: String,
    help: String,
    labels: Vec<String>,
    scale: Scale,
    desc: Desc,
    /// By the values of the labels, which are closed sets and names from the config.
    series: Mutex<BTreeMap<Vec<String>, SharedHistogram>>,
}

impl Histograms {
    /// A family without series.
    ///
    /// # Errors
    /// When a name is none that Prometheus allows.
    pub fn new(name: &str, help: &str, labels: &[&str], scale: Scale) -> prometheus::Result<Self> {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels.clone(), HashMap::new())?;
        Ok(Self(Arc::new(Shared {
            name: name.to_owned(),
            help: help.to_owned(),
            labels,
            scale,
            desc,
            series: Mutex::default(),
        })))
    }

    /// The series with these values of the labels, in their order; from now on it exists.
    pub fn with(&self, values: &[&str]) -> SharedHistogram {
        debug_assert_eq!(values.len(), self.0.labels.len());
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let mut series = self.0.series.lock();
        let new = || Arc::new(Histogram::new(self.0.scale));
        Arc::clone(series.entry(values).or_insert_with(new))
    }

    /// The exemplars of all series.
    pub fn exemplars(&self) -> Vec<ExemplarRow> {
        let mut rows = Vec::new();
        self.each(|labels, total| rows.extend(ExemplarRow::of(&self.0.name, labels, total)));
        rows
    }

    fn each(&self, mut tell: impl FnMut(&[(&str, &str)], &HistogramTotal)) {
        for (values, histogram) in self.0.series.lock().iter() {
            let names = self.0.labels.iter().map(String::as_str);
            let labels: Vec<_> = names.zip(values.iter().map(String::as_str)).collect();
            tell(&labels, &histogram.total());
        }
    }
}

impl Collector for Histograms {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = family(&self.0.name, &self.0.help, MetricType::HISTOGRAM);
        self.each(|labels, total| push_histogram(&mut family, labels, total));
        vec![family]
    }
}

pub(super) fn family(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
}

pub(super) fn counter(name: &str, help: &str) -> MetricFamily {
    family(name, help, MetricType::COUNTER)
}

fn metric(labels: &[(&str, &str)]) -> Metric {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

pub(super) fn push_counter(family: &mut MetricFamily, labels: &[(&str, &str)], value: u64) {
    let mut metric = metric(labels);
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    metric.set_counter(counter);
    family.mut_metric().push(metric);
}

pub(super) fn push_gauge(family: &mut MetricFamily, labels: &[(&str, &str)], value: f64) {
    let mut metric = metric(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    family.mut_metric().push(metric);
}

pub(super) fn push_histogram(
    family: &mut MetricFamily,
    labels: &[(&str, &str)],
    total: &HistogramTotal,
) {
    let bounds = total.scale.bounds();
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(bounds);
    for (index, count) in total.counts.iter().take(bounds).enumerate() {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(total.scale.bound(index));
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    let mut proto = HistogramProto::default();
    proto.set_bucket(buckets);
    proto.set_sample_count(cumulative + total.counts[bounds]);
    proto.set_sample_sum(total.sum_nanos as f64 / 1e9);
    let mut metric = metric(labels);
    metric.set_histogram(proto);
    family.mut_metric().push(metric);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{Registry, TextEncoder};

    use super::*;

    #[test]
    fn a_family_is_written_as_prometheus_writes_its_own() {
        let scale = Scale::Steps(&[500_000, 1_000_000]);
        let ours = Histograms::new("wait_seconds", "Waits.", &["pool"], scale).unwrap();
        let registry = Registry::new();
        registry.register(Box::new(ours.clone())).unwrap();
        let series = ours.with(&["a"]);
        series.observe_shared(Duration::from_micros(500));
        series.observe_shared(Duration::from_millis(2));
        assert!(Arc::ptr_eq(&series, &ours.with(&["a"])));

        let theirs = prometheus::HistogramVec::new(
            prometheus::HistogramOpts::new("wait_seconds", "Waits.").buckets(vec![0.0005, 0.001]),
            &["pool"],
        )
        .unwrap();
        let other = Registry::new();
        other.register(Box::new(theirs.clone())).unwrap();
        theirs.with_label_values(&["a"]).observe(0.0005);
        theirs.with_label_values(&["a"]).observe(0.002);
        let page = |registry: &Registry| TextEncoder::new().encode_to_string(&registry.gather());
        assert_eq!(page(&registry).unwrap(), page(&other).unwrap());
    }

    #[test]
    fn a_second_registration_is_an_error() {
        let new = || Histograms::new("x_seconds", "X.", &[], Scale::Octaves).unwrap();
        let registry = Registry::new();
        registry.register(Box::new(new())).unwrap();
        assert!(registry.register(Box::new(new())).is_err());
    }
}
