//! What a case is: frames to send, what must come back, and who ends the connection how.

use std::time::Duration;

pub(super) use crate::websocket::opcode::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT};

/// A case's longest time. Large ones have [`Case::slow`].
const LIMIT: Duration = Duration::from_secs(10);
const LIMIT_SLOW: Duration = Duration::from_secs(100);

/// One case of the suite.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its number in the suite.
    pub number: String,
    pub(super) steps: Vec<Step>,
    pub(super) expected: Vec<Event>,
    /// What the suite allows instead, as NON-STRICT.
    pub(super) allowed: Option<Vec<Event>>,
    pub(super) ending: Ending,
    /// The suite gives no verdict.
    pub(super) informational: bool,
    pub(super) limit: Duration,
}

/// One thing the client does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Sends frames.
    Send(Vec<Frame>, Chops),
    /// Sends a short frame, with a [`Step::Wait`] before each of these places in its payload.
    SendInParts(Frame, [usize; 2]),
    /// Waits.
    Pause,
    /// Waits, and is [`Event::Waited`] if the connection is still open afterwards.
    Wait,
    /// Sends a frame and awaits its echo, so many times.
    RoundTrips(Frame, usize),
}

/// How bytes become segments on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chops {
    /// All frames at once.
    Whole,
    /// Each frame by itself.
    Frames,
    /// So many octets at a time.
    Octets(usize),
}

/// A frame, whatever the rules say of it.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) fin: bool,
    pub(super) rsv: u8,
    pub(super) opcode: u8,
    pub(super) payload: Vec<u8>,
}

/// What the client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A whole message, text or bytes.
    Message(u8, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// A wait was over and the connection still open.
    Waited,
}

/// Who ends the connection, and how.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// The client closes with 1000 once it has seen what it expected; the server answers with
    /// 1000 or nothing.
    Ours,
    /// The steps hold a close frame. The server answers with one of the codes or none; a wrong
    /// frame it may also answer by dropping the connection, then it need not be `clean`.
    InSteps { codes: Vec<u16>, clean: bool },
    /// The server fails the connection with this code, or drops it.
    Theirs(u16),
}

impl Case {
    /// A case that is legal and ends with a clean close once `expected` was seen.
    pub(super) fn legal(number: impl Into<String>, steps: Vec<Step>, expected: Vec<Event>) -> Self {
        Self {
            number: number.into(),
            steps,
            expected,
            allowed: None,
            ending: Ending::Ours,
            informational: false,
            limit: LIMIT,
        }
    }

    /// A message that is echoed.
    pub(super) fn echo(
        number: impl Into<String>,
        opcode: u8,
        payload: Vec<u8>,
        chops: Chops,
    ) -> Self {
        let message = Event::Message(opcode, payload.clone());
        Self::legal(number, vec![Step::Send(vec![frame(opcode, payload)], chops)], vec![message])
    }

    /// A case that breaks a rule, for which the server must fail the connection with `code` after
    /// `expected`. The suite allows it to fail before the echo of what was right.
    pub(super) fn illegal(
        number: impl Into<String>,
        code: u16,
        steps: Vec<Step>,
        expected: Vec<Event>,
    ) -> Self {
        let allowed = (!expected.is_empty()).then(Vec::new);
        Self { allowed, ending: Ending::Theirs(code), ..Self::legal(number, steps, expected) }
    }

    /// A case whose steps hold a close frame; nothing may be echoed.
    pub(super) fn closing(
        number: impl Into<String>,
        steps: Vec<Step>,
        codes: &[u16],
        clean: bool,
    ) -> Self {
        let ending = Ending::InSteps { codes: codes.to_vec(), clean };
        Self { ending, ..Self::legal(number, steps, Vec::new()) }
    }

    pub(super) fn informational(self) -> Self {
        Self { informational: true, ..self }
    }

    pub(super) fn slow(self) -> Self {
        Self { limit: LIMIT_SLOW, ..self }
    }
}

/// A frame that is all of its message.
pub(super) fn frame(opcode: u8, payload: impl Into<Vec<u8>>) -> Frame {
    Frame { fin: true, rsv: 0, opcode, payload: payload.into() }
}

/// A frame that is not the last of its message.
pub(super) fn open_frame(opcode: u8, payload: impl Into<Vec<u8>>) -> Frame {
    Frame { fin: false, ..frame(opcode, payload) }
}

/// A close frame.
pub(super) fn close(code: u16, reason: &[u8]) -> Frame {
    frame(CLOSE, [&code.to_be_bytes(), reason].concat())
}

/// A message in fragments of `size` octets.
pub(super) fn fragments(opcode: u8, payload: &[u8], size: usize) -> Vec<Frame> {
    let mut frames: Vec<Frame> =
        payload.chunks(size).map(|part| open_frame(CONTINUATION, part)).collect();
    if let Some(first) = frames.first_mut() {
        first.opcode = opcode;
    }
    if let Some(last) = frames.last_mut() {
        last.fin = true;
    }
    frames
}

/// `pattern` again and again, cut at `len`.
pub(super) fn repeat(pattern: &[u8], len: usize) -> Vec<u8> {
    let mut payload = pattern.repeat(len / pattern.len() + 1);
    payload.truncate(len);
    payload
}
