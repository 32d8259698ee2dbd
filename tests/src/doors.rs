//! Routes that do not let everybody in: a gateway with one key for each kind of credential, the
//! four ways to it, and what a refusal looks like from outside.

use std::net::SocketAddr;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::gateway::{Gateway, Start};
use crate::http::{self, HttpPeer, Reply};
use crate::tcp::{Ending, FramePeer, LinePeer, Peer};
use crate::tls::TlsClient;
use crate::tokens::Issuer;
use crate::websocket::WebSocket;

/// The one API key of [`KEYS`].
pub const API_KEY: &str = "an-api-key-that-nobody-must-see";

/// A shared secret and an API key.
pub const KEYS: &str = r#"
[[auth.keys]]
name = "main"
algorithm = "hmac"
key = "a-shared-secret-that-nobody-must-see"
[[auth.api_keys]]
name = "meter"
key = "an-api-key-that-nobody-must-see"
"#;

/// By which of the ways somebody got in: POST, WebSocket, lines, frames.
pub type GotIn = [bool; 4];

/// By every way.
pub const ALL: GotIn = [true; 4];

/// By none.
pub const NONE: GotIn = [false; 4];

/// A gateway whose route has these doors, as the key `auth` has them, with [`KEYS`].
pub fn guarded(doors: &str) -> Start {
    Gateway::start().route(&format!("auth = {doors}")).tables(KEYS)
}

/// A token that is good at [`guarded`].
pub fn good() -> String {
    Issuer::hmac(Algorithm::HS256).token("ann")
}

/// The header of a token.
pub fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// What somebody shows, by the way it takes.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Header lines of a POST or a handshake, each with its end.
    pub headers: &'a str,
    /// The message before all others on wires without headers.
    pub first: Option<&'a str>,
}

/// POSTs `hi`.
pub async fn post(gateway: &Gateway, headers: &str) -> Reply {
    http::request(gateway.address("http"), "POST /echo", headers, b"hi").await
}

/// Asks for a WebSocket.
///
/// # Errors
///
/// The reply that refused it.
pub async fn upgrade(gateway: &Gateway, headers: &str) -> Result<WebSocket, Reply> {
    let http = HttpPeer::connect(gateway.address("http")).await;
    WebSocket::upgrade(http, "/ws", headers).await
}

/// Tries all ways in, over plain TCP.
pub async fn tried(gateway: &Gateway, headers: &str, first: &str) -> GotIn {
    tried_over(None, gateway, Shown { headers, first: Some(first) }).await
}

/// Tries all ways in, over TLS where a client for that is given. Whoever is in has `hi` answered.
///
/// # Panics
///
/// When somebody is refused otherwise than everybody is.
pub async fn tried_over(tls: Option<&TlsClient>, gateway: &Gateway, shown: Shown<'_>) -> GotIn {
    let connect = async |listener: &str| {
        let address = gateway.address(listener);
        let peer = Peer::connect(address).await;
        match tls {
            None => peer,
            Some(tls) => peer.over_tls(tls, "weir.example").await.expect("a handshake"),
        }
    };
    let address = gateway.address("http");
    [
        posts(connect("http").await, address, shown.headers).await,
        upgrades(connect("http").await, address, shown.headers).await,
        says_lines(LinePeer { peer: connect("lines").await }, shown.first).await,
        says_frames(FramePeer { peer: connect("frames").await }, shown.first).await,
    ]
}

async fn posts(peer: Peer, address: SocketAddr, headers: &str) -> bool {
    let mut http = HttpPeer::over(peer, address);
    http.request("POST /echo", headers, b"hi").await;
    let reply = http.reply().await;
    if reply.status != 200 {
        check_refusal(&reply);
    }
    reply.status == 200
}

async fn upgrades(peer: Peer, address: SocketAddr, headers: &str) -> bool {
    match WebSocket::upgrade(HttpPeer::over(peer, address), "/ws", headers).await {
        Ok(mut socket) => {
            socket.say("hi").await;
            assert!(is_in(&socket.hear().await), "in and not answered");
            true
        }
        Err(reply) => {
            check_refusal(&reply);
            false
        }
    }
}

async fn says_lines(mut lines: LinePeer, first: Option<&str>) -> bool {
    if let Some(first) = first {
        lines.say(first).await;
    }
    lines.say("hi").await;
    let is_in = is_in(&lines.hear().await);
    if !is_in {
        assert_eq!(lines.peer.expect_end().await, Ending::Closed);
    }
    is_in
}

async fn says_frames(mut frames: FramePeer, first: Option<&str>) -> bool {
    if let Some(first) = first {
        frames.say(first).await;
    }
    frames.say("hi").await;
    is_in(&frames.hear().await)
}

/// Whether this is what a route answers to `hi`.
fn is_in(heard: &str) -> bool {
    match heard {
        "hi" | "answer: hi" => true,
        "error: unauthorized" => false,
        other => panic!("heard {other:?}"),
    }
}

/// A refusal is the same whatever was wrong, but for its request id.
fn check_refusal(reply: &Reply) {
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    let mut body = reply.json();
    assert!(body["request_id"].take().is_string());
    assert_eq!(body, json!({"error": "unauthorized", "request_id": Value::Null}));
}
