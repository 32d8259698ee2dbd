//! HTTP/1.1 by hyper as an adapter: the handshake of WebSockets and streams, the carrier of POST
//! routes. It frames requests strictly in front of hyper, routes by path, decides nothing else.
//!
//! A byte goes socket → [`gate`] → hyper → `answer` → `post`, `page`, `upgrade` or `stream`, and back through
//! hyper, but for the head of a stream.
//! What the gate refuses never reaches hyper.

mod answer;
mod cors;
mod exchange;
mod forwarded;
pub mod gate;
mod head;
mod io;
mod metrics;
mod origin;
mod page;
mod post;
pub mod query;
mod refusal;
mod serve;
mod stream;
mod traced;
mod upgrade;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Method;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::Refusal;
use crate::asks::Asks;
use crate::close::CloseReason;
use crate::context::{ConnId, RequestId};
use crate::door::Introduction;
use crate::limits::{Limits, Timeouts};
use crate::pressure::{Pressure, PressureCell};
use crate::service::Service;
use crate::tls::TlsInfo;
use crate::trace::{TraceContext, Tracing};
use crate::wire::stream::{Form, Options, Request};

pub use forwarded::{ForwardedHeader, Trust};
pub use metrics::HttpMetrics;
pub use origin::Origins;
pub use serve::serve;

use metrics::SiteMetrics;

/// What a path of an HTTP listener is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// Upgrades to WebSocket, for these origins.
    WebSocket {
        /// Which pages may connect.
        origins: Origins,
    },
    /// Takes a POST: the body is the message, the reply is the response.
    Post {
        /// Which pages of other origins may post and read the answer. None: nothing is said to
        /// pages, and their requests are taken as any others.
        origins: Origins,
    },
    /// Answers with a stream of messages.
    Stream {
        /// What they look like.
        form: Form,
        /// Which pages may connect.
        origins: Origins,
    },
    /// Shows the documents of its service.
    Page,
}

impl PathKind {
    /// The methods that it takes, as in `Allow`.
    fn methods(&self) -> &'static str {
        match self {
            Self::WebSocket { .. } => "GET",
            Self::Post { .. } => "POST",
            Self::Stream { form, .. } => stream::methods(*form),
            Self::Page => page::METHODS,
        }
    }

    /// The method that most requests have, and the status of a request that went well.
    fn usual(&self) -> (Method, u16) {
        match self {
            Self::WebSocket { .. } => (Method::GET, 101),
            Self::Post { .. } | Self::Stream { form: Form::HttpStream, .. } => (Method::POST, 200),
            Self::Stream { form: Form::Sse, .. } | Self::Page => (Method::GET, 200),
        }
    }
}

/// One configured path of an HTTP listener.
pub struct HttpPath {
    /// Matched exactly against the path of the target; a query is ignored. One that ends in `/*`
    /// stands for every path that has something in place of the star, unless another is exactly that.
    pub path: Arc<str>,
    /// What it is for.
    pub kind: PathKind,
    /// Opens the sessions.
    pub service: Arc<dyn Service>,
}

impl HttpPath {
    /// What every path that it stands for begins with; `None` when it is one path.
    fn prefix(&self) -> Option<&str> {
        self.path.strip_suffix('*').filter(|prefix| prefix.ends_with('/'))
    }
}

/// What one HTTP listener serves. Built once, shared by its connections on all workers.
pub struct HttpSite {
    pub(super) paths: Vec<HttpPath>,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) trust: Arc<Trust>,
    metrics: SiteMetrics,
    pub(super) listener: String,
    pub(super) tracing: Arc<Tracing>,
}

impl HttpSite {
    /// A site that counts in `metrics` under the name of its listener. Paths are distinct.
    pub fn new(
        listener: String,
        paths: Vec<HttpPath>,
        limits: Limits,
        timeouts: Timeouts,
        metrics: &HttpMetrics,
    ) -> Self {
        let usual = paths.iter().map(|path| {
            let (method, status) = path.kind.usual();
            (path.service.route().to_owned(), method, status)
        });
        let metrics = metrics.site(&listener, usual.collect());
        Self {
            paths,
            limits,
            timeouts,
            trust: Arc::default(),
            metrics,
            listener,
            tracing: Tracing::off(),
        }
    }

    /// Believes these proxies about whom a request is from; without it nobody is.
    #[must_use]
    pub fn trusting(mut self, trust: Arc<Trust>) -> Self {
        self.trust = trust;
        self
    }

    /// Traces the requests that are sampled.
    #[must_use]
    pub fn traced(self, tracing: &Arc<Tracing>) -> Self {
        Self { tracing: Arc::clone(tracing), ..self }
    }

    /// The path that is asked for, by its place in the list.
    fn find(&self, asked: &str) -> Option<usize> {
        let exactly = self.paths.iter().position(|path| *path.path == *asked);
        exactly.or_else(|| {
            let stands = |prefix: &str| asked.len() > prefix.len() && asked.starts_with(prefix);
            let paths = self.paths.iter().enumerate();
            let paths = paths.filter_map(|(at, path)| Some((at, path.prefix()?)));
            let longest = paths.filter(|(_, prefix)| stands(prefix)).max_by_key(|(_, p)| p.len());
            longest.map(|(at, _)| at)
        })
    }

    /// The paths, in the order that [`HttpEnd::Upgraded`] and [`HttpTraffic`] name them by.
    pub fn paths(&self) -> &[HttpPath] {
        &self.paths
    }
}

/// The site of a listener as it is now. A reload puts another in its place, with the same paths:
/// its limits and timeouts hold for new connections, its services for the next request of any.
#[derive(Clone)]
pub struct CurrentSite(Arc<ArcSwap<HttpSite>>);

impl CurrentSite {
    /// This site, until another is put in its place.
    pub fn new(site: HttpSite) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(site)))
    }

    /// The site now.
    pub fn get(&self) -> Arc<HttpSite> {
        self.0.load_full()
    }

    /// Puts `site` in place of the one before.
    pub(crate) fn replace(&self, site: Arc<HttpSite>) {
        self.0.store(site);
    }
}

/// Where the traffic of one connection is counted while it goes on.
pub trait HttpTraffic: Send + Sync {
    /// Bytes were read from the socket. Those given back by [`HttpEnd::Upgraded`] are not counted.
    fn bytes_received(&self, n: u64);
    /// Bytes were written to the socket.
    fn bytes_sent(&self, n: u64);
    /// A POST gave the service of this path a message.
    fn message_received(&self, path: usize);
    /// The reply to a message of this path became a response.
    fn message_sent(&self, path: usize);
    /// A message of this path has its response, be it a reply, none (204) or an error.
    fn message_answered(&self, path: usize, took: Duration);
}

/// How the connections of HTTP are told to stop.
#[derive(Clone, Debug)]
pub struct HttpStop {
    /// Close after the next response; until there is one, stay.
    pub notice: CancellationToken,
    /// Finish what has begun and close. A request whose head has begun counts.
    pub drain: CancellationToken,
    /// Drop everything now.
    pub force: CancellationToken,
    /// How hard the process is pressed: a connection that is told to go then goes for that.
    pub pressure: Arc<PressureCell>,
}

impl HttpStop {
    /// Why a connection that finishes goes.
    fn reason(&self) -> CloseReason {
        match self.pressure.get() {
            Pressure::None => CloseReason::Drained,
            Pressure::High | Pressure::Critical => CloseReason::Overload,
        }
    }

    /// Whether no further request is taken on a connection.
    fn is_leaving(&self) -> bool {
        let told = self.notice.is_cancelled() || self.drain.is_cancelled();
        told || self.pressure.get() >= Pressure::High
    }
}

/// Asks whether a connection may count for another address; it does when it may.
pub type Readmit = Arc<dyn Fn(IpAddr) -> Result<(), Refusal> + Send + Sync>;

/// Who is served, and with what.
#[derive(Clone)]
pub struct HttpPeer {
    /// The peer's address.
    pub addr: SocketAddr,
    /// The connection's id.
    pub conn: ConnId,
    /// What TLS found out about the peer.
    pub tls: Option<Arc<TlsInfo>>,
    /// When the listener accepted it: the handshake's deadline counts from there.
    pub accepted: Instant,
    /// What makes it count for the client that a proxy names.
    pub readmit: Option<Readmit>,
    /// How it is told to stop.
    pub stop: HttpStop,
    /// Where asks run.
    pub asks: Asks,
    /// Where its traffic is counted.
    pub traffic: Arc<dyn HttpTraffic>,
}

/// What a stream goes on with when its head is written.
#[derive(Clone, Debug)]
pub struct StreamStart {
    /// How its messages are written.
    pub options: Options,
    /// What `message` is; `None` when there is none.
    pub request: Option<Request>,
    /// The message that its request brought.
    pub message: Bytes,
}

/// How the HTTP part of a connection ended.
#[derive(Debug)]
pub enum HttpEnd<S> {
    /// The 101 is written, and what follows is WebSocket; or the head of a stream is.
    Upgraded {
        /// The bare socket. Nothing of hyper is left on it.
        socket: S,
        /// What came behind the handshake's head: the first frames, or a part of one. Nothing
        /// for a stream.
        early: Bytes,
        /// The index of the path in [`HttpSite::paths`].
        path: usize,
        /// The handshake's request id.
        request_id: RequestId,
        /// Whose it is: the peer, or whom a trusted proxy names.
        client: SocketAddr,
        /// The handshake's span, when it was sampled.
        handshake: Option<TraceContext>,
        /// What the handshake leaves for the session.
        introduction: Box<Introduction>,
        /// What a stream goes on with; `None` for a WebSocket.
        stream: Option<StreamStart>,
    },
    /// The socket is closed.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}
