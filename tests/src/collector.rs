//! Collectors of traces that the test is in charge of: real receivers of OTLP over gRPC and HTTP
//! that keep every span, also behind TLS, and others that refuse or never answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status};

use crate::pki::{Identity, Pki};
use crate::tls;
use crate::wait::eventually;

/// A span as it was received.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// `Server`, `Client`, `Consumer`, `Internal` and so on.
    pub kind: String,
    /// In hexadecimal.
    pub trace_id: String,
    /// In hexadecimal.
    pub span_id: String,
    /// In hexadecimal; empty when it has no parent.
    pub parent: String,
    /// The `tracestate`.
    pub state: String,
    /// The spans that it links to: trace and span.
    pub links: Vec<(String, String)>,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub failed: bool,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds since 1970.
    pub end: u64,
    /// The attributes of who sent it.
    pub resource: BTreeMap<String, String>,
}

impl Span {
    /// An attribute.
    ///
    /// # Panics
    ///
    /// When it has none of this name.
    #[track_caller]
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }
}

/// How a collector treats those who send to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Takes every span, over gRPC.
    Grpc,
    /// Takes every span, over HTTP.
    Http,
    /// Answers every batch, over gRPC, that it is overloaded.
    RefusingGrpc,
    /// Answers every batch, over HTTP, with 503.
    RefusingHttp,
    /// Accepts connections and never says a word.
    Silent,
}

impl Manner {
    /// What `traces.protocol` is for it.
    fn protocol(self) -> &'static str {
        match self {
            Self::Grpc | Self::RefusingGrpc | Self::Silent => "grpc",
            Self::Http | Self::RefusingHttp => "http",
        }
    }
}

/// What a collector was sent: its spans, and all of it as protobuf.
type Kept = Arc<Mutex<(Vec<Span>, Vec<u8>)>>;

/// A running collector; it stops when dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    /// Its base URL.
    endpoint: String,
    manner: Manner,
    kept: Kept,
    /// Of requests over HTTP.
    heads: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Collector {
    /// Starts a collector on a free port.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let ours = Kept::default();
        let kept = Arc::clone(&ours);
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let serve = tokio::spawn(async move {
            match manner {
                Manner::Grpc => serve_grpc(listener, kept, false).await,
                Manner::RefusingGrpc => serve_grpc(listener, kept, true).await,
                Manner::Http => serve_http(listener, kept, seen, "200 OK").await,
                Manner::RefusingHttp => serve_http(listener, kept, seen, "503 Unavailable").await,
                Manner::Silent => keep_silent(listener).await,
            }
        });
        let endpoint = format!("http://{address}");
        Self { address, endpoint, manner, kept: ours, heads, tasks: vec![serve] }
    }

    /// Starts a collector behind TLS that shows this certificate, and lets in whom `clients` vouches
    /// for.
    ///
    /// # Panics
    ///
    /// When there is no free port, or a file cannot be read.
    pub async fn start_behind_tls(manner: Manner, shown: &Identity, clients: &Pki) -> Self {
        let mut collector = Self::start(manner).await;
        let protocol = if manner.protocol() == "grpc" { "h2" } else { "http/1.1" };
        let acceptor = tls::acceptor(shown, clients, protocol);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let front = listener.local_addr().expect("a bound socket");
        collector.endpoint = format!("https://localhost:{}", front.port());
        collector.tasks.push(tokio::spawn(pass_on(listener, acceptor, collector.address)));
        collector
    }

    /// Keys of `[traces]` that send everything here, and sample everything.
    pub fn keys(&self) -> String {
        let (endpoint, protocol) = (&self.endpoint, self.manner.protocol());
        format!("endpoint = \"{endpoint}\"\nprotocol = \"{protocol}\"\nratio = 1.0")
    }

    /// Its base URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Span> {
        locked(&self.kept).0.clone()
    }

    /// Everything it was sent, as protobuf: what is searched for what must not be there.
    pub fn received(&self) -> Vec<u8> {
        locked(&self.kept).1.clone()
    }

    /// The heads of requests over HTTP so far.
    pub fn heads(&self) -> Vec<String> {
        locked(&self.heads).clone()
    }

    /// Waits for a span of this name, and gives the first.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    pub async fn span(&self, name: &str) -> Span {
        let what = format!("a span {name:?}");
        eventually(&what, async || self.spans().into_iter().find(|span| span.name == name)).await
    }

    /// The spans below this one, in the order in which they began.
    pub fn children(&self, parent: &Span) -> Vec<Span> {
        let mut children = self.spans();
        children.retain(|span| span.parent == parent.span_id && span.trace_id == parent.trace_id);
        children.sort_by_key(|span| (span.start, span.end));
        children
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Ends TLS, and passes on what is inside.
async fn pass_on(listener: TcpListener, acceptor: TlsAcceptor, to: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // Who does not get through the handshake, or goes away, is the test's own business.
            let mut outside = acceptor.accept(stream).await.ok()?;
            let mut inside = TcpStream::connect(to).await.ok()?;
            tokio::io::copy_bidirectional(&mut outside, &mut inside).await.ok()
        });
        while connections.try_join_next().is_some() {}
    }
}

struct Service {
    kept: Kept,
    refuses: bool,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if self.refuses {
            return Err(Status::resource_exhausted("as the test wants"));
        }
        keep(request.into_inner(), &self.kept);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn serve_grpc(listener: TcpListener, kept: Kept, refuses: bool) {
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let service = TraceServiceServer::new(Service { kept, refuses });
    let server = tonic::transport::Server::builder().add_service(service);
    server.serve_with_incoming(incoming).await.expect("the collector serves");
}

async fn serve_http(
    listener: TcpListener,
    kept: Kept,
    heads: Arc<Mutex<Vec<String>>>,
    status: &'static str,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream, Arc::clone(&kept), Arc::clone(&heads), status));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers one connection's requests, one after the other, until it ends.
async fn answer(
    mut stream: TcpStream,
    kept: Kept,
    heads: Arc<Mutex<Vec<String>>>,
    status: &'static str,
) {
    let mut buffer = Vec::new();
    while let Some((head, body)) = next_request(&mut stream, &mut buffer).await {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("content-type: application/x-protobuf"));
        locked(&heads).push(head);
        if status.starts_with("200") {
            let request = ExportTraceServiceRequest::decode(body.as_slice());
            keep(request.expect("protobuf of OTLP"), &kept);
        }
        let reply = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
        );
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn next_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..at + 4]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let end = at + 4 + length.unwrap_or(0);
            if buffer.len() >= end {
                let body = buffer[at + 4..end].to_vec();
                buffer.drain(..end);
                return Some((head, body));
            }
        }
        matches!(stream.read_buf(buffer).await, Ok(1..)).then_some(())?;
    }
}

/// Keeps every connection open, and reads nothing of it.
async fn keep_silent(listener: TcpListener) {
    let mut kept = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        kept.push(stream);
    }
}

fn keep(request: ExportTraceServiceRequest, kept: &Kept) {
    let mut kept = locked(kept);
    let (spans, all) = &mut *kept;
    all.extend(request.encode_to_vec());
    for resource_spans in request.resource_spans {
        let resource = texts(&resource_spans.resource.unwrap_or_default().attributes);
        for sent in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(span(sent, resource.clone()));
        }
    }
}

fn span(sent: Sent, resource: BTreeMap<String, String>) -> Span {
    let kind = SpanKind::try_from(sent.kind).expect("a kind of OTLP");
    let link = |link: &opentelemetry_proto::tonic::trace::v1::span::Link| {
        (hexadecimal(&link.trace_id), hexadecimal(&link.span_id))
    };
    Span {
        name: sent.name,
        kind: format!("{kind:?}"),
        trace_id: hexadecimal(&sent.trace_id),
        span_id: hexadecimal(&sent.span_id),
        parent: hexadecimal(&sent.parent_span_id),
        state: sent.trace_state,
        links: sent.links.iter().map(link).collect(),
        attributes: texts(&sent.attributes),
        failed: sent.status.is_some_and(|status| status.code == 2),
        start: sent.start_time_unix_nano,
        end: sent.end_time_unix_nano,
        resource,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &AnyValue| match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    };
    let pair =
        |pair: &KeyValue| (pair.key.clone(), pair.value.as_ref().map(text).unwrap_or_default());
    attributes.iter().map(pair).collect()
}

/// A test that panicked while it held the list has failed already.
fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
