//! Patterns for the claims of tokens. Matching takes time in proportion to the claim, whatever the
//! pattern.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Most bytes that a pattern may compile to.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A regular expression that the whole of a claim must match.
#[derive(Clone)]
pub struct ClaimPattern {
    text: String,
    regex: Regex,
}

/// It is not a regular expression, or too big a one. The text says what is wrong, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a regular expression: {0}")]
pub struct ClaimPatternError(String);

impl ClaimPattern {
    /// Reads a regular expression.
    ///
    /// # Errors
    /// When it is none, or would take too much memory.
    pub fn new(text: &str) -> Result<Self, ClaimPatternError> {
        let build = |text: &str| {
            let mut builder = RegexBuilder::new(text);
            builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX);
            builder.build().map_err(|error| {
                // Its first lines show the pattern with a mark under it.
                let text = error.to_string();
                let reason = text.rsplit("error: ").next().unwrap_or_default();
                ClaimPatternError(reason.trim().to_owned())
            })
        };
        // Alone first: a parenthesis too many must not become part of the frame.
        build(text)?;
        let regex = build(&format!("^(?:{text})$"))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Whether the whole of a claim matches.
    pub(crate) fn matches(&self, claim: &str) -> bool {
        self.regex.is_match(claim)
    }
}

/// The text it was made of.
impl fmt::Display for ClaimPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ClaimPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimPattern({:?})", self.text)
    }
}

impl PartialEq for ClaimPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for ClaimPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_is_none_says_why_in_one_line() {
        for text in ["a(b", "a)|(b", "["] {
            let error = ClaimPattern::new(text).expect_err("no pattern").to_string();
            assert!(error.starts_with("not a regular expression: "), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn each_side_of_a_choice_is_matched_as_a_whole() {
        let pattern = ClaimPattern::new("a|b").expect("a pattern");
        assert_eq!(
            ["a", "b", "ax", "xb", ""].map(|claim| pattern.matches(claim)),
            [true, true, false, false, false]
        );
    }
}
