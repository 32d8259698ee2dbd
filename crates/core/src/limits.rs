//! The caps and waits of connections as plain values, valid once built. Nothing here reads config.

use std::time::Duration;

/// Caps on what one connection may hold or do. "Off" is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message in bytes, on every wire. Past it: refused, then closed if framing cannot go on.
    pub message_bytes_max: usize,
    /// Largest HTTP head in bytes. Past it: 431 and close.
    pub header_bytes_max: usize,
    /// Most header fields in an HTTP head. Past it: 431 and close.
    pub headers_max: usize,
    /// Most bytes waiting in one outbox. Past it the slow consumer is closed.
    pub outbox_bytes_max: usize,
    /// Most messages of one connection that wait for an answer. At the bound its socket is not read.
    pub in_flight_max: usize,
    /// Messages a second one connection may send. At the bound its socket is not read.
    pub messages_per_second_max: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 * 1024,
            header_bytes_max: 16 * 1024,
            headers_max: 100,
            outbox_bytes_max: 1024 * 1024,
            in_flight_max: 64,
            messages_per_second_max: None,
        }
    }
}

/// Every wait for a peer, by name. Looked through once a second, so up to 1 s late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Accepted to open: everything before the first message.
    pub handshake: Duration,
    /// First byte to the end of an HTTP head.
    pub header: Duration,
    /// First byte of a message (or an HTTP body) to its last: cuts slow senders.
    pub read: Duration,
    /// No complete message and no pong. `None`: quiet peers may stay.
    pub idle: Option<Duration>,
    /// Between heartbeats that weir sends. `None`: it sends none.
    pub ping_interval: Option<Duration>,
    /// Ping to pong: cuts dead peers.
    pub pong: Duration,
    /// Age of the oldest byte in the outbox: cuts slow readers.
    pub write: Duration,
    /// A closing connection's wait for the peer to close too (WebSocket close handshake, linger).
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(5),
            read: Duration::from_secs(10),
            idle: Some(Duration::from_secs(75)),
            ping_interval: Some(Duration::from_secs(25)),
            pong: Duration::from_secs(10),
            write: Duration::from_secs(10),
            close: Duration::from_secs(1),
        }
    }
}
