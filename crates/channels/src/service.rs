//! The client protocol as a service: a session for each connection, whose encoding is chosen by its
//! carrier and its handshake (protocol, sections 1.2 and 3). A POST is the other half of a stream.

use std::sync::Arc;

use http::HeaderName;
use http::header::{CONTENT_TYPE, SEC_WEBSOCKET_PROTOCOL};
use weir_core::service::{Carrier, Opening, Service, Session};
use weir_core::site::SiteWire;
use weir_core::wire::length::Prefix;

use crate::client::{Client, Opened};
use crate::emulation::Emulation;
use crate::hooks::caller::Caller;
use crate::protocol::{Encoding, Form};
use crate::shared::Shared;

/// The subprotocols, in the order in which weir likes them.
const SUBPROTOCOLS: [&str; 3] = ["centrifuge-protobuf", "centrifuge-json", "weir"];

/// A route whose connections speak the client protocol.
pub struct Channels {
    route: String,
    shared: Arc<Shared>,
    headers: Vec<HeaderName>,
}

impl Channels {
    /// The route of this name.
    pub fn new(route: String, shared: Arc<Shared>) -> Self {
        Self { route, shared, headers: vec![SEC_WEBSOCKET_PROTOCOL, CONTENT_TYPE] }
    }

    /// Keeps these headers of a handshake too, for hooks.
    #[must_use]
    pub fn with_headers(mut self, headers: &[HeaderName]) -> Self {
        self.headers.extend_from_slice(headers);
        self
    }
}

impl Service for Channels {
    fn route(&self) -> &str {
        &self.route
    }

    fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    fn subprotocols(&self) -> &[&'static str] {
        &SUBPROTOCOLS
    }

    /// The protocol has pings of its own; without them the engine's are needed.
    fn heartbeats(&self) -> bool {
        self.shared.policy.load().options.ping_interval.is_none()
    }

    /// Over TCP the first byte decides (protocol, section 3).
    fn wire_unless_json(&self) -> Option<SiteWire> {
        Some(SiteWire::Length { prefix: Prefix::Varint, text: false })
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        let encoding = encoding(opening);
        let Some(wire) = opening.wire else {
            return Box::new(Emulation::new(Arc::clone(&self.shared), encoding));
        };
        let hooks = self.shared.policy.load().hooks.clone();
        let caller = hooks.map(|hooks| Box::new(Caller::of(opening, hooks.options())));
        Box::new(Client::new(Opened {
            caller,
            shared: Arc::clone(&self.shared),
            wire,
            carrier: opening.carrier,
            encoding,
            // Other lengths than Protobuf's own are a fault of the configuration.
            form: Form::of(wire, encoding).unwrap_or(Form::Protobuf),
            conn: opening.conn,
            frame_pings: opening.carrier == Carrier::WebSocket && asked_for_frame_pings(opening),
            principal: opening.principal.map(|principal| Arc::clone(&principal.name)),
        }))
    }
}

/// JSON, unless something says Protobuf.
fn encoding(opening: &Opening<'_>) -> Encoding {
    let binary = match opening.carrier {
        Carrier::Length => true,
        Carrier::Lines | Carrier::Sse => false,
        Carrier::HttpStream | Carrier::Http => brings_bytes(opening),
        Carrier::WebSocket => agreed_on_protobuf(opening) || asked_for_protobuf(opening),
    };
    if binary { Encoding::Protobuf } else { Encoding::Json }
}

/// Whether the subprotocol that the handshake agreed on is that of Protobuf: the first of the offers
/// that weir speaks.
fn agreed_on_protobuf(opening: &Opening<'_>) -> bool {
    let offers = opening.headers.into_iter().flat_map(|map| map.get_all(SEC_WEBSOCKET_PROTOCOL));
    let mut offers = offers.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let agreed = offers
        .find_map(|offer| SUBPROTOCOLS.iter().find(|name| name.as_bytes() == offer.trim_ascii()));
    agreed == Some(&SUBPROTOCOLS[0])
}

/// Whether the request of a stream, or beside one, says that its body is bytes (protocol, section 1.13).
fn brings_bytes(opening: &Opening<'_>) -> bool {
    let content_type = opening.headers.and_then(|headers| headers.get(CONTENT_TYPE));
    content_type.is_some_and(|value| {
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"application/octet-stream")
    })
}

/// Whether the client rather has pings of the WebSocket than of the protocol (section 1.2).
fn asked_for_frame_pings(opening: &Opening<'_>) -> bool {
    let mut pairs = opening.query.unwrap_or_default().split('&');
    pairs.any(|pair| pair == "cf_ws_frame_ping_pong=true")
}

fn asked_for_protobuf(opening: &Opening<'_>) -> bool {
    let mut pairs = opening.query.unwrap_or_default().split('&');
    pairs.any(|pair| matches!(pair, "format=protobuf" | "cf_protocol=protobuf"))
}
