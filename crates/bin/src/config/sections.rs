//! The sections that stand once: limits, timeouts and what belongs to the process as a whole.
//! The doc comments are the reference that `weir print-config` prints.

use std::net::SocketAddr;
use std::time::Duration;

use weir_core::http::ForwardedHeader;
use weir_core::limits::{Limits, Timeouts};
use weir_core::network::Cidr;
use weir_core::tls::HandshakeLimits;

use super::raw::{Auto, choices};
use super::secret::Secret;
use super::section::section;
use super::units::{Grace, Percent, Size};
use super::values::{Filter, HostName};

section! {
    /// Threads.
    pub struct RuntimeKeys {
        /// Event loops. "auto": one for each core that the cgroup and the affinity give.
        pub workers: Auto<usize> = "auto";
        /// Threads for accept loops and upstream calls. "auto": as many as event loops, at least 2.
        pub service_threads: Auto<usize> = "auto";
    }
}

section! {
    /// Caps. What is over one is refused with an error that names it, and counted.
    pub struct LimitsKeys {
        /// Most connections at once. "auto": the open-file limit, raised to its hard limit, less
        /// what upstreams, the side port and the rest of the process need.
        pub connections_max: Auto<u32> = "auto";
        /// Most connections at once from one address.
        pub connections_per_address_max: Option<u32> = "off";
        /// Most new connections a second, over all listeners.
        pub connections_per_second_max: Option<u32> = "off";
        /// Most TLS handshakes in progress at once. 16 times as many wait for their turn, or for
        /// their peer when that takes more than a second, within timeouts.handshake; further ones
        /// are closed.
        pub tls_handshakes_max: usize = 256;
        /// Most TLS handshakes that begin in a second; further ones wait.
        pub tls_handshakes_per_second_max: Option<u32> = "off";
        /// Largest message, on every wire.
        pub message_bytes_max: Size = "64KiB";
        /// Largest HTTP head, at least 8KiB. Over it: 431 and close.
        pub header_bytes_max: Size = "16KiB";
        /// Most fields in an HTTP head. Over it: 431 and close.
        pub headers_max: usize = 100;
        /// Most bytes that wait for one slow reader. Over it the connection is closed.
        pub outbox_bytes_max: Size = "1MiB";
        /// Most bytes that all outboxes hold together; what several share counts once. Over it
        /// publications are dropped where their channel's slow_consumer says so, and else
        /// connections closed, from the fullest outbox on.
        pub outboxes_bytes_max: Option<Size> = "512MiB";
        /// Most messages of one connection that wait for an answer. At it, weir stops reading from
        /// that connection.
        pub in_flight_max: usize = 64;
        /// Messages a second from one connection. At it, weir stops reading from that connection.
        pub messages_per_second_max: Option<u32> = "off";
        /// Age at which a connection is told to go as in a drain, so that a balancer chooses anew
        /// when its peer comes back. "off": as old as it likes.
        pub connection_age_max: Option<Duration> = "off";
        /// Each connection's own limit of age is longer by up to this, so that they do not all go
        /// at once.
        pub connection_age_jitter: Duration = "1m";
    }
}

impl LimitsKeys {
    /// The caps on TLS handshakes.
    pub(super) fn handshakes(&self) -> HandshakeLimits {
        HandshakeLimits {
            handshakes_max: self.tls_handshakes_max,
            per_second_max: self.tls_handshakes_per_second_max,
        }
    }

    /// The caps of one connection.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            message_bytes_max: self.message_bytes_max.0,
            header_bytes_max: self.header_bytes_max.0,
            headers_max: self.headers_max,
            outbox_bytes_max: self.outbox_bytes_max.0,
            in_flight_max: self.in_flight_max,
            messages_per_second_max: self.messages_per_second_max,
            connection_age_max: self.connection_age_max,
            connection_age_jitter: self.connection_age_jitter,
        }
    }
}

section! {
    /// Waits for a peer. They are looked through once a second, so up to 1 s late.
    pub struct TimeoutsKeys {
        /// Accepted to open: everything before the first message.
        pub handshake: Duration = "10s";
        /// First byte to the end of an HTTP head.
        pub header: Duration = "5s";
        /// First byte of a message to its last: cuts slow senders.
        pub read: Duration = "10s";
        /// No complete message and no pong. "off": quiet peers may stay.
        pub idle: Option<Duration> = "75s";
        /// Between heartbeats that weir sends; with "pong" it must fit into "idle". "off": none.
        pub ping_interval: Option<Duration> = "25s";
        /// Ping to pong: cuts dead WebSocket peers.
        pub pong: Duration = "10s";
        /// Age of the oldest byte that waits for a slow reader.
        pub write: Duration = "10s";
        /// A closing connection's wait for its peer to close too.
        pub close: Duration = "1s";
    }
}

impl TimeoutsKeys {
    /// The waits of one connection.
    pub(super) fn timeouts(&self) -> Timeouts {
        Timeouts {
            handshake: self.handshake,
            header: self.header,
            read: self.read,
            idle: self.idle,
            ping_interval: self.ping_interval,
            pong: self.pong,
            write: self.write,
            close: self.close,
        }
    }
}

section! {
    /// The side port: metrics, health, profiles, open connections, log level.
    pub struct Ops {
        /// Where it listens. Everything is open to who can reach a loopback address.
        pub address: SocketAddr = "127.0.0.1:6060";
        /// Host names it answers to, besides loopback names and IP addresses.
        pub hosts: Vec<HostName> = [];
        /// Bearer token. Without one, a port that is not loopback has health and metrics only.
        pub token: Option<Secret> = "off";
        /// Longest CPU profile.
        pub profile_seconds_max: u32 = 60;
    }
}

section! {
    /// What /healthz tells an orchestrator.
    pub struct Health {
        /// An event loop that has not turned for this long makes /healthz answer 503.
        pub stall: Duration = "10s";
    }
}

section! {
    /// What weir does when it runs out of memory or time. Over the first threshold ("high") nobody
    /// new is let in, idle HTTP connections are closed and /readyz is 503; over the second
    /// ("critical") the connections whose outboxes are largest are closed as well.
    pub struct Overload {
        /// The memory that weir may use. "auto": the cgroup's limit, if it has one.
        pub memory_max: Option<Auto<Size>> = "auto";
        /// The first threshold of memory.
        pub memory_high: Percent = "80%";
        /// The second threshold of memory.
        pub memory_critical: Percent = "90%";
        /// The first threshold of the lag of an event loop.
        pub lag_high: Option<Duration> = "500ms";
        /// The second threshold of the lag of an event loop.
        pub lag_critical: Option<Duration> = "2s";
    }
}

choices!(ForwardedHeader {
    "off" => ForwardedHeader::Off,
    "x-forwarded-for" => ForwardedHeader::XForwardedFor,
    "forwarded" => ForwardedHeader::Forwarded,
});

section! {
    /// What stands between peers and weir.
    pub struct Network {
        /// Networks of the proxies that are believed about whose connection or request it is. Their
        /// own connections do not count for limits.connections_per_address_max; their clients' do.
        pub trusted_proxies: Vec<Cidr> = [];
        /// The header in which they say so over HTTP: "x-forwarded-for", "forwarded" (RFC 7239) or
        /// "off". Name the one they write: the other they pass on as a client wrote it.
        pub forwarded_header: ForwardedHeader = "x-forwarded-for";
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human when standard error is a terminal, else JSON.
    Auto,
    /// One flat JSON object a line.
    Json,
    /// For people.
    Human,
}

choices!(LogFormat {
    "auto" => LogFormat::Auto,
    "json" => LogFormat::Json,
    "human" => LogFormat::Human,
});

section! {
    /// Logs, on standard error.
    pub struct Logs {
        /// A level, and levels for parts of weir: "info,weir_upstream=debug". PUT /log on the side
        /// port changes it for a while.
        pub filter: Filter = "info";
        /// "json", "human", or "auto": human when standard error is a terminal.
        pub format: LogFormat = "auto";
        /// Most bytes of lines that wait for a slow reader of the log. Further lines are dropped and
        /// counted; weir never waits for its log.
        pub queue_bytes_max: Size = "4MiB";
        /// One line for each connection that ends.
        pub connections: bool = true;
    }
}

section! {
    /// Metrics, on the side port's /metrics.
    pub struct Metrics {
        /// Time the stages of a message's road.
        pub stages: bool = true;
    }
}

section! {
    /// The stages of a stop, in order. An orchestrator must wait longer than their sum before it
    /// kills: 35 s with these defaults.
    pub struct Shutdown {
        /// /readyz answers 503 and weir still accepts, while balancers notice.
        pub unready: Grace = "5s";
        /// Nothing is accepted; what was accepted is finished; connections are closed at a pace.
        pub drain: Grace = "20s";
        /// What is left is closed at once.
        pub force: Grace = "5s";
        /// Pools are closed, spans sent, and logs written.
        pub flush: Grace = "5s";
        /// How long whoever kills weir waits after it asked: weir warns at its start when the
        /// stages do not fit. "off": nobody has said.
        pub grace_period: Option<Duration> = "off";
    }
}

impl Shutdown {
    /// The longest a stop takes.
    pub fn total(&self) -> Duration {
        self.unready.0 + self.drain.0 + self.force.0 + self.flush.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::faults::Faults;
    use crate::config::section::{Section, Table};

    fn defaults<S: Section>() -> S {
        let faults = Faults::default();
        let mut table = Table::new(String::new(), config::Value::default(), &faults);
        S::read(&mut table).expect("every key has a default")
    }

    #[test]
    fn the_defaults_are_those_of_the_core() {
        assert_eq!(defaults::<LimitsKeys>().limits(), Limits::default());
        assert_eq!(defaults::<TimeoutsKeys>().timeouts(), Timeouts::default());
    }

    #[test]
    fn the_sum_of_the_stages_is_what_the_reference_says() {
        let total = defaults::<Shutdown>().total();
        assert!(Shutdown::ABOUT.contains(&format!("{} s with these defaults", total.as_secs())));
    }
}
