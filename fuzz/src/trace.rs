//! A trace context as peers send it, judged by a reader of a few plain lines.

use weir_core::trace::TraceContext;

/// A `traceparent`, and behind the first line feed a `tracestate`.
pub fn traceparent(data: &[u8]) {
    let (parent, state) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let read = TraceContext::parse(parent);
    assert_eq!(read.is_some(), is_parent(parent), "{:?}", String::from_utf8_lossy(parent));
    let Some(context) = read else { return };

    // What is sent on is of version 00, and means the same.
    let sent = context.to_string();
    assert_eq!(sent.len(), TraceContext::TEXT_BYTES);
    assert_eq!(sent.as_bytes()[3..52], parent[3..52]);
    assert_eq!(TraceContext::parse(sent.as_bytes()), Some(context.clone()));

    let context = context.with_state(state);
    if let Some(kept) = &context.state {
        assert_eq!(kept.as_bytes(), state);
        assert!(kept.len() <= TraceContext::STATE_BYTES_MAX);
        let is_harmless = |byte: u8| byte == b'\t' || (0x20..0x7f).contains(&byte);
        assert!(kept.bytes().all(is_harmless), "no header can carry {kept:?}");
        assert!(kept.contains('='));
    }
}

/// Version, trace id, span id and flags in lower-case hexadecimal; more only in later versions.
fn is_parent(text: &[u8]) -> bool {
    if !(TraceContext::TEXT_BYTES..=TraceContext::TEXT_BYTES_MAX).contains(&text.len()) {
        return false;
    }
    let (head, rest) = text.split_at(TraceContext::TEXT_BYTES);
    let fields: Vec<&[u8]> = head.split(|byte| *byte == b'-').collect();
    let [version, trace, span, flags] = fields[..] else { return false };
    let digits = |text: &[u8], length| {
        text.len() == length && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |id: &[u8]| id.iter().any(|byte| *byte != b'0');
    digits(version, 2)
        && version != b"ff"
        && (digits(trace, 32) && some(trace))
        && (digits(span, 16) && some(span))
        && digits(flags, 2)
        && (rest.is_empty() || (rest[0] == b'-' && version != b"00"))
}
