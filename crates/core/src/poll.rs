//! The poll seam: who has something to read, who can be written to. mio inside the worker's
//! runtime in production, in-memory pipes in simulation. Knows no connections, only keys.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::{Interest, Registry, Token};
use tokio::io::unix::AsyncFd;

use crate::transport::{Edges, PipeSocket, Socket, TouchedPipe, TouchedPipes, Transport};

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

/// Readiness of in-memory pipes, in the order of their keys: the same every time. What a poll costs grows
/// with the pipes that were touched, not with those that are watched.
#[derive(Debug, Default)]
pub struct PipePoll {
    noted: TouchedPipes,
    /// Out of `noted`, and not told of yet.
    touched: BTreeMap<u64, TouchedPipe>,
    next: u64,
}

impl PipePoll {
    /// A poll that watches nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first touched pipe from `next` on, or else the first of all.
    fn first(&self) -> Option<u64> {
        let mut tail = self.touched.range(self.next..);
        tail.next().or_else(|| self.touched.first_key_value()).map(|(key, _)| *key)
    }
}

impl Poll for PipePoll {
    type Socket = Socket<PipeSocket>;

    fn register(&mut self, socket: &mut Self::Socket, key: u64) -> io::Result<()> {
        socket.base_mut().watch(&self.noted, key);
        Ok(())
    }

    fn deregister(&mut self, socket: &mut Self::Socket, key: u64) {
        socket.base_mut().unwatch();
        self.touched.extend(self.noted.take());
        self.touched.remove(&key);
    }

    fn poll(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        let before = events.len();
        // What is touched from here on is for the next poll, unless it waits in `touched` already.
        self.touched.extend(self.noted.take());
        while let Some(key) = self.first() {
            if events.len() - before >= EVENTS_MAX {
                // The next one begins with it, so that nobody is always last.
                self.next = key;
                return Ok(true);
            }
            let Some(pipe) = self.touched.remove(&key) else { break };
            let Edges { readable, writable, hangup } = pipe.take_edges();
            events.push(Event { key, readable, writable, hangup });
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{PipePeer, pipe};

    /// Watched pipes under the keys from 0 on, whose first edges were taken.
    fn watched(count: u64) -> (PipePoll, Vec<Socket<PipeSocket>>, Vec<PipePeer>) {
        let mut poll = PipePoll::new();
        let (sockets, peers) = (0..count)
            .map(|key| {
                let (socket, peer) = pipe(64);
                let mut socket = Socket::Plain(socket);
                poll.register(&mut socket, key).unwrap();
                (socket, peer)
            })
            .unzip();
        while poll.poll(&mut Vec::new()).unwrap() {}
        poll.next = 0;
        (poll, sockets, peers)
    }

    /// The events of one poll: key, readable, writable, hangup; and whether there may be more.
    fn polled(poll: &mut PipePoll) -> (Vec<(u64, bool, bool, bool)>, bool) {
        let mut events = Vec::new();
        let more = poll.poll(&mut events).unwrap();
        let fields = |event: &Event| (event.key, event.readable, event.writable, event.hangup);
        (events.iter().map(fields).collect(), more)
    }

    #[test]
    fn touched_pipes_are_told_once_each_in_the_order_of_their_keys() {
        let (mut poll, _sockets, peers) = watched(8);
        for (key, byte) in [(6, b"a"), (2, b"b"), (6, b"c")] {
            peers[key].send(byte);
        }
        peers[4].shutdown_write();
        let expected = [(2, true, false, false), (4, true, false, true), (6, true, false, false)];
        assert_eq!(polled(&mut poll), (expected.to_vec(), false));
        assert_eq!(polled(&mut poll), (Vec::new(), false));
    }

    #[test]
    fn what_was_sent_before_a_pipe_is_watched_is_told() {
        let (mut poll, mut sockets, peers) = watched(1);
        let (socket, peer) = pipe(64);
        peer.send(b"early");
        sockets.push(Socket::Plain(socket));
        poll.register(&mut sockets[1], 1).unwrap();
        peers[0].reset();
        let expected = [(0, true, true, true), (1, true, true, false)];
        assert_eq!(polled(&mut poll), (expected.to_vec(), false));
    }

    #[test]
    fn who_does_not_fit_into_one_poll_is_first_in_the_next() {
        let count = EVENTS_MAX as u64 + 2;
        let (mut poll, _sockets, peers) = watched(count);
        for peer in &peers {
            peer.send(b"x");
        }
        let (events, more) = polled(&mut poll);
        assert!(more);
        assert!(events.iter().map(|event| event.0).eq(0..EVENTS_MAX as u64));
        // One that was told and one that waits are touched meanwhile.
        for key in [0, EVENTS_MAX] {
            peers[key].send(b"y");
        }
        let last = EVENTS_MAX as u64;
        let expected = [last, last + 1, 0].map(|key| (key, true, false, false));
        assert_eq!(polled(&mut poll), (expected.to_vec(), false));
    }

    #[test]
    fn nothing_is_told_of_a_pipe_that_is_no_longer_watched() {
        let (mut poll, mut sockets, peers) = watched(2);
        peers[0].send(b"x");
        poll.deregister(&mut sockets[0], 0);
        peers[0].reset();
        peers[1].send(b"x");
        assert_eq!(polled(&mut poll).0, [(1, true, false, false)]);
    }
}
