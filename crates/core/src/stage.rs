//! The hops of a message's road, in order. One enum: its names are the metric label, the span
//! name, the log field and the column in the console.

/// One hop on the road of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stage {
    /// A listener accepts; admission grants a permit or refuses with a reason.
    Accept,
    /// HTTP upgrade and everything else before a connection is open, under one deadline.
    Handshake,
    /// Bytes become messages: lines, length prefix, WebSocket. Includes the read itself.
    Frame,
    /// A message becomes a route's input, and the session answers.
    Decode,
    /// Waiting for an upstream connection.
    PoolWait,
    /// The upstream HTTP call itself.
    Upstream,
    /// The broker gives a publication its place. A stage of traced messages.
    Publish,
    /// From taking a publication until it waits in the outbox of a subscriber.
    Fanout,
    /// Waiting in the outbox.
    Queue,
    /// The socket takes it.
    Write,
}

impl Stage {
    /// Every stage that is built, in the order of the road.
    pub const ALL: [Self; 10] = [
        Self::Accept,
        Self::Handshake,
        Self::Frame,
        Self::Decode,
        Self::PoolWait,
        Self::Upstream,
        Self::Publish,
        Self::Fanout,
        Self::Queue,
        Self::Write,
    ];

    /// The name in metrics, spans, logs and the console.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Handshake => "handshake",
            Self::Frame => "frame",
            Self::Decode => "decode",
            Self::PoolWait => "pool_wait",
            Self::Upstream => "upstream",
            Self::Publish => "publish",
            Self::Fanout => "fanout",
            Self::Queue => "queue",
            Self::Write => "write",
        }
    }
}
