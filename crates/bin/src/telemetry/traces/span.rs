//! From what the engine tells of a message or request to spans, by OpenTelemetry's semantic
//! conventions. Pure, but for the two clocks that are read once a message.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use http::Method;
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use opentelemetry_semantic_conventions::attribute as name;
use weir_core::clock;
use weir_core::service::Carrier;
use weir_core::trace::{
    About, Branched, Call, Detail, Finished, RequestSpan, StageTime, TraceContext, What,
};

use crate::version;

/// Makes spans of what has ended.
pub(super) struct SpanMaker {
    scope: InstrumentationScope,
}

/// What two clocks said at the same time.
#[derive(Clone, Copy)]
struct Clocks {
    monotonic: Instant,
    wall: SystemTime,
}

impl Clocks {
    fn now() -> Self {
        Self { monotonic: clock::now(), wall: SystemTime::now() }
    }

    /// The wall's time of an instant that is past.
    fn wall(self, at: Instant) -> SystemTime {
        self.wall - self.monotonic.saturating_duration_since(at)
    }
}

impl SpanMaker {
    pub(super) fn new() -> Self {
        let scope = InstrumentationScope::builder("weir").with_version(version::VERSION).build();
        Self { scope }
    }

    /// Appends the span of a message or request, and one for each of its stages.
    pub(super) fn make(&self, finished: Finished, spans: &mut Vec<SpanData>) {
        let clocks = Clocks::now();
        let Finished { context, parent, about, .. } = &finished;
        let own = span_context(context, false);
        let mut root = self.span(
            own.clone(),
            parent.as_ref().map_or(SpanId::INVALID, |parent| span_id(parent.span_id)),
            (clocks.wall(finished.begun), clocks.wall(finished.ended)),
        );
        root.parent_span_is_remote = parent.is_some();
        (root.name, root.span_kind) = headline(about);
        root.attributes = attributes(&finished);
        if let Some(failure) = finished.failure {
            root.status = Status::error(failure);
            root.attributes.push(KeyValue::new(name::ERROR_TYPE, failure));
        }
        if let Some(handshake) = &about.handshake {
            let link = Link::with_context(span_context(handshake, false));
            root.links.links.push(link);
        }
        spans.push(root);
        spans.extend(finished.stages.iter().map(|stage| self.stage(context, stage, clocks)));
    }

    /// The span of something that a message has set off.
    pub(super) fn branch(&self, branched: Branched) -> SpanData {
        let clocks = Clocks::now();
        let times = (clocks.wall(branched.begun), clocks.wall(branched.ended));
        let own = span_context(&branched.context, false);
        let mut span = self.span(own, span_id(branched.parent), times);
        span.name = branched.stage.as_str().into();
        span.attributes.push(KeyValue::new("weir.stage", branched.stage.as_str()));
        span.attributes.extend(branched.details.iter().map(detail));
        span
    }

    fn stage(&self, parent: &TraceContext, stage: &StageTime, clocks: Clocks) -> SpanData {
        let own = TraceContext { span_id: stage.span_id, ..parent.clone() };
        let times = (clocks.wall(stage.begun), clocks.wall(stage.ended));
        let mut span = self.span(span_context(&own, false), span_id(parent.span_id), times);
        span.name = stage.stage.as_str().into();
        span.attributes.push(KeyValue::new("weir.stage", stage.stage.as_str()));
        span.attributes.extend(stage.details.iter().map(detail));
        if let Some(call) = &stage.call {
            client(call, &mut span);
        }
        span
    }

    fn span(
        &self,
        span_context: SpanContext,
        parent_span_id: SpanId,
        (start_time, end_time): (SystemTime, SystemTime),
    ) -> SpanData {
        SpanData {
            span_context,
            parent_span_id,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed(""),
            start_time,
            end_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn span_id(id: u64) -> SpanId {
    SpanId::from_bytes(id.to_be_bytes())
}

fn span_context(context: &TraceContext, remote: bool) -> SpanContext {
    let state = context.state.as_deref().and_then(|state| state.parse::<TraceState>().ok());
    SpanContext::new(
        TraceId::from_bytes(context.trace_id.to_be_bytes()),
        span_id(context.span_id),
        TraceFlags::SAMPLED,
        remote,
        state.unwrap_or_default(),
    )
}

/// The name and the kind of a span: of few values, as names must be.
fn headline(about: &About) -> (Cow<'static, str>, SpanKind) {
    match &about.what {
        What::Message { .. } => (format!("process {}", about.route).into(), SpanKind::Consumer),
        What::Request(request) => {
            let method = known(&request.method).unwrap_or("HTTP");
            let name = match &request.route {
                Some(route) => format!("{method} {route}").into(),
                None => method.into(),
            };
            (name, SpanKind::Server)
        }
    }
}

/// The methods that may be part of a name: those of RFC 9110, and PATCH.
fn known(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|known| *known == method.as_str())
}

fn attributes(finished: &Finished) -> Vec<KeyValue> {
    let about = &finished.about;
    let mut list = vec![
        KeyValue::new(name::CLIENT_ADDRESS, about.peer.ip().to_string()),
        KeyValue::new(name::NETWORK_PEER_ADDRESS, about.peer.ip().to_string()),
        KeyValue::new(name::NETWORK_PEER_PORT, i64::from(about.peer.port())),
        KeyValue::new(name::NETWORK_TRANSPORT, "tcp"),
        KeyValue::new("weir.listener", about.listener.clone()),
        KeyValue::new("weir.connection.id", about.conn.to_string()),
        KeyValue::new("weir.request.id", about.request.to_string()),
        KeyValue::new("weir.cause", finished.cause.as_str()),
    ];
    if !about.route.is_empty() {
        list.push(KeyValue::new("weir.route", about.route.clone()));
    }
    match &about.what {
        What::Message { carrier, bytes } => message(about, *carrier, *bytes, &mut list),
        What::Request(request) => server(request, &mut list),
    }
    list
}

fn message(about: &About, carrier: Carrier, bytes: usize, list: &mut Vec<KeyValue>) {
    let protocol = match carrier {
        Carrier::Lines => "lines",
        Carrier::Length => "length",
        Carrier::WebSocket => "websocket",
        Carrier::Http => "http",
        Carrier::Sse => "sse",
        Carrier::HttpStream => "http_stream",
    };
    list.extend([
        KeyValue::new(name::MESSAGING_SYSTEM, "weir"),
        KeyValue::new(name::MESSAGING_OPERATION_NAME, "process"),
        KeyValue::new(name::MESSAGING_OPERATION_TYPE, "process"),
        KeyValue::new(name::MESSAGING_DESTINATION_NAME, about.route.clone()),
        KeyValue::new(name::MESSAGING_MESSAGE_ID, about.request.to_string()),
        KeyValue::new(name::MESSAGING_MESSAGE_BODY_SIZE, count(bytes)),
        KeyValue::new(name::NETWORK_PROTOCOL_NAME, protocol),
    ]);
}

fn server(request: &RequestSpan, list: &mut Vec<KeyValue>) {
    let method = known(&request.method);
    list.extend([
        KeyValue::new(name::HTTP_REQUEST_METHOD, method.unwrap_or("_OTHER")),
        KeyValue::new(name::HTTP_RESPONSE_STATUS_CODE, i64::from(request.status)),
        KeyValue::new(name::HTTP_REQUEST_BODY_SIZE, count(request.bytes)),
        KeyValue::new(name::URL_PATH, request.path.clone()),
        KeyValue::new(name::NETWORK_PROTOCOL_NAME, "http"),
        KeyValue::new(
            name::NETWORK_PROTOCOL_VERSION,
            if request.is_http_10 { "1.0" } else { "1.1" },
        ),
    ]);
    if let Some(route) = &request.route {
        list.push(KeyValue::new(name::HTTP_ROUTE, route.clone()));
    }
    if let Some(agent) = &request.user_agent {
        list.push(KeyValue::new(name::USER_AGENT_ORIGINAL, agent.clone()));
    }
}

/// Makes the span of the stage `upstream` one of an HTTP client.
fn client(call: &Call, span: &mut SpanData) {
    let method = known(&call.method).unwrap_or("HTTP");
    span.name = format!("{method} {}", call.path).into();
    span.span_kind = SpanKind::Client;
    span.attributes.extend([
        KeyValue::new(name::HTTP_REQUEST_METHOD, method),
        KeyValue::new(name::URL_TEMPLATE, call.path.clone()),
        KeyValue::new(name::SERVICE_PEER_NAME, call.upstream.clone()),
    ]);
    if let Some(target) = call.target {
        span.attributes.extend([
            KeyValue::new(name::SERVER_ADDRESS, target.ip().to_string()),
            KeyValue::new(name::SERVER_PORT, i64::from(target.port())),
        ]);
    }
    if call.resends > 0 {
        let resends = i64::from(call.resends);
        span.attributes.push(KeyValue::new(name::HTTP_REQUEST_RESEND_COUNT, resends));
    }
    if let Some(status) = call.status {
        span.attributes.push(KeyValue::new(name::HTTP_RESPONSE_STATUS_CODE, i64::from(status)));
    }
    // A client's span fails from 400 on, other than a server's.
    let status = call.status.filter(|status| *status >= 400).map(|status| status.to_string());
    if let Some(error) = call.error.map(str::to_owned).or(status) {
        span.status = Status::error(error.clone());
        span.attributes.push(KeyValue::new(name::ERROR_TYPE, error));
    }
}

fn detail((name, detail): &(&'static str, Detail)) -> KeyValue {
    match detail {
        Detail::Text(text) => KeyValue::new(*name, text.clone()),
        Detail::Count(n) => KeyValue::new(*name, i64::try_from(*n).unwrap_or(i64::MAX)),
    }
}

fn count(bytes: usize) -> Value {
    Value::I64(i64::try_from(bytes).unwrap_or(i64::MAX))
}
