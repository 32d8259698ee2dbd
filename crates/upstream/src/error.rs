//! Every way an upstream can fail to be built and a call can fail to be answered, with numbers.
//! Nothing here decides: the meaning for the asker is in one exhaustive `From`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use weir_core::service::AskError;

/// Why an upstream cannot be built from its options.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamBuildError {
    /// There is no target.
    #[error("no targets")]
    NoTargets,
    /// A target is not `http(s)://host[:port]`.
    #[error("target {target:?} is not http://host:port or https://host:port: {fault}")]
    Target {
        /// As configured.
        target: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The same target twice.
    #[error("target {target:?} is named twice")]
    DuplicateTarget {
        /// As configured.
        target: String,
    },
    /// A limit of 0 would let no call through.
    #[error("{limit} must be at least 1")]
    ZeroLimit {
        /// The option's name.
        limit: &'static str,
    },
    /// A file of certificates, or of a key, cannot be read as PEM.
    #[error("cannot read {path} as PEM")]
    PemFile {
        /// As configured.
        path: PathBuf,
        /// What went wrong.
        source: rustls_pki_types::pem::Error,
    },
    /// No usable certificate authority was found.
    #[error("no usable certificate authority ({skipped} skipped)")]
    NoAuthorities {
        /// Certificates that could not be used.
        skipped: usize,
    },
    /// The TLS library refuses its settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// Why a call has no response.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The wait queue is full.
    #[error("{waiting} calls wait already (queue_max {max})")]
    QueueFull {
        /// Calls that wait.
        waiting: usize,
        /// The bound.
        max: usize,
    },
    /// No connection came free in time.
    #[error("no connection came free in {timeout:?} (wait_timeout)")]
    WaitTimeout {
        /// The bound.
        timeout: Duration,
    },
    /// The breaker of every target is open.
    #[error("the breakers of all {targets} targets are open")]
    BreakersOpen {
        /// How many targets there are.
        targets: usize,
    },
    /// No address is known: the name has never been resolved.
    #[error("no target has an address")]
    Unresolved,
    /// The upstream is closing or closed.
    #[error("the upstream is closed")]
    Closed,
    /// Connecting failed.
    #[error("cannot connect to {target}")]
    Connect {
        /// Where to.
        target: SocketAddr,
        /// What went wrong.
        source: ConnectFault,
    },
    /// Connecting took too long.
    #[error("connecting to {target} took over {timeout:?} (connect_timeout)")]
    ConnectTimeout {
        /// Where to.
        target: SocketAddr,
        /// The bound.
        timeout: Duration,
    },
    /// The response took too long.
    #[error("no whole response from {target} in {timeout:?} (request_timeout)")]
    RequestTimeout {
        /// From where.
        target: SocketAddr,
        /// The bound.
        timeout: Duration,
    },
    /// The body is over its cap.
    #[error("the response of {target} is over {max} bytes (response_bytes_max)")]
    ResponseTooBig {
        /// From where.
        target: SocketAddr,
        /// The bound.
        max: usize,
    },
    /// The connection broke, or what came is not HTTP/1.1.
    #[error("the exchange with {target} broke")]
    Broken {
        /// With whom.
        target: SocketAddr,
        /// What went wrong.
        source: hyper::Error,
    },
}

impl UpstreamError {
    /// The name in spans.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::QueueFull { .. } => "queue_full",
            Self::WaitTimeout { .. } => "wait_timeout",
            Self::BreakersOpen { .. } => "breakers_open",
            Self::Unresolved => "unresolved",
            Self::Closed => "closed",
            Self::Connect { .. } => "connect",
            Self::ConnectTimeout { .. } => "connect_timeout",
            Self::RequestTimeout { .. } => "request_timeout",
            Self::ResponseTooBig { .. } => "response_too_big",
            Self::Broken { .. } => "broken",
        }
    }
}

/// What went wrong while connecting.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFault {
    /// TCP.
    #[error("TCP connect failed")]
    Tcp(#[source] io::Error),
    /// TLS: not trusted, not the name that was asked for, or no common version.
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    /// HTTP could not be started on the connection.
    #[error("HTTP could not be started")]
    Http(#[source] hyper::Error),
}

impl From<UpstreamError> for AskError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::QueueFull { .. } | UpstreamError::WaitTimeout { .. } => Self::Overloaded,
            UpstreamError::BreakersOpen { .. }
            | UpstreamError::Unresolved
            | UpstreamError::Closed
            | UpstreamError::Connect { .. } => Self::Unavailable,
            UpstreamError::ConnectTimeout { .. } | UpstreamError::RequestTimeout { .. } => {
                Self::Timeout
            }
            UpstreamError::ResponseTooBig { .. } => Self::ResponseTooBig,
            UpstreamError::Broken { .. } => Self::Failed,
        }
    }
}
