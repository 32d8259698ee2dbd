//! The PROXY protocol, versions 1 and 2: the address of a client, as the first bytes of what its
//! proxy sends (the specification is haproxy's `proxy-protocol.txt`). Pure: no socket, and no
//! opinion about who may say such a thing.

mod v1;
mod v2;

use std::net::SocketAddr;

/// Longest header of version 1, CRLF included (section 2.1).
pub const V1_BYTES_MAX: usize = 107;

/// Longest header of version 2 that is taken. The format allows 64 KiB of extensions; what proxies
/// send, certificates' names included, is a few hundred bytes.
pub const V2_BYTES_MAX: usize = 2048;

/// Longest header of either.
pub const HEADER_BYTES_MAX: usize = V2_BYTES_MAX;

/// What the first bytes of a connection come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The header goes on: every byte so far belongs to it.
    More,
    /// A whole header.
    Header {
        /// Bytes that belong to it.
        taken: usize,
        /// The client's address. `None` when the proxy speaks for itself (`LOCAL`) or cannot say
        /// (`UNKNOWN`): then it is that of the socket.
        source: Option<SocketAddr>,
    },
}

/// Why the first bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither version begins like this.
    #[error("no PROXY header")]
    NoHeader,
    /// It begins like version 1 and breaks its rules.
    #[error("malformed PROXY header of version 1")]
    MalformedV1,
    /// It begins like version 2 and breaks its rules.
    #[error("malformed PROXY header of version 2")]
    MalformedV2,
    /// A header of version 2 with more extensions than are taken.
    #[error("PROXY header of {size} bytes, over {max}")]
    TooBig {
        /// Its size.
        size: usize,
        /// The most that is taken.
        max: usize,
    },
}

/// Looks at the first bytes of a connection.
///
/// # Errors
/// When they are no header, whatever may follow.
pub fn step(bytes: &[u8]) -> Result<Step, ProxyError> {
    if begins(bytes, v2::SIGNATURE) {
        return v2::step(bytes);
    }
    if begins(bytes, v1::BEGINNING) {
        return v1::step(bytes);
    }
    Err(ProxyError::NoHeader)
}

/// Whether one is the beginning of the other.
fn begins(bytes: &[u8], beginning: &[u8]) -> bool {
    bytes.iter().zip(beginning).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests;
