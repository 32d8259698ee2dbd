//! A trace context as it travels between programs: W3C Trace Context, level 1. Pure.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

/// Which trace something belongs to, and which span of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Never 0.
    pub trace_id: u128,
    /// Never 0.
    pub span_id: u64,
    /// Whether the one who says so records its part.
    pub sampled: bool,
    /// The `tracestate` that came with it, passed on as it is.
    pub state: Option<Arc<str>>,
}

impl TraceContext {
    /// Bytes of a `traceparent` of version 00.
    pub const TEXT_BYTES: usize = 55;
    /// Longest text that is looked at: later versions may have more fields.
    pub const TEXT_BYTES_MAX: usize = 256;
    /// Most bytes of a `tracestate` that are passed on (section 3.3.1.5).
    pub const STATE_BYTES_MAX: usize = 512;
    /// Most members of a `tracestate` (section 3.3.1.1).
    const STATE_MEMBERS_MAX: usize = 32;

    /// Reads a `traceparent` (section 3.2): lower-case hexadecimal, no id of zeros, version 00
    /// exactly, a later one by its first four fields.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > Self::TEXT_BYTES_MAX {
            return None;
        }
        let (fields, rest) = text.split_at_checked(Self::TEXT_BYTES)?;
        let dashes = fields[2] == b'-' && fields[35] == b'-' && fields[52] == b'-';
        let version = hexadecimal(&fields[..2])?;
        let whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let trace_id = hexadecimal(&fields[3..35])?;
        let span_id = hexadecimal(&fields[36..52])? as u64;
        let flags = hexadecimal(&fields[53..])?;
        let sampled = flags & 1 == 1;
        (dashes && whole && trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            sampled,
            state: None,
        })
    }

    /// Tells a callee which trace it is a part of (section 3).
    pub fn write_to(&self, headers: &mut HeaderMap) {
        // Hexadecimal and dashes are a value; a state was checked to be visible ASCII.
        if let Ok(parent) = HeaderValue::try_from(self.to_string()) {
            headers.insert("traceparent", parent);
        }
        if let Some(Ok(state)) = self.state.as_deref().map(HeaderValue::from_str) {
            headers.insert("tracestate", state);
        }
    }

    /// Adds a `tracestate` (section 3.3), or nothing when it is not one: a bad state says nothing
    /// about its parent.
    #[must_use]
    pub fn with_state(mut self, state: &[u8]) -> Self {
        let members = state.split(|byte| *byte == b',').map(without_blanks);
        // Empty members are allowed, and say nothing.
        let mut members = members.filter(|member| !member.is_empty()).peekable();
        let fits = state.len() <= Self::STATE_BYTES_MAX && members.peek().is_some();
        let good = members.by_ref().take(Self::STATE_MEMBERS_MAX).all(is_member);
        let whole = members.next().is_none();
        let text = std::str::from_utf8(state).ok().filter(|_| fits && good && whole);
        self.state = text.map(Into::into);
        self
    }
}

/// The `traceparent`, of version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id)
    }
}

/// At most 32 lower-case digits.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// A member without the blanks around it: spaces and tabs, and no other white space.
fn without_blanks(mut member: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = member {
        member = rest;
    }
    member
}

/// A key and a value of the letters that section 3.3.1.3 allows.
fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let good_key =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let good_value = |byte: &u8| (0x20..=0x7e).contains(byte) && *byte != b'=';
    (1..=256).contains(&key.len())
        && key.iter().all(good_key)
        && (1..=256).contains(&value.len())
        && value.iter().all(good_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn check(text: &str, expected: bool) {
        assert_eq!(TraceContext::parse(text.as_bytes()).is_some(), expected, "{text:?}");
    }

    #[test]
    fn a_good_traceparent_is_read_and_written_back() {
        let context = TraceContext::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(context.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(context.span_id, 0x00f0_67aa_0ba9_02b7);
        assert!(context.sampled);
        assert_eq!(context.to_string(), GOOD);
    }

    #[test]
    fn only_the_lowest_flag_says_sampled_and_others_are_not_passed_on() {
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let text = GOOD.replace("-01", &format!("-{flags}"));
            let context = TraceContext::parse(text.as_bytes()).unwrap();
            assert_eq!(context.sampled, sampled, "{flags}");
            assert!(context.to_string().ends_with(if sampled { "-01" } else { "-00" }));
        }
    }

    #[test]
    fn what_breaks_a_rule_is_no_traceparent() {
        check(GOOD, true);
        check(&GOOD.replacen("00", "01", 1), true);
        check(&format!("{}-more", GOOD.replacen("00", "cc", 1)), true);
        check(&format!("{}.more", GOOD.replacen("00", "cc", 1)), false);
        check(&format!("{GOOD}-more"), false);
        check(&GOOD.replacen("00", "ff", 1), false);
        check(&GOOD.to_uppercase(), false);
        check(&GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false);
        check(&GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)), false);
        check(&GOOD.replace("-00f0", "_00f0"), false);
        check(&GOOD[..54], false);
        check("", false);
        check(&format!(" {GOOD}"), false);
        check(&format!("{}-{}", GOOD.replacen("00", "cc", 1), "x".repeat(300)), false);
        check("00-é4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
    }

    fn check_state(state: &str, kept: bool) {
        let context = TraceContext::parse(GOOD.as_bytes()).unwrap().with_state(state.as_bytes());
        assert_eq!(context.state.as_deref(), kept.then_some(state), "{state:?}");
    }

    #[test]
    fn a_state_is_passed_on_as_it_is_or_not_at_all() {
        check_state("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", true);
        check_state("fw529a3039@dt=FfAxOjQ , rojo=1,", true);
        check_state("", false);
        check_state(" , ", false);
        check_state("Rojo=1", false);
        check_state("rojo", false);
        check_state("rojo=a=b", false);
        check_state("rojo=a\r\nx: y", false);
        check_state("rojo=a\r", false);
        check_state("\trojo=a ,", true);
        check_state(&format!("a={}", "x".repeat(256)), true);
        check_state(&format!("a={}", "x".repeat(257)), false);
        check_state(&"a=1,".repeat(33), false);
        check_state(&format!("a={},b={},c=1", "x".repeat(256), "x".repeat(256)), false);
    }
}
