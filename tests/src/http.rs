//! A raw HTTP/1.1 client: sends exactly the bytes it is given, so that bad requests can be sent,
//! and reads replies strictly.

use std::net::SocketAddr;

use crate::tcp::Peer;

/// One reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The header fields, names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of UTF-8")
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error} in {}", String::from_utf8_lossy(&self.body));
        })
    }
}

/// A connection that speaks HTTP.
#[derive(Debug)]
pub struct HttpPeer {
    /// Its socket.
    pub peer: Peer,
    address: SocketAddr,
}

impl HttpPeer {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(Peer::connect(address).await, address)
    }

    /// Speaks HTTP over an open socket; `address` is what it calls its host.
    pub fn over(peer: Peer, address: SocketAddr) -> Self {
        Self { peer, address }
    }

    /// Sends `bytes` as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.peer.send(bytes.as_ref()).await;
    }

    /// Sends a well-formed request: its method and path, more header lines (each with its end of
    /// line), and a body.
    pub async fn request(&mut self, line: &str, headers: &str, body: &[u8]) {
        let mut head = format!("{line} HTTP/1.1\r\nHost: {}\r\n{headers}", self.address);
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.send([head.as_bytes(), b"\r\n", body].concat()).await;
    }

    /// The next reply.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub async fn reply(&mut self) -> Reply {
        self.try_reply().await.expect("a reply before the end of the connection")
    }

    /// The next reply, or `None` when the connection ends before one.
    ///
    /// # Panics
    ///
    /// When what comes is not a reply.
    pub async fn try_reply(&mut self) -> Option<Reply> {
        let head = self.peer.take_through(b"\r\n\r\n").await?;
        let head = String::from_utf8(head).expect("a head of UTF-8");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("a status line");
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {status_line}"));
        let headers = lines
            .map(|line| line.split_once(':').unwrap_or_else(|| panic!("not a header: {line}")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        reply.body = self.body(&reply).await;
        Some(reply)
    }

    async fn body(&mut self, reply: &Reply) -> Vec<u8> {
        if reply.status < 200 || reply.status == 204 {
            Vec::new()
        } else if let Some(length) = reply.header("content-length") {
            self.peer.take(length.parse().expect("a length")).await
        } else if reply.header("transfer-encoding") == Some("chunked") {
            self.chunks().await
        } else {
            self.peer.take_rest().await.0
        }
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.peer.take_through(b"\r\n").await.expect("a chunk's size");
            let line = String::from_utf8(line).expect("a chunk's size in ASCII");
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size");
            let chunk = self.peer.take(size + 2).await;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return body;
            }
        }
    }
}

/// One request on a connection of its own.
pub async fn request(address: SocketAddr, line: &str, headers: &str, body: &[u8]) -> Reply {
    let mut peer = HttpPeer::connect(address).await;
    peer.request(line, &format!("Connection: close\r\n{headers}"), body).await;
    peer.reply().await
}

/// A GET on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> Reply {
    request(address, &format!("GET {path}"), "", b"").await
}

/// A POST on a connection of its own.
pub async fn post(address: SocketAddr, path: &str, body: &[u8]) -> Reply {
    request(address, &format!("POST {path}"), "", body).await
}
