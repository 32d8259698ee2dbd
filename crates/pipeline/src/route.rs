//! From plain values to services by name. Everything is checked here, nothing when it runs.

use std::collections::HashMap;
use std::sync::Arc;

use http::header::InvalidHeaderValue;
use http::method::InvalidMethod;
use http::uri::{InvalidUri, PathAndQuery};
use http::{HeaderName, HeaderValue, Method};
use weir_core::service::Service;
use weir_upstream::Upstream;

use crate::discard::Discard;
use crate::echo::Echo;
use crate::template::{Template, TemplateError};
use crate::traced::{TraceCarrier, Traced};
use crate::upstream::{NextPlan, Plans, RequestForm, StageMetrics, UpstreamRoute};

/// One route as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// Its name, unique among routes.
    pub name: String,
    /// What it does.
    pub kind: RouteKind,
    /// Where its messages carry a trace context, if they do.
    pub trace: Option<TraceCarrier>,
}

/// What a route does, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Answers each message from a template.
    Echo {
        /// The template, such as `received: {message}`.
        reply: String,
        /// The word that ends a connection after its pending replies.
        exit: Option<String>,
    },
    /// Takes each message and answers none.
    Discard,
    /// Sends each message to an upstream.
    Upstream {
        /// The upstream's name.
        upstream: String,
        /// The HTTP method.
        method: String,
        /// The path, with a query if there is one.
        path: String,
        /// The content type of messages; `None` sends none.
        content_type: Option<String>,
        /// Headers of a client's handshake or request that are passed on.
        forward_headers: Vec<HeaderName>,
    },
}

/// Why a route cannot be built. The name of the route is in each.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Two routes have one name.
    #[error("route {route:?} is named twice")]
    Duplicate {
        /// The name.
        route: String,
    },
    /// The reply is not a template.
    #[error("route {route:?}: reply")]
    Reply {
        /// The route's name.
        route: String,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// An empty exit word would close at an empty message.
    #[error("route {route:?}: exit is an empty word; \"off\" switches it off")]
    EmptyExit {
        /// The route's name.
        route: String,
    },
    /// No upstream has this name.
    #[error("route {route:?}: no upstream is named {upstream:?}")]
    UnknownUpstream {
        /// The route's name.
        route: String,
        /// The name that it gives.
        upstream: String,
    },
    /// Not an HTTP method.
    #[error("route {route:?}: method {method:?}")]
    Method {
        /// The route's name.
        route: String,
        /// As configured.
        method: String,
        /// What is wrong with it.
        source: InvalidMethod,
    },
    /// `CONNECT` makes a tunnel, not an answer.
    #[error("route {route:?}: method CONNECT has no answer that could be a reply")]
    Connect {
        /// The route's name.
        route: String,
    },
    /// Not a path with an optional query.
    #[error("route {route:?}: path {path:?}")]
    Path {
        /// The route's name.
        route: String,
        /// As configured.
        path: String,
        /// What is wrong with it.
        source: InvalidUri,
    },
    /// A path that does not start with a slash.
    #[error("route {route:?}: path {path:?} does not start with /")]
    RelativePath {
        /// The route's name.
        route: String,
        /// As configured.
        path: String,
    },
    /// Not the value of a header.
    #[error("route {route:?}: content_type {content_type:?}")]
    ContentType {
        /// The route's name.
        route: String,
        /// As configured.
        content_type: String,
        /// What is wrong with it.
        source: InvalidHeaderValue,
    },
}

/// What routes are built from besides their configuration.
pub struct RouteParts<'a> {
    /// The upstreams by name.
    pub upstreams: &'a HashMap<String, Arc<Upstream>>,
    /// Where calls count their stages.
    pub stages: &'a StageMetrics,
    /// The plans of the routes that there are already.
    pub plans: &'a Plans,
}

/// Routes that are built. Open connections of upstream routes go by them once they are committed.
#[must_use]
pub struct BuiltRoutes {
    services: HashMap<String, Arc<dyn Service>>,
    plans: Vec<NextPlan>,
}

impl BuiltRoutes {
    /// The services by the names of their routes, for new connections.
    pub fn services(&self) -> &HashMap<String, Arc<dyn Service>> {
        &self.services
    }

    /// Puts the routes in force for open connections too.
    pub fn commit(self) {
        self.plans.into_iter().for_each(NextPlan::commit);
    }
}

/// Builds the services of these routes.
///
/// # Errors
///
/// The first fault, in the order of the routes.
pub fn build_routes(
    specs: &[RouteSpec],
    parts: &RouteParts<'_>,
) -> Result<BuiltRoutes, RouteError> {
    let mut built =
        BuiltRoutes { services: HashMap::with_capacity(specs.len()), plans: Vec::new() };
    for spec in specs {
        let service = build(spec, parts, &mut built.plans)?;
        let service = match &spec.trace {
            Some(carrier) => Arc::new(Traced::new(carrier.clone(), service)),
            None => service,
        };
        if built.services.insert(spec.name.clone(), service).is_some() {
            return Err(RouteError::Duplicate { route: spec.name.clone() });
        }
    }
    Ok(built)
}

fn build(
    spec: &RouteSpec,
    parts: &RouteParts<'_>,
    plans: &mut Vec<NextPlan>,
) -> Result<Arc<dyn Service>, RouteError> {
    let route = spec.name.clone();
    match &spec.kind {
        RouteKind::Echo { exit: Some(word), .. } if word.is_empty() => {
            Err(RouteError::EmptyExit { route })
        }
        RouteKind::Echo { reply, exit } => match Template::parse(reply) {
            Ok(template) => Ok(Arc::new(Echo::new(route, template, exit.clone()))),
            Err(source) => Err(RouteError::Reply { route, source }),
        },
        RouteKind::Discard => Ok(Arc::new(Discard::new(route))),
        RouteKind::Upstream { upstream, method, path, content_type, forward_headers } => {
            let form = RequestForm {
                forward_headers: forward_headers.clone(),
                ..request_form(&route, method, path, content_type.as_deref())?
            };
            match parts.upstreams.get(upstream) {
                Some(upstream) => {
                    let (upstream, stages) = (Arc::clone(upstream), parts.stages.clone());
                    let (service, next) =
                        UpstreamRoute::new(&route, upstream, form, stages, parts.plans);
                    plans.push(next);
                    Ok(Arc::new(service))
                }
                None => Err(RouteError::UnknownUpstream { route, upstream: upstream.clone() }),
            }
        }
    }
}

/// Checks what every request of a route has in common; `route` names it in faults.
///
/// # Errors
///
/// The first of method, path and content type that HTTP does not allow.
pub fn request_form(
    route: &str,
    method: &str,
    path: &str,
    content_type: Option<&str>,
) -> Result<RequestForm, RouteError> {
    let name = || route.to_owned();
    let method = Method::from_bytes(method.as_bytes()).map_err(|source| RouteError::Method {
        route: name(),
        method: method.to_owned(),
        source,
    })?;
    if method == Method::CONNECT {
        return Err(RouteError::Connect { route: name() });
    }
    if !path.starts_with('/') {
        return Err(RouteError::RelativePath { route: name(), path: path.to_owned() });
    }
    let path_and_query = PathAndQuery::try_from(path).map_err(|source| RouteError::Path {
        route: name(),
        path: path.to_owned(),
        source,
    })?;
    let content_type = content_type.map(HeaderValue::from_str).transpose().map_err(|source| {
        let content_type = content_type.unwrap_or_default().to_owned();
        RouteError::ContentType { route: name(), content_type, source }
    })?;
    Ok(RequestForm { method, path_and_query, content_type, forward_headers: Vec::new() })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::error::Error as _;
    use std::net::SocketAddr;
    use std::time::Duration;

    use prometheus::Registry;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::runtime::Runtime;
    use tokio_util::task::TaskTracker;
    use weir_core::service::{Carrier, MessageKind};
    use weir_upstream::{UpstreamMetrics, UpstreamOptions};

    use super::*;
    use crate::recorder::{Recorded, Recorder};

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    fn upstream_on(runtime: &Runtime, options: UpstreamOptions) -> Arc<Upstream> {
        let metrics = UpstreamMetrics::register(&Registry::new()).expect("good names");
        let tasks = TaskTracker::new();
        Upstream::new(options, &metrics, &tasks, runtime.handle()).expect("good options")
    }

    /// An upstream that nothing runs: it can be named, not called.
    pub(crate) fn upstream(options: UpstreamOptions) -> Arc<Upstream> {
        upstream_on(&runtime(), options)
    }

    fn to_backend(target: SocketAddr) -> UpstreamOptions {
        UpstreamOptions {
            targets: vec![format!("http://{target}")],
            request_timeout: Duration::from_secs(5),
            ..UpstreamOptions::default()
        }
    }

    fn echo(name: &str) -> RouteSpec {
        let kind = RouteKind::Echo { reply: "got {message}".into(), exit: None };
        RouteSpec { name: name.into(), kind, trace: None }
    }

    fn orders(change: impl FnOnce(&mut String, &mut String, &mut Option<String>)) -> RouteSpec {
        let (mut method, mut path) = ("PUT".to_owned(), "/orders?from=weir".to_owned());
        let mut content_type = Some("text/plain".to_owned());
        change(&mut method, &mut path, &mut content_type);
        let upstream = "backend".to_owned();
        let forward_headers = Vec::new();
        let kind = RouteKind::Upstream { upstream, method, path, content_type, forward_headers };
        RouteSpec { name: "orders".into(), kind, trace: None }
    }

    fn built(
        specs: &[RouteSpec],
        upstreams: &HashMap<String, Arc<Upstream>>,
        plans: &Plans,
    ) -> Result<BuiltRoutes, RouteError> {
        build_routes(specs, &RouteParts { upstreams, stages: &StageMetrics::default(), plans })
    }

    fn check_fault(specs: &[RouteSpec], expected: &str) {
        let target = SocketAddr::from(([127, 0, 0, 1], 9));
        let upstreams = HashMap::from([("backend".to_owned(), upstream(to_backend(target)))]);
        let Err(fault) = built(specs, &upstreams, &Plans::default()) else {
            panic!("no fault, but {expected} was due")
        };
        let source = fault.source().map(|source| format!(": {source}")).unwrap_or_default();
        assert_eq!(format!("{fault}{source}"), expected);
    }

    #[test]
    fn every_route_is_there_by_its_name() {
        let discard = RouteSpec { name: "syslog".into(), kind: RouteKind::Discard, trace: None };
        let specs = [echo("echo"), discard, echo("Echo")];
        let built = built(&specs, &HashMap::new(), &Plans::default()).expect("good routes");
        let routes = built.services();
        assert_eq!(routes.len(), 3);
        for (name, service) in routes {
            assert_eq!(name, service.route());
        }
        let mut session = Recorder::open(&*routes["echo"], Carrier::Lines);
        assert_eq!(session.text("hi"), [Recorded::text("got hi")]);
    }

    #[test]
    fn a_fault_names_its_route_and_what_is_wrong() {
        check_fault(&[echo("a"), echo("a")], r#"route "a" is named twice"#);
        let kind = RouteKind::Echo { reply: "{mesage}".into(), exit: None };
        check_fault(
            &[RouteSpec { name: "a".into(), kind, trace: None }],
            r#"route "a": reply: unknown placeholder {mesage}, the nearest is {message}"#,
        );
        let kind = RouteKind::Echo { reply: "{message}".into(), exit: Some(String::new()) };
        check_fault(
            &[RouteSpec { name: "a".into(), kind, trace: None }],
            r#"route "a": exit is an empty word; "off" switches it off"#,
        );
        check_fault(
            &[orders(|method, _, _| *method = "a b".into())],
            r#"route "orders": method "a b": invalid HTTP method"#,
        );
        check_fault(
            &[orders(|method, _, _| *method = "CONNECT".into())],
            r#"route "orders": method CONNECT has no answer that could be a reply"#,
        );
        check_fault(
            &[orders(|_, path, _| *path = "orders".into())],
            r#"route "orders": path "orders" does not start with /"#,
        );
        check_fault(
            &[orders(|_, path, _| *path = "/a b".into())],
            r#"route "orders": path "/a b": invalid uri character"#,
        );
        check_fault(
            &[orders(|_, _, content_type| *content_type = Some("a\nb".into()))],
            "route \"orders\": content_type \"a\\nb\": failed to parse header value",
        );
        let mut lost = orders(|_, _, _| ());
        if let RouteKind::Upstream { upstream, .. } = &mut lost.kind {
            *upstream = "Backend".into();
        }
        check_fault(&[lost], r#"route "orders": no upstream is named "Backend""#);
    }

    /// Answers one request with `response`; gives back what was asked.
    async fn backend(listener: TcpListener, response: &'static [u8]) -> String {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut asked = Vec::new();
        while !asked.ends_with(b"an order") {
            let read = socket.read_buf(&mut asked).await.expect("a request");
            assert_ne!(read, 0, "the request broke off: {}", String::from_utf8_lossy(&asked));
        }
        socket.write_all(response).await.expect("a reader");
        String::from_utf8(asked).expect("text")
    }

    #[test]
    fn a_message_is_sent_as_configured_and_its_answer_is_the_reply() {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let target = listener.local_addr().expect("bound");
        let upstream = upstream_on(&runtime, to_backend(target));
        let upstreams = HashMap::from([("backend".to_owned(), upstream)]);
        let specs = [orders(|_, _, _| ())];
        let built = built(&specs, &upstreams, &Plans::default()).expect("good routes");
        let routes = built.services();

        let mut session = Recorder::open(&*routes["orders"], Carrier::Lines);
        assert_eq!(session.text("an order").len(), 1);
        let (ticket, ask) = session.asks.pop().expect("an ask");
        let response = b"HTTP/1.1 201 Created\r\ncontent-length: 6\r\n\r\ntaken\n";
        let (answer, asked) =
            runtime.block_on(async { tokio::join!(ask, backend(listener, response)) });
        assert_eq!(session.answer(ticket, answer, 1), [Recorded::text("taken")]);

        let (head, body) = asked.split_once("\r\n\r\n").expect("a head");
        assert_eq!(body, "an order");
        let mut lines: Vec<_> = head.lines().map(str::to_lowercase).collect();
        lines[1..].sort_unstable();
        let host = format!("host: {target}");
        let expected = [
            "put /orders?from=weir http/1.1",
            "content-length: 8",
            "content-type: text/plain",
            &host,
            "x-forwarded-for: 127.0.0.1",
            "x-request-id: 000000000000002a-1",
            "x-weir-connection: 000000000000002a",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn an_open_session_goes_by_the_newest_plan_once_it_is_committed() {
        let runtime = runtime();
        let listener = |_| runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let [old, new] = [0, 1].map(listener);
        let upstreams = |listener: &TcpListener| {
            let target = listener.local_addr().expect("bound");
            HashMap::from([("backend".to_owned(), upstream_on(&runtime, to_backend(target)))])
        };
        let plans = Plans::default();
        let specs = [orders(|_, _, _| ())];
        let first = built(&specs, &upstreams(&old), &plans).expect("good routes");
        let mut session = Recorder::open(&*first.services()["orders"], Carrier::Lines);
        first.commit();
        let moved = [orders(|_, path, _| *path = "/moved".to_owned())];
        let second = built(&moved, &upstreams(&new), &plans).expect("good routes");

        let mut path_asked = |listener: TcpListener| {
            session.text("an order");
            let (_, ask) = session.asks.pop().expect("an ask");
            let response = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            let both = async { tokio::join!(ask, backend(listener, response)) };
            let (answer, asked) = runtime.block_on(both);
            answer.expect("a response");
            asked.split(' ').nth(1).expect("a path").to_owned()
        };
        assert_eq!(path_asked(old), "/orders?from=weir");
        second.commit();
        assert_eq!(path_asked(new), "/moved");
    }

    #[test]
    fn an_upstream_that_is_not_there_is_told_as_unavailable() {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let target = listener.local_addr().expect("bound");
        drop(listener);
        let upstreams =
            HashMap::from([("backend".to_owned(), upstream_on(&runtime, to_backend(target)))]);
        let specs = [orders(|_, _, _| ())];
        let built = built(&specs, &upstreams, &Plans::default()).expect("good routes");
        let routes = built.services();
        let mut session = Recorder::open(&*routes["orders"], Carrier::Http);
        session.bytes(b"an order");
        let (ticket, ask) = session.asks.pop().expect("an ask");
        let answer = runtime.block_on(ask);
        let json = br#"{"error":"upstream unavailable","request_id":"000000000000002a-1"}"#;
        let expected = Recorded::reply(503, MessageKind::Text, json);
        assert_eq!(session.answer(ticket, answer, 1), [expected]);
    }
}
