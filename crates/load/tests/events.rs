//! `weir-load idle --wire sse` as its user starts it, against a server of a few lines that speaks the
//! client protocol on Server-Sent Events: one that pings and wants its pongs posted.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

#[test]
fn subscribers_on_events_post_their_pongs() {
    let (address, pongs) = start("200 OK");
    let output = run(&address);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let cycle = &report["cycles"][0];
    assert_eq!((&cycle["opened"], &cycle["pings"]), (&json!(4), &json!(4)), "{report}");
    assert_eq!(cycle["lost"], json!({}));
    let sessions = pongs.lock().expect("no thread has panicked");
    assert_eq!(sessions.len(), 4, "one of each: {sessions:?}");
}

#[test]
fn a_server_without_events_is_no_measurement() {
    let (address, _) = start("503 Service Unavailable");
    let output = run(&address);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("0 of"), "{said}");
}

fn run(address: &str) -> Output {
    let pid = std::process::id().to_string();
    let arguments = ["idle", "--wire", "sse", "--path", "/connection/sse", "--channels", "2"];
    let more = ["--connections", "4", "--server-pid", &pid, "--hold", "500ms", "--settle", "10ms"];
    Command::new(env!("CARGO_BIN_EXE_weir-load"))
        .args(arguments)
        .args(["--addr", address])
        .args(more)
        .output()
        .expect("the generator starts")
}

/// The sessions whose pongs were posted.
type Pongs = Arc<Mutex<BTreeSet<String>>>;

/// Starts a server with a thread for each connection, and returns its address.
fn start(status: &'static str) -> (String, Pongs) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let pongs = Pongs::default();
    let told = Arc::clone(&pongs);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let told = Arc::clone(&told);
            thread::spawn(move || serve(stream, number, status, &told));
        }
    });
    (address, pongs)
}

fn serve(stream: TcpStream, number: usize, status: &str, pongs: &Pongs) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while stream.read_line(&mut head)? > 2 {}
    if head.starts_with("POST /emulation ") {
        return take_pongs(stream, head, pongs);
    }
    let line = head.lines().next().unwrap_or_default();
    assert!(line.starts_with("GET /connection/sse?cf_connect=%7B"), "{line}");
    let session = format!("s{number}");
    let connect = json!({"id": 1, "connect": {"session": session, "node": "n"}});
    let subscribe = json!({"id": 2, "subscribe": {}});
    let replies = format!("data: {connect}\ndata: {subscribe}\n\n");
    let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\r\n\r\n");
    let replies = format!("{:x}\r\n{replies}\r\n", replies.len());
    let ping = "3\r\n:\n\n\r\na\r\ndata: {}\n\n\r\n";
    stream.get_mut().write_all([&head, &replies, ping].concat().as_bytes())?;
    // The end of the client.
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn take_pongs(
    mut stream: BufReader<TcpStream>,
    mut head: String,
    pongs: &Pongs,
) -> std::io::Result<()> {
    loop {
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.and_then(|length| length.parse().ok()).expect("a length");
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let pong: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&pong["node"], &pong["data"]), (&json!("n"), &json!("{}")));
        let session = pong["session"].as_str().expect("a session").to_owned();
        pongs.lock().expect("no thread has panicked").insert(session);
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n")?;
        head.clear();
        while stream.read_line(&mut head)? > 2 {}
        if head.is_empty() {
            return Ok(());
        }
    }
}
