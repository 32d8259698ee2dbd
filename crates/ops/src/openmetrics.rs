//! OpenMetrics 1.0 as text: the families of a registry, and the exemplars at their buckets. Also
//! who asks for it. It names no metric.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use http::HeaderMap;
use http::header::ACCEPT;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// The media type of what [`encode`] writes.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A trace of which one observation of a histogram was a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// The histogram.
    pub family: String,
    /// The labels of its series, without `le`.
    pub labels: Vec<(String, String)>,
    /// The upper bound of the bucket.
    pub bound: f64,
    /// The trace, as it is written.
    pub trace_id: String,
    /// The span, as it is written.
    pub span_id: String,
    /// What was observed, in the unit of the histogram.
    pub value: f64,
    /// When.
    pub at: SystemTime,
}

/// Whether the caller would rather have OpenMetrics than the classic text form: what it accepts
/// with the greatest weight, the more exact name first (RFC 9110, section 12.5.1).
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let mut open: f64 = 0.0;
    let mut classic: f64 = 0.0;
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut weight = 1.0;
        let mut known = true;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "q" => weight = value.trim().parse().unwrap_or(0.0),
                "version" => known = matches!(value.trim().trim_matches('"'), "1.0.0" | "0.0.4"),
                _ => {}
            }
        }
        match media.as_str() {
            "application/openmetrics-text" if known => open = open.max(weight),
            "text/plain" | "text/*" => classic = classic.max(weight),
            _ => {}
        }
    }
    open > 0.0 && open >= classic
}

/// The page.
pub(crate) fn encode(families: &[MetricFamily], exemplars: &[Exemplar]) -> String {
    let mut at = HashMap::new();
    for exemplar in exemplars {
        let mut labels: Vec<_> = exemplar.labels.clone();
        labels.sort();
        at.insert((exemplar.family.as_str(), labels, exemplar.bound.to_bits()), exemplar);
    }
    let find = |family: &str, metric: &Metric, bound: f64| {
        let pair = |pair: &LabelPair| (pair.name().to_owned(), pair.value().to_owned());
        let mut labels: Vec<_> = metric.get_label().iter().map(pair).collect();
        labels.sort();
        at.get(&(family, labels, bound.to_bits())).copied()
    };
    let mut page = Page::default();
    for family in families {
        page.family(family, &find);
    }
    page.text.push_str("# EOF\n");
    page.text
}

/// Finds the exemplar of a bucket.
type Find<'a> = dyn Fn(&str, &Metric, f64) -> Option<&'a Exemplar> + 'a;

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, family: &MetricFamily, find: &Find<'_>) {
        let kind = family.get_field_type();
        // The name of a counter is that of its samples without their ending.
        let name = match kind {
            MetricType::COUNTER => family.name().strip_suffix("_total").unwrap_or(family.name()),
            MetricType::GAUGE
            | MetricType::HISTOGRAM
            | MetricType::SUMMARY
            | MetricType::UNTYPED => family.name(),
        };
        let told = match kind {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY => "summary",
            MetricType::UNTYPED => "unknown",
        };
        self.line(format_args!("# HELP {name} {}", escaped(family.help())));
        self.line(format_args!("# TYPE {name} {told}"));
        for metric in family.get_metric() {
            match kind {
                MetricType::COUNTER => {
                    self.sample(name, "_total", metric, None, metric.get_counter().get_value());
                }
                MetricType::GAUGE => {
                    self.sample(name, "", metric, None, metric.get_gauge().get_value());
                }
                MetricType::HISTOGRAM => self.histogram(name, metric, find),
                // No metric of weir is one of these: what a foreign collector has is left out.
                MetricType::SUMMARY | MetricType::UNTYPED => {}
            }
        }
    }

    fn histogram(&mut self, name: &str, metric: &Metric, find: &Find<'_>) {
        let histogram = metric.get_histogram();
        let count = histogram.get_sample_count() as f64;
        let buckets = histogram.get_bucket().iter();
        let buckets = buckets.map(|one| (one.upper_bound(), one.cumulative_count() as f64));
        for (bound, count) in buckets.chain([(f64::INFINITY, count)]) {
            self.start(name, "_bucket", metric, Some(bound), count);
            if let Some(exemplar) = find(name, metric, bound) {
                self.exemplar(exemplar);
            }
            self.text.push('\n');
        }
        self.sample(name, "_sum", metric, None, histogram.get_sample_sum());
        self.sample(name, "_count", metric, None, count);
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        let since = exemplar.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let Exemplar { trace_id, span_id, value, .. } = exemplar;
        let text = format_args!(
            " # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} {value} {:.3}",
            since.as_secs_f64()
        );
        self.text.write_fmt(text).expect("a String has room");
    }

    fn sample(&mut self, name: &str, end: &str, metric: &Metric, le: Option<f64>, value: f64) {
        self.start(name, end, metric, le, value);
        self.text.push('\n');
    }

    /// A sample without its line feed.
    fn start(&mut self, name: &str, end: &str, metric: &Metric, le: Option<f64>, value: f64) {
        self.text.push_str(name);
        self.text.push_str(end);
        let labels = metric.get_label().iter().map(|pair| (pair.name(), escaped(pair.value())));
        let le = le.map(|value| ("le", bound(value)));
        let labels: Vec<String> =
            labels.chain(le).map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        if !labels.is_empty() {
            write!(self.text, "{{{}}}", labels.join(",")).expect("a String has room");
        }
        write!(self.text, " {}", number(value)).expect("a String has room");
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("a String has room");
        self.text.push('\n');
    }
}

/// A number; a whole one keeps its point ("1.0"), as a float must.
fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else if value.is_nan() {
        "NaN".to_owned()
    } else if value == value.trunc() && value.abs() < 1e15 {
        format!("{value:.1}")
    } else {
        value.to_string()
    }
}

/// A bound in the canonical form, which readers compare as text: below 0.0001 with an exponent of
/// two digits, as Go writes it.
fn bound(value: f64) -> String {
    if value <= 0.0 || value >= 1e-4 {
        return number(value);
    }
    let text = format!("{value:e}");
    match text.split_once("e-") {
        Some((digits, exponent)) => format!("{digits}e-{exponent:0>2}"),
        None => text,
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

    use super::*;

    fn check_wanted(accept: &str, expected: bool) {
        let value = HeaderValue::from_str(accept).expect("a header");
        assert_eq!(is_wanted(&HeaderMap::from_iter([(ACCEPT, value)])), expected, "{accept}");
    }

    #[test]
    fn who_names_openmetrics_with_the_greater_weight_gets_it() {
        // What Prometheus 2.42 sends.
        check_wanted(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
             version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            true,
        );
        check_wanted("application/openmetrics-text", true);
        check_wanted("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", true);
        check_wanted("text/plain, application/openmetrics-text;q=0.5", false);
        check_wanted("application/openmetrics-text;version=2.0.0", false);
        check_wanted("application/openmetrics-text;q=0", false);
        check_wanted("application/openmetrics-text;q=x", false);
        check_wanted("*/*", false);
        check_wanted("text/html", false);
        assert!(!is_wanted(&HeaderMap::new()));
    }

    #[test]
    fn bounds_are_written_as_every_reader_expects_them() {
        let texts = [0.000_001, 0.000_064, 0.000_128, 0.0001, 0.25, 1.0, 8.388_608].map(bound);
        assert_eq!(texts, ["1e-06", "6.4e-05", "0.000128", "0.0001", "0.25", "1.0", "8.388608"]);
        assert_eq!(bound(f64::INFINITY), "+Inf");
    }

    #[test]
    fn the_page_is_openmetrics_with_exemplars_at_their_buckets() {
        let registry = Registry::new();
        let opts = Opts::new("asked_total", "Asked \"twice\".\nAnd \\ more.");
        let asked = IntCounterVec::new(opts, &["who"]).expect("a counter");
        let open = IntGauge::new("open", "Open.").expect("a gauge");
        let opts = HistogramOpts::new("wait_seconds", "Waits.").buckets(vec![0.25, 1.0]);
        let wait = HistogramVec::new(opts, &["pool"]).expect("a histogram");
        registry.register(Box::new(asked.clone())).expect("a new name");
        registry.register(Box::new(open.clone())).expect("a new name");
        registry.register(Box::new(wait.clone())).expect("a new name");
        asked.with_label_values(&["a\"b"]).inc_by(3);
        open.set(2);
        wait.with_label_values(&["x"]).observe(0.5);
        wait.with_label_values(&["x"]).observe(7.0);
        let exemplar = |bound, value| Exemplar {
            family: "wait_seconds".to_owned(),
            labels: vec![("pool".to_owned(), "x".to_owned())],
            bound,
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            span_id: "00f067aa0ba902b7".to_owned(),
            value,
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
        };
        let exemplars = [exemplar(1.0, 0.5), exemplar(f64::INFINITY, 7.0)];
        let trace = "{trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\",span_id=\"00f067aa0ba902b7\"}";
        let expected = format!(
            "# HELP asked Asked \\\"twice\\\".\\nAnd \\\\ more.\n# TYPE asked counter\n\
             asked_total{{who=\"a\\\"b\"}} 3.0\n\
             # HELP open Open.\n# TYPE open gauge\nopen 2.0\n\
             # HELP wait_seconds Waits.\n# TYPE wait_seconds histogram\n\
             wait_seconds_bucket{{pool=\"x\",le=\"0.25\"}} 0.0\n\
             wait_seconds_bucket{{pool=\"x\",le=\"1.0\"}} 1.0 # {trace} 0.5 1.500\n\
             wait_seconds_bucket{{pool=\"x\",le=\"+Inf\"}} 2.0 # {trace} 7 1.500\n\
             wait_seconds_sum{{pool=\"x\"}} 7.5\nwait_seconds_count{{pool=\"x\"}} 2.0\n# EOF\n"
        );
        assert_eq!(encode(&registry.gather(), &exemplars), expected);
    }
}
