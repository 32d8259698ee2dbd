//! The client protocol: commands, replies, pushes and codes, in JSON and Protobuf. It holds no state: what
//! a command may do, and in which order commands may come, is the session's business.
//!
//! [`frame`] cuts what one WebSocket message or one body holds into commands and joins replies into
//! frames; [`command`] and [`reply`] are the tables of messages, each field with its Protobuf number; [`push`]
//! has what is sent unasked, and [`shared`] its bytes for many; [`emulation`] is how commands come where only
//! replies have a stream; [`codes`] are the closed lists of errors and endings.
//!
//! A message is written down once, as a table, and all four directions are made of it. Reading borrows:
//! of a command only the envelope is parsed, and payloads stay where they are. Protobuf is read and written
//! by hand, since generated code would own every string of a command that is looked at once, and would be a
//! second set of types beside those of JSON.

pub mod codes;
pub mod command;
pub mod emulation;
mod error;
mod field;
pub mod frame;
mod json;
mod message;
mod protobuf;
pub mod push;
pub mod reply;
mod scalar;
pub mod shared;
#[cfg(test)]
mod tests;
pub mod varint;

pub use command::{Command, Request};
pub use error::{DecodeError, EncodeError};
pub use field::Map;
pub use push::Push;
pub use reply::Reply;
pub use scalar::{Payload, Quoted, Sint, Text};
pub use shared::{Form, SharedPush};

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON objects, one a line; payloads are JSON too, embedded as they are.
    Json,
    /// Protobuf messages behind their length; payloads are any bytes.
    Protobuf,
}

/// What one command may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest command in bytes, without its line ending or length.
    pub command_bytes_max: usize,
    /// Most elements of lists and maps in one command, all of them together: a few bytes of input
    /// become a hundred of memory here.
    pub elements_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { command_bytes_max: 64 * 1024, elements_max: 1024 }
    }
}
