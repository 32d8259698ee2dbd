//! One client connection: how it is opened and upgraded, and its bytes on the way out. What the
//! bytes that come in mean is not known here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};
use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use super::stream::Stream;
use super::{End, SCRATCH_BYTES, Target};
use crate::wire::Wire;

/// The sample key and answer of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Shaking,
    Upgrading,
    Open,
}

/// A connection that has not ended.
pub(super) struct Peer {
    pub(super) stream: Stream,
    pub(super) phase: Phase,
    /// The start of an item that is not whole yet.
    pub(super) inbox: Vec<u8>,
    /// What the socket had no room for.
    outbox: Vec<u8>,
    /// Whether this side has sent a close.
    pub(super) close_sent: bool,
    /// The code of the close that came in.
    pub(super) close_code: Option<u16>,
    /// Whether its handshake stops in the middle of the first message.
    stalls: bool,
}

impl Peer {
    /// Starts to connect, from `source` if it is given.
    pub(super) fn dial(target: &Target, source: Option<Ipv4Addr>, stalls: bool) -> Result<Self> {
        let socket = connect(target.address, source)?;
        Ok(Self {
            stream: Stream::new(socket, target.tls.as_ref())?,
            phase: Phase::Connecting,
            inbox: Vec::new(),
            outbox: Vec::new(),
            close_sent: false,
            close_code: None,
            stalls,
        })
    }

    /// Begins the TLS handshake; without one the connection is secured now.
    pub(super) fn on_connected(&mut self, target: &Target) -> io::Result<()> {
        if !self.stream.is_shaking() {
            return self.on_secured(target);
        }
        self.phase = Phase::Shaking;
        if self.stalls { self.stream.stall() } else { self.stream.flush() }
    }

    /// Sends the upgrade; on other wires the connection is open now.
    pub(super) fn on_secured(&mut self, target: &Target) -> io::Result<()> {
        if target.wire != Wire::Ws {
            self.phase = Phase::Open;
            return Ok(());
        }
        self.phase = Phase::Upgrading;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n",
            target.path, target.address
        );
        self.write(request.as_bytes())
    }

    /// Writes `bytes`, and keeps for later what the socket has no room for.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.outbox.is_empty() && !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.outbox.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what was kept, now that the socket has room.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()?;
        if self.outbox.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.outbox);
        self.write(&bytes)
    }

    /// Keeps the start of an item until its rest comes.
    pub(super) fn keep(&mut self, rest: &[u8]) -> Result<(), End> {
        if rest.len() >= SCRATCH_BYTES {
            return Err(End::Garbled);
        }
        self.inbox.extend_from_slice(rest);
        Ok(())
    }
}

/// Whether an answer's head accepts the upgrade.
pub(super) fn check_upgrade(head: &[u8]) -> Result<(), End> {
    let accepted = head.starts_with(b"HTTP/1.1 101 ")
        && memchr::memmem::find(head, ACCEPT.as_bytes()).is_some();
    if accepted { Ok(()) } else { Err(End::Refused) }
}

fn connect(address: SocketAddr, source: Option<Ipv4Addr>) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => bail!("cannot connect to {address}: {error}"),
    }
    Ok(TcpStream::from_std(socket.into()))
}
