//! What the engine is made of, as plain values. Reads no file and checks nothing: config has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::admission::AdmissionLimits;
use crate::http::{PathKind, Trust};
use crate::limits::{Limits, Timeouts};
use crate::listener::SocketOptions;
use crate::local::Locals;
use crate::service::Service;
use crate::site::SiteWire;
use crate::tls::{HandshakeLimits, TlsOptions};
use crate::trace::Tracing;

/// What a listener speaks.
pub enum ListenerKind {
    /// Messages of one wire, all for one service.
    Messages {
        /// The wire.
        wire: SiteWire,
        /// What is done with the messages.
        service: Arc<dyn Service>,
        /// A line sent each `ping_interval`.
        heartbeat: Option<Bytes>,
        /// A line sent when the drain closes a connection.
        farewell: Option<Bytes>,
    },
    /// HTTP: paths of WebSockets, of streams and for POST.
    Http {
        /// The paths, exact.
        paths: Vec<PathOptions>,
    },
}

/// One path of an HTTP listener.
pub struct PathOptions {
    /// The exact path, such as `/ws`.
    pub path: String,
    /// What it is for.
    pub kind: PathKind,
    /// What is done with its messages.
    pub service: Arc<dyn Service>,
}

/// One listener.
pub struct ListenerOptions {
    /// Its configured name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub kind: ListenerKind,
    /// Its own cap on open connections.
    pub connections_max: Option<usize>,
    /// Socket options.
    pub socket: SocketOptions,
    /// Whether trusted proxies send a PROXY header before all else.
    pub proxy_protocol: bool,
    /// TLS before the wire.
    pub tls: Option<TlsOptions>,
}

/// Everything the engine is made of.
pub struct ServerOptions {
    /// Event loops.
    pub workers: usize,
    /// The listeners.
    pub listeners: Vec<ListenerOptions>,
    /// Who may say that a connection is another's.
    pub trust: Trust,
    /// Caps on TLS handshakes.
    pub handshakes: HandshakeLimits,
    /// Caps on one connection.
    pub limits: Limits,
    /// Waits for a peer.
    pub timeouts: Timeouts,
    /// Bytes that all outboxes hold together. `None`: as many as they like.
    pub outboxes_bytes_max: Option<usize>,
    /// Open connections in total.
    pub connections_max: usize,
    /// Open connections from one address.
    pub connections_per_address_max: Option<usize>,
    /// New connections a second.
    pub connections_per_second_max: Option<u32>,
    /// Whether stages are timed.
    pub stages: bool,
    /// Whether the end of each connection is logged.
    pub log_connections: bool,
    /// Over how long a drain closes the open connections.
    pub drain_window: Duration,
    /// The random part of connection ids.
    pub seed: u64,
    /// Which messages and requests are traced, and for whom.
    pub tracing: Arc<Tracing>,
    /// What the sessions of each worker share.
    pub locals: Option<Arc<dyn Locals>>,
}

impl ServerOptions {
    pub(super) fn admission(&self) -> AdmissionLimits {
        AdmissionLimits {
            connections_max: self.connections_max,
            per_address_max: self.connections_per_address_max,
            per_second_max: self.connections_per_second_max,
            per_listener_max: self.listeners.iter().map(|one| one.connections_max).collect(),
        }
    }
}
