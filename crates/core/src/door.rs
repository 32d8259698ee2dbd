//! The seam to identities: who may open a session over HTTP, and as whom. Core knows no token, no
//! key and no certificate; it tells a [`Doorkeeper`] who knocks and obeys its verdict.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName};

use crate::service::Opening;

/// Who a connection speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its name, as tokens, keys and certificates say it. Never a metric label.
    pub name: Arc<str>,
    /// When its credential stops being good; `None`: as long as the connection lasts.
    pub expires: Option<Instant>,
}

/// Decides who may open a session of one service over HTTP.
pub trait Doorkeeper: Send + Sync + 'static {
    /// Looks at a request for a session. `opening` has all headers of the request.
    fn knock(&self, opening: &Opening<'_>, now: Instant) -> Verdict;
}

/// A verdict that takes time. Runs on the service runtime, never on a worker, and is dropped when
/// its connection ends. It must end by its own deadline, and never with [`Verdict::Wait`].
pub type VerdictFuture = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// What a doorkeeper says.
pub enum Verdict {
    /// The session may be opened.
    Pass(Principal),
    /// It may not.
    Refuse(Denial),
    /// It is not known yet.
    Wait(VerdictFuture),
}

/// How a peer is refused. That is all it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It did not prove who it is: 401.
    Unauthorized,
    /// It is known, and may not: 403.
    Forbidden,
}

impl Denial {
    /// The fixed text.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What the handshake of a connection leaves for its session.
#[derive(Clone, Debug, Default)]
pub struct Introduction {
    /// Who it speaks for, when somebody looked.
    pub principal: Option<Principal>,
    /// The path that it asked for, on HTTP.
    pub path: Option<Arc<str>>,
    /// The headers that the service names in [`crate::service::Service::headers`].
    pub headers: Option<Box<HeaderMap>>,
    /// What stood behind the `?` of its target, on HTTP.
    pub query: Option<Box<str>>,
}

/// The headers of `wanted` that are there; `None` when none is.
pub(crate) fn select(headers: &HeaderMap, wanted: &[HeaderName]) -> Option<Box<HeaderMap>> {
    let mut selected = HeaderMap::new();
    for name in wanted {
        for value in headers.get_all(name) {
            selected.append(name.clone(), value.clone());
        }
    }
    (!selected.is_empty()).then(|| Box::new(selected))
}
