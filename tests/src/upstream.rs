//! An upstream that the test is in charge of: answers HTTP requests after a delay and remembers
//! each of them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its request line and header fields, as sent.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Received {
    /// The path that was asked for.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The first value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// How long the answer takes.
    pub delay: Duration,
}

impl Answer {
    /// This body, at once.
    pub fn of(body: impl ToString) -> Self {
        Self { status: 200, body: body.to_string(), delay: Duration::ZERO }
    }

    /// The same after a while.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// Says what each request is answered with.
type Script = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

/// A running upstream; it stops when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

/// What an upstream remembers.
#[derive(Debug, Default)]
struct Seen {
    received: Mutex<Vec<Received>>,
    /// Requests that have come and are not answered.
    under_way: AtomicUsize,
    /// The most there were.
    most: AtomicUsize,
}

impl Upstream {
    /// Answers each request with `answer: ` and its body after `delay`.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub async fn start(delay: Duration) -> Self {
        let echo =
            move |request: &Received| Answer::of(format!("answer: {}", request.body)).after(delay);
        Self::serving("127.0.0.1:0", echo).await
    }

    /// Answers each request as `answer` says, at this address.
    ///
    /// # Panics
    ///
    /// When the address is taken.
    pub async fn serving(
        address: &str,
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free address");
        let address = listener.local_addr().expect("a bound socket");
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn(accept(listener, Arc::new(answer), Arc::clone(&seen)));
        Self { address, seen, task }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, in the order of their ends.
    pub fn received(&self) -> Vec<Received> {
        locked(&self.seen.received).clone()
    }

    /// The most requests that were there at once.
    pub fn most_at_once(&self) -> usize {
        self.seen.most.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, script: Script, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&script), Arc::clone(&seen)));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers one connection's requests, one after the other, until it ends.
async fn serve(mut stream: TcpStream, script: Script, seen: Arc<Seen>) {
    let mut buffer = Vec::new();
    while let Some(request) = next_request(&mut stream, &mut buffer).await {
        let Answer { status, body, delay } = script(&request);
        locked(&seen.received).push(request);
        let under_way = seen.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        seen.most.fetch_max(under_way, Ordering::Relaxed);
        tokio::time::sleep(delay).await;
        // Before the answer leaves: who has it may ask again at once.
        seen.under_way.fetch_sub(1, Ordering::Relaxed);
        let length = body.len();
        let reply = format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\n\r\n{body}");
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn next_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(stream, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut request = Received { head, body: String::new() };
    let length = request.header("content-length").map_or(Some(0), |value| value.parse().ok())?;
    while buffer.len() < head_end + length {
        read_more(stream, buffer).await?;
    }
    request.body = String::from_utf8_lossy(&buffer[head_end..head_end + length]).into_owned();
    buffer.drain(..head_end + length);
    Some(request)
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    matches!(stream.read_buf(buffer).await, Ok(1..)).then_some(())
}

/// A test that panicked while it held the list has failed already.
fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
