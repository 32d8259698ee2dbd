//! The routes: one table, from which requests are dispatched and the index, the 404 and the
//! documentation are written. Who may ask is the guard's; what is told is each module's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ALLOW, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::connections::{self, ConnectionsView};
use crate::guard::Guard;
use crate::health::Health;
use crate::logs::LogFilter;
use crate::metrics::Scrapes;
use crate::options::OpsTimeouts;
use crate::pprof::{self, Profiles};
use crate::query::Query;
use crate::reply::{self, Refusal, Reply};
use crate::state::{Reload, Reloaded};

/// Largest request body, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How much of a larger body is read and thrown away, so that its sender reads the refusal.
const BODY_BYTES_DISCARDED: usize = 1024 * 1024;
/// Time to resolve and write a profile once its samples are taken.
const PROFILE_WRITING: Duration = Duration::from_secs(60);

/// Who may ask for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody who reaches the port: health and metrics.
    Open,
    /// Callers under a known host name and, where one is needed, with the token.
    Guarded,
}

/// One route of the side port.
#[derive(Debug)]
pub struct Route {
    /// Its method. A GET route answers HEAD too.
    pub method: Method,
    /// Its path.
    pub path: &'static str,
    /// What it does, for the index.
    pub what: &'static str,
    /// Who may ask.
    pub access: Access,
    endpoint: Endpoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Index,
    Healthz,
    Readyz,
    Startupz,
    Metrics,
    Connections,
    Config,
    ShowLog,
    PutLog,
    Drain,
    Reload,
    Profiles,
    CpuProfile,
    HeapProfile,
}

macro_rules! routes {
    ($($access:ident $method:ident $path:literal $endpoint:ident $what:literal;)+) => {
        /// Every route, in the order of the index.
        pub const ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            what: $what,
            access: Access::$access,
            endpoint: Endpoint::$endpoint,
        },)+];
    };
}

routes! {
    Guarded GET "/" Index "this list";
    Open GET "/healthz" Healthz "200 while every event loop turns, else 503 and which one does not";
    Open GET "/readyz" Readyz "200 while serving, else 503 with the stage and what is pending";
    Open GET "/startupz" Startupz "200 once serving has begun";
    Open GET "/metrics" Metrics "metrics in the Prometheus text form, or OpenMetrics by Accept";
    Guarded GET "/connections" Connections "connections: limit, cursor, sort, listener, state, address, min_age, min_outbox_bytes";
    Guarded GET "/config" Config "the configuration in force, secrets redacted";
    Guarded GET "/log" ShowLog "the log filter in force";
    Guarded PUT "/log" PutLog "changes the log filter to the body for ttl (10m by default), then reverts";
    Guarded POST "/drain" Drain "starts the drain, as SIGTERM does";
    Guarded POST "/reload" Reload "reads the configuration again, as SIGHUP does; tells what changed";
    Guarded GET "/debug/pprof/" Profiles "what can be profiled";
    Guarded GET "/debug/pprof/profile" CpuProfile "CPU profile: seconds, hz, format=pprof or svg";
    Guarded GET "/debug/pprof/heap" HeapProfile "heap profile: seconds, format=pprof or svg";
}

/// What a connection may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every route.
    All,
    /// Open routes only: the port is full.
    OpenOnly,
}

/// Everything that answers.
pub(crate) struct Router {
    pub(crate) guard: Guard,
    pub(crate) health: Arc<Health>,
    pub(crate) scrapes: Scrapes,
    pub(crate) connections: Arc<dyn ConnectionsView>,
    pub(crate) config: Arc<dyn Fn() -> Value + Send + Sync>,
    pub(crate) logs: Arc<LogFilter>,
    pub(crate) drain: Arc<dyn Fn() + Send + Sync>,
    pub(crate) reload: Arc<dyn Reload>,
    pub(crate) profiles: Profiles,
    pub(crate) timeouts: OpsTimeouts,
}

impl Router {
    /// The answer to `request`, which always comes: each route has its time.
    pub(crate) async fn answer<B>(
        &self,
        request: Request<B>,
        peer: SocketAddr,
        scope: Scope,
    ) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let route = match self.admit(&request, scope) {
            Ok(route) => route,
            Err(refusal) => return refusal.into_reply(),
        };
        let time = self.time(route.endpoint);
        match timeout(time, self.dispatch(route.endpoint, request, peer)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(refusal)) => refusal.into_reply(),
            Err(_) => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("no answer within {} s", time.as_secs_f64()),
            )
            .into_reply(),
        }
    }

    /// The route of `request`, when its caller may ask for it.
    fn admit<B>(&self, request: &Request<B>, scope: Scope) -> Result<&'static Route, Refusal> {
        let (method, path) = (request.method(), request.uri().path());
        let mut at_path = ROUTES.iter().filter(|route| route.path == path).peekable();
        // Who may not ask is not told what is there.
        let access = at_path.peek().map_or(Access::Guarded, |route| route.access);
        if scope == Scope::OpenOnly && access != Access::Open {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many connections on the side port: only health and metrics are answered",
            ));
        }
        self.guard.check(access, method, request.uri(), request.headers())?;
        if at_path.peek().is_none() {
            let error = format!("nothing at {path:?}");
            return Err(Refusal::new(StatusCode::NOT_FOUND, error).detail("routes", listed()));
        }
        let asked = if *method == Method::HEAD { &Method::GET } else { method };
        at_path.find(|route| route.method == *asked).ok_or_else(|| not_allowed(path, method))
    }

    fn time(&self, endpoint: Endpoint) -> Duration {
        match endpoint {
            Endpoint::CpuProfile | Endpoint::HeapProfile => {
                self.profiles.longest() + PROFILE_WRITING
            }
            Endpoint::Index
            | Endpoint::Healthz
            | Endpoint::Readyz
            | Endpoint::Startupz
            | Endpoint::Metrics
            | Endpoint::Connections
            | Endpoint::Config
            | Endpoint::ShowLog
            | Endpoint::PutLog
            | Endpoint::Drain
            | Endpoint::Reload
            | Endpoint::Profiles => self.timeouts.request,
        }
    }

    async fn dispatch<B>(
        &self,
        endpoint: Endpoint,
        request: Request<B>,
        peer: SocketAddr,
    ) -> Result<Reply, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let query = |known| Query::parse(request.uri().query(), known);
        match endpoint {
            Endpoint::Index => Ok(index(request.headers())),
            Endpoint::Healthz => Ok(self.health.healthz(Instant::now().into_std())),
            Endpoint::Readyz => Ok(self.health.readyz()),
            Endpoint::Startupz => Ok(self.health.startupz()),
            Endpoint::Metrics => self.scrapes.page(request.headers(), self.timeouts.request).await,
            Endpoint::Connections => {
                connections::list(&*self.connections, &query(connections::PARAMETERS)?).await
            }
            Endpoint::Config => Ok(reply::json(StatusCode::OK, &(self.config)())),
            Endpoint::ShowLog => Ok(self.logs.show()),
            Endpoint::PutLog => {
                let query = query(&["ttl"])?;
                self.logs.put(&query, &body(request.into_body()).await?)
            }
            Endpoint::Drain => {
                tracing::info!(%peer, "drain asked for on the side port");
                (self.drain)();
                Ok(reply::json(StatusCode::ACCEPTED, &json!({ "status": "draining" })))
            }
            Endpoint::Reload => {
                tracing::info!(%peer, "reload asked for on the side port");
                self.reload.reload().await.map(reloaded).map_err(not_reloaded)
            }
            Endpoint::Profiles => Ok(self.profiles.index()),
            Endpoint::CpuProfile => self.profiles.cpu(&query(pprof::CPU_PARAMETERS)?, peer).await,
            Endpoint::HeapProfile => {
                self.profiles.heap(&query(pprof::HEAP_PARAMETERS)?, peer).await
            }
        }
    }
}

fn reloaded(did: Reloaded) -> Reply {
    let status = if did == Reloaded::default() { "unchanged" } else { "reloaded" };
    let Reloaded { changed, restart } = did;
    let body = json!({ "status": status, "changed": changed, "needs_restart": restart });
    reply::json(StatusCode::OK, &body)
}

fn not_reloaded(faults: Vec<String>) -> Refusal {
    Refusal::bad_request("the configuration has faults; what was in force stays")
        .detail("faults", json!(faults))
}

fn not_allowed(path: &str, method: &Method) -> Refusal {
    let mut allowed: Vec<&str> = ROUTES
        .iter()
        .filter(|route| route.path == path)
        .map(|route| route.method.as_str())
        .collect();
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    let allowed = allowed.join(", ");
    let refusal = Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} is not allowed here; {allowed} is"),
    );
    match HeaderValue::try_from(allowed) {
        Ok(allowed) => refusal.header(ALLOW, allowed),
        Err(_) => refusal,
    }
}

/// The whole body, at most [`BODY_BYTES_MAX`] long. A longer one is read on for a while, because
/// closing on unread bytes resets the connection before the refusal arrives.
async fn body<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Result<Bytes, Refusal> {
    let mut kept = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::bad_request("the body did not arrive whole"))?;
        let Some(data) = frame.data_ref() else { continue };
        length += data.len();
        if length <= BODY_BYTES_MAX {
            kept.extend_from_slice(data);
        } else if length > BODY_BYTES_DISCARDED {
            break;
        }
    }
    if length > BODY_BYTES_MAX {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is over {BODY_BYTES_MAX} bytes"),
        ));
    }
    Ok(kept.freeze())
}

fn listed() -> Value {
    ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect()
}

/// `GET /`: the routes, as a page for a browser and as text for all else.
fn index(headers: &HeaderMap) -> Reply {
    let html = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if !html {
        let line = |route: &Route| {
            format!("{:<6}{:<24}{}\n", route.method.as_str(), route.path, route.what)
        };
        let text: String = ROUTES.iter().map(line).collect();
        return reply::bytes(StatusCode::OK, "text/plain; charset=utf-8", text);
    }
    let row = |route: &Route| {
        let (path, what) = (route.path, route.what);
        let path = match route.method {
            Method::GET => format!("<a href=\"{path}\">{path}</a>"),
            _ => path.to_owned(),
        };
        format!("<tr><td>{}<td>{path}<td>{what}\n", route.method)
    };
    let rows: String = ROUTES.iter().map(row).collect();
    let page = format!(
        "<!doctype html><meta charset=utf-8><title>weir side port</title>\n\
         <style>body{{font:16px/1.6 system-ui;margin:2em}}td{{padding-right:1.5em}}</style>\n\
         <h1>weir side port</h1>\n<table>\n{rows}</table>\n"
    );
    reply::bytes(StatusCode::OK, "text/html; charset=utf-8", page)
}
