//! The poll seam: who has something to read, who can be written to. mio inside the worker's
//! runtime in production, in-memory pipes in simulation. Knows no connections, only keys.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::{Interest, Registry, Token};
use tokio::io::unix::AsyncFd;

use crate::transport::{PipeSocket, PipeWatch, Socket, Transport};

/// One edge: what has become possible since the last one.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The key given at registration.
    pub key: u64,
    /// There is something to read, or the end of the stream.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The peer has ended or cut its side: read to the end whatever a short read says.
    pub hangup: bool,
}

/// Edge-triggered readiness of many sockets.
pub trait Poll {
    /// What it watches.
    type Socket: Transport;

    /// Watches `socket` under `key` until it is deregistered or dropped.
    ///
    /// # Errors
    /// Those of the operating system.
    fn register(&mut self, socket: &mut Self::Socket, key: u64) -> io::Result<()>;

    /// Stops watching before the socket is dropped.
    fn deregister(&mut self, socket: &mut Self::Socket, key: u64);

    /// Appends at most [`EVENTS_MAX`] edges, never waiting. Returns whether there may be more.
    ///
    /// # Errors
    /// Those of the operating system.
    fn poll(&mut self, events: &mut Vec<Event>) -> io::Result<bool>;
}

/// Most edges taken in one turn.
pub const EVENTS_MAX: usize = 256;

/// epoll through mio. Its descriptor is watched by the worker's runtime, so that sockets of the
/// table and tokio tasks wake the same thread.
#[derive(Debug)]
pub struct MioPoll {
    poll: mio::Poll,
    events: mio::Events,
}

impl MioPoll {
    /// A new epoll instance.
    ///
    /// # Errors
    /// Those of the operating system, such as no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { poll: mio::Poll::new()?, events: mio::Events::with_capacity(EVENTS_MAX) })
    }

    /// The same epoll instance by another descriptor: readable while this poll has an event.
    ///
    /// # Errors
    /// Those of the operating system, such as no descriptor left.
    pub fn watch(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone()
    }
}

impl Poll for MioPoll {
    type Socket = Socket;

    fn register(&mut self, socket: &mut Self::Socket, key: u64) -> io::Result<()> {
        // The token is the key: 64 bits on every platform that weir is built for.
        let token = Token(usize::try_from(key).map_err(io::Error::other)?);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(socket.base_mut(), token, interest)
    }

    fn deregister(&mut self, socket: &mut Self::Socket, _key: u64) {
        // The drop that follows takes the descriptor out of epoll anyway.
        if let Err(error) = self.poll.registry().deregister(socket.base_mut()) {
            tracing::debug!(%error, "epoll deregistration");
        }
    }

    fn poll(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            other => other?,
        }
        let before = events.len();
        events.extend(self.events.iter().map(|event| Event {
            key: event.token().0 as u64,
            readable: event.is_readable(),
            writable: event.is_writable(),
            hangup: event.is_read_closed() || event.is_error(),
        }));
        Ok(events.len() - before >= EVENTS_MAX)
    }
}

/// Lets the runtime watch a descriptor that `owner` keeps open.
///
/// # Errors
/// Those of the operating system.
#[expect(
    deprecated,
    reason = "its successor is unsafe for owners that lie; these own their descriptor"
)]
pub(crate) fn watch<T: AsRawFd + AsFd>(owner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, tokio::io::Interest::READABLE)
}

/// Readiness of in-memory pipes, in the order of registration: the same every time.
#[derive(Debug, Default)]
pub struct PipePoll {
    watched: std::collections::BTreeMap<u64, PipeWatch>,
    next: u64,
}

impl PipePoll {
    /// A poll that watches nothing yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Poll for PipePoll {
    type Socket = Socket<PipeSocket>;

    fn register(&mut self, socket: &mut Self::Socket, key: u64) -> io::Result<()> {
        self.watched.insert(key, socket.base_mut().watch());
        Ok(())
    }

    fn deregister(&mut self, _socket: &mut Self::Socket, key: u64) {
        self.watched.remove(&key);
    }

    fn poll(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        let before = events.len();
        // Starts after the last key of the turn before, so that nobody is always last.
        let (tail, head) = (self.watched.range(self.next..), self.watched.range(..self.next));
        for (key, watch) in tail.chain(head) {
            if events.len() - before >= EVENTS_MAX {
                self.next = *key;
                return Ok(true);
            }
            let (readable, writable, hangup) = PipeSocket::take_edges(watch);
            if readable || writable {
                events.push(Event { key: *key, readable, writable, hangup });
            }
        }
        Ok(false)
    }
}
