//! The pongs of streams of events, posted over one connection on a thread of its own, a request at a
//! time. What is in a request is not known here.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// More than connections of a process: each has one ping to answer.
const WAITING_MAX: usize = 65_536;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The way to the thread.
pub(super) struct Pongs {
    requests: SyncSender<String>,
}

impl Pongs {
    /// Starts the thread, which ends when this is dropped or a pong is not taken.
    pub(super) fn start(address: SocketAddr) -> Self {
        let (requests, waiting) = sync_channel(WAITING_MAX);
        thread::spawn(move || {
            if let Err(error) = post_all(address, &waiting) {
                eprintln!("weir-load: pongs: {error:#}");
            }
        });
        Self { requests }
    }

    /// Has a request sent when those before it have their answers.
    ///
    /// # Panics
    /// When the thread has failed: what it said stands above.
    pub(super) fn post(&self, request: String) {
        self.requests.send(request).expect("the thread of the pongs runs on");
    }
}

fn post_all(address: SocketAddr, waiting: &Receiver<String>) -> Result<()> {
    let mut kept = None;
    while let Ok(request) = waiting.recv() {
        // The server may have closed it while there was nothing to post.
        let posted = kept.take().and_then(|stream| post(stream, &request).ok());
        kept = match posted {
            Some(stream) => Some(stream),
            None => Some(post(connect(address)?, &request)?),
        };
    }
    Ok(())
}

fn connect(address: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address).context("no connection for pongs")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(BufReader::new(stream))
}

/// Gives the connection back, read to the end of the answer, which has no body (RFC 9110, section 15.3.5).
fn post(mut stream: BufReader<TcpStream>, request: &str) -> Result<BufReader<TcpStream>> {
    stream.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line).context("no answer to a pong")?;
    ensure!(line.starts_with("HTTP/1.1 204 "), "a pong was answered with {line:?}");
    while !line.trim_end().is_empty() {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the connection of the pongs has ended");
    }
    Ok(stream)
}
