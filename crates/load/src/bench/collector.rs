//! A collector of traces that takes whatever it is sent, so that what tracing costs is measured with
//! somebody at the other end. It looks at no span.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

/// A receiver of OTLP over HTTP on a thread of its own, until the process ends.
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    batches: Arc<AtomicU64>,
}

impl Collector {
    /// Starts it on a free port of loopback.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a port for the collector")?;
        let address = listener.local_addr()?;
        let batches = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&batches);
        std::thread::Builder::new().name("collector".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                // One that broke off is no batch.
                if take(&stream).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(Self { address, batches })
    }

    /// Batches so far.
    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }
}

/// Reads one request whole and answers it.
fn take(stream: &TcpStream) -> std::io::Result<()> {
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
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}
