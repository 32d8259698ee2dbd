//! Promises of the protocol that concern several modules: what is read of a command, and what is written.

use proptest::prelude::*;

use super::codes::{DisconnectCode, ErrorCode, UnsubscribeCode};
use super::command::*;
use super::push::{ClientInfo, Disconnect, Event, Join, Publication, Unsubscribe};
use super::reply::*;
use super::*;

const LIMITS: Limits = Limits { command_bytes_max: 1024, elements_max: 4 };
const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Protobuf];

#[track_caller]
fn check(line: &str, id: u32, request: Request<'_>) {
    let command = Command::decode(Encoding::Json, line.as_bytes(), &LIMITS);
    assert_eq!(command, Ok(Command { id, request }), "{line}");
}

#[track_caller]
fn refused(input: &[u8], encoding: Encoding, expected: &str) {
    let error = Command::decode(encoding, input, &LIMITS).expect_err("it is no command");
    assert_eq!(error.to_string(), expected);
    assert_eq!(DisconnectCode::from(&error), DisconnectCode::BadRequest);
}

#[track_caller]
fn written(reply: &Reply<'_>, expected: &str) {
    let mut out = b"before".to_vec();
    reply.encode(Encoding::Json, &mut out).expect("it can be written");
    assert_eq!(std::str::from_utf8(&out[6..]), Ok(expected));
}

fn publish(data: &str) -> Request<'_> {
    let data = Payload::json(data.as_bytes());
    Request::Publish(PublishRequest { channel: "a".into(), data, ..PublishRequest::default() })
}

#[test]
fn an_envelope_is_read_and_a_payload_is_left_as_it_is() {
    check(
        r#"{"id":7,"publish":{"channel":"a","data": {"n" : [1,2]} }}"#,
        7,
        publish(r#"{"n" : [1,2]}"#),
    );
    check(
        " {\"publish\" :{\"data\":1e400,\"channel\":\"\\u0061\"},\"id\":7}\r",
        7,
        publish("1e400"),
    );
    check("{}", 0, Request::Pong);
    check(r#"{"id":0}"#, 0, Request::Pong);
    check(
        r#"{"send":{"data":"x"}}"#,
        0,
        Request::Send(SendRequest { data: Payload::json(br#""x""#) }),
    );
    let since = Some(StreamPosition { offset: u64::MAX, epoch: "ż".into() });
    let history = HistoryRequest { channel: "a".into(), limit: -1, since, reverse: true };
    check(
        r#"{"id":1,"history":{"channel":"a","limit":-1,"reverse":true,"since":{"offset":18446744073709551615,"epoch":"ż"}}}"#,
        1,
        Request::History(history),
    );
}

#[test]
fn a_payload_is_borrowed_from_the_frame() {
    let line = br#"{"id":7,"publish":{"channel":"a","data":{"n":1}}}"#;
    let command = Command::decode(Encoding::Json, line, &LIMITS).expect("a command");
    let Request::Publish(publish) = command.request else { panic!("not a publish") };
    assert!(line.as_ptr_range().contains(&publish.data.bytes().as_ptr()));
    assert!(matches!(publish.channel, std::borrow::Cow::Borrowed(_)));
}

#[test]
fn unknown_fields_are_passed_over_and_null_is_nothing() {
    let line = r#"{"id":2,"x":[{}],"connect":null,"publish":{"channel":"a","y":1e9,"data":1,"key":null,"type":null}}"#;
    check(line, 2, publish("1"));
    check(r#"{"id":null,"publish":null}"#, 0, Request::Pong);
    check(r#"{"id":2,"publish":{"channel":"a","data":null}}"#, 2, publish(""));
}

#[test]
fn of_several_requests_the_first_in_the_protocols_order_counts() {
    let ping = r#"{"id":1,"ping":{},"rpc":{"method":"m"},"publish":{"channel":"a"},"send":{}}"#;
    check(ping, 1, publish(""));
    let mut frame = Vec::new();
    for request in
        [publish(""), Request::Connect(ConnectRequest::default()), Request::Ping(PingRequest {})]
    {
        let command = Command { id: 3, request };
        command.encode(Encoding::Protobuf, &mut frame).expect("it can be written");
    }
    let joined: Vec<u8> = frame::split(Encoding::Protobuf, &frame, &LIMITS)
        .flat_map(|command| command.expect("a command").to_vec())
        .collect();
    let command = Command::decode(Encoding::Protobuf, &joined, &LIMITS).expect("a command");
    assert_eq!(command, Command { id: 3, request: Request::Connect(ConnectRequest::default()) });
}

#[test]
fn an_error_says_which_field_and_which_limit() {
    for (line, expected) in [
        ("[]", "command: not of its type"),
        (r#"{"id":"1"}"#, "id: not of its type"),
        (r#"{"id":-1}"#, "id: not of its type"),
        (r#"{"id":4294967296}"#, "id: not of its type"),
        (r#"{"id":1.0}"#, "id: not of its type"),
        (r#"{"id":1,"publish":{"channel":5}}"#, "channel: not of its type"),
        (r#"{"id":1,"publish":[]}"#, "publish: not of its type"),
        (r#"{"id":1,"history":{"since":{"offset":-1}}}"#, "offset: not of its type"),
        (r#"{"id":1,"publish":{"data":{"a":}}}"#, "data: not JSON near byte 32"),
        ("{\"id\":1,\"publish\":{\"data\":\"\x01\"}}", "data: not JSON near byte 27"),
        (r#"{"id":1,"rpc":{}"#, "command: not JSON near byte 16"),
        (r#"{"id":1,"rpc":{}}{}"#, "command: not JSON near byte 18"),
        ("\r", "command: not JSON near byte 1"),
        (r#"{"id":1}"#, "command 1 has no known request"),
        (r#"{"id":1,"fly":{}}"#, "command 1 has no known request"),
        (r#"{"rpc":{}}"#, "rpc: no id"),
        (
            r#"{"id":1,"connect":{"headers":{"a":"","b":"","c":"","d":"","e":""}}}"#,
            "headers: over elements_max = 4",
        ),
        (
            r#"{"id":1,"connect":{"subs":{"a":{"tf":{"vals":["","","",""]}}}}}"#,
            "vals: over elements_max = 4",
        ),
    ] {
        refused(line.as_bytes(), Encoding::Json, expected);
    }
    refused(
        b"{\"id\":1,\"rpc\":{\"method\":\"\xff\"}}",
        Encoding::Json,
        "method: not JSON near byte 26",
    );
}

#[test]
fn protobuf_is_refused_by_field_and_rule_too() {
    for (bytes, expected) in [
        (&b"\x08"[..], "command: not Protobuf, it ends inside a number"),
        (
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            "command: not Protobuf, a number has over 64 bits",
        ),
        (b"\x00\x01", "command: not Protobuf, a field's number is out of range"),
        (b"\x0b", "command: not Protobuf, a field is of no known form"),
        (b"\x3a\x05\x0a", "command: not Protobuf, a length goes beyond the end"),
        (b"\x3a\x02\x0a\x05", "publish: not Protobuf, a length goes beyond the end"),
        (b"\x3a\x03\x0a\x01\xff", "channel: not UTF-8"),
        (b"\x3a\x02\x08\x01", "channel: not of its type"),
        (b"\x0a\x00", "id: not of its type"),
        (b"\x08\x01", "command 1 has no known request"),
        (b"\x3a\x00", "publish: no id"),
        (
            b"\x08\x01\x22\x0a\x32\x00\x32\x00\x32\x00\x32\x00\x32\x00",
            "headers: over elements_max = 4",
        ),
    ] {
        refused(bytes, Encoding::Protobuf, expected);
    }
}

#[test]
fn messages_in_messages_end_at_a_depth() {
    let limits = Limits { elements_max: 1000, ..LIMITS };
    for (nodes, is_taken) in [(29, true), (30, false), (5000, false)] {
        let json = format!(
            r#"{{"id":1,"subscribe":{{"tf":{{{}{}}}}}"#,
            r#""nodes":[{"#.repeat(nodes),
            "}]".repeat(nodes) + "}"
        );
        let mut tf = Vec::new();
        for _ in 0..nodes {
            let mut outer = vec![0x32];
            varint::write(tf.len() as u64, &mut outer);
            outer.append(&mut tf);
            tf = outer;
        }
        let mut subscribe = vec![0x6a];
        varint::write(tf.len() as u64, &mut subscribe);
        subscribe.append(&mut tf);
        let mut protobuf = vec![0x08, 0x01, 0x2a];
        varint::write(subscribe.len() as u64, &mut protobuf);
        protobuf.append(&mut subscribe);
        for (encoding, bytes) in
            [(Encoding::Json, json.as_bytes()), (Encoding::Protobuf, &protobuf)]
        {
            let read = Command::decode(encoding, bytes, &limits);
            assert_eq!(read.is_ok(), is_taken, "{encoding:?} {nodes}");
            if let Err(error) = read {
                assert_eq!(error, DecodeError::TooDeep { field: "nodes", max: 32 });
            }
        }
    }
}

#[test]
fn zero_is_not_written_but_where_clients_look_without_asking() {
    written(&Reply::PING, "{}");
    let reply = |body| Reply { id: 1, body };
    written(&reply(Body::Publish(PublishResult {})), r#"{"id":1,"publish":{}}"#);
    written(&reply(Body::Subscribe(SubscribeResult::default())), r#"{"id":1,"subscribe":{}}"#);
    written(&reply(Body::Connect(ConnectResult::default())), r#"{"id":1,"connect":{"client":""}}"#);
    let expiring = ConnectResult { expires: true, ..ConnectResult::default() };
    written(
        &reply(Body::Connect(expiring)),
        r#"{"id":1,"connect":{"client":"","expires":true,"ttl":0}}"#,
    );
    written(
        &reply(Body::Presence(PresenceResult::default())),
        r#"{"id":1,"presence":{"presence":{}}}"#,
    );
    written(
        &reply(Body::PresenceStats(PresenceStatsResult::default())),
        r#"{"id":1,"presence_stats":{"num_clients":0,"num_users":0}}"#,
    );
    written(
        &reply(Body::History(HistoryResult::default())),
        r#"{"id":1,"history":{"publications":[],"epoch":"","offset":0}}"#,
    );
    written(&reply(Body::Error(Error::default())), r#"{"id":1,"error":{"code":0,"message":""}}"#);
    let push = |event| Reply::push(Push { id: 0, channel: "c".into(), event });
    written(
        &push(Event::Join(Join::default())),
        r#"{"push":{"channel":"c","join":{"info":{"user":"","client":""}}}}"#,
    );
    written(
        &push(Event::Unsubscribe(Unsubscribe::default())),
        r#"{"push":{"channel":"c","unsubscribe":{"code":0,"reason":""}}}"#,
    );
    written(
        &push(Event::Disconnect(Disconnect::default())),
        r#"{"push":{"channel":"c","disconnect":{"code":0,"reason":""}}}"#,
    );
}

#[test]
fn codes_are_written_with_their_text() {
    written(
        &Reply::error(9, ErrorCode::TooManyRequests),
        r#"{"id":9,"error":{"code":111,"message":"too many requests","temporary":true}}"#,
    );
    let event = Event::Disconnect(DisconnectCode::Shutdown.into());
    written(
        &Reply::push(Push { event, ..Push::default() }),
        r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown","reconnect":true}}}"#,
    );
    let event = Event::Unsubscribe(UnsubscribeCode::InsufficientState.into());
    written(
        &Reply::push(Push { channel: "a\"b".into(), event, ..Push::default() }),
        r#"{"push":{"channel":"a\"b","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#,
    );
}

#[test]
fn a_push_of_nothing_is_never_written() {
    for encoding in BOTH {
        let mut out = Vec::new();
        let refused = Reply::push(Push::default()).encode(encoding, &mut out);
        assert_eq!((refused, out.len()), (Err(EncodeError::EmptyPush), 0));
    }
}

#[test]
fn a_ping_is_one_zero_byte_in_protobuf_and_so_is_a_pong() {
    let mut out = Vec::new();
    Reply::PING.encode(Encoding::Protobuf, &mut out).expect("it can be written");
    assert_eq!(out, [0]);
    let mut pongs = frame::commands(Encoding::Protobuf, &[0], &LIMITS);
    assert_eq!(pongs.next(), Some(Ok(Command { id: 0, request: Request::Pong })));
    assert_eq!(pongs.next(), None);
}

fn event(data: Payload<'_>) -> Publication<'_> {
    Publication { data, offset: 42, ..Publication::default() }
}

fn encoded(encoding: Encoding, publication: Publication<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    Reply::push(Push::publication("news", publication)).encode(encoding, &mut out).map(|()| out)
}

#[test]
fn a_publication_is_a_whole_push_without_line_breaks() {
    let data = Payload::new(b" {\"a\":\r\n [1,\n2]}\n");
    let json = encoded(Encoding::Json, event(data)).expect("it is JSON");
    assert_eq!(json, br#"{"push":{"channel":"news","pub":{"data":{"a": [1,2]},"offset":42}}}"#);
    let protobuf = encoded(Encoding::Protobuf, event(data)).expect("bytes");
    assert_eq!(protobuf[0] as usize, protobuf.len() - 1);
    let reply = Reply::decode(Encoding::Protobuf, &protobuf[1..], &LIMITS).expect("a reply");
    assert_eq!(reply, Reply::push(Push::publication("news", event(data))));
}

#[test]
fn a_payload_that_is_no_json_reaches_protobuf_clients_only() {
    for data in [&b"\x00\xff"[..], b"{\"a\":1", b"1 2", b"\"\xff\"", b" "] {
        let refused = encoded(Encoding::Json, event(Payload::new(data)));
        let error = refused.expect_err("it is no JSON");
        assert_eq!(error, EncodeError::NotJson { field: "data" });
        assert_eq!(DisconnectCode::from(error).number(), 3506);
        assert!(encoded(Encoding::Protobuf, event(Payload::new(data))).is_ok());
    }
    let mut joiner = frame::Joiner::new(Encoding::Json, 16, 1000);
    assert_eq!(joiner.push(&Reply::PING), Ok(None));
    let body = Body::Rpc(RpcResult { data: Payload::new(b"?") });
    assert!(joiner.push(&Reply { id: 1, body }).is_err());
    assert_eq!(joiner.take().as_deref(), Some(&b"{}"[..]));
}

/// Text with what JSON must escape, and more than a byte a character.
fn text() -> impl Strategy<Value = Text<'static>> {
    "[a-z\"\\\\\n\u{1}żł🦀]{0,6}".prop_map(Text::Owned)
}

fn payload() -> impl Strategy<Value = Payload<'static>> {
    prop::sample::select(vec!["", "1", "{}", r#"{"a":[1,null,"\n"]}"#, r#""ż\ud83e""#])
        .prop_map(|text| Payload::json(text.as_bytes()))
}

fn info() -> impl Strategy<Value = ClientInfo<'static>> {
    (text(), text(), payload(), payload()).prop_map(|(user, client, conn_info, chan_info)| {
        ClientInfo { user, client, conn_info, chan_info }
    })
}

prop_compose! {
    fn publication()(
        data in payload(), info in prop::option::of(info()), offset in any::<u64>(), time in any::<i64>(),
        tags in prop::collection::vec((text(), text()), 0..3), delta in any::<bool>(), score in any::<i64>(),
        epoch in text(),
    ) -> Publication<'static> {
        let (tags, score) = (Map(tags), Sint(score));
        Publication { data, info, offset, tags, delta, time, score, epoch, ..Publication::default() }
    }
}

prop_compose! {
    fn subscribe()(
        channel in text(), recover in any::<bool>(), offset in any::<u64>(), data in payload(), flag in any::<i64>(),
        kind in any::<i32>(), limit in any::<i32>(), vals in prop::collection::vec(text(), 0..3), op in text(),
    ) -> SubscribeRequest<'static> {
        let nodes = vec![FilterNode { vals, ..FilterNode::default() }];
        let tf = Some(FilterNode { op, nodes, ..FilterNode::default() });
        SubscribeRequest { channel, recover, offset, data, flag, kind, limit, tf, ..SubscribeRequest::default() }
    }
}

proptest! {
    #[test]
    fn commands_are_read_as_they_were_written(
        id in 1u32.., sub in subscribe(), token in text(), headers in prop::collection::vec((text(), text()), 0..3),
        channel in text(), data in payload(),
    ) {
        let limits = Limits::default();
        let subs = Map(vec![("a".into(), sub.clone()), (channel.clone(), sub.clone())]);
        let connect = ConnectRequest { token, subs, headers: Map(headers), data, ..ConnectRequest::default() };
        let publish = PublishRequest { channel, data, ..PublishRequest::default() };
        for request in [Request::Connect(connect), Request::Subscribe(sub), Request::Publish(publish)] {
            let command = Command { id, request };
            for encoding in BOTH {
                let mut out = Vec::new();
                command.encode(encoding, &mut out).expect("it can be written");
                let read: Vec<_> = frame::commands(encoding, &out, &limits).collect();
                prop_assert_eq!(read, vec![Ok(command.clone())]);
            }
        }
    }

    #[test]
    fn replies_are_read_as_they_were_written(
        id in any::<u32>(), publications in prop::collection::vec(publication(), 0..4), ttl in any::<u32>(),
        epoch in text(), presence in prop::collection::vec((text(), info()), 0..3), channel in text(),
    ) {
        let limits = Limits::default();
        let history = HistoryResult { publications: publications.clone(), epoch: epoch.clone(), offset: 1 };
        let subscribe = SubscribeResult { publications: publications.clone(), epoch, ttl, ..SubscribeResult::default() };
        let connect = ConnectResult { subs: Map(vec![(channel.clone(), subscribe.clone())]), ..ConnectResult::default() };
        let mut bodies = vec![
            Body::History(history), Body::Subscribe(subscribe), Body::Connect(connect),
            Body::Presence(PresenceResult { presence: Map(presence) }),
        ];
        for publication in publications {
            let event = Event::Publication(publication);
            bodies.push(Body::Push(Push { id: i64::from(ttl), channel: channel.clone(), event }));
        }
        for body in bodies {
            let reply = Reply { id, body };
            for encoding in BOTH {
                let mut out = Vec::new();
                reply.encode(encoding, &mut out).expect("it can be written");
                let bytes = frame::split(encoding, &out, &Limits { command_bytes_max: 1 << 20, ..limits }).next();
                let read = Reply::decode(encoding, bytes.expect("one").expect("a reply"), &limits);
                prop_assert_eq!(read, Ok(reply.clone()));
            }
        }
    }
}
