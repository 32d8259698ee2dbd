//! Every way a connection can end: one closed list. The name is the metric label, the log field
//! and the JSON value; the code is what a WebSocket peer is told.

/// How loud the end of a connection is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseLevel {
    /// An ordinary end, or a limit or timeout that did its work.
    Info,
    /// Someone may want to act.
    Warn,
}

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $code:literal, $level:ident, $text:literal;)+) => {
        /// Why a connection ended. In the order of the life they cut short.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum CloseReason { $($(#[$doc])* $variant,)+ }

        impl CloseReason {
            /// Every reason, in order; `reason as usize` is its index here.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in metrics, logs and `/connections`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The WebSocket close code (RFC 6455, section 7.4); 1005 and 1006 are never sent. 4401 is
            /// ours: come back with a new token.
            pub const fn code(self) -> u16 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The fixed text the peer is told, at most 123 bytes. Never `Display` of an error.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The level of the line in the log.
            pub const fn level(self) -> CloseLevel {
                match self { $(Self::$variant => CloseLevel::$level,)+ }
            }
        }
    };
}

close_reasons! {
    /// The handshake deadline passed before the connection was open.
    HandshakeTimeout, "handshake_timeout", 1006, Info, "handshake timeout";
    /// The TLS handshake failed; `weir_tls_handshakes_total` says why.
    TlsFailed, "tls_failed", 1006, Info, "tls handshake failed";
    /// Refused once the peer's address was known from a proxy; `weir_connections_refused_total`
    /// says why.
    Refused, "refused", 1006, Info, "refused";
    /// The HTTP head did not end within the header timeout.
    HeaderTimeout, "header_timeout", 1006, Info, "header timeout";
    /// The HTTP request was refused (400, 401, 403, 404, 408, 413, 426, 431) and the connection closed.
    BadRequest, "bad_request", 1002, Info, "bad request";
    /// The first message did not prove who the peer is, on a route that lets in only whom it knows.
    Unauthorized, "unauthorized", 1008, Info, "unauthorized";
    /// The peer closed cleanly: FIN, or a WebSocket close handshake that it began.
    PeerClosed, "peer_closed", 1000, Info, "";
    /// The peer reset the connection, or the socket failed.
    PeerReset, "peer_reset", 1006, Info, "connection reset";
    /// A line equal to the route's exit word.
    Exit, "exit", 1000, Info, "bye";
    /// The peer broke the wire's rules: bad frame, bad prefix, bad close code.
    ProtocolError, "protocol_error", 1002, Info, "protocol error";
    /// A message kind that the route does not take.
    UnsupportedData, "unsupported_data", 1003, Info, "unsupported data";
    /// Text that is not UTF-8.
    InvalidUtf8, "invalid_utf8", 1007, Info, "invalid utf-8";
    /// A message over `limits.message_bytes_max`.
    MessageTooBig, "message_too_big", 1009, Info, "message over limits.message_bytes_max";
    /// The first byte of a message came, the last did not, within the read timeout.
    ReadTimeout, "read_timeout", 1008, Info, "read timeout";
    /// No complete message and no pong within the idle timeout.
    IdleTimeout, "idle_timeout", 1008, Info, "idle timeout";
    /// A ping was not answered within the pong timeout.
    PongTimeout, "pong_timeout", 1008, Info, "pong timeout";
    /// The oldest byte in the outbox grew older than the write timeout.
    WriteTimeout, "write_timeout", 1008, Info, "write timeout";
    /// The outbox reached `limits.outbox_bytes_max`.
    SlowConsumer, "slow_consumer", 1008, Info, "outbox over limits.outbox_bytes_max";
    /// Older than `limits.connection_age_max`: told to go as in a drain, to be balanced anew.
    Aged, "aged", 1001, Info, "going away";
    /// Closed to free memory or time: its outbox was among the largest, or it was idle.
    Overload, "overload", 1013, Warn, "overloaded, try again later";
    /// The token that the connection was opened with has expired.
    TokenExpired, "token_expired", 4401, Info, "token expired";
    /// The service of the connection ended it, and has told why in its own words.
    Disconnected, "disconnected", 1000, Info, "disconnected";
    /// The drain told the connection to go.
    Drained, "drained", 1001, Info, "going away";
    /// Closed by force at the end of the drain.
    Forced, "forced", 1001, Warn, "going away";
    /// The session or its service failed.
    InternalError, "internal_error", 1011, Warn, "internal error";
    /// A task ended without saying why (a panic, a cancelled task).
    Aborted, "aborted", 1006, Warn, "aborted";
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
