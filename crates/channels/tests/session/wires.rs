//! How a connection's encoding is chosen, and what its handshake says beside it.

use serde_json::json;
use weir_channels::protocol::command::{ConnectRequest, SubscribeRequest};
use weir_channels::protocol::reply::Body;
use weir_channels::protocol::{Command, Encoding, Limits, Reply, Request, frame};
use weir_core::context::{ConnId, RequestId};
use weir_core::service::{Carrier, Opening, Service};
use weir_core::site::SiteWire;

use crate::support::{World, open};

/// Commands in Protobuf, each behind its length.
fn protobuf(requests: Vec<Request<'_>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, request) in (1..).zip(requests) {
        let command = Command { id, request };
        command.encode(Encoding::Protobuf, &mut bytes).expect("it has a form");
    }
    bytes
}

/// What came, as far as the replies say who they are for.
fn names(bytes: &[u8]) -> Vec<(u32, &'static str)> {
    let limits = Limits::default();
    let replies = frame::split(Encoding::Protobuf, bytes, &limits);
    let replies = replies.map(|bytes| bytes.expect("behind its length"));
    replies
        .map(|bytes| {
            let reply = Reply::decode(Encoding::Protobuf, bytes, &limits).expect("a reply");
            (reply.id, reply.body.name())
        })
        .collect()
}

#[test]
fn over_tcp_the_first_byte_says_whether_it_is_json_or_protobuf() {
    let mut world = World::new(open());
    let mut lines = world.client();
    lines.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    let binary = world.connection(1 << 20);
    let connect = Request::Connect(ConnectRequest::default());
    let channel = "news".into();
    let subscribe = Request::Subscribe(SubscribeRequest { channel, ..<_>::default() });
    let bytes = protobuf(vec![connect, subscribe]);
    // However it is cut: the first byte alone decides.
    for byte in bytes {
        binary.peer.send(&[byte]);
        world.settle();
    }
    assert_eq!(names(&binary.peer.receive(999)), [(1, "connect"), (2, "subscribe")]);
    lines.say(&mut world, r#"{"id":9,"publish":{"channel":"news","data":{"n":1}}}"#);
    assert_eq!(lines.heard()[1]["push"]["pub"]["data"], json!({"n": 1}));
    assert_eq!(names(&binary.peer.receive(999)), [(0, "push")]);
}

#[test]
fn what_is_told_last_is_in_the_encoding_that_was_chosen() {
    let mut world = World::new(open());
    let binary = world.connection(1 << 20);
    binary.peer.send(&protobuf(vec![Request::Ping(<_>::default())]));
    world.settle();
    let bytes = binary.peer.receive(999);
    let limits = Limits::default();
    let reply = frame::split(Encoding::Protobuf, &bytes, &limits).next().expect("a reply");
    let reply = Reply::decode(Encoding::Protobuf, reply.expect("whole"), &limits).expect("one");
    let Body::Push(push) = reply.body else { panic!("{reply:?}") };
    assert_eq!(push.event.name(), "disconnect");
    // Nothing was said: it may be JSON.
    let mut silent = world.connection(1 << 20);
    world.pass(12);
    assert_eq!(silent.told_to_go(), 3502);
}

#[test]
fn a_websocket_that_asks_for_it_has_pings_of_its_own() {
    let world = World::new(open());
    let conn = ConnId::from_raw(7);
    let request_id = RequestId::Message { conn, seq: 0 };
    let pings = |carrier, wire, query| {
        let opening = Opening {
            conn,
            peer: ([127, 0, 0, 1], 9).into(),
            listener: "http",
            carrier,
            wire: Some(wire),
            request_id: &request_id,
            tls: None,
            principal: None,
            path: None,
            headers: None,
            query: Some(query),
        };
        world.service.open(&opening).pings().map(|pings| pings.interval.as_secs())
    };
    let websocket = |query| pings(Carrier::WebSocket, SiteWire::WebSocket, query);
    assert_eq!(websocket("format=protobuf&cf_ws_frame_ping_pong=true"), Some(25));
    assert_eq!(websocket("cf_ws_frame_ping_pong=false"), None);
    assert_eq!(websocket("x=cf_ws_frame_ping_pong=true"), None);
}
