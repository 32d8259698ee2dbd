//! How a subscriber is connected: the three ways that clients come, with the same messages as JSON
//! values on each. Everything here may be dropped while it waits, and goes on where it was.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::ControlFlow;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use weir_tests::websocket::{WebSocket, opcode, parse};

use crate::protobuf;

/// How a subscriber comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A line of JSON each, over TCP.
    Lines,
    /// JSON over WebSocket, as the SDK for browsers.
    Json,
    /// Protobuf over WebSocket, as most other SDKs.
    Protobuf,
}

impl Transport {
    pub(crate) const ALL: [Self; 3] = [Self::Lines, Self::Json, Self::Protobuf];
}

/// Where weir listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) lines: SocketAddr,
    pub(crate) web: SocketAddr,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    transport: Transport,
    stream: TcpStream,
    /// What has come and is not a whole line or frame yet.
    bytes: Vec<u8>,
    heard: VecDeque<Value>,
}

/// What comes next.
pub(crate) enum Heard {
    Message(Value),
    /// Bytes that the wire wants answered at once.
    Owed(Vec<u8>),
    End,
}

impl Link {
    /// A connection that has said nothing, unless weir is away.
    ///
    /// # Panics
    ///
    /// When an upgrade is answered with anything but 101 or, while weir leaves, 503.
    pub(crate) async fn connect(transport: Transport, to: Addresses) -> Option<Self> {
        let socket = TcpSocket::new_v4().expect("a socket");
        // As small as the kernel allows: one that does not read is felt early.
        socket.set_recv_buffer_size(4_096).expect("SO_RCVBUF");
        let address = if transport == Transport::Lines { to.lines } else { to.web };
        let stream = socket.connect(address).await.ok()?;
        let mut link = Self { transport, stream, bytes: Vec::new(), heard: VecDeque::new() };
        match transport {
            Transport::Lines => Some(link),
            Transport::Json => link.upgrade("").await.then_some(link),
            Transport::Protobuf => {
                let protocol = "Sec-WebSocket-Protocol: centrifuge-protobuf\r\n";
                link.upgrade(protocol).await.then_some(link)
            }
        }
    }

    async fn upgrade(&mut self, more: &str) -> bool {
        let headers = WebSocket::headers();
        let head =
            format!("GET /connection/websocket HTTP/1.1\r\nHost: weir\r\n{headers}{more}\r\n");
        if self.stream.write_all(head.as_bytes()).await.is_err() {
            return false;
        }
        loop {
            if let Some(end) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let status = self.bytes.get(9..12).expect("a status").to_owned();
                self.bytes.drain(..end + 4);
                assert!([&b"101"[..], b"503"].contains(&&*status), "{status:?}");
                return status == b"101";
            }
            if !matches!(self.stream.read_buf(&mut self.bytes).await, Ok(1..)) {
                return false;
            }
        }
    }

    /// Sends commands in one frame. False when the connection has ended.
    pub(crate) async fn say(&mut self, commands: &[Value]) -> bool {
        let bytes = match self.transport {
            Transport::Lines => lines(commands).into_bytes(),
            Transport::Json => WebSocket::encode(lines(commands).trim_end()),
            Transport::Protobuf => {
                let payload: Vec<u8> = commands.iter().flat_map(protobuf::command).collect();
                WebSocket::frame(true, opcode::BINARY, &payload)
            }
        };
        commands.is_empty() || self.send(&bytes).await
    }

    /// Sends bytes as they are. False when the connection has ended.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// What comes next. What is cut off at the end is left out.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            if let Some(message) = self.heard.pop_front() {
                return Heard::Message(message);
            }
            let taken = match self.transport {
                Transport::Lines => self.line(),
                Transport::Json | Transport::Protobuf => self.frame(),
            };
            match taken {
                Some(ControlFlow::Continue(())) => {}
                Some(ControlFlow::Break(other)) => return other,
                None => match self.stream.read_buf(&mut self.bytes).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Heard::End,
                },
            }
        }
    }

    /// Takes a line, if it is whole, into what is heard.
    fn line(&mut self) -> Option<ControlFlow<Heard>> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        self.heard.push_back(serde_json::from_slice(&line).expect("a line of JSON"));
        Some(ControlFlow::Continue(()))
    }

    /// Takes a frame, if it is whole, into what is heard, or says what else it is.
    fn frame(&mut self) -> Option<ControlFlow<Heard>> {
        let (frame, taken) = parse(&self.bytes)?;
        self.bytes.drain(..taken);
        match frame.opcode {
            opcode::TEXT => {
                assert_eq!(self.transport, Transport::Json);
                let lines = frame.payload.split(|byte| *byte == b'\n');
                let lines = lines.filter(|line| !line.is_empty());
                self.heard.extend(lines.map(|line| serde_json::from_slice(line).expect("JSON")));
            }
            opcode::BINARY => {
                assert_eq!(self.transport, Transport::Protobuf);
                self.heard.extend(protobuf::replies(&frame.payload));
            }
            opcode::PING => {
                let pong = WebSocket::frame(true, opcode::PONG, &frame.payload);
                return Some(ControlFlow::Break(Heard::Owed(pong)));
            }
            opcode::CLOSE => {
                let (code, reason) = frame.close();
                assert!((3_000..3_500).contains(&code), "not to come back: {code} {reason}");
                return Some(ControlFlow::Break(Heard::End));
            }
            other => panic!("a frame of opcode {other}"),
        }
        Some(ControlFlow::Continue(()))
    }
}

fn lines(commands: &[Value]) -> String {
    commands.iter().map(|command| format!("{command}\n")).collect()
}

/// The answer to a ping of the protocol.
pub(crate) fn pong() -> Value {
    json!({})
}
