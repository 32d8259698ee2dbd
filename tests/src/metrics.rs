//! The metrics page as values: a reader of Prometheus' text format that is not weir's own code.

use std::collections::{BTreeMap, BTreeSet};

/// One line of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The series' name, with `_bucket`, `_sum` or `_count` where it has one.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// One `# HELP` and `# TYPE` and the samples under them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// The help text.
    pub help: String,
    /// counter, gauge or histogram.
    pub kind: String,
    /// Its series.
    pub samples: Vec<Sample>,
}

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Families by name, without a histogram's endings.
    pub families: BTreeMap<String, Family>,
}

impl Metrics {
    /// Reads a page.
    ///
    /// # Panics
    ///
    /// On a line that is not of the format: the page is what is tested.
    pub fn parse(page: &str) -> Self {
        let mut families = BTreeMap::<String, Family>::new();
        for line in page.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                families.entry(name.to_owned()).or_default().help = help.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type has a name");
                families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            } else if !line.starts_with('#') {
                let sample = sample(line);
                let family = family_of(&families, &sample.name);
                families.entry(family).or_default().samples.push(sample);
            }
        }
        Self { families }
    }

    /// The sum of the samples of `name` that carry all of `labels`.
    ///
    /// # Panics
    ///
    /// When there is none: every label value exists at zero, so a missing series is a fault.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut matching = self.matching(name, labels).peekable();
        assert!(matching.peek().is_some(), "no series {name} with {labels:?} on the metrics page");
        matching.map(|sample| sample.value).sum()
    }

    /// Like [`Metrics::value`], as a whole number.
    ///
    /// # Panics
    ///
    /// When there is none, or when it is not whole.
    #[track_caller]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let value = self.value(name, labels);
        assert!(value >= 0.0 && value.fract() == 0.0, "{name} {labels:?} is {value}");
        value as u64
    }

    /// Every value that `label` has in the family of `name`.
    pub fn label_values(&self, name: &str, label: &str) -> BTreeSet<String> {
        self.matching(name, &[]).filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.families.values().map(|family| family.samples.len()).sum()
    }

    /// The page without values: names, types, help texts and label sets, one line each, sorted.
    /// Of a histogram only the number of buckets is told.
    pub fn shape(&self) -> String {
        let mut shape = String::new();
        for (name, family) in &self.families {
            shape += &format!("{name} {}\n    {}\n", family.kind, family.help);
            for labels in label_sets(family) {
                shape += &format!("    {{{labels}}}\n");
            }
        }
        shape
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        let family = family_of(&self.families, name);
        let samples = self.families.get(&family).map(|f| f.samples.as_slice()).unwrap_or_default();
        samples.iter().filter(move |sample| {
            let carries = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).map(String::as_str) == Some(*value)
            };
            sample.name == name && labels.iter().all(carries)
        })
    }
}

/// A histogram's `x_bucket`, `x_sum` and `x_count` belong to the family `x`.
fn family_of(families: &BTreeMap<String, Family>, series: &str) -> String {
    ["_bucket", "_sum", "_count"]
        .iter()
        .filter_map(|ending| series.strip_suffix(ending))
        .find(|family| families.get(*family).is_some_and(|f| f.kind == "histogram"))
        .unwrap_or(series)
        .to_owned()
}

fn label_sets(family: &Family) -> BTreeSet<String> {
    family
        .samples
        .iter()
        .map(|sample| {
            let labels = sample.labels.iter().filter(|(key, _)| *key != "le");
            labels.map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join(", ")
        })
        .collect()
}

/// Reads `name{key="value",…} number`, with an exemplar or a timestamp behind it or not.
fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("not a sample: {line}"));
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, value, after) = label(rest);
            labels.insert(key, value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let number = rest.split_ascii_whitespace().next().unwrap_or_default();
    let value = number.parse().unwrap_or_else(|_| panic!("no number in: {line}"));
    Sample { name: name.to_owned(), labels, value }
}

/// Reads `key="value"`, undoing the escapes, and gives what follows it.
fn label(text: &str) -> (String, String, &str) {
    let (key, rest) = text.split_once("=\"").unwrap_or_else(|| panic!("not a label: {text}"));
    let mut value = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (key.to_owned(), value, &rest[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => break,
            },
            plain => value.push(plain),
        }
    }
    panic!("a label without an end: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{path=\"a\\\"b,}\",code=\"200\"} 3
requests_total{path=\"c\",code=\"500\"} 4
# HELP wait_seconds Waits.
# TYPE wait_seconds histogram
wait_seconds_bucket{le=\"0.5\"} 1
wait_seconds_bucket{le=\"+Inf\"} 2
wait_seconds_sum 1.5
wait_seconds_count 2
";

    #[test]
    fn values_are_sums_of_what_carries_the_labels() {
        let metrics = Metrics::parse(PAGE);
        assert_eq!(metrics.count("requests_total", &[]), 7);
        assert_eq!(metrics.count("requests_total", &[("path", "a\"b,}")]), 3);
        assert_eq!(metrics.value("wait_seconds_sum", &[]), 1.5);
        assert_eq!(metrics.series(), 6);
    }

    #[test]
    fn the_shape_has_no_values() {
        let shape = Metrics::parse(PAGE).shape();
        assert!(shape.contains("requests_total counter\n    Requests.\n"), "{shape}");
        assert!(shape.contains("    {code=\"500\", path=\"c\"}\n"), "{shape}");
        assert!(!shape.contains("1.5"), "{shape}");
    }

    #[test]
    #[should_panic(expected = "no series")]
    fn a_series_that_is_missing_is_a_fault() {
        Metrics::parse(PAGE).value("requests_total", &[("code", "404")]);
    }
}
