//! Upstreams: the servers that routes ask, and the limits of asking.

use std::path::PathBuf;
use std::time::Duration;

use super::section::{Section, Table, section};
use super::units::Size;
use super::values::{Name, Target};

section! {
    /// A group of HTTP servers that routes ask.
    pub struct Upstream {
        /// Its name in metrics and logs, and in routes.
        pub name: Name, like "backend";
        /// One or more addresses. A DNS name stands for all addresses it resolves to.
        pub targets: Vec<Target>, like ["http://127.0.0.1:9000"];
        /// How often DNS names are resolved again.
        pub resolve_interval: Duration = "10s";
        /// Most connections to one target.
        pub connections_per_target_max: usize = 32;
        /// Most connections in all.
        pub connections_max: usize = 64;
        /// Most requests that wait for a connection. Further ones fail at once.
        pub queue_max: usize = 1024;
        /// Start to end of connecting, TLS included.
        pub connect_timeout: Duration = "2s";
        /// Longest wait for a connection.
        pub wait_timeout: Duration = "1s";
        /// First byte of the request to the last of the response.
        pub request_timeout: Duration = "10s";
        /// How long an unused connection is kept.
        pub idle_timeout: Duration = "60s";
        /// Largest response body.
        pub response_bytes_max: Size = "1MiB";
        /// Failures in a row after which a target is left alone. "off": never.
        pub breaker_failures: Option<u32> = 5;
        /// How long it is left alone before one request tries it again.
        pub breaker_open: Duration = "5s";
        /// PEM file of the certificates that https targets are checked with. "off": the system's.
        pub ca_file: Option<PathBuf> = "off";
    }
}

impl Upstream {
    /// Reads one table of `[[upstreams]]`.
    pub(super) fn from_table(mut table: Table<'_>) -> Option<Self> {
        let upstream = Self::read(&mut table);
        table.finish(&[Self::KEYS], &[]);
        upstream
    }

    /// The longest that one call takes.
    pub fn call_timeout(&self) -> Duration {
        self.wait_timeout + self.connect_timeout + self.request_timeout
    }
}
