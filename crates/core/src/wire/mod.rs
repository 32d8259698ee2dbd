//! Bytes to messages and back, within a cap. Pure: no time, no sockets, no sessions.
//!
//! A decoder is fed a mutable slice that starts at the first byte not yet taken, and answers one
//! step at a time. It never allocates more than the cap, and "not enough bytes yet" is a value.
//! What it has not taken, the caller keeps and offers again, longer.

pub mod length;
pub mod lines;
pub mod stream;
mod utf8;
pub mod websocket;

use std::ops::Range;

use crate::close::CloseReason;
use crate::service::MessageKind;

/// One step of a decoder over the bytes it was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing whole yet: offer the same bytes again when there are more. `need` is the least
    /// number of bytes, counted from the start of the slice, that could make a step; 0 is unknown.
    More {
        /// The least length that could help, or 0.
        need: usize,
    },
    /// A whole message. Its payload lies at `payload` in the slice; `taken` bytes are done with.
    Message {
        /// Where the payload lies in the offered slice.
        payload: Range<usize>,
        /// Bytes that are done with, counted from the start of the slice.
        taken: usize,
        /// Text or bytes.
        kind: MessageKind,
    },
    /// A whole message that the decoder gathered from several fragments; take it with
    /// [`websocket::Decoder::take_gathered`].
    Gathered {
        /// Bytes that are done with.
        taken: usize,
        /// Text or bytes.
        kind: MessageKind,
    },
    /// Bytes that mean nothing to the session: a skipped empty line, a fragment stored away.
    Skip {
        /// Bytes that are done with.
        taken: usize,
    },
    /// A WebSocket ping; the payload wants to go back as a pong.
    Ping {
        /// Where the payload lies in the offered slice.
        payload: Range<usize>,
        /// Bytes that are done with.
        taken: usize,
    },
    /// A WebSocket pong.
    Pong {
        /// Where the payload lies in the offered slice.
        payload: Range<usize>,
        /// Bytes that are done with.
        taken: usize,
    },
    /// A WebSocket close frame, already checked: the code to echo (`None`: an empty one).
    Close {
        /// The peer's code, or `None` when it gave none.
        code: Option<u16>,
        /// Bytes that are done with.
        taken: usize,
    },
}

/// Why bytes cannot become messages. Ends the connection unless `recoverable`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message is over the cap.
    #[error("message of {size} bytes or more is over message_bytes_max = {max}")]
    TooBig {
        /// Bytes seen or declared.
        size: u64,
        /// The cap.
        max: usize,
    },
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// A rule of the wire is broken; the text names it.
    #[error("{0}")]
    Protocol(&'static str),
}

impl From<&FrameError> for CloseReason {
    fn from(error: &FrameError) -> Self {
        match error {
            FrameError::TooBig { .. } => Self::MessageTooBig,
            FrameError::InvalidUtf8 => Self::InvalidUtf8,
            FrameError::Protocol(_) => Self::ProtocolError,
        }
    }
}
