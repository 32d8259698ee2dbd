//! Query strings: percent-decoded, each name known and given once. It does not know what the
//! values mean, except for lengths of time and numbers.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use crate::reply::Refusal;

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads `query`, in which only the names in `known` may stand.
    ///
    /// # Errors
    /// A name that is not known (with the nearest one that is), a name given twice, and bytes that
    /// are not percent-encoded UTF-8.
    pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                return Err(unknown(&name, known));
            }
            if pairs.iter().any(|(given, _)| *given == name) {
                return Err(Refusal::bad_request(format!("{name} is given twice")));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// The value of `name`, if given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name` read as a `T`, such as a number or an address.
    pub(crate) fn value<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|error| Refusal::bad_request(format!("{name}={text:?}: {error}")))
            })
            .transpose()
    }

    /// The value of `name` read as a length of time: `500ms`, `60s`, `10m`, `24h`, or seconds.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>, Refusal> {
        self.text(name)
            .map(|text| {
                duration(text).ok_or_else(|| {
                    Refusal::bad_request(format!(
                        "{name}={text:?}: not a length of time such as 500ms, 60s, 10m or 24h"
                    ))
                })
            })
            .transpose()
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

fn unknown(name: &str, known: &[&str]) -> Refusal {
    let nearest = known.iter().min_by_key(|candidate| distance(name, candidate));
    Refusal::bad_request(match nearest {
        Some(nearest) if distance(name, nearest) <= nearest.len().div_ceil(2) => {
            format!("unknown parameter {name:?}; the nearest known is {nearest:?}")
        }
        Some(_) => format!("unknown parameter {name:?}; known are {}", known.join(", ")),
        None => format!("unknown parameter {name:?}; this route takes none"),
    })
}

/// Edits (Levenshtein) that turn `a` into `b`, counted over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Decodes `+` and `%XX` (application/x-www-form-urlencoded, as browsers and curl send queries).
fn decode(text: &str) -> Result<String, Refusal> {
    let bad = || Refusal::bad_request(format!("{text:?} is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_at_checked(2).ok_or_else(bad)?;
                let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
                rest = after;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["seconds", "format", "limit"];

    #[test]
    fn values_are_decoded() {
        let query = Query::parse(Some("format=a%2fb+c&seconds=3&"), KNOWN).expect("a query");
        assert_eq!(query.text("format"), Some("a/b c"));
        assert_eq!(query.value::<u32>("seconds").expect("a number"), Some(3));
        assert_eq!(query.text("limit"), None);
    }

    #[test]
    fn what_is_wrong_is_named_with_the_nearest_right() {
        for (query, error) in [
            ("second=3", "unknown parameter \"second\"; the nearest known is \"seconds\""),
            ("colour=red", "unknown parameter \"colour\"; known are seconds, format, limit"),
            ("limit=1&limit=2", "limit is given twice"),
            ("limit=%zz", "\"%zz\" is not percent-encoded UTF-8"),
            ("limit=%f", "\"%f\" is not percent-encoded UTF-8"),
            ("limit=%ff", "\"%ff\" is not percent-encoded UTF-8"),
        ] {
            assert_eq!(Query::parse(Some(query), KNOWN).expect_err(query).error, error);
        }
        let query = Query::parse(Some("limit=many"), KNOWN).expect("a query");
        let error = query.value::<u32>("limit").expect_err("not a number").error;
        assert_eq!(error, "limit=\"many\": invalid digit found in string");
    }

    #[test]
    fn lengths_of_time_have_units() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("60s", Some(Duration::from_secs(60))),
            ("60", Some(Duration::from_secs(60))),
            ("10m", Some(Duration::from_secs(600))),
            ("24h", Some(Duration::from_secs(86_400))),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("99999999999999999999h", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
