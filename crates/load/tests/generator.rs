//! The generator as its users start it, against servers of a few lines whose every step is known:
//! right ones, wrong ones, and ones that hang up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::Value;

#[test]
fn lines_are_echoed_and_counted_exactly() {
    let server = Server::start(echo_lines);
    let report = echo(&server, "lines", &["--depth", "4"]);
    assert_eq!(report["errors"], 0, "{report}");
    assert!(report["messages"].as_u64() > Some(100), "{report}");
    assert_eq!(report["sent_total"], report["received_total"]);
    assert_eq!(report["received_total"], server.served());
}

#[test]
fn frames_with_a_length_are_echoed_and_counted_exactly() {
    let server = Server::start(echo_length);
    let report = echo(&server, "length", &["--depth", "4"]);
    assert_eq!(
        (&report["errors"], &report["received_total"]),
        (&0.into(), &server.served().into())
    );
}

#[test]
fn websocket_messages_are_masked_echoed_and_counted_exactly() {
    let server = Server::start(echo_websocket);
    let report = echo(&server, "ws", &["--depth", "4"]);
    assert_eq!(
        (&report["errors"], &report["received_total"]),
        (&0.into(), &server.served().into())
    );
}

#[test]
fn a_wrong_answer_fails_the_run() {
    let server = Server::start(|stream, served| {
        for line in lines(&stream) {
            // The hundredth answer is another message's.
            let late = served.fetch_add(1, Ordering::Relaxed) == 99;
            let answer = if late { line.replace('0', "1") } else { line };
            (&stream).write_all(answer.as_bytes())?;
        }
        Ok(())
    });
    let output = run(&["echo", "--addr", &server.address(), "--connections", "1"], SHORT);
    assert!(!output.status.success());
    assert_eq!(report(&output)["errors"], 1);
}

#[test]
fn a_lost_connection_fails_the_run() {
    let server = Server::start(|stream, _| {
        let first = lines(&stream).next().unwrap_or_default();
        (&stream).write_all(first.as_bytes())
    });
    let output = run(&["echo", "--addr", &server.address(), "--connections", "1"], SHORT);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("closed every connection"), "{said}");
}

#[test]
fn a_refused_upgrade_is_told() {
    let server = Server::start(|mut stream, _| {
        stream.read_exact(&mut [0; 4])?;
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    });
    let output = run(&["echo", "--addr", &server.address(), "--wire", "ws"], SHORT);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("were refused"), "{said}");
}

#[test]
fn an_open_loop_sends_what_is_due_and_no_more() {
    let server = Server::start(echo_lines);
    let report = echo(&server, "lines", &["--rate", "500"]);
    let sent = report["sent_total"].as_u64().expect("a count");
    // 500 a second for 0.4 s; the last turn may be late on a busy machine.
    assert!((195..400).contains(&sent), "{report}");
    assert_eq!((&report["withheld"], &report["errors"]), (&0.into(), &0.into()), "{report}");
}

#[test]
fn idle_connections_are_opened_again_and_their_end_is_seen() {
    let server = Server::start(|stream, served| {
        // Answers one message, and in the second cycle hangs up a moment after it.
        let first = lines(&stream).next().unwrap_or_default();
        (&stream).write_all(first.as_bytes())?;
        if served.fetch_add(1, Ordering::Relaxed) < 20 {
            lines(&stream).for_each(drop);
        } else {
            thread::sleep(std::time::Duration::from_millis(700));
        }
        Ok(())
    });
    let pid = std::process::id().to_string();
    let mut args = vec!["idle", "--server-pid", &pid, "--connections", "20", "--one-message"];
    args.extend(["--cycles", "2", "--until-closed", "10s", "--hold", "100ms", "--settle", "100ms"]);
    let address = server.address();
    args.extend(["--addr", &address]);
    let report = report(&run(&args, &[]));
    let cycles = report["cycles"].as_array().expect("cycles");
    assert_eq!(cycles.len(), 2);
    for cycle in cycles {
        assert_eq!(
            (&cycle["opened"], &cycle["right_answers"]),
            (&20.into(), &20.into()),
            "{cycle}"
        );
    }
    assert_eq!(report["closing"]["ends"], serde_json::json!({ "fin": 20 }), "{report}");
    assert_eq!(report["closing"]["left_open"], 0);
}

const SHORT: &[&str] = &["--warmup", "100ms", "--duration", "300ms"];

fn echo(server: &Server, wire: &str, more: &[&str]) -> Value {
    let address = server.address();
    let args = ["echo", "--addr", &address, "--wire", wire, "--connections", "5"];
    let output = run(&args, &[SHORT, more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    report(&output)
}

fn run(args: &[&str], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-load"));
    command.args(args).args(more).output().expect("the generator starts")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no report; {}", String::from_utf8_lossy(&output.stderr)))
}

/// A thread for each connection, and how many messages they have answered together.
struct Server {
    address: SocketAddr,
    served: Arc<AtomicU64>,
}

impl Server {
    fn start(
        serve: impl Fn(TcpStream, &AtomicU64) -> std::io::Result<()> + Copy + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counter = Arc::clone(&counter);
                thread::spawn(move || serve(stream, &counter));
            }
        });
        Self { address, served }
    }

    fn address(&self) -> String {
        self.address.to_string()
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

/// Lines with their line feeds.
fn lines(stream: &TcpStream) -> impl Iterator<Item = String> {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    std::iter::from_fn(move || {
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then_some(line)
    })
}

fn echo_lines(stream: TcpStream, served: &AtomicU64) -> std::io::Result<()> {
    for line in lines(&stream) {
        served.fetch_add(1, Ordering::Relaxed);
        (&stream).write_all(line.as_bytes())?;
    }
    Ok(())
}

fn echo_length(mut stream: TcpStream, served: &AtomicU64) -> std::io::Result<()> {
    let mut length = [0; 4];
    while stream.read_exact(&mut length).is_ok() {
        let mut message = length.to_vec();
        message.resize(4 + u32::from_be_bytes(length) as usize, 0);
        stream.read_exact(&mut message[4..])?;
        served.fetch_add(1, Ordering::Relaxed);
        stream.write_all(&message)?;
    }
    Ok(())
}

/// Knows messages of 128 bytes and the close, which is all that it is sent.
fn echo_websocket(mut stream: TcpStream, served: &AtomicU64) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    loop {
        let mut start = [0; 2];
        stream.read_exact(&mut start)?;
        if start == [0x88, 0x82] {
            return stream.write_all(&[0x88, 2, 0x03, 0xE8]);
        }
        assert_eq!(start, [0x81, 0xFE], "a masked text frame with a length of two bytes");
        let mut rest = [0; 2 + 4 + 128];
        stream.read_exact(&mut rest)?;
        let (key, message) = rest[2..].split_at(4);
        let message: Vec<u8> =
            message.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        served.fetch_add(1, Ordering::Relaxed);
        stream.write_all(&[&[0x81, 126, 0, 128], &*message].concat())?;
    }
}
