//! Why bytes are no command, and why a message has no bytes. For logs: a client is told the code alone.

use super::codes::DisconnectCode;

/// Why a frame or a command cannot be read. Each ends the connection: see its [`DisconnectCode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A frame with nothing in it.
    #[error("empty frame")]
    EmptyFrame,
    /// An empty line before, between or after commands.
    #[error("empty line")]
    EmptyLine,
    /// A command is longer, or says that it is.
    #[error("command of {size} bytes is over command_bytes_max = {max}")]
    TooBig {
        /// Bytes there or declared.
        size: u64,
        /// The limit.
        max: usize,
    },
    /// The frame ends inside a command or its length.
    #[error("frame ends inside a command")]
    CutShort,
    /// Not JSON, or JSON whose text is not UTF-8.
    #[error("{field}: not JSON near byte {column}")]
    NotJson {
        /// What was being read.
        field: &'static str,
        /// Counted from 1 in the line, and off by one for some errors.
        column: usize,
    },
    /// Not Protobuf.
    #[error("{field}: not Protobuf, {rule}")]
    NotProtobuf {
        /// What was being read.
        field: &'static str,
        /// The rule that is broken.
        rule: &'static str,
    },
    /// A value of another type, or beyond its type.
    #[error("{field}: not of its type")]
    WrongType {
        /// The field.
        field: &'static str,
    },
    /// Protobuf text that is not UTF-8.
    #[error("{field}: not UTF-8")]
    NotUtf8 {
        /// The field.
        field: &'static str,
    },
    /// Too many elements in the lists and maps of one command.
    #[error("{field}: over elements_max = {max}")]
    TooMany {
        /// The list that has the first one too many.
        field: &'static str,
        /// The limit.
        max: u32,
    },
    /// Messages in messages, too deep.
    #[error("{field}: over {max} messages deep")]
    TooDeep {
        /// The field that goes too deep.
        field: &'static str,
        /// The limit.
        max: u32,
    },
    /// A command with an id and no request that is known.
    #[error("command {id} has no known request")]
    NoRequest {
        /// Its id.
        id: u32,
    },
    /// A request that wants a reply, without an id.
    #[error("{request}: no id")]
    NoId {
        /// The request's name.
        request: &'static str,
    },
}

impl From<&DecodeError> for DisconnectCode {
    /// The peer answers all of them alike; a field that is there and makes no sense is the session's to
    /// refuse, with an error reply.
    fn from(error: &DecodeError) -> Self {
        match error {
            DecodeError::EmptyFrame
            | DecodeError::EmptyLine
            | DecodeError::TooBig { .. }
            | DecodeError::CutShort
            | DecodeError::NotJson { .. }
            | DecodeError::NotProtobuf { .. }
            | DecodeError::WrongType { .. }
            | DecodeError::NotUtf8 { .. }
            | DecodeError::TooMany { .. }
            | DecodeError::TooDeep { .. }
            | DecodeError::NoRequest { .. }
            | DecodeError::NoId { .. } => Self::BadRequest,
        }
    }
}

/// Why a message cannot be written in an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A payload that is not JSON, toward a client that speaks JSON.
    #[error("{field}: payload is not JSON")]
    NotJson {
        /// The field that holds it.
        field: &'static str,
    },
    /// A push of nothing: some clients would read it as a ping.
    #[error("push of nothing")]
    EmptyPush,
}

impl From<EncodeError> for DisconnectCode {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::NotJson { .. } => Self::InappropriateProtocol,
            EncodeError::EmptyPush => Self::ServerError,
        }
    }
}
