//! From a request that hyper has parsed to its response: the body, the path, the request id.
//! What the path's kind does is in `upgrade`, `post`, `page` and `stream`.

use std::convert::Infallible;
use std::future::{Future, pending};
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
use super::stream::Stream;
use super::traced::Ended;
use super::{CurrentSite, HttpPeer, HttpSite, PathKind, StreamStart, cors, page, stream, upgrade};
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

/// A request on one of the paths, with its whole body.
pub(super) struct Asked<'a> {
    pub(super) answerer: &'a Answerer,
    pub(super) path: usize,
    pub(super) head: &'a request::Parts,
    pub(super) body: Bytes,
    pub(super) id: &'a RequestId,
    /// Whose it is: the peer, or whom a trusted proxy names.
    pub(super) client: SocketAddr,
    pub(super) trace: Option<&'a Arc<Trace>>,
}

impl Asked<'_> {
    /// The path that was asked for, which is one of those that the configured one stands for.
    pub(super) fn target(&self) -> Arc<str> {
        let configured = &self.answerer.site.paths[self.path];
        match configured.prefix() {
            Some(_) => self.head.uri.path().into(),
            None => Arc::clone(&configured.path),
        }
    }

    /// What the service shows to whoever reads this path.
    fn document(&self) -> Option<Response<Full<Bytes>>> {
        let service = &self.answerer.site.paths[self.path].service;
        let document = service.document(self.head.uri.path())?;
        Some(page::show(document, &self.head.headers))
    }

    /// What its connection goes on with once it leaves hyper.
    pub(super) fn taken(
        &self,
        principal: Option<Principal>,
        stream: Option<StreamStart>,
    ) -> Upgrade {
        let site = &self.answerer.site.paths[self.path];
        Upgrade {
            path: self.path,
            request_id: self.id.clone(),
            client: self.client,
            handshake: self.trace.and_then(|trace| trace.context().cloned()),
            introduction: Introduction {
                principal,
                path: Some(self.target()),
                headers: door::select(&self.head.headers, site.service.headers()),
                query: self.head.uri.query().map(Box::from),
            },
            stream,
        }
    }
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
        Box::pin(async move {
            let exchange = Arc::clone(&this.exchange);
            let response = this.answer(request).await;
            match exchange.stream() {
                // Hyper does not see it: the driver takes the socket from under it.
                Some(options) => {
                    exchange.begin_stream(stream::first_words(&response, options));
                    pending().await
                }
                None => Ok(response),
            }
        })
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

        let upgraded = self.exchange.is_taken();
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
            return Answered { path: None, response: self.no_such_path(id) };
        };
        let page = match cors::page(head, kind) {
            Ok(page) => page,
            Err(cors::Foreign) => {
                let response = self.error(StatusCode::FORBIDDEN, "origin not allowed", id);
                return Answered { path: Some(path), response };
            }
        };
        let preflight = page.as_ref().and_then(|page| page.preflight(head, kind.methods()));
        let mut response = match preflight {
            Some(response) => response,
            None => {
                let client = self.site.trust.client(self.peer.addr, &head.headers);
                let asked = Asked { answerer: self, path, head, body, id, client, trace };
                self.serve(kind, asked, offers_upgrade).await
            }
        };
        if let Some(page) = page {
            page.may_read(response.headers_mut());
        }
        Answered { path: Some(path), response }
    }

    async fn serve(
        &self,
        kind: &PathKind,
        asked: Asked<'_>,
        offers_upgrade: bool,
    ) -> Response<Full<Bytes>> {
        match (kind, &asked.head.method) {
            (PathKind::Post { .. }, &Method::POST) => {
                match self.admit(&asked, Carrier::Http).await {
                    Ok(principal) => Post { asked, principal }.carry().await,
                    Err(denial) => self.denied(denial, asked.id),
                }
            }
            (PathKind::Post { .. }, &Method::GET) => match asked.document() {
                Some(document) => match self.admit(&asked, Carrier::Http).await {
                    Ok(_) => document,
                    Err(denial) => self.denied(denial, asked.id),
                },
                None => self.not_allowed(kind.methods(), asked.id),
            },
            (PathKind::Page, &Method::GET | &Method::HEAD) => {
                match self.admit(&asked, Carrier::Http).await {
                    Ok(_) => asked.document().unwrap_or_else(|| self.no_such_path(asked.id)),
                    Err(denial) => self.denied(denial, asked.id),
                }
            }
            (PathKind::WebSocket { origins }, &Method::GET) => {
                let checked = match offers_upgrade {
                    true => upgrade::check(asked.head, origins),
                    false => Err(upgrade::Fault::NotOffered),
                };
                self.upgrade(checked, &asked).await
            }
            (PathKind::Stream { form, .. }, method) if stream::takes(*form, method) => {
                Stream { asked, form: *form }.open().await
            }
            (
                PathKind::Post { .. }
                | PathKind::WebSocket { .. }
                | PathKind::Stream { .. }
                | PathKind::Page,
                _,
            ) => self.not_allowed(kind.methods(), asked.id),
        }
    }

    /// Takes an upgrade or says why not. After a 101 hyper ends, and the socket is given back.
    async fn upgrade(
        &self,
        checked: Result<String, upgrade::Fault>,
        asked: &Asked<'_>,
    ) -> Response<Full<Bytes>> {
        let id = asked.id;
        match checked {
            Ok(accept) => {
                let principal = match self.admit(asked, Carrier::WebSocket).await {
                    Ok(principal) => principal,
                    Err(denial) => return self.denied(denial, id),
                };
                if let Err(refusal) = self.readmit(asked.client) {
                    self.exchange.close_after_response(CloseReason::Refused);
                    return refusal::error(StatusCode::SERVICE_UNAVAILABLE, refusal.text(), id);
                }
                self.exchange.accept(asked.taken(principal, None));
                let spoken = self.site.paths[asked.path].service.subprotocols();
                upgrade::switching_protocols(&accept, &asked.head.headers, spoken)
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
    pub(super) fn readmit(&self, client: SocketAddr) -> Result<(), crate::admission::Refusal> {
        match &self.peer.readmit {
            Some(readmit) if client.ip() != self.peer.addr.ip() => readmit(client.ip()),
            Some(_) | None => Ok(()),
        }
    }

    /// Asks the path's doorkeeper, if it has one, whether a session may be opened, and for whom.
    pub(super) async fn admit(
        &self,
        asked: &Asked<'_>,
        carrier: Carrier,
    ) -> Result<Option<Principal>, Denial> {
        let Asked { path, head, id, client, .. } = *asked;
        let site = &self.site.paths[path];
        let Some(doorkeeper) = site.service.doorkeeper() else { return Ok(None) };
        let target = asked.target();
        let opening = Opening {
            conn: self.peer.conn,
            peer: client,
            listener: &self.site.listener,
            carrier,
            wire: None,
            request_id: id,
            tls: self.peer.tls.as_ref(),
            principal: None,
            path: Some(&target),
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
    pub(super) fn denied(&self, denial: Denial, id: &RequestId) -> Response<Full<Bytes>> {
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

    /// The path that this request is for. A query is no part of it.
    pub(super) fn path(&self, head: &request::Parts) -> Option<(usize, &PathKind)> {
        let at = self.site.find(head.uri.path())?;
        Some((at, &self.site.paths[at].kind))
    }

    fn no_such_path(&self, id: &RequestId) -> Response<Full<Bytes>> {
        self.error(StatusCode::NOT_FOUND, "no such path", id)
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
