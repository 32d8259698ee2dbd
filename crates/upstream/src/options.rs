//! What an upstream is given to work with: plain values. Nothing here reads config.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of one upstream. A call takes at most `wait_timeout + connect_timeout +
/// request_timeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// The configured name: the `pool` label and a log field.
    pub name: String,
    /// `http://host:port` or `https://host:port`; the port may be left out. A host that is a name
    /// is resolved again and again, and every address it has is a target.
    pub targets: Vec<String>,
    /// Between two resolutions of a name.
    pub resolve_interval: Duration,
    /// Most connections to one target at once, counted from the start of connecting until the
    /// socket is closed; idle ones count. At least 1.
    pub connections_per_target_max: u32,
    /// Most connections to all targets at once, counted the same way. At least 1.
    pub connections_max: u32,
    /// Most calls that wait for a connection. The next one is refused. 0: nobody waits.
    pub queue_max: usize,
    /// TCP connect and TLS handshake together.
    pub connect_timeout: Duration,
    /// In the wait queue.
    pub wait_timeout: Duration,
    /// From the request's first byte to the response's last, a retry included.
    pub request_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Most bytes of a response's body. Checked while reading.
    pub response_bytes_max: usize,
    /// Consecutive failures that open a target's breaker. `None`: off.
    pub breaker_failures: Option<NonZeroU32>,
    /// How long a breaker stays open before one call may probe.
    pub breaker_open: Duration,
    /// PEM file of the authorities that `https` targets are checked with. `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            name: "upstream".to_owned(),
            targets: Vec::new(),
            resolve_interval: Duration::from_secs(10),
            connections_per_target_max: 32,
            connections_max: 64,
            queue_max: 1024,
            connect_timeout: Duration::from_secs(2),
            wait_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            response_bytes_max: 1024 * 1024,
            breaker_failures: NonZeroU32::new(5),
            breaker_open: Duration::from_secs(5),
            ca_file: None,
        }
    }
}
