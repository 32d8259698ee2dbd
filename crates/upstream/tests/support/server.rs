//! A server whose every connection follows a script: what no well-behaved server would show.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A running server; it stops when dropped.
pub struct Server {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    _accepting: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    ended: AtomicUsize,
    requests: AtomicUsize,
}

/// One accepted connection.
pub struct Peer {
    /// Counted from 0.
    pub number: usize,
    pub stream: TcpStream,
    counts: Arc<Counts>,
}

impl Server {
    /// Follows `script` on each connection, which is closed when the script returns.
    pub async fn start<F, S>(script: S) -> Self
    where
        S: Fn(Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut peers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counts = Arc::clone(&shared);
                let number = counts.accepted.fetch_add(1, Ordering::SeqCst);
                let script = script(Peer { number, stream, counts: Arc::clone(&counts) });
                peers.spawn(async move {
                    script.await;
                    counts.ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, counts, _accepting: accepting }
    }

    /// `http://address`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// Scripts that have come to their end.
    pub fn ended(&self) -> usize {
        self.counts.ended.load(Ordering::SeqCst)
    }

    /// Requests read so far.
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }
}

impl Peer {
    /// Reads one request with its body; `None` when the other side closes.
    pub async fn request(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        let mut one = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            if self.stream.read(&mut one).await.ok()? == 0 {
                return None;
            }
            bytes.push(one[0]);
        }
        let head = String::from_utf8(bytes).expect("a head is ASCII");
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body).await.ok()?;
        self.counts.requests.fetch_add(1, Ordering::SeqCst);
        Some(head + &String::from_utf8_lossy(&body))
    }

    /// Writes bytes; the other side may be gone.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Writes a response with a length.
    pub async fn answer(&mut self, status: &str, body: &str) -> bool {
        let length = body.len();
        self.say(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")).await
    }

    /// Answers every request with 200 and `body` until the other side closes.
    pub async fn answer_all(mut self, body: &'static str) {
        while self.request().await.is_some() {
            self.answer("200 OK", body).await;
        }
    }

    /// Reads until the other side closes.
    pub async fn closed(&mut self) {
        let mut sink = [0; 1024];
        while matches!(self.stream.read(&mut sink).await, Ok(read) if read > 0) {}
    }
}
