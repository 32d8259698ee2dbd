//! The handshake of WebSocket (RFC 6455, section 4.2): whether it is taken, and its answer.
//! Pure; extensions are not negotiated, and of subprotocols only the one that browsers need.

use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, request};
use http_body_util::Full;

use super::origin::{self, Origins};
use crate::wire::websocket;

/// Why a WebSocket path does not upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A plain GET.
    NotOffered,
    /// Another version than 13.
    Version,
    /// No key, several, or not 16 bytes in base64.
    Key,
    /// The page's origin is not allowed.
    Origin,
}

impl Fault {
    /// What the peer is told.
    pub(super) fn told(self) -> (StatusCode, &'static str) {
        match self {
            Self::NotOffered => (StatusCode::UPGRADE_REQUIRED, "this path speaks websocket"),
            Self::Version => (StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version is not 13"),
            Self::Key => (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64"),
            Self::Origin => (StatusCode::FORBIDDEN, "origin not allowed"),
        }
    }

    /// Whether the connection ends with the refusal. What follows a handshake that was meant to
    /// succeed may be frames; a request for the wrong protocol or version may be made again.
    pub(super) fn ends_connection(self) -> bool {
        match self {
            Self::NotOffered | Self::Version => false,
            Self::Key | Self::Origin => true,
        }
    }

    /// Adds what a client needs to do better. A 426 says what to upgrade to (RFC 9110,
    /// section 15.5.22).
    pub(super) fn decorate(self, headers: &mut HeaderMap) {
        let mut set = |name: HeaderName, value| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        match self {
            Self::NotOffered | Self::Version => {
                set(UPGRADE, "websocket");
                set(CONNECTION, "upgrade");
                set(SEC_WEBSOCKET_VERSION, "13");
            }
            Self::Key | Self::Origin => {}
        }
    }
}

/// Checks a request that offers WebSocket; yields the `Sec-WebSocket-Accept`.
pub(super) fn check(head: &request::Parts, origins: &Origins) -> Result<String, Fault> {
    if one(&head.headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(Fault::Version);
    }
    let key = one(&head.headers, &SEC_WEBSOCKET_KEY).ok_or(Fault::Key)?;
    if !websocket::check_key(key.as_bytes()) {
        return Err(Fault::Key);
    }
    let allowed = origin::is_allowed(&head.headers, origins);
    if allowed { Ok(websocket::accept_key(key)) } else { Err(Fault::Origin) }
}

/// The value of a field that comes exactly once and is text.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// The 101, for this `Sec-WebSocket-Accept`, the headers of its request and the subprotocols that its
/// service speaks. A browser can send no header of its own, only subprotocols: its token is one, and it
/// gives up unless one of its offers is taken. The one with the token is never said back.
pub(super) fn switching_protocols(
    accept: &str,
    offered: &HeaderMap,
    spoken: &[&'static str],
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    // Base64 is always a value.
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    let offers = offered.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offers = offers.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let taken =
        offers.find_map(|offer| spoken.iter().find(|name| name.as_bytes() == offer.trim_ascii()));
    if let Some(name) = taken {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    response
}
