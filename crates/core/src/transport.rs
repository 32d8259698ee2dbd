//! The second seam: what a connection reads from and writes to. TCP, TLS on it, and an in-memory pipe
//! for simulation and for measuring a million sessions. Knows nothing of messages.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use parking_lot::Mutex;
use socket2::SockRef;

use crate::tls::TlsSocket;

/// A non-blocking byte stream. "Not now" is [`io::ErrorKind::WouldBlock`].
pub trait Transport {
    /// Reads what is there; 0 is the peer's end of stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else ends the connection.
    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes from all of `bufs` in one call, as much as fits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits; anything else ends the connection.
    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Says that our side ends, where a transport has words for it: TLS has. Asked again, it says
    /// what is left of it.
    ///
    /// # Errors
    /// `WouldBlock` when not all of it fits; anything else ends the connection.
    fn say_end(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Ends our side of the stream; what was written is still delivered.
    ///
    /// # Errors
    /// Those of the socket, for example when the peer has reset it.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Makes the drop that follows a reset: nothing that waits in the socket is delivered.
    fn reset_on_drop(&mut self);

    /// Whether bytes that a write took are not with the kernel yet. A bare socket has none such.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Gives the kernel what a write took and it did not.
    ///
    /// # Errors
    /// `WouldBlock` when not all of it fits; anything else ends the connection.
    fn try_flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether a read has something to tell though no edge will say so: an end that was met behind
    /// the bytes of the read before.
    fn has_unread(&self) -> bool {
        false
    }
}

impl Transport for mio::net::TcpStream {
    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read(buf)
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match bufs {
            // `send` is cheaper than `writev` with one slice.
            [one] => self.write(one),
            many => self.write_vectored(many),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn reset_on_drop(&mut self) {
        // A failure leaves an ordinary close, which is safe.
        if let Err(error) = SockRef::from(&*self).set_linger(Some(std::time::Duration::ZERO)) {
            tracing::debug!(%error, "SO_LINGER not set");
        }
    }
}

/// A socket of the table, over TCP or over whatever else a poll watches.
pub enum Socket<S: Transport = mio::net::TcpStream> {
    /// Bytes as they are.
    Plain(S),
    /// TLS, with its state beside the table: a plain connection does not pay for its room.
    Tls(Box<TlsSocket<S>>),
}

impl<S: Transport> Socket<S> {
    /// The socket below, for the poll.
    pub(crate) fn base_mut(&mut self) -> &mut S {
        match self {
            Self::Plain(plain) => plain,
            Self::Tls(tls) => tls.socket_mut(),
        }
    }
}

impl<S: Transport> Transport for Socket<S> {
    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.try_read(buf),
            Self::Tls(tls) => tls.try_read(buf),
        }
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.try_write_vectored(bufs),
            Self::Tls(tls) => tls.try_write_vectored(bufs),
        }
    }

    fn say_end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(plain) => plain.say_end(),
            Self::Tls(tls) => tls.say_end(),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(plain) => plain.shutdown_write(),
            Self::Tls(tls) => tls.shutdown_write(),
        }
    }

    fn reset_on_drop(&mut self) {
        match self {
            Self::Plain(plain) => plain.reset_on_drop(),
            Self::Tls(tls) => tls.reset_on_drop(),
        }
    }

    fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_unsent(),
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    fn has_unread(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_unread(),
        }
    }
}

/// One direction of a pipe.
#[derive(Debug, Default)]
struct Lane {
    bytes: std::collections::VecDeque<u8>,
    /// The writer is done.
    ended: bool,
}

/// What both ends of a pipe share.
#[derive(Debug, Default)]
struct Shared {
    to_server: Lane,
    to_peer: Lane,
    capacity: usize,
    /// Either side cut the pipe.
    reset: bool,
    /// Edges since the poll last looked: readable, writable.
    edges: (bool, bool),
    /// The server's end was dropped.
    server_gone: bool,
}

/// The server's end of an in-memory pipe: a [`Transport`].
#[derive(Debug)]
pub struct PipeSocket {
    shared: Arc<Mutex<Shared>>,
    reset_on_drop: bool,
}

/// The peer's end of an in-memory pipe, driven by a simulation.
#[derive(Debug)]
pub struct PipePeer {
    shared: Arc<Mutex<Shared>>,
}

/// An in-memory pipe that holds at most `capacity` bytes each way.
pub fn pipe(capacity: usize) -> (PipeSocket, PipePeer) {
    let shared =
        Arc::new(Mutex::new(Shared { capacity, edges: (false, true), ..Shared::default() }));
    (PipeSocket { shared: Arc::clone(&shared), reset_on_drop: false }, PipePeer { shared })
}

impl PipeSocket {
    /// Takes the edges since the last call, (readable, writable), and whether the peer has ended or
    /// cut its side. For [`crate::poll::PipePoll`].
    pub(crate) fn take_edges(watch: &PipeWatch) -> (bool, bool, bool) {
        let mut shared = watch.0.lock();
        let (readable, writable) = std::mem::take(&mut shared.edges);
        (readable, writable, shared.to_server.ended || shared.reset)
    }

    /// What a poll needs to watch this socket.
    pub(crate) fn watch(&self) -> PipeWatch {
        PipeWatch(Arc::clone(&self.shared))
    }
}

/// A poll's view of a pipe.
#[derive(Clone, Debug)]
pub(crate) struct PipeWatch(Arc<Mutex<Shared>>);

impl Transport for PipeSocket {
    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut shared = self.shared.lock();
        if shared.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let n = buf.len().min(shared.to_server.bytes.len());
        if n == 0 && !buf.is_empty() {
            let ended = shared.to_server.ended;
            return if ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        for (slot, byte) in buf.iter_mut().zip(shared.to_server.bytes.drain(..n)) {
            *slot = byte;
        }
        Ok(n)
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut shared = self.shared.lock();
        if shared.reset || shared.to_peer.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut written = 0;
        for buf in bufs {
            let room = shared.capacity.saturating_sub(shared.to_peer.bytes.len());
            let n = room.min(buf.len());
            shared.to_peer.bytes.extend(&buf[..n]);
            written += n;
        }
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        if written == 0 && wanted > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(written)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shared.lock().to_peer.ended = true;
        Ok(())
    }

    fn reset_on_drop(&mut self) {
        self.reset_on_drop = true;
    }
}

impl Drop for PipeSocket {
    fn drop(&mut self) {
        let mut shared = self.shared.lock();
        shared.to_peer.ended = true;
        shared.server_gone = true;
        // As TCP does: closing with unread input resets.
        if self.reset_on_drop || !shared.to_server.bytes.is_empty() {
            shared.reset = true;
            shared.to_peer.bytes.clear();
        }
    }
}

impl PipePeer {
    /// Sends as many of `bytes` as fit; returns how many.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let mut shared = self.shared.lock();
        if shared.reset || shared.server_gone || shared.to_server.ended {
            return 0;
        }
        let room = shared.capacity.saturating_sub(shared.to_server.bytes.len());
        let n = room.min(bytes.len());
        shared.to_server.bytes.extend(&bytes[..n]);
        shared.edges.0 |= n > 0;
        n
    }

    /// Takes at most `max` bytes that the server has written.
    pub fn receive(&self, max: usize) -> Vec<u8> {
        let mut shared = self.shared.lock();
        let n = max.min(shared.to_peer.bytes.len());
        shared.edges.1 |= n > 0;
        shared.to_peer.bytes.drain(..n).collect()
    }

    /// Ends this side: the server reads an end of stream.
    pub fn shutdown_write(&self) {
        let mut shared = self.shared.lock();
        shared.to_server.ended = true;
        shared.edges.0 = true;
    }

    /// Cuts the pipe both ways, as a reset does.
    pub fn reset(&self) {
        let mut shared = self.shared.lock();
        shared.reset = true;
        shared.edges = (true, true);
    }

    /// Whether the server has ended its side and everything it wrote was taken.
    pub fn at_end(&self) -> bool {
        let shared = self.shared.lock();
        shared.reset || (shared.to_peer.ended && shared.to_peer.bytes.is_empty())
    }

    /// Whether the pipe was cut.
    pub fn is_reset(&self) -> bool {
        self.shared.lock().reset
    }
}

impl Drop for PipePeer {
    fn drop(&mut self) {
        self.reset();
    }
}
