//! An in-memory pipe in place of a socket, for simulation and for measuring a million sessions, and the list
//! in which pipes note that they were touched. Knows nothing of connections, only keys.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Transport;

/// One direction of a pipe.
#[derive(Debug, Default)]
struct Lane {
    bytes: VecDeque<u8>,
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
    /// Those that nobody has taken yet. Who watches has the pipe in its list as long as there are some.
    edges: Edges,
    watched: Option<Watched>,
    /// The server's end was dropped.
    server_gone: bool,
}

/// What has become possible since somebody looked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Edges {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has ended or cut its side.
    pub(crate) hangup: bool,
}

/// Who is told of a pipe's edges, and under which key. A list holds pipes, so these do not hold it.
#[derive(Debug)]
struct Watched {
    list: Weak<Mutex<Vec<(u64, TouchedPipe)>>>,
    key: u64,
}

/// A list of the pipes that were touched: a poll looks at these and at no other. A pipe is in it at most
/// once.
#[derive(Debug, Default)]
pub(crate) struct TouchedPipes {
    list: Arc<Mutex<Vec<(u64, TouchedPipe)>>>,
}

/// A pipe with edges to take.
#[derive(Debug)]
pub(crate) struct TouchedPipe(Arc<Mutex<Shared>>);

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
    let edges = Edges { writable: true, ..Edges::default() };
    let shared = Arc::new(Mutex::new(Shared { capacity, edges, ..Shared::default() }));
    (PipeSocket { shared: Arc::clone(&shared), reset_on_drop: false }, PipePeer { shared })
}

impl TouchedPipes {
    /// Takes all with their keys, in the order in which they were touched.
    pub(crate) fn take(&self) -> Vec<(u64, TouchedPipe)> {
        std::mem::take(&mut *self.list.lock())
    }
}

impl TouchedPipe {
    /// Takes the edges since the last time: a touch from now on puts the pipe into the list again.
    pub(crate) fn take_edges(&self) -> Edges {
        let mut shared = self.0.lock();
        let hangup = shared.to_server.ended || shared.reset;
        Edges { hangup, ..std::mem::take(&mut shared.edges) }
    }
}

impl Shared {
    /// Notes what has become possible on `pipe`, whose state this is.
    fn touch(&mut self, pipe: &Arc<Mutex<Self>>, readable: bool, writable: bool) {
        let listed = self.edges.readable || self.edges.writable;
        self.edges.readable |= readable;
        self.edges.writable |= writable;
        if !listed && (readable || writable) {
            self.list(pipe);
        }
    }

    /// Puts `pipe` into the list of who watches it. The list's lock is taken inside the pipe's, never the
    /// other way round.
    fn list(&self, pipe: &Arc<Mutex<Self>>) {
        let Some(watched) = &self.watched else { return };
        if let Some(list) = watched.list.upgrade() {
            list.lock().push((watched.key, TouchedPipe(Arc::clone(pipe))));
        }
    }
}

impl PipeSocket {
    /// Has this pipe noted in `touched` under `key` when it is touched, and now when it was before.
    pub(crate) fn watch(&self, touched: &TouchedPipes, key: u64) {
        let mut shared = self.shared.lock();
        shared.watched = Some(Watched { list: Arc::downgrade(&touched.list), key });
        if shared.edges.readable || shared.edges.writable {
            shared.list(&self.shared);
        }
    }

    /// Has this pipe noted nowhere any more.
    pub(crate) fn unwatch(&self) {
        self.shared.lock().watched = None;
    }
}

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
        shared.touch(&self.shared, n > 0, false);
        n
    }

    /// Takes at most `max` bytes that the server has written.
    pub fn receive(&self, max: usize) -> Vec<u8> {
        let mut shared = self.shared.lock();
        let n = max.min(shared.to_peer.bytes.len());
        shared.touch(&self.shared, false, n > 0);
        shared.to_peer.bytes.drain(..n).collect()
    }

    /// Ends this side: the server reads an end of stream.
    pub fn shutdown_write(&self) {
        let mut shared = self.shared.lock();
        shared.to_server.ended = true;
        shared.touch(&self.shared, true, false);
    }

    /// Cuts the pipe both ways, as a reset does.
    pub fn reset(&self) {
        let mut shared = self.shared.lock();
        shared.reset = true;
        shared.touch(&self.shared, true, true);
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
