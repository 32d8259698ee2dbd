//! PromQL as far as the tests ask about it: which series an expression selects, with which
//! matchers, over which range, inside which function.

/// One selector of an expression: `rate(name{matchers}[range])`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The series' name.
    pub name: String,
    /// What stands in its braces.
    pub matchers: String,
    /// What stands in brackets behind it.
    pub range: Option<String>,
    /// The function whose argument it is.
    pub function: Option<String>,
}

impl Selector {
    /// The metric behind the series: without a histogram's `_bucket`, `_sum` or `_count` when
    /// `is_metric` does not know it with them.
    pub fn metric(&self, is_metric: impl Fn(&str) -> bool) -> &str {
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| self.name.strip_suffix(end));
        match bare {
            Some(bare) if !is_metric(&self.name) => bare,
            _ => &self.name,
        }
    }
}

/// Every series that weir, its process or a recording rule has in this expression, in order.
pub fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expression;
    let mut before = String::new();
    while !rest.is_empty() {
        let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if word == 0 {
            let next = skip(rest);
            before.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        let (name, after) = rest.split_at(word);
        rest = after;
        if is_series(name) {
            let (matchers, after) = enclosed(rest, '{', '}');
            let (range, after) = enclosed(after, '[', ']');
            found.push(Selector {
                name: name.to_owned(),
                matchers: matchers.unwrap_or_default().to_owned(),
                range: range.map(str::to_owned),
                function: function(&before),
            });
            rest = after;
            before.push(' ');
        } else {
            before.push_str(name);
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn is_series(word: &str) -> bool {
    ["weir_", "process_", "instance:"].iter().any(|start| word.starts_with(start)) || word == "up"
}

/// The length of what is no word: a whole string in quotes, or one character.
fn skip(text: &str) -> usize {
    match text.strip_prefix('"').and_then(|inside| inside.find('"')) {
        Some(end) => end + 2,
        None => text.chars().next().map_or(0, char::len_utf8),
    }
}

/// What stands between `open` and `close` at the beginning, and what follows.
fn enclosed(text: &str, open: char, close: char) -> (Option<&str>, &str) {
    match text.strip_prefix(open).and_then(|inside| inside.split_once(close)) {
        Some((inside, after)) => (Some(inside), after),
        None => (None, text),
    }
}

/// The word before the bracket that `before` ends with.
fn function(before: &str) -> Option<String> {
    let call = before.trim_end().strip_suffix('(')?;
    let start = call.rfind(|c: char| !is_word(c)).map_or(0, |at| at + 1);
    (start < call.len()).then(|| call[start..].to_owned())
}

/// The expression with each comparison as a value, 0 or 1, in place of a filter: it gives something
/// exactly when there is something to compare.
pub fn with_bool(expression: &str) -> String {
    let mut text = expression.to_owned();
    for sign in [" > ", " < ", " == ", " != ", " >= ", " <= "] {
        text = text.replace(sign, &format!("{sign}bool "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_have_names_matchers_ranges_and_functions() {
        let found = selectors(
            r#"sum by (instance) (rate(weir_a_total{job="weir_b", x=~"1|2"}[5m])) / on (job) up"#,
        );
        let expected = Selector {
            name: "weir_a_total".to_owned(),
            matchers: r#"job="weir_b", x=~"1|2""#.to_owned(),
            range: Some("5m".to_owned()),
            function: Some("rate".to_owned()),
        };
        assert_eq!(found[0], expected);
        assert_eq!((found.len(), found[1].name.as_str()), (2, "up"));
        assert_eq!(found[1].function, None);
    }

    #[test]
    fn a_histograms_series_belong_to_its_metric() {
        let metric =
            |text: &str| selectors(text)[0].metric(|name| name == "weir_row_count").to_owned();
        assert_eq!(metric("weir_wait_seconds_bucket"), "weir_wait_seconds");
        assert_eq!(metric("weir_row_count"), "weir_row_count");
    }

    #[test]
    fn comparisons_become_values() {
        assert_eq!(
            with_bool("(a > 1) and (b{x!=\"y\"} == 0)"),
            "(a > bool 1) and (b{x!=\"y\"} == bool 0)"
        );
    }
}
