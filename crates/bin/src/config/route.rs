//! Routes: what happens to a message.

use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use serde_json::Value as Json;
use weir_channels::api::ErrorMode;

use super::auth::{Doors, ForwardHeader};
use super::raw::{Auto, choices};
use super::section::{Section, Table, section};
use super::values::{HttpPath, Line, Name, Reply};

/// The route's kind, by its name in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KindName {
    /// Answers with a template.
    Echo,
    /// Answers nothing.
    Discard,
    /// Asks an upstream.
    Upstream,
    /// Channels.
    Channels,
    /// Channels, for backends.
    ChannelsApi,
    /// The demo.
    Demo,
}

choices!(KindName {
    "echo" => KindName::Echo,
    "discard" => KindName::Discard,
    "upstream" => KindName::Upstream,
    "channels" => KindName::Channels,
    "channels_api" => KindName::ChannelsApi,
    "demo" => KindName::Demo,
});

section! {
    /// What happens to the messages of the listeners and paths that name it.
    pub struct RouteKeys {
        /// Its name in metrics and logs, and in listeners and paths.
        pub name: Name, like "echo";
        /// "echo": weir answers by itself. "discard": nothing. "upstream": a message becomes an
        /// HTTP request, and its answer is the reply. "channels": publish and subscribe in the public
        /// Centrifugo protocol, for a "websocket" path, lines (JSON), or varint lengths (Protobuf).
        /// "channels_api": what backends ask of channels, for a "post" path such as "/api/*".
        /// "demo": a page that shows channels, for "page" paths "/" and "/demo/*".
        pub kind: KindName, like "echo";
        /// The field of a JSON message that carries a traceparent, such as "traceparent".
        pub trace_field: Option<Line> = "off";
        /// The text before a traceparent at the begin of a message, such as "traceparent=". It is
        /// taken off, up to the space behind it.
        pub trace_prefix: Option<Line> = "off";
        /// Who may use it: "token", "api_key", "mtls" (a client's certificate), a list of these, or
        /// "none": everybody. "auto" is "none" on loopback addresses, and a fault elsewhere.
        pub auth: Auto<Doors> = "auto";
        /// The principals that may use it. Empty: everybody who is somebody.
        pub principals: Vec<Line> = [];
    }
}

section! {
    /// Keys of a route with kind = "echo".
    pub struct EchoKeys {
        /// The reply, in which {message}, {request_id}, {listener} and {peer} are replaced.
        pub reply: Reply = "{message}";
        /// A message that ends the connection, once the replies it is owed are written.
        pub exit: Option<Line> = "off";
    }
}

section! {
    /// Keys of a route with kind = "upstream".
    pub struct UpstreamRouteKeys {
        /// The name of the upstream that is asked.
        pub upstream: Name, like "backend";
        /// "POST", "PUT" or "PATCH".
        pub method: Method = "POST";
        /// The path of the request, perhaps with a query.
        pub path: PathAndQuery = "/";
        /// Its Content-Type.
        pub content_type: HeaderValue = "text/plain";
        /// Headers of a client's handshake or request that go to the upstream.
        pub forward_headers: Vec<ForwardHeader> = [];
    }
}

choices!(ErrorMode { "body" => ErrorMode::Body, "transport" => ErrorMode::Transport });

section! {
    /// Keys of a route with kind = "channels_api".
    pub struct ChannelsApiKeys {
        /// What its paths begin with: "/api" for "/api/publish".
        pub base: HttpPath = "/api";
        /// How errors are told: "body" is status 200 and an "error" in the body, "transport" the status
        /// that is most like it. A request may ask for the latter.
        pub error_mode: ErrorMode = "body";
    }
}

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    /// What every route has.
    pub keys: RouteKeys,
    /// What it does.
    pub kind: Kind,
}

/// What a route does.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Answers with a template.
    Echo(EchoKeys),
    /// Answers nothing.
    Discard,
    /// Asks an upstream.
    Upstream(UpstreamRouteKeys),
    /// Speaks the client protocol of channels.
    Channels,
    /// Serves backends.
    ChannelsApi(ChannelsApiKeys),
    /// Shows channels.
    Demo,
}

const ECHO: &str = "kind = \"echo\"";
const UPSTREAM: &str = "kind = \"upstream\"";
const CHANNELS_API: &str = "kind = \"channels_api\"";

impl Route {
    /// Reads one table of `[[routes]]`.
    pub(super) fn read(mut table: Table<'_>) -> Option<Self> {
        let kind = table.peek("kind");
        let keys = RouteKeys::read(&mut table);
        let echo = (EchoKeys::KEYS, ECHO);
        let upstream = (UpstreamRouteKeys::KEYS, UPSTREAM);
        let api = (ChannelsApiKeys::KEYS, CHANNELS_API);
        let kind = match kind {
            Some(KindName::Echo) => {
                let kind = EchoKeys::read(&mut table).map(Kind::Echo);
                table.finish(&[RouteKeys::KEYS, EchoKeys::KEYS], &[upstream, api]);
                kind
            }
            Some(KindName::Discard) => {
                table.finish(&[RouteKeys::KEYS], &[echo, upstream, api]);
                Some(Kind::Discard)
            }
            Some(KindName::Channels) => {
                table.finish(&[RouteKeys::KEYS], &[echo, upstream, api]);
                Some(Kind::Channels)
            }
            Some(KindName::Demo) => {
                table.finish(&[RouteKeys::KEYS], &[echo, upstream, api]);
                Some(Kind::Demo)
            }
            Some(KindName::Upstream) => {
                let kind = UpstreamRouteKeys::read(&mut table).map(Kind::Upstream);
                table.finish(&[RouteKeys::KEYS, UpstreamRouteKeys::KEYS], &[echo, api]);
                kind
            }
            Some(KindName::ChannelsApi) => {
                let kind = ChannelsApiKeys::read(&mut table).map(Kind::ChannelsApi);
                table.finish(&[RouteKeys::KEYS, ChannelsApiKeys::KEYS], &[echo, upstream]);
                kind
            }
            // A bad kind is one fault, so the keys of every kind pass.
            None => {
                let kinds = [EchoKeys::KEYS, UpstreamRouteKeys::KEYS, ChannelsApiKeys::KEYS];
                table.forget(&kinds);
                table.finish(&[RouteKeys::KEYS, kinds[0], kinds[1], kinds[2]], &[]);
                None
            }
        };
        Some(Self { keys: keys?, kind: kind? })
    }

    /// The upstream it asks.
    pub fn upstream(&self) -> Option<&Name> {
        match &self.kind {
            Kind::Upstream(keys) => Some(&keys.upstream),
            Kind::Echo(_) | Kind::Discard | Kind::Channels | Kind::ChannelsApi(_) | Kind::Demo => {
                None
            }
        }
    }

    /// The route as `/config` shows it.
    pub(super) fn show(&self) -> Json {
        let mut shown = self.keys.show();
        match &self.kind {
            Kind::Echo(keys) => shown.extend(keys.show()),
            Kind::Discard | Kind::Channels | Kind::Demo => {}
            Kind::Upstream(keys) => shown.extend(keys.show()),
            Kind::ChannelsApi(keys) => shown.extend(keys.show()),
        }
        shown.into()
    }
}
