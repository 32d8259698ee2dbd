//! Listeners: an address, a wire, and the route of what comes in.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value as Json, json};
use weir_core::wire::length::Prefix;
use weir_core::wire::lines::{EmptyLines, UnfinishedLine};

use super::raw::{Setting, choices};
use super::section::{Key, Section, Table, section};
use super::tls::Tls;
use super::units::Size;
use super::values::{HttpPath, Line, Name, Origin};

/// The wire's name in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireKind {
    /// A message is a line.
    Lines,
    /// A message has its length in front.
    Length,
    /// HTTP, with paths of WebSockets, of streams and for POST.
    Http,
}

choices!(WireKind {
    "lines" => WireKind::Lines,
    "length" => WireKind::Length,
    "http" => WireKind::Http,
});

/// Whether something is done, by its name in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

choices!(Switch { "on" => Switch::On, "off" => Switch::Off });

section! {
    /// A port that weir listens on.
    pub struct ListenerKeys {
        /// Its name in metrics and logs.
        pub name: Name, like "lines";
        /// Where it listens.
        pub address: SocketAddr, like "127.0.0.1:7001";
        /// "lines": a message is a line; on a route of channels also Protobuf, by the first byte.
        /// "length": a message has its length in front.
        /// "http": WebSocket, streams and POST, by path.
        pub wire: WireKind, like "lines";
        /// Most connections of this listener at once.
        pub connections_max: Option<u32> = "off";
        /// Connections that the kernel keeps until weir accepts them.
        pub backlog: u32 = 4096;
        /// TCP keep-alive: how long a connection is quiet before the kernel probes it.
        pub keepalive: Option<Duration> = "60s";
        /// "on": trusted proxies (network.trusted_proxies) send a PROXY header, version 1 or 2, before
        /// all else; from anybody else it is an error.
        pub proxy_protocol: Switch = "off";
        /// TCP_USER_TIMEOUT: how long sent bytes may stay without acknowledgement.
        pub user_timeout: Option<Duration> = "30s";
        /// TCP_NOTSENT_LOWAT: bytes that the kernel takes for a peer that does not read. What is
        /// more waits in the outbox, where it is seen and bounded. "off": up to tcp_wmem, 4MiB.
        pub unsent_bytes_max: Option<Size> = "128KiB";
    }
}

section! {
    /// Keys of a listener with wire = "lines".
    pub struct LinesKeys {
        /// The route of its messages.
        pub route: Name, like "echo";
        /// Lines must be UTF-8. false: any bytes.
        pub text: bool = true;
        /// Empty lines: "skip" or "deliver".
        pub empty_lines: EmptyLines = "skip";
        /// A last line without its end, when the peer has finished: "drop" or "deliver".
        pub unfinished_line: UnfinishedLine = "drop";
        /// A line sent at each timeouts.ping_interval.
        pub heartbeat: Option<Line> = "off";
        /// A line sent before a drain closes the connection.
        pub farewell: Option<Line> = "off";
    }
}

section! {
    /// Keys of a listener with wire = "length".
    pub struct LengthKeys {
        /// The route of its messages.
        pub route: Name, like "echo";
        /// Messages must be UTF-8. false: any bytes.
        pub text: bool = true;
        /// The form of the length: "u8", "u16be", "u16le", "u32be", "u32le", "varint" (Protobuf),
        /// or "octet_counting" (RFC 6587, syslog).
        pub prefix: Prefix = "u32be";
    }
}

/// What an HTTP path is for, by its name in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKindName {
    /// WebSocket.
    WebSocket,
    /// One message a request.
    Post,
    /// Server-Sent Events.
    Sse,
    /// Messages in a response that does not end.
    HttpStream,
    /// Something to read.
    Page,
}

choices!(PathKindName {
    "websocket" => PathKindName::WebSocket,
    "post" => PathKindName::Post,
    "sse" => PathKindName::Sse,
    "http_stream" => PathKindName::HttpStream,
    "page" => PathKindName::Page,
});

section! {
    /// A path of a listener with wire = "http", which has one or more.
    pub struct PathKeys {
        /// The path, matched exactly unless it ends in `/*`.
        pub path: HttpPath, like "/ws";
        /// "websocket", or "post": one message a request. "sse": Server-Sent Events, and
        /// "http_stream": messages in a response that does not end; the request may bring one message, as
        /// its body, or with GET as cf_connect in its query. "page": what its route has to read.
        pub kind: PathKindName, like "websocket";
        /// The route of its messages.
        pub route: Name, like "echo";
    }
}

section! {
    /// Keys of a path with kind = "websocket", "sse" or "http_stream".
    pub struct PagesKeys {
        /// Whose pages may connect: "same-host", "*", or origins such as "https://app.example.com".
        /// Peers that are no browsers send no Origin, and may.
        pub origins: Vec<Origin> = ["same-host"];
    }
}

section! {
    /// Keys of a path with kind = "post".
    pub struct PostKeys {
        /// Which pages of other origins may post and read the answer (CORS); the posts of others are
        /// refused. Empty: the posts of all are taken, and pages of other origins read no answer.
        pub origins: Vec<Origin> = [];
    }
}

/// A listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What every listener has.
    pub keys: ListenerKeys,
    /// TLS before all else.
    pub tls: Option<Tls>,
    /// Its wire, with what belongs to it.
    pub wire: Wire,
}

/// How bytes become messages.
#[derive(Clone, Debug)]
pub enum Wire {
    /// A message is a line.
    Lines(LinesKeys),
    /// A message has its length in front.
    Length(LengthKeys),
    /// HTTP; at least one path.
    Http(Vec<HttpRoute>),
}

/// A path of an HTTP listener.
#[derive(Clone, Debug)]
pub struct HttpRoute {
    /// The path, matched exactly.
    pub path: HttpPath,
    /// What it is for.
    pub kind: PathKind,
    /// The route of its messages.
    pub route: Name,
}

/// What an HTTP path is for.
#[derive(Clone, Debug)]
pub enum PathKind {
    /// WebSocket, from pages of these origins.
    WebSocket(Vec<Origin>),
    /// One message a request, from pages of these origins.
    Post(Vec<Origin>),
    /// Server-Sent Events, for pages of these origins.
    Sse(Vec<Origin>),
    /// Messages in a response that does not end, for pages of these origins.
    HttpStream(Vec<Origin>),
    /// Something to read.
    Page,
}

const LINES: &str = "wire = \"lines\"";
const LENGTH: &str = "wire = \"length\"";
const HTTP: &str = "wire = \"http\"";

/// The list of an HTTP listener's paths, as a key of its listener.
const PATHS: &[Key] = &[Key { name: "paths", doc: "", default: "", required: true }];

impl Listener {
    /// Reads one table of `[[listeners]]`.
    pub(super) fn read(mut table: Table<'_>) -> Option<Self> {
        let kind = table.peek("wire");
        let keys = ListenerKeys::read(&mut table);
        let tls = table.table("tls").map(Tls::read);
        let lines = (LinesKeys::KEYS, LINES);
        let length = (LengthKeys::KEYS, LENGTH);
        let http = (PATHS, HTTP);
        let wire = match kind {
            Some(WireKind::Lines) => {
                let wire = LinesKeys::read(&mut table).map(Wire::Lines);
                table.finish(&[ListenerKeys::KEYS, LinesKeys::KEYS], &[length, http]);
                wire
            }
            Some(WireKind::Length) => {
                let wire = LengthKeys::read(&mut table).map(Wire::Length);
                table.finish(&[ListenerKeys::KEYS, LengthKeys::KEYS], &[lines, http]);
                wire
            }
            Some(WireKind::Http) => {
                let wire = read_paths(&mut table).map(Wire::Http);
                table.finish(&[ListenerKeys::KEYS, PATHS], &[lines, length]);
                wire
            }
            // A bad wire is one fault, so the keys of every wire pass.
            None => {
                let wires = [LinesKeys::KEYS, LengthKeys::KEYS, PATHS];
                table.forget(&wires);
                table.finish(&[ListenerKeys::KEYS, wires[0], wires[1], wires[2]], &[]);
                None
            }
        };
        // A table that is there and wrong is no table that is not there.
        let tls = match tls {
            Some(tls) => Some(tls?),
            None => None,
        };
        Some(Self { keys: keys?, tls, wire: wire? })
    }

    /// The routes it names, each with the path of the key that names it.
    pub fn routes(&self, path: &str) -> Vec<(String, &Name)> {
        match &self.wire {
            Wire::Lines(LinesKeys { route, .. }) | Wire::Length(LengthKeys { route, .. }) => {
                vec![(format!("{path}.route"), route)]
            }
            Wire::Http(routes) => {
                let routes = routes.iter().enumerate();
                routes.map(|(i, http)| (format!("{path}.paths[{i}].route"), &http.route)).collect()
            }
        }
    }

    /// The listener as `/config` shows it.
    pub(super) fn show(&self) -> Json {
        let mut shown = self.keys.show();
        match &self.wire {
            Wire::Lines(keys) => shown.extend(keys.show()),
            Wire::Length(keys) => shown.extend(keys.show()),
            Wire::Http(routes) => {
                let routes = routes.iter().map(HttpRoute::show).collect();
                shown.insert("paths".to_owned(), routes);
            }
        }
        if let Some(tls) = &self.tls {
            shown.insert("tls".to_owned(), tls.show());
        }
        shown.into()
    }
}

fn read_paths(table: &mut Table<'_>) -> Option<Vec<HttpRoute>> {
    let paths = table.tables("paths");
    if paths.is_empty() {
        let text = "wire = \"http\" serves nothing without [[listeners.paths]]";
        table.faults().add(&table.path, text);
        return None;
    }
    // Every path is read, whatever is wrong with the one before it.
    let paths: Vec<Option<HttpRoute>> = paths.into_iter().map(HttpRoute::read).collect();
    paths.into_iter().collect()
}

impl HttpRoute {
    fn read(mut table: Table<'_>) -> Option<Self> {
        let kind = table.peek("kind");
        let keys = PathKeys::read(&mut table);
        let kind = match kind {
            Some(PathKindName::WebSocket) => pages(table, PathKind::WebSocket),
            Some(PathKindName::Sse) => pages(table, PathKind::Sse),
            Some(PathKindName::HttpStream) => pages(table, PathKind::HttpStream),
            Some(PathKindName::Post) => {
                let kind = PostKeys::read(&mut table);
                table.finish(&[PathKeys::KEYS, PostKeys::KEYS], &[]);
                kind.map(|keys| PathKind::Post(keys.origins))
            }
            Some(PathKindName::Page) => {
                table.finish(&[PathKeys::KEYS], &[]);
                Some(PathKind::Page)
            }
            None => {
                table.forget(&[PagesKeys::KEYS]);
                table.finish(&[PathKeys::KEYS, PagesKeys::KEYS], &[]);
                None
            }
        };
        let keys = keys?;
        Some(Self { path: keys.path, kind: kind?, route: keys.route })
    }

    fn show(&self) -> Json {
        let (path, route) = (&*self.path, &*self.route);
        let (kind, origins) = match &self.kind {
            PathKind::WebSocket(origins) => ("websocket", origins),
            PathKind::Post(origins) => ("post", origins),
            PathKind::Sse(origins) => ("sse", origins),
            PathKind::HttpStream(origins) => ("http_stream", origins),
            PathKind::Page => return json!({"path": path, "kind": "page", "route": route}),
        };
        json!({"path": path, "kind": kind, "route": route, "origins": origins.show()})
    }
}

/// Reads the keys of a path that pages connect to.
fn pages(mut table: Table<'_>, kind: impl FnOnce(Vec<Origin>) -> PathKind) -> Option<PathKind> {
    let keys = PagesKeys::read(&mut table);
    table.finish(&[PathKeys::KEYS, PagesKeys::KEYS], &[]);
    keys.map(|keys| kind(keys.origins))
}
