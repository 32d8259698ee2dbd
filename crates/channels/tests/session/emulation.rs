//! Streams of HTTP: the first commands come with the request, the others beside it, by requests that
//! any worker may be given.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_channels::broker::{Limits, Memory};
use weir_core::context::{ConnId, RequestId};
use weir_core::limits::Limits as ConnectionLimits;
use weir_core::service::{
    Action, Actions, Answer, AskFuture, Carrier, Message, MessageKind, Opening, Service,
};
use weir_core::site::SiteWire;
use weir_core::wire::stream::{Form, Framing, Options};

use crate::support::{Client, World, open};

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

fn world(form: Form, framing: Framing) -> World {
    let broker = Arc::new(Memory::new(Limits::default(), 7));
    let wire = SiteWire::Stream(Options { form, framing });
    World::over(wire, broker, open(), ConnectionLimits::default(), 2)
}

/// A connected client, and what it is to show beside its stream.
fn emulated(world: &mut World) -> (Client, Value) {
    let mut client = world.stream(1 << 20, CONNECT);
    let connect = client.heard().remove(0)["connect"].take();
    (client, json!({ "node": connect["node"], "session": connect["session"] }))
}

/// One POST with this body, its engine turned meanwhile; the status that it is answered with.
fn post(world: &mut World, body: &str) -> u16 {
    let request_id = RequestId::Message { conn: ConnId::from_raw(9), seq: 1 };
    let mut session = world.service.open(&Opening {
        conn: ConnId::from_raw(9),
        peer: ([127, 0, 0, 1], 9).into(),
        listener: "web",
        carrier: Carrier::Http,
        wire: None,
        request_id: &request_id,
        tls: None,
        principal: None,
        path: None,
        headers: None,
        query: None,
    });
    let mut actions = Actions::default();
    let message = Message { payload: body.as_bytes(), kind: MessageKind::Text };
    let time = world.runtime.enter();
    session.on_message(message, &request_id, world.now, &mut actions);
    drop(time);
    let (_, wanted) = actions.take();
    for action in wanted {
        match action {
            Action::Reply { status, .. } => return status,
            Action::Ask(ticket, ask) => {
                let answer = turned(world, ask);
                session.on_answer(ticket, answer, &request_id, world.now, &mut actions);
            }
            Action::Push(..)
            | Action::Close(_)
            | Action::CloseAt(_)
            | Action::Hold(_)
            | Action::WakeAt(_)
            | Action::AwaitRoom => panic!("a POST has nothing to do with that"),
        }
    }
    match actions.list() {
        [] => 204,
        [Action::Reply { status, .. }] => *status,
        [_, ..] => panic!("more than a reply"),
    }
}

/// What comes of an ask while the engine turns.
fn turned(world: &mut World, ask: AskFuture) -> Answer {
    let (engine, now) = (&mut world.engine, world.now);
    let answer = world.runtime.block_on(async {
        let turns = async {
            loop {
                engine.turn(now).expect("pipes do not fail");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            answer = ask => answer,
            () = turns => unreachable!("turns do not end"),
        }
    });
    world.settle();
    answer
}

/// Commands beside a stream, as the SDKs write them.
fn commands(shown: &Value, commands: &[&str]) -> String {
    json!({ "node": shown["node"], "session": shown["session"], "data": commands.join("\n") })
        .to_string()
}

#[test]
fn commands_that_come_beside_the_stream_are_answered_in_it() {
    let mut world = world(Form::HttpStream, Framing::Close);
    let (mut one, shown_one) = emulated(&mut world);
    let (mut two, shown_two) = emulated(&mut world);
    assert_ne!(shown_one["session"], shown_two["session"]);
    assert_eq!(shown_one["node"], shown_two["node"]);
    let subscribe = r#"{"id":2,"subscribe":{"channel":"news"}}"#;
    let publish = r#"{"id":3,"publish":{"channel":"news","data":1}}"#;
    assert_eq!(post(&mut world, &commands(&shown_one, &[subscribe])), 204);
    assert!(one.heard()[0]["subscribe"].is_object());
    assert_eq!(post(&mut world, &commands(&shown_two, &[subscribe, publish])), 204);
    let ids: Vec<_> = two.heard().iter().filter_map(|reply| reply["id"].as_u64()).collect();
    assert_eq!(ids, [2, 3]);
    assert_eq!(one.published(), [json!(1)]);
}

#[test]
fn who_does_not_show_the_session_commands_nobody() {
    let mut world = world(Form::HttpStream, Framing::Close);
    let (mut client, shown) = emulated(&mut world);
    let rpc = r#"{"id":2,"subscribe":{"channel":"news"}}"#;
    let session = shown["session"].as_str().expect("a session");
    let mut changed = session.to_owned();
    let last = changed.pop().expect("a character");
    changed.push(if last == '0' { '1' } else { '0' });
    let node = shown["node"].as_str().expect("a node");
    // Nobody is told whether there is such a session.
    for (node, session, status) in [
        ("", session, 404),
        ("other", session, 404),
        (node, changed.as_str(), 204),
        (node, "", 204),
        (node, "żółwżółwżółwżółw", 204),
    ] {
        let body = json!({ "node": node, "session": session, "data": rpc }).to_string();
        assert_eq!(post(&mut world, &body), status, "{node} {session}");
    }
    assert_eq!(post(&mut world, "nonsense"), 400);
    assert_eq!(client.heard(), [] as [Value; 0]);

    drop(client);
    world.settle();
    // The end of its stream has told it.
    assert_eq!(post(&mut world, &commands(&shown, &[rpc])), 204);
}

#[test]
fn a_bad_command_beside_the_stream_ends_the_stream() {
    let mut world = world(Form::HttpStream, Framing::Close);
    let (mut client, shown) = emulated(&mut world);
    assert_eq!(post(&mut world, &commands(&shown, &["nonsense"])), 204);
    assert_eq!(client.told_to_go(), 3501);
    assert!(client.peer.at_end());
}

#[test]
fn only_streams_are_told_of_a_session_to_show() {
    let mut world = World::new(open());
    let mut client = world.connection(1 << 20);
    let reply = client.ask(&mut world, r#""connect":{}"#);
    assert_eq!(
        (&reply["connect"]["session"], &reply["connect"]["node"]),
        (&json!(null), &json!(null))
    );
}

#[test]
fn everybody_hears_a_publication_in_the_form_of_their_stream() {
    let chunk = |text: String| format!("{:x}\r\n{text}\r\n", text.len());
    for (form, framing) in [
        (Form::Sse, Framing::Chunked),
        (Form::Sse, Framing::Close),
        (Form::HttpStream, Framing::Chunked),
        (Form::HttpStream, Framing::Close),
    ] {
        let mut world = world(form, framing);
        let subscribe = r#"{"id":2,"subscribe":{"channel":"news"}}"#;
        let publish = r#"{"id":3,"publish":{"channel":"news","data":1}}"#;
        let subscriber = world.stream(1 << 20, &format!("{CONNECT}\n{subscribe}"));
        let _before = subscriber.peer.receive(1 << 20);
        let _publisher = world.stream(1 << 20, &format!("{CONNECT}\n{subscribe}\n{publish}"));
        // The subscriber's worker had its turn before the publisher's.
        world.settle();
        let heard = String::from_utf8(subscriber.peer.receive(1 << 20)).expect("text");
        let json = heard.find('{').zip(heard.rfind('}')).map(|(from, to)| &heard[from..=to]);
        let json = json.expect("a push");
        let push: Value = serde_json::from_str(json).expect("it is JSON");
        assert_eq!(push["push"]["pub"]["data"], json!(1));
        let message = match form {
            Form::Sse => format!("data: {json}\n\n"),
            Form::HttpStream => format!("{json}\n"),
        };
        let whole = if framing == Framing::Chunked { chunk(message) } else { message };
        assert_eq!(heard, whole);
    }
}

#[test]
fn a_stream_whose_reader_stops_is_left_without_harm_to_others() {
    let mut world = world(Form::Sse, Framing::Chunked);
    let subscribe = r#"{"id":2,"subscribe":{"channel":"news"}}"#;
    let slow = world.stream(4 << 10, &format!("{CONNECT}\n{subscribe}"));
    let quick = world.stream(64 << 20, &format!("{CONNECT}\n{subscribe}"));
    let _before = quick.peer.receive(1 << 20);
    let data = "x".repeat(60 << 10);
    let publish = |n| format!(r#"{{"id":3,"publish":{{"channel":"news","data":"{n} {data}"}}}}"#);
    for n in 0..40 {
        let _publisher = world.stream(1 << 20, &format!("{CONNECT}\n{subscribe}\n{}", publish(n)));
        let heard = String::from_utf8(quick.peer.receive(1 << 20)).expect("text");
        assert!(heard.contains(&format!("\"data\":\"{n} x")), "{n}");
    }
    world.settle();
    assert_eq!(
        world.metric("weir_channels_clients"),
        1.0,
        "the slow one and the publishers have gone"
    );
    drop(slow);
}
