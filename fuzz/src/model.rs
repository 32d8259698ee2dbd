//! The simple wires decoded in the plainest way, from the whole stream at once, to compare with.

use weir_core::service::MessageKind;
use weir_core::wire::length::Prefix;
use weir_core::wire::lines::{EmptyLines, Options, UnfinishedLine};

use super::feed::Event;

/// What a stream of lines means.
pub(super) fn lines(options: Options, cap: usize, stream: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut pieces: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    let unfinished = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let line = piece.strip_suffix(b"\r").unwrap_or(piece);
        if line.is_empty() && options.empty == EmptyLines::Skip {
            continue;
        }
        events.push(message(options.text, cap, line));
        if matches!(events.last(), Some(Event::Refused(_))) {
            return events;
        }
    }
    let line = unfinished.strip_suffix(b"\r").unwrap_or(unfinished);
    if line.len() > cap {
        events.push(Event::Refused("too big"));
    } else if options.unfinished == UnfinishedLine::Deliver
        && !unfinished.is_empty()
        && !(line.is_empty() && options.empty == EmptyLines::Skip)
    {
        events.push(message(options.text, cap, line));
    }
    events
}

/// What becomes of a message when it is written as a line: a CR inside would end it early for
/// some readers, so it is a space.
pub(super) fn without_lone_cr(event: Event) -> Event {
    let Event::Message(kind, payload) = event else {
        return event;
    };
    let spaced = payload.iter().map(|byte| if *byte == b'\r' { b' ' } else { *byte });
    Event::Message(kind, spaced.collect())
}

/// What a stream of length-prefixed messages means.
pub(super) fn length(prefix: Prefix, text: bool, cap: usize, mut stream: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let (len, rest) = match declared(prefix, stream) {
            Ok(Some(found)) => found,
            Ok(None) => return events,
            Err(refusal) => {
                events.push(Event::Refused(refusal));
                return events;
            }
        };
        let fits = usize::try_from(len).ok().filter(|len| *len <= cap);
        let Some(len) = fits else {
            events.push(Event::Refused("too big"));
            return events;
        };
        let Some((payload, rest)) = rest.split_at_checked(len) else {
            return events;
        };
        events.push(message(text, cap, payload));
        if matches!(events.last(), Some(Event::Refused(_))) {
            return events;
        }
        stream = rest;
    }
}

/// The declared length and what follows it; `None` when the prefix is not whole.
fn declared(prefix: Prefix, stream: &[u8]) -> Result<Option<(u64, &[u8])>, &'static str> {
    let size = match prefix {
        Prefix::U8 => 1,
        Prefix::U16Be | Prefix::U16Le => 2,
        Prefix::U32Be | Prefix::U32Le => 4,
        Prefix::Varint => return varint(stream),
        Prefix::OctetCounting => return octets(stream),
    };
    let Some((bytes, rest)) = stream.split_at_checked(size) else {
        return Ok(None);
    };
    let mut bytes = bytes.to_vec();
    if matches!(prefix, Prefix::U16Le | Prefix::U32Le) {
        bytes.reverse();
    }
    Ok(Some((bytes.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)), rest)))
}

fn varint(stream: &[u8]) -> Result<Option<(u64, &[u8])>, &'static str> {
    let Some(last) = stream.iter().position(|byte| *byte < 0x80) else {
        return if stream.len() < 5 { Ok(None) } else { Err("protocol") };
    };
    let bytes = &stream[..=last];
    let overlong = bytes.len() > 1 && bytes[last] == 0;
    if bytes.len() > 5 || overlong {
        return Err("protocol");
    }
    let len = bytes.iter().rev().fold(0, |len, byte| len << 7 | u64::from(byte & 0x7f));
    if len >> 32 != 0 {
        return Err("protocol");
    }
    Ok(Some((len, &stream[last + 1..])))
}

fn octets(stream: &[u8]) -> Result<Option<(u64, &[u8])>, &'static str> {
    let digits = stream.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 10 || stream.first() == Some(&b'0') {
        return Err("protocol");
    }
    match stream.get(digits) {
        None => Ok(None),
        Some(b' ') if digits > 0 => {
            let text = std::str::from_utf8(&stream[..digits]).expect("digits are text");
            let len = text.parse().expect("10 digits fit");
            Ok(Some((len, &stream[digits + 1..])))
        }
        Some(_) => Err("protocol"),
    }
}

fn message(text: bool, cap: usize, payload: &[u8]) -> Event {
    if payload.len() > cap {
        return Event::Refused("too big");
    }
    if !text {
        return Event::Message(MessageKind::Binary, payload.to_vec());
    }
    match std::str::from_utf8(payload) {
        Ok(_) => Event::Message(MessageKind::Text, payload.to_vec()),
        Err(_) => Event::Refused("not UTF-8"),
    }
}
