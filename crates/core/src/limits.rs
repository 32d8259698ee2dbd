//! The caps and waits of connections as plain values, valid once built. Nothing here reads config.

use std::time::Duration;

use crate::context::ConnId;

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
    /// Age at which a connection is told to go as in a drain, so that balancers choose anew for it.
    /// `None`: as old as it likes.
    pub connection_age_max: Option<Duration>,
    /// A connection's own limit of age is longer by up to this.
    pub connection_age_jitter: Duration,
}

impl Limits {
    /// The age at which this connection is told to go. Ids are numbers in a row, and a multiple of
    /// the golden ratio spreads neighbours: connections of one moment do not go in one moment.
    pub fn age_max(&self, conn: ConnId) -> Option<Duration> {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let share = (conn.raw().wrapping_mul(GOLDEN) >> 32) as f64 / f64::from(u32::MAX);
        Some(self.connection_age_max? + self.connection_age_jitter.mul_f64(share))
    }
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
            connection_age_max: None,
            connection_age_jitter: Duration::from_secs(60),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_moment_come_of_age_one_after_the_other() {
        let age = Duration::from_secs(100);
        let jitter = Duration::from_secs(50);
        let limits = Limits {
            connection_age_max: Some(age),
            connection_age_jitter: jitter,
            ..Limits::default()
        };
        let of_age = |conn| limits.age_max(ConnId::from_raw(conn)).expect("there is a limit");
        let mut ages = (7_000..7_100).map(of_age).collect::<Vec<_>>();
        ages.sort();
        assert!(ages[0] >= age && ages[99] <= age + jitter, "{ages:?}");
        // A hundred in 50 s: nowhere two seconds without one.
        let widest = ages.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest < Some(Duration::from_secs(2)), "{widest:?}");
        assert_eq!(Limits::default().age_max(ConnId::from_raw(1)), None);
    }
}
