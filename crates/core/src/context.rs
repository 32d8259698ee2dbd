//! Who is speaking: connection ids and request ids. Never a metric label.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One connection, unique in this process and, with high probability, across restarts: 24 random
/// bits of the process and 40 bits of a counter, written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

impl ConnId {
    /// The id with this number.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number of this id.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Gives out connection ids.
#[derive(Debug)]
pub struct ConnIds {
    next: AtomicU64,
}

impl ConnIds {
    /// Ids that start with the low 24 bits of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { next: AtomicU64::new((seed & 0xff_ffff) << 40) }
    }

    /// The next id.
    pub fn next(&self) -> ConnId {
        ConnId(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// The id of one request. Formatted only where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// A message: its connection and its place there, written `<conn>-<seq>`.
    Message {
        /// The connection it came on.
        conn: ConnId,
        /// Counted from 1 on that connection.
        seq: u64,
    },
    /// A well-formed `x-request-id` that the peer sent.
    Given(Arc<str>),
}

impl RequestId {
    /// Longest `x-request-id` that is taken from a peer, in bytes.
    pub const GIVEN_BYTES_MAX: usize = 128;

    /// Takes a peer's id when it is well formed: 1 to 128 of `A-Z a-z 0-9 . _ ~ : + / = -`.
    pub fn given(value: &[u8]) -> Option<Self> {
        let fits = (1..=Self::GIVEN_BYTES_MAX).contains(&value.len());
        let clean = value.iter().all(|b| b.is_ascii_alphanumeric() || b"._~:+/=-".contains(b));
        let text = std::str::from_utf8(value).ok()?;
        (fits && clean).then(|| Self::Given(text.into()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { conn, seq } => write!(f, "{conn}-{seq}"),
            Self::Given(id) => f.write_str(id),
        }
    }
}
