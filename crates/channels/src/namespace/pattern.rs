//! The pattern that names of channels must match. Matching takes time in proportion to the name,
//! whatever the pattern, since names are a stranger's.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Most bytes that a pattern may compile to.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A pattern and the text that it was made of.
#[derive(Clone)]
pub struct Pattern(Regex);

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is not written as one.
    #[error("not a regular expression: {0}")]
    Syntax(String),
    /// It would take too much memory.
    #[error("a regular expression that takes more than {COMPILED_BYTES_MAX} bytes")]
    TooBig,
}

impl Pattern {
    /// Reads a regular expression (RE2's syntax but for details). It matches anywhere in a name,
    /// unless it says `^` and `$`.
    ///
    /// # Errors
    ///
    /// When it is none, or too big a one.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let mut builder = RegexBuilder::new(text);
        builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX);
        match builder.build() {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(_)) => Err(PatternError::TooBig),
            Err(error) => {
                // The rest shows the pattern with a mark under it, on lines of its own.
                let text = error.to_string();
                let reason = text.rsplit("error: ").next().unwrap_or_default().trim().to_owned();
                Err(PatternError::Syntax(reason))
            }
        }
    }

    /// Whether a text matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// The text it was made of.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.0.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_is_none_says_why_in_one_line() {
        let error = Pattern::new("a(b").expect_err("no pattern");
        assert_eq!(error.to_string(), "not a regular expression: unclosed group");
        let big = Pattern::new(r"\w{100}{100}").expect_err("too big");
        assert_eq!(big, PatternError::TooBig);
    }

    #[test]
    fn patterns_are_compared_by_their_text() {
        let pattern = |text| Pattern::new(text).expect("a pattern");
        assert_eq!(pattern("^a+$"), pattern("^a+$"));
        assert_ne!(pattern("^a+$"), pattern("^a*$"));
        assert_eq!(pattern("^a+$").to_string(), "^a+$");
    }
}
