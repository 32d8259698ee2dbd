//! Subscribers that read 1 KB a second, beside the generator's: on a thread of the benchmark, so that they
//! cost the generator nothing. What they read is not looked at.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use socket2::{Domain, Socket, Type};

use crate::channels;

/// Bytes that each reads at a time, and how often: 1 KB a second.
const READ_BYTES: usize = 256;
const READ_INTERVAL: Duration = Duration::from_millis(250);
/// As small as the kernel allows.
const RECEIVE_BUFFER_BYTES: usize = 4096;
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers that are connected.
pub(super) struct Readers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Readers {
    /// Subscribes so many to a channel.
    ///
    /// # Errors
    /// When one cannot connect or is not upgraded.
    pub(super) fn start(address: SocketAddr, channel: &str, count: usize) -> Result<Self> {
        let readers: Result<Vec<_>> =
            (0..count).map(|index| subscribe(address, channel, index as u32)).collect();
        let (mut readers, stop) = (readers?, Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&stop);
        let thread = spawn(move || {
            while !told.load(Ordering::Relaxed) {
                readers.retain_mut(read);
                sleep(READ_INTERVAL);
            }
            readers.len()
        });
        Ok(Self { stop, thread })
    }

    /// Hangs up, and gives how many were still connected.
    ///
    /// # Errors
    /// When their thread has panicked.
    pub(super) fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the slow readers panicked"))
    }
}

/// Reads a little; false when the connection has ended.
fn read(reader: &mut TcpStream) -> bool {
    match reader.read(&mut [0; READ_BYTES]) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn subscribe(address: SocketAddr, channel: &str, mask: u32) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.connect(&address.into())?;
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(UPGRADE_TIMEOUT))?;
    write!(
        stream,
        "GET {} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        channels::PATH
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).context("the upgrade of a slow reader")?;
    ensure!(head.starts_with(b"HTTP/1.1 101"), "a slow reader was not upgraded");
    let mut frame = Vec::new();
    channels::begin(Some(channel), mask, &mut frame);
    stream.write_all(&frame)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
