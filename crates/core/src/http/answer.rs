//! From a request that hyper has parsed to its response: the body, the path, the request id.
//! What the path's kind does is in `upgrade` and `post`.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::exchange::{Exchange, Upgrade};
use super::post::Post;
use super::refusal::{self, Refusal};
use super::traced::Ended;
use super::{CurrentSite, HttpPeer, HttpSite, PathKind, upgrade};
use crate::clock;
use crate::close::CloseReason;
use crate::context::RequestId;
use crate::door::{self, Denial, Introduction, Principal, Verdict};
use crate::service::{Carrier, Opening};
use crate::stage::Stage;
use crate::trace::Trace;

/// The header that request ids come and go in.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers the requests of one connection: hyper's service.
#[derive(Clone)]
pub(super) struct Answerer {
    pub(super) current: CurrentSite,
    /// The site that this request is answered with.
    pub(super) site: Arc<HttpSite>,
    pub(super) peer: HttpPeer,
    pub(super) exchange: Arc<Exchange>,
    /// When the connection is to go after the next response.
    pub(super) of_age: Option<Instant>,
}

/// A response, and which path it is of.
pub(super) struct Answered {
    pub(super) path: Option<usize>,
    pub(super) response: Response<Full<Bytes>>,
}

impl hyper::service::Service<Request<Incoming>> for Answerer {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    // Boxed so that hyper's connection can be moved and polled in place.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = Self { site: self.current.get(), ..self.clone() };
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

impl Answerer {
    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let started = clock::now();
        let (seq, offers_upgrade) = self.exchange.request();
        let (head, body) = request.into_parts();
        let id = request_id(&head, || RequestId::Message { conn: self.peer.conn, seq });

        // The body is taken first, whatever the answer, so that the connection can go on after it.
        // It is bounded in bytes by the gate and in time by the driver.
        let (answered, trace, bytes) = match body.collect().await {
            Ok(body) => {
                let body = body.to_bytes();
                let bytes = body.len();
                let (trace, body) = self.begin_trace(&head, body, started);
                if let Some(trace) = &trace {
                    trace.stage(Stage::Frame, started, clock::now());
                }
                let trace_of = trace.as_ref();
                (self.route(&head, body, offers_upgrade, &id, trace_of).await, trace, bytes)
            }
            Err(_) => (Answered { path: None, response: self.refused_body(&id) }, None, 0),
        };
        let Answered { path, mut response } = answered;

        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if self.peer.stop.is_leaving() && !upgraded {
            self.exchange.close_after_response(self.peer.stop.reason());
        } else if self.of_age.is_some_and(|of_age| Instant::now() >= of_age) && !upgraded {
            self.exchange.close_after_response(CloseReason::Aged);
        }
        if self.exchange.outcome().close.is_some() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Ok(id) = HeaderValue::try_from(id.to_string()) {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        let (now, status) = (clock::now(), response.status().as_u16());
        let ended = Ended { head: &head, path, id: &id, status, bytes };
        let exemplar = trace.and_then(|trace| self.end_trace(&trace, now, &ended));
        let took = now.saturating_duration_since(started);
        self.site.metrics.responded(path, &head.method, status, took, exemplar);
        self.exchange.answered();
        response
    }

    async fn route(
        &self,
        head: &request::Parts,
        body: Bytes,
        offers_upgrade: bool,
        id: &RequestId,
        trace: Option<&Arc<Trace>>,
    ) -> Answered {
        let Some((path, kind)) = self.path(head) else {
            let response = self.error(StatusCode::NOT_FOUND, "no such path", id);
            return Answered { path: None, response };
        };
        let client = self.site.trust.client(self.peer.addr, &head.headers);
        let response = match (kind, &head.method) {
            (PathKind::Post, &Method::POST) => {
                match self.admit(path, Carrier::Http, head, id, client).await {
                    Ok(principal) => {
                        let answerer = self;
                        let post =
                            Post { answerer, path, head, body, id, client, principal, trace };
                        post.carry().await
                    }
                    Err(denial) => self.denied(denial, id),
                }
            }
            (PathKind::Post, _) => self.not_allowed("POST", id),
            (PathKind::WebSocket { origins }, &Method::GET) => {
                let checked = match offers_upgrade {
                    true => upgrade::check(head, origins),
                    false => Err(upgrade::Fault::NotOffered),
                };
                self.upgrade(path, checked, head, id, client, trace).await
            }
            (PathKind::WebSocket { .. }, _) => self.not_allowed("GET", id),
        };
        Answered { path: Some(path), response }
    }

    /// Takes an upgrade or says why not. After a 101 hyper ends, and the socket is given back.
    async fn upgrade(
        &self,
        path: usize,
        checked: Result<String, upgrade::Fault>,
        head: &request::Parts,
        id: &RequestId,
        client: SocketAddr,
        trace: Option<&Arc<Trace>>,
    ) -> Response<Full<Bytes>> {
        match checked {
            Ok(accept) => {
                let principal = match self.admit(path, Carrier::WebSocket, head, id, client).await {
                    Ok(principal) => principal,
                    Err(denial) => return self.denied(denial, id),
                };
                if let Err(refusal) = self.readmit(client) {
                    self.exchange.close_after_response(CloseReason::Refused);
                    return refusal::error(StatusCode::SERVICE_UNAVAILABLE, refusal.text(), id);
                }
                let site = &self.site.paths[path];
                let introduction = Introduction {
                    principal,
                    path: Some(Arc::clone(&site.path)),
                    headers: door::select(&head.headers, site.service.headers()),
                    query: head.uri.query().map(Box::from),
                };
                let handshake = trace.and_then(|trace| trace.context().cloned());
                let request_id = id.clone();
                let upgrade = Upgrade { path, request_id, client, handshake, introduction };
                self.exchange.accept(upgrade);
                let spoken = site.service.subprotocols();
                upgrade::switching_protocols(&accept, &head.headers, spoken)
            }
            Err(fault) => {
                let (status, text) = fault.told();
                let mut response = self.error(status, text, id);
                fault.decorate(response.headers_mut());
                if fault.ends_connection() {
                    self.exchange.close_after_response(CloseReason::BadRequest);
                }
                response
            }
        }
    }

    /// From the upgrade on the connection is one client's alone, and counts for that client.
    fn readmit(&self, client: SocketAddr) -> Result<(), crate::admission::Refusal> {
        match &self.peer.readmit {
            Some(readmit) if client.ip() != self.peer.addr.ip() => readmit(client.ip()),
            Some(_) | None => Ok(()),
        }
    }

    /// Asks the path's doorkeeper, if it has one, whether a session may be opened, and for whom.
    async fn admit(
        &self,
        path: usize,
        carrier: Carrier,
        head: &request::Parts,
        id: &RequestId,
        client: SocketAddr,
    ) -> Result<Option<Principal>, Denial> {
        let site = &self.site.paths[path];
        let Some(doorkeeper) = site.service.doorkeeper() else { return Ok(None) };
        let opening = Opening {
            conn: self.peer.conn,
            peer: client,
            listener: &self.site.listener,
            carrier,
            wire: None,
            request_id: id,
            tls: self.peer.tls.as_ref(),
            principal: None,
            path: Some(&site.path),
            headers: Some(&head.headers),
            query: head.uri.query(),
        };
        let verdict = match doorkeeper.knock(&opening, clock::now()) {
            Verdict::Wait(verdict) => self.peer.asks.run(verdict).await,
            verdict @ (Verdict::Pass(_) | Verdict::Refuse(_)) => Some(verdict),
        };
        match verdict {
            Some(Verdict::Pass(principal)) => Ok(Some(principal)),
            Some(Verdict::Refuse(denial)) => Err(denial),
            // A doorkeeper that failed lets nobody in.
            Some(Verdict::Wait(_)) | None => Err(Denial::Unauthorized),
        }
    }

    /// The same answer whatever was wrong. RFC 6750, section 3: without an error code, which would
    /// be a hint.
    fn denied(&self, denial: Denial, id: &RequestId) -> Response<Full<Bytes>> {
        match denial {
            Denial::Unauthorized => {
                let mut response = self.error(StatusCode::UNAUTHORIZED, denial.text(), id);
                let scheme = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                response
            }
            Denial::Forbidden => self.error(StatusCode::FORBIDDEN, denial.text(), id),
        }
    }

    /// The path that this request is for. Exact, and a query is no part of it.
    pub(super) fn path(&self, head: &request::Parts) -> Option<(usize, &PathKind)> {
        let mut paths = self.site.paths.iter();
        let at = paths.position(|path| &*path.path == head.uri.path())?;
        Some((at, &self.site.paths[at].kind))
    }

    fn not_allowed(&self, allowed: &'static str, id: &RequestId) -> Response<Full<Bytes>> {
        let mut response = self.error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", id);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        response
    }

    /// The body broke a rule behind a good head. The first thing that broke is told.
    fn refused_body(&self, id: &RequestId) -> Response<Full<Bytes>> {
        let refusal = self.exchange.refusal().unwrap_or(Refusal::Malformed("body"));
        self.exchange.refuse(refusal);
        self.exchange.told();
        self.exchange.close_after_response(refusal.into());
        self.error(refusal.status(), &refusal.to_string(), id)
    }

    /// An error that is told before a route has seen the request.
    pub(super) fn error(
        &self,
        status: StatusCode,
        text: &str,
        id: &RequestId,
    ) -> Response<Full<Bytes>> {
        self.site.metrics.refused(status.as_u16());
        refusal::error(status, text, id)
    }
}

/// The peer's id when it is well formed, else a new one.
fn request_id(head: &request::Parts, new: impl FnOnce() -> RequestId) -> RequestId {
    head.headers
        .get(X_REQUEST_ID)
        .and_then(|value| RequestId::given(value.as_bytes()))
        .unwrap_or_else(new)
}
