//! Collectors of traces, so that what tracing costs is measured with somebody at the other end: one
//! that takes whatever it is sent, and others as they fail. None looks at a span.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

/// How a collector treats those who send to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Takes everything.
    Live,
    /// Nobody listens.
    Dead,
    /// Accepts connections and never says a word.
    Hanging,
    /// Answers every batch with 503.
    Refusing,
}

impl Manner {
    /// Every manner.
    pub(super) const ALL: [Self; 4] = [Self::Live, Self::Dead, Self::Hanging, Self::Refusing];

    /// Its name in tables.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Dead => "dead",
            Self::Hanging => "hanging",
            Self::Refusing => "refusing",
        }
    }
}

/// Most connections that a hanging collector keeps open; the oldest goes when there are more.
const HANGING_MAX: usize = 64;

/// A receiver of OTLP over HTTP on a thread of its own, until the process ends.
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    batches: Arc<AtomicU64>,
}

impl Collector {
    /// Starts one that takes everything, on a free port of loopback.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub(super) fn start() -> Result<Self> {
        Self::of(Manner::Live)
    }

    /// Starts one of this manner, on a free port of loopback.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub(super) fn of(manner: Manner) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a port for the collector")?;
        let address = listener.local_addr()?;
        let batches = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&batches);
        let serve = move || match manner {
            Manner::Live => answer(&listener, "200 OK", &counted),
            Manner::Refusing => answer(&listener, "503 Service Unavailable", &counted),
            Manner::Hanging => keep(&listener),
            // The port is free again: who connects is refused.
            Manner::Dead => drop(listener),
        };
        std::thread::Builder::new().name("collector".into()).spawn(serve)?;
        Ok(Self { address, batches })
    }

    /// Batches so far.
    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }
}

/// Answers one request on each connection, for good.
fn answer(listener: &TcpListener, status: &str, counted: &AtomicU64) {
    for stream in listener.incoming().flatten() {
        // One that broke off is no batch.
        if take(&stream, status).is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn keep(listener: &TcpListener) {
    let mut kept = VecDeque::new();
    for stream in listener.incoming().flatten() {
        if kept.len() == HANGING_MAX {
            kept.pop_front();
        }
        kept.push_back(stream);
    }
}

/// Reads one request whole and answers it.
fn take(stream: &TcpStream, status: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap_or(0);
            }
            _ if line == "\r\n" => break,
            _ => {}
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}
