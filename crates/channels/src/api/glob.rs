//! The pattern that `channels` takes: what shells know as a glob, made a regular expression, so that
//! matching takes time in proportion to a name, whatever the pattern.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

use super::error::ApiError;

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 256;

/// Most bytes that a pattern may compile to.
const COMPILED_BYTES_MAX: usize = 1 << 18;

/// A pattern of channels' names.
#[derive(Debug)]
pub(super) struct Glob(Regex);

impl Glob {
    /// Reads a pattern: `*` for any text, `?` for one character, `[ab]`, `[a-c]` and `[!ab]` for one
    /// of a class, `{one,two}` for either, and `\` before what stands for itself.
    ///
    /// # Errors
    ///
    /// A bad request when it is too long, or has a bracket that does not close.
    pub(super) fn new(pattern: &str) -> Result<Self, ApiError> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(ApiError::too_many("bytes in pattern", pattern.len(), PATTERN_BYTES_MAX));
        }
        let bad = || ApiError::bad_request("pattern is not a glob");
        let regex = translate(pattern).ok_or_else(bad)?;
        let mut builder = RegexBuilder::new(&regex);
        let builder = builder.size_limit(COMPILED_BYTES_MAX).dot_matches_new_line(true);
        builder.build().map(Self).map_err(|_| bad())
    }

    /// Whether a name matches, all of it.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

fn translate(pattern: &str) -> Option<String> {
    let mut regex = String::from("^");
    let mut open = 0_u32;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => class(&mut chars, &mut regex)?,
            '{' => {
                open += 1;
                regex.push_str("(?:");
            }
            '}' => {
                open = open.checked_sub(1)?;
                regex.push(')');
            }
            ',' if open > 0 => regex.push('|'),
            '\\' => literal(chars.next()?, &mut regex),
            other => literal(other, &mut regex),
        }
    }
    regex.push('$');
    (open == 0).then_some(regex)
}

/// A class, behind its `[`.
fn class(chars: &mut Peekable<Chars<'_>>, regex: &mut String) -> Option<()> {
    regex.push('[');
    if chars.next_if_eq(&'!').is_some() {
        regex.push('^');
    }
    let mut empty = true;
    loop {
        match chars.next()? {
            ']' if !empty => break,
            ']' => return None,
            '-' if !empty && chars.peek().is_some_and(|next| *next != ']') => regex.push('-'),
            '\\' => literal(chars.next()?, regex),
            other => literal(other, regex),
        }
        empty = false;
    }
    regex.push(']');
    Some(())
}

/// A character as itself, inside of a class and outside.
fn literal(c: char, regex: &mut String) {
    regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, good: &[&str], bad: &[&str]) {
        let glob = Glob::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error:?}"));
        for name in good {
            assert!(glob.matches(name), "{pattern} {name}");
        }
        for name in bad {
            assert!(!glob.matches(name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_matches_as_shells_do() {
        check("news", &["news"], &["new", "news2", "anews"]);
        check("chat:*", &["chat:", "chat:a", "chat:a:b"], &["chat", "xchat:a"]);
        check("room?", &["room1", "roomż"], &["room", "room12"]);
        check("[a-c]1", &["a1", "c1"], &["d1", "-1"]);
        check("[!a-c]1", &["d1"], &["a1"]);
        check("[a^.-]", &["^", ".", "-", "a"], &["b"]);
        check("{chat,news}:*", &["chat:1", "news:"], &["chat,news:1", "other:1"]);
        check("{a,{b,c}d}", &["a", "bd", "cd"], &["b", "ad"]);
        check("a\\*b", &["a*b"], &["axb", "a\\*b"]);
    }

    #[test]
    fn what_means_something_to_a_regular_expression_stands_for_itself() {
        let all = "$.+()|^#&~-=/@!\"'`<>%;:_ a";
        check(all, &[all], &["", "x"]);
        check("a,b", &["a,b"], &["a"]);
    }

    #[test]
    fn a_pattern_that_does_not_close_or_is_too_long_is_refused() {
        let long = "x".repeat(PATTERN_BYTES_MAX + 1);
        for pattern in ["[", "[a", "[]", "[!]", "{", "{a", "}", "a\\", "[c-a]", &long] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
        assert!(Glob::new(&"*".repeat(PATTERN_BYTES_MAX)).is_ok());
    }
}
