//! `weir-load fanout` and `idle --channels` as their users start them, against servers of a few lines
//! that speak the client protocol: right ones, and ones that drop, double or refuse.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

#[test]
fn every_delivery_is_counted_and_none_is_missing() {
    let report = fanout(Manner::Right, &["--channels", "2", "--window", "3"]);
    let (publications, deliveries) =
        (number(&report, "publications"), number(&report, "deliveries"));
    // Each publication is for three; those of the window's edges may lie on its other side.
    assert!(publications > 20 && deliveries.abs_diff(publications * 3) <= 2 * 3 * 3, "{report}");
    assert_eq!((&report["dropped"], &report["wrong"]), (&json!(0), &json!(0)), "{report}");
    assert_eq!(report["lost"], json!({}));
}

#[test]
fn at_a_fixed_rate_so_many_are_published_in_each_channel_and_no_more() {
    let report = fanout(Manner::Right, &["--channels", "2", "--rate", "50"]);
    // 50 a second for 0.4 s in two channels; the last turn may be late on a busy machine.
    assert!((35..80).contains(&number(&report, "publications")), "{report}");
    assert_eq!((&report["dropped"], &report["wrong"]), (&json!(0), &json!(0)), "{report}");
}

#[test]
fn what_a_server_drops_is_told_and_holds_up_nothing() {
    let report = fanout(Manner::DropsEveryTenth, &["--window", "4"]);
    assert!(number(&report, "dropped") > 10, "{report}");
    assert!(number(&report, "deliveries") > 100, "{report}");
}

#[test]
fn a_doubled_delivery_fails_the_run() {
    let output = run_fanout(Manner::Doubles, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("wrong deliveries"), "{said}");
}

#[test]
fn a_refused_subscription_is_told_in_the_servers_words() {
    for output in [run_fanout(Manner::Refuses, &[]), run_idle(Manner::Refuses)] {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("permission denied"), "{said}");
    }
}

#[test]
fn idle_subscribers_subscribe_and_answer_pings() {
    let output = run_idle(Manner::Pings);
    let report = report(&output);
    let cycle = &report["cycles"][0];
    assert_eq!((&cycle["opened"], &cycle["pings"]), (&json!(6), &json!(6)), "{report}");
    assert_eq!(cycle["lost"], json!({}));
}

/// What a server does with what it is told.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Right,
    DropsEveryTenth,
    Doubles,
    Refuses,
    /// Sends a ping with the reply to a subscription, and hangs up unless a pong comes.
    Pings,
}

/// Subscribers of each channel.
type Hub = Arc<Mutex<HashMap<String, Vec<TcpStream>>>>;

const COMMON: &[&str] = &["--warmup", "100ms", "--duration", "400ms", "--subscribers", "6"];

fn fanout(manner: Manner, more: &[&str]) -> Value {
    let output = run_fanout(manner, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    report(&output)
}

fn run_fanout(manner: Manner, more: &[&str]) -> Output {
    let address = start(manner);
    run(&[&["fanout", "--addr", &address], COMMON, more].concat())
}

fn run_idle(manner: Manner) -> Output {
    let (address, pid) = (start(manner), std::process::id().to_string());
    let path = "/connection/websocket";
    run(&[
        "idle",
        "--wire",
        "ws",
        "--addr",
        &address,
        "--path",
        path,
        "--channels",
        "2",
        "--connections",
        "6",
        "--server-pid",
        &pid,
        "--hold",
        "300ms",
        "--settle",
        "10ms",
    ])
}

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-load"));
    command.args(args).output().expect("the generator starts")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no report; {}", String::from_utf8_lossy(&output.stderr)))
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"))
}

/// Starts a server with a thread for each connection, and returns its address.
fn start(manner: Manner) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let hub = Hub::default();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let hub = Arc::clone(&hub);
            thread::spawn(move || serve(stream, manner, &hub));
        }
    });
    address
}

fn serve(mut stream: TcpStream, manner: Manner, hub: &Hub) -> std::io::Result<()> {
    upgrade(&mut stream)?;
    loop {
        let (opcode, payload) = frame(&mut stream)?;
        if opcode == 8 {
            stream.write_all(&[0x88, 2, 0x03, 0xE8])?;
            // The hub has a handle of its own.
            return stream.shutdown(Shutdown::Both);
        }
        for line in payload.split(|&byte| byte == b'\n') {
            let command: Value = serde_json::from_slice(line).expect("a command is JSON");
            let id = &command["id"];
            if command.get("connect").is_some() {
                send(&stream, &json!({ "id": id, "connect": { "client": "x" } }))?;
            } else if let Some(channel) = command.pointer("/subscribe/channel") {
                if manner == Manner::Refuses {
                    let error = json!({ "code": 103, "message": "permission denied" });
                    send(&stream, &json!({ "id": id, "error": error }))?;
                    continue;
                }
                let channel = channel.as_str().expect("a name").to_owned();
                hub.lock()
                    .expect("no thread has panicked")
                    .entry(channel)
                    .or_default()
                    .push(stream.try_clone()?);
                send(&stream, &json!({ "id": id, "subscribe": {} }))?;
                if manner == Manner::Pings {
                    send(&stream, &json!({}))?;
                    let (_, pong) = frame(&mut stream)?;
                    assert_eq!(pong, b"{}");
                }
            } else if let Some(publish) = command.get("publish") {
                send(&stream, &json!({ "id": id, "publish": {} }))?;
                let number = id.as_u64().expect("a publication has an id");
                broadcast(manner, hub, publish, number)?;
            }
        }
    }
}

fn broadcast(manner: Manner, hub: &Hub, publish: &Value, number: u64) -> std::io::Result<()> {
    let channel = publish["channel"].as_str().expect("a channel");
    let publication = json!({ "data": publish["data"] });
    let push = json!({ "push": { "channel": channel, "pub": publication } });
    let subscribers = hub.lock().expect("no thread has panicked");
    for (index, subscriber) in subscribers[channel].iter().enumerate() {
        let times = match manner {
            Manner::DropsEveryTenth if index == 0 && number.is_multiple_of(10) => 0,
            Manner::Doubles => 2,
            Manner::DropsEveryTenth | Manner::Right | Manner::Refuses | Manner::Pings => 1,
        };
        (0..times).try_for_each(|_| send(subscriber, &push))?;
    }
    Ok(())
}

fn upgrade(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    assert!(head.starts_with(b"GET /connection/websocket "));
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )
}

/// A client's frame: its opcode and its payload, which is short of 64 KiB.
fn frame(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut start = [0; 2];
    stream.read_exact(&mut start)?;
    let mut length = usize::from(start[1] & 0x7F);
    if length == 126 {
        let mut more = [0; 2];
        stream.read_exact(&mut more)?;
        length = usize::from(u16::from_be_bytes(more));
    }
    let mut key = [0; 4];
    stream.read_exact(&mut key)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Ok((start[0] & 0x0F, payload))
}

fn send(mut stream: &TcpStream, reply: &Value) -> std::io::Result<()> {
    let text = reply.to_string();
    let length = u16::try_from(text.len()).expect("replies are short");
    let head = match length {
        short @ 0..=125 => vec![0x81, short as u8],
        long => [&[0x81, 126][..], &long.to_be_bytes()].concat(),
    };
    stream.write_all(&[&head, text.as_bytes()].concat())
}
