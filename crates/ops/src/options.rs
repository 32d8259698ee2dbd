//! What the side port is told at start, as plain values. Nothing here reads config.

use std::fmt;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

/// How the side port listens, whom it answers, and what it may be asked for.
#[derive(Clone, Debug)]
pub struct OpsOptions {
    /// The address to bind. On loopback every route is open; on any other address all but health
    /// and metrics need [`OpsOptions::token`].
    pub address: SocketAddr,
    /// `Host` names that are accepted besides loopback names and IP literals; case is ignored.
    pub hosts: Vec<String>,
    /// The bearer token. With one, guarded routes need it on loopback too.
    pub token: Option<Token>,
    /// Longest profile, in seconds.
    pub profile_seconds_max: u32,
    /// Connections that are served at once. A few more are taken for health and metrics alone;
    /// past those, connections wait in the kernel's backlog.
    pub requests_max: usize,
    /// How long each part of a request may take.
    pub timeouts: OpsTimeouts,
}

/// How long each part of a request may take.
#[derive(Clone, Copy, Debug)]
pub struct OpsTimeouts {
    /// From the start of a connection to the end of its first request's head.
    pub header: Duration,
    /// From the end of the head to the answer, the body included. A profile may take its own
    /// seconds besides.
    pub request: Duration,
    /// From the answer until it is read and the next request's head has come.
    pub write: Duration,
}

impl Default for OpsTimeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(5),
            request: Duration::from_secs(10),
            write: Duration::from_secs(10),
        }
    }
}

impl OpsOptions {
    /// Options for `address` with every default: no extra names, no token, profiles up to 60 s, 64
    /// connections.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            hosts: Vec::new(),
            token: None,
            profile_seconds_max: 60,
            requests_max: 64,
            timeouts: OpsTimeouts::default(),
        }
    }
}

/// The bearer token. It cannot be printed.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

impl Token {
    /// The token that callers must present.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into().into_bytes().into_boxed_slice())
    }

    /// Whether `presented` is the token. Takes the same time wherever the two differ; only the
    /// length can be told from outside.
    pub(crate) fn matches(&self, presented: &[u8]) -> bool {
        let differences = self.0.iter().zip(presented).fold(0, |sum, (a, b)| sum | (a ^ b));
        black_box(differences) == 0 && self.0.len() == presented.len()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_matched_whole_and_never_printed() {
        let token = Token::new("open-sesame");
        assert!(token.matches(b"open-sesame"));
        for other in ["", "open-sesam", "open-sesame!", "open-sesamE"] {
            assert!(!token.matches(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "[redacted]");
    }
}
