//! Routes: what happens to a message.

use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use serde_json::Value as Json;
use weir_channels::api::ErrorMode;
use weir_channels::route::template::{CHANNEL_PLACEHOLDERS, REPLY_PLACEHOLDERS};
use weir_channels::route::{
    ChannelTemplate, DataForm, ReplyTemplate, RouteOptions, TemplateError, Written,
};

use super::auth::{Doors, ForwardHeader};
use super::faults::did_you_mean;
use super::raw::{Auto, Raw, Refused, Setting, choices};
use super::section::{Key, Section, Table, section};
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
    /// Channels, for plain messages.
    Publish,
}

choices!(KindName {
    "echo" => KindName::Echo,
    "discard" => KindName::Discard,
    "upstream" => KindName::Upstream,
    "channels" => KindName::Channels,
    "channels_api" => KindName::ChannelsApi,
    "demo" => KindName::Demo,
    "publish" => KindName::Publish,
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
        /// "publish": messages are published into a channel, and connections are told of channels.
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

choices!(DataForm {
    "auto" => DataForm::Auto,
    "json" => DataForm::Json,
    "text" => DataForm::Text,
    "bytes" => DataForm::Bytes,
});

choices!(Written {
    "text" => Written::Text,
    "data" => Written::Data,
    "envelope" => Written::Envelope,
});

section! {
    /// Keys of a route with kind = "publish".
    pub struct PublishKeys {
        /// The channel that a message is published into, such as "sensors:{listener}.{json.device}", in
        /// which {listener}, {peer.ip}, {principal}, {client} (the connection's id for subscribers) and
        /// {json.FIELD} of the message are replaced. Each is one part of the name: a value that is empty,
        /// longer than 128 bytes, or has ":", "#", "$" or a control character is refused. The principal
        /// publishes as a user of channels does. "off": messages are refused.
        pub channel: Option<ChannelTemplate> = "off";
        /// What is published: "auto": JSON as it is, other text as a JSON string. "json": JSON, and nothing
        /// else. "text": any text as a JSON string. "bytes": anything as it is, for subscribers in
        /// Protobuf.
        pub data: DataForm = "auto";
        /// The answer to a message that was published, such as "ok", in which {channel}, {offset}, {epoch}
        /// and {request_id} are replaced.
        pub reply: Option<ReplyTemplate> = "off";
        /// Whether a message that was not published is answered with "error: " and why. Over HTTP it
        /// always is.
        pub errors: bool = true;
        /// Most channels that the messages of one connection are published into.
        pub channels_max: usize = 128;
        /// The channels that a connection is told of, with the placeholders of "channel" but for fields.
        pub subscribe: Vec<ChannelTemplate> = [];
        /// What is written of a publication, as one message: "text": a JSON string as its text, and
        /// everything else as it is. "data": everything as it is. "envelope": a JSON object with
        /// "channel", "offset", "user" and "data".
        pub publications: Written = "text";
    }
}

impl PublishKeys {
    /// What the route does.
    pub fn options(&self) -> RouteOptions {
        RouteOptions {
            channel: self.channel.clone(),
            data: self.data,
            reply: self.reply.clone(),
            errors: self.errors,
            channels_max: self.channels_max,
            subscribe: self.subscribe.clone(),
            written: self.publications,
        }
    }
}

impl Setting for ChannelTemplate {
    fn wanted() -> String {
        "a channel such as \"sensors:{json.device}\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Shape)?;
        Self::parse(text).map_err(|faults| no_template(raw, &faults, &CHANNEL_PLACEHOLDERS))
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

impl Setting for ReplyTemplate {
    fn wanted() -> String {
        "a reply such as \"ok {offset}\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Shape)?;
        Self::parse(text).map_err(|faults| no_template(raw, &faults, &REPLY_PLACEHOLDERS))
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

/// Everything that is wrong with a template, with the nearest known placeholders.
fn no_template(raw: &Raw, faults: &[TemplateError], known: &[&str]) -> Refused {
    let text = |fault: &TemplateError| match fault {
        TemplateError::Unknown { name } => {
            let rest = name.split_once('.').map_or(name.as_str(), |(_, rest)| rest);
            let names: Vec<String> =
                known.iter().map(|known| known.replace("FIELD", rest)).collect();
            format!("{fault}{}", did_you_mean(name, names.iter().map(String::as_str)))
        }
        TemplateError::Empty
        | TemplateError::Unclosed { .. }
        | TemplateError::Unopened { .. }
        | TemplateError::Field { .. }
        | TemplateError::ManyFields
        | TemplateError::Adjacent { .. }
        | TemplateError::Namespace
        | TemplateError::Control => fault.to_string(),
    };
    let texts: Vec<String> = faults.iter().map(text).collect();
    Refused::Because(format!("{raw}: {}", texts.join("; ")))
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
    /// Publishes messages, and tells connections of channels.
    Publish(PublishKeys),
}

const ECHO: &str = "kind = \"echo\"";
const UPSTREAM: &str = "kind = \"upstream\"";
const CHANNELS_API: &str = "kind = \"channels_api\"";
const PUBLISH: &str = "kind = \"publish\"";

/// The keys that only some kinds have.
const OF_KINDS: [(&[Key], &str); 4] = [
    (EchoKeys::KEYS, ECHO),
    (UpstreamRouteKeys::KEYS, UPSTREAM),
    (ChannelsApiKeys::KEYS, CHANNELS_API),
    (PublishKeys::KEYS, PUBLISH),
];

/// Reads the keys of a kind that has some of its own. All that are left then are of other kinds.
fn finish<S: Section>(mut table: Table<'_>, kind: impl FnOnce(S) -> Kind) -> Option<Kind> {
    let keys = S::read(&mut table);
    table.finish(&[RouteKeys::KEYS, S::KEYS], &OF_KINDS);
    keys.map(kind)
}

impl Route {
    /// Reads one table of `[[routes]]`.
    pub(super) fn read(mut table: Table<'_>) -> Option<Self> {
        let kind = table.peek("kind");
        let keys = RouteKeys::read(&mut table);
        let kind = match kind {
            Some(KindName::Echo) => finish::<EchoKeys>(table, Kind::Echo),
            Some(KindName::Upstream) => finish::<UpstreamRouteKeys>(table, Kind::Upstream),
            Some(KindName::ChannelsApi) => finish::<ChannelsApiKeys>(table, Kind::ChannelsApi),
            Some(KindName::Publish) => finish::<PublishKeys>(table, Kind::Publish),
            Some(KindName::Discard) => {
                table.finish(&[RouteKeys::KEYS], &OF_KINDS);
                Some(Kind::Discard)
            }
            Some(KindName::Channels) => {
                table.finish(&[RouteKeys::KEYS], &OF_KINDS);
                Some(Kind::Channels)
            }
            Some(KindName::Demo) => {
                table.finish(&[RouteKeys::KEYS], &OF_KINDS);
                Some(Kind::Demo)
            }
            // A bad kind is one fault, so the keys of every kind pass.
            None => {
                let [a, b, c, d] = OF_KINDS.map(|(keys, _)| keys);
                table.forget(&[a, b, c, d]);
                table.finish(&[RouteKeys::KEYS, a, b, c, d], &[]);
                None
            }
        };
        Some(Self { keys: keys?, kind: kind? })
    }

    /// The upstream it asks.
    pub fn upstream(&self) -> Option<&Name> {
        match &self.kind {
            Kind::Upstream(keys) => Some(&keys.upstream),
            Kind::Echo(_)
            | Kind::Discard
            | Kind::Channels
            | Kind::ChannelsApi(_)
            | Kind::Publish(_)
            | Kind::Demo => None,
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
            Kind::Publish(keys) => shown.extend(keys.show()),
        }
        shown.into()
    }
}
