//! A TCP connection that is made again when it is lost. It never waits but to connect, and keeps a
//! bounded number of bytes each way. What the bytes mean is the owner's.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::clock;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// A server that reads nothing, or that never ends a message, is left.
const UNSENT_BYTES_MAX: usize = 64 << 10;
const RECEIVED_BYTES_MAX: usize = 1 << 20;

/// A connection to one server.
pub(super) struct Link {
    /// Who speaks on it, for the user.
    name: String,
    address: SocketAddr,
    socket: Option<TcpStream>,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// When it is tried again.
    retry: Instant,
    /// The user is told of a trouble once, not each time it is tried.
    is_trouble_told: bool,
}

impl Link {
    /// A connection that is made in the first turn.
    pub(super) fn new(name: String, address: SocketAddr, now: Instant) -> Self {
        Self {
            name,
            address,
            socket: None,
            received: Vec::new(),
            unsent: Vec::new(),
            retry: now,
            is_trouble_told: false,
        }
    }

    /// Whether it is there.
    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Connects when it is time to; true when it just has.
    pub(super) fn connect(&mut self, now: Instant) -> bool {
        if self.is_open() || now < self.retry {
            return false;
        }
        let opened =
            TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT).and_then(|socket| {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                Ok(socket)
            });
        match opened {
            Ok(socket) => {
                self.socket = Some(socket);
                self.is_trouble_told = false;
                eprintln!("{}: connected to {}", self.name, self.address);
                true
            }
            Err(error) => {
                self.lose(now, &error.to_string());
                false
            }
        }
    }

    /// Queues bytes; they leave in the next turn.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if self.is_open() {
            self.unsent.extend_from_slice(bytes);
        }
    }

    /// Writes and reads what can be, and gives what has come and was not taken. A connection that is
    /// lost has nothing to take.
    pub(super) fn exchange(&mut self, now: Instant) -> &mut Vec<u8> {
        if let Err(error) = self.try_exchange() {
            self.lose(now, &error.to_string());
        }
        &mut self.received
    }

    /// Gives the connection up.
    pub(super) fn lose(&mut self, now: Instant, why: &str) {
        if !self.is_trouble_told {
            eprintln!("{}: {}: {why}; trying every {RETRY_INTERVAL:?}", self.name, self.address);
            self.is_trouble_told = true;
        }
        self.socket = None;
        self.received.clear();
        self.unsent.clear();
        self.retry = now + RETRY_INTERVAL;
    }

    /// Ends it as a peer that has said everything: a socket that is closed over unread bytes would
    /// reset the connection.
    pub(super) fn finish(&mut self, deadline: Instant) {
        let Some(mut socket) = self.socket.take() else { return };
        if socket.shutdown(Shutdown::Write).is_err() || socket.set_nonblocking(false).is_err() {
            return;
        }
        let mut rest = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
                return;
            }
            if !matches!(socket.read(&mut rest), Ok(1..)) {
                return;
            }
        }
    }

    fn try_exchange(&mut self) -> std::io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        while !self.unsent.is_empty() {
            match socket.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut chunk = [0; 16 << 10];
        loop {
            match socket.read(&mut chunk) {
                Ok(0) => return Err(std::io::Error::other("it was closed")),
                Ok(read) => self.received.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            if self.received.len() > RECEIVED_BYTES_MAX {
                return Err(std::io::Error::other("a message has no end"));
            }
        }
        match self.unsent.len() > UNSENT_BYTES_MAX {
            true => Err(std::io::Error::other("it reads nothing")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_that_is_lost_is_made_again_after_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let begun = clock::now();
        let mut link = Link::new("test".to_owned(), listener.local_addr().unwrap(), begun);
        assert!(link.connect(begun) && !link.connect(begun));
        drop(listener.accept().unwrap());
        while link.is_open() {
            link.exchange(begun);
        }
        assert!(!link.connect(begun));
        assert!(link.connect(begun + RETRY_INTERVAL));
    }

    #[test]
    fn a_server_that_reads_nothing_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let begun = clock::now();
        let mut link = Link::new("test".to_owned(), listener.local_addr().unwrap(), begun);
        assert!(link.connect(begun));
        let _peer = listener.accept().unwrap();
        for _ in 0..10_000 {
            link.send(&[b'x'; 16 << 10]);
            link.exchange(begun);
            if !link.is_open() {
                return;
            }
        }
        panic!("{} bytes wait", link.unsent.len());
    }
}
