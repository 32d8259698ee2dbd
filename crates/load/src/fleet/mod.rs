//! Many client connections on one event loop: opened with bounded concurrency, read and written in
//! turns. What is sent and what an answer means is decided by a [`Load`].

mod local;
mod peer;
mod stream;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::clock;
use crate::tls::Tls;
use crate::wire::{self, Item, Wire};

use self::peer::{Peer, Phase, check_upgrade};

pub(crate) use self::local::{loopback_sources, raise_open_files};
pub(crate) use self::stream::Shaken;

/// Where the connections of a fleet go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// How messages are told apart.
    pub(crate) wire: Wire,
    /// The server.
    pub(crate) address: SocketAddr,
    /// The path to upgrade on; for WebSocket only.
    pub(crate) path: String,
    /// TLS, if it is spoken.
    pub(crate) tls: Option<Tls>,
}

/// What a fleet is for: it is told what happens and appends what is to be sent, in wire form.
pub(crate) trait Load {
    /// Connection `index` is open: secured where there is TLS, upgraded where it is WebSocket.
    fn on_open(&mut self, _index: usize, _shaken: Option<Shaken>, _now: Instant) -> Then {
        Then::Stay
    }

    /// Connection `index` is open and stays: whatever is appended to `out` is the first that it sends.
    fn first(&mut self, _index: usize, _out: &mut Vec<u8>) {}

    /// A whole message has come in on connection `index`. Whatever is appended to `out` goes out in
    /// one write with the answers to everything else in the same read.
    fn on_message(&mut self, index: usize, message: &[u8], now: Instant, out: &mut Vec<u8>);

    /// A ping has come in and its pong is on the way out.
    fn on_ping(&mut self) {}

    /// The connection is over.
    fn on_end(&mut self, index: usize, end: End);
}

/// What becomes of a connection that has just been opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It stays.
    Stay,
    /// It is ended as a polite peer does.
    Close,
}

/// How a connection ended, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It could not be opened: refused, reset, or the handshake or the upgrade failed.
    Refused,
    /// The server closed after a WebSocket close with this code.
    Code(u16),
    /// The server closed without a word more.
    Fin,
    /// The server reset it.
    Reset,
    /// The server sent what no server should; this side hung up.
    Garbled,
}

impl End {
    /// The name used in reports.
    pub(crate) fn label(self) -> String {
        match self {
            Self::Refused => "refused".into(),
            Self::Code(code) => format!("close {code}"),
            Self::Fin => "fin".into(),
            Self::Reset => "reset".into(),
            Self::Garbled => "garbled".into(),
        }
    }
}

/// A close without a code counts as the code that stands for its absence (RFC 6455, 7.4.1).
const CODE_ABSENT: u16 = 1005;
/// More than a turn's worth of answers on one connection at the greatest depth that makes sense.
const SCRATCH_BYTES: usize = 256 * 1024;
const EVENTS_PER_TURN: usize = 1024;
const WATCHED: Token = Token(usize::MAX);

/// The connections and their event loop.
pub(crate) struct Fleet {
    poll: Poll,
    /// Taken out while a turn goes through them.
    events: Option<Events>,
    peers: Peers,
}

/// Everything of a fleet but its event loop.
struct Peers {
    target: Target,
    /// Local addresses to connect from in turn; empty lets the kernel choose.
    sources: Vec<Ipv4Addr>,
    /// An ended connection leaves its place empty, so that indices stay.
    slots: Vec<Option<Peer>>,
    /// Connections that are neither open nor ended.
    opening: usize,
    open: usize,
    /// The first failure of a handshake.
    failure: Option<String>,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl Fleet {
    /// A fleet without a connection, that will connect from `sources` in turn.
    ///
    /// # Errors
    /// When the kernel gives no epoll instance.
    pub(crate) fn new(target: Target, sources: Vec<Ipv4Addr>) -> Result<Self> {
        let peers = Peers {
            target,
            sources,
            slots: Vec::new(),
            opening: 0,
            open: 0,
            failure: None,
            scratch: vec![0; SCRATCH_BYTES],
            out: Vec::with_capacity(SCRATCH_BYTES),
        };
        let events = Some(Events::with_capacity(EVENTS_PER_TURN));
        Ok(Self { poll: Poll::new()?, events, peers })
    }

    /// Has [`Fleet::turn`] report when this descriptor becomes readable.
    ///
    /// # Errors
    /// When it is of a kind that cannot be polled.
    pub(crate) fn watch(&self, descriptor: RawFd) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&descriptor), WATCHED, Interest::READABLE)
    }

    /// Opens `count` more connections, at most `opening_max` at a time, and returns when each is
    /// open (secured, for TLS; upgraded, for WebSocket) or refused.
    ///
    /// # Errors
    /// When that takes longer than `timeout`, or no socket can be made.
    pub(crate) fn open(
        &mut self,
        count: usize,
        opening_max: usize,
        timeout: Duration,
        load: &mut impl Load,
    ) -> Result<()> {
        let deadline = clock::now() + timeout;
        let wanted = self.peers.slots.len() + count;
        loop {
            while self.peers.slots.len() < wanted && self.peers.opening < opening_max {
                self.dial(false)?;
            }
            if self.peers.opening == 0 {
                return Ok(());
            }
            if clock::now() >= deadline {
                let left = wanted - self.peers.open;
                bail!("{left} of {wanted} connections were not open after {timeout:?}");
            }
            self.turn(Some(Duration::from_millis(100)), load)?;
        }
    }

    /// Connections that are open.
    pub(crate) fn open_count(&self) -> usize {
        self.peers.open
    }

    /// Why the first handshake failed, if one did.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.peers.failure.as_deref()
    }

    /// Connections there ever were; their indices are below it.
    pub(crate) fn len(&self) -> usize {
        self.peers.slots.len()
    }

    /// Waits for events, at most `wait`, and handles those of one turn. Says whether the watched
    /// descriptor became readable.
    ///
    /// # Errors
    /// When polling fails; a connection's error only ends that connection.
    pub(crate) fn turn(
        &mut self,
        wait: Option<Duration>,
        load: &mut impl Load,
    ) -> io::Result<bool> {
        let mut events = self.events.take().expect("a turn puts the events back");
        let polled = loop {
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                polled => break polled,
            }
        };
        let mut watched = false;
        if polled.is_ok() {
            for event in &events {
                if event.token() == WATCHED {
                    watched = true;
                } else {
                    self.peers.on_event(event, load);
                }
            }
        }
        self.events = Some(events);
        polled.map(|()| watched)
    }

    /// Sends what `fill` appends on connection `index`; nothing if it has ended.
    pub(crate) fn send(
        &mut self,
        index: usize,
        load: &mut impl Load,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        let Peers { slots, out, .. } = &mut self.peers;
        let Some(Some(peer)) = slots.get_mut(index) else { return };
        out.clear();
        fill(out);
        if peer.write(out).is_err() {
            self.peers.end(index, End::Reset, load);
        }
    }

    /// Starts a clean end on every open connection: a WebSocket close, or the end of the stream.
    pub(crate) fn close_all(&mut self, load: &mut impl Load) {
        for index in 0..self.peers.slots.len() {
            self.peers.close(index, load);
        }
    }

    /// Hangs up on all that are left and forgets every connection, ended ones too.
    pub(crate) fn clear(&mut self) {
        self.peers.slots.clear();
        (self.peers.open, self.peers.opening) = (0, 0);
    }

    /// Connects the next from other local addresses.
    pub(crate) fn set_sources(&mut self, sources: Vec<Ipv4Addr>) {
        self.peers.sources = sources;
    }

    /// Upgrades the next on another path. No connection may be on its way meanwhile.
    pub(crate) fn set_path(&mut self, path: &str) {
        debug_assert_eq!(self.peers.opening, 0, "a path is read when a connection is secured");
        path.clone_into(&mut self.peers.target.path);
    }

    /// Begins one more connection, whose handshake may stop in the middle of its first message.
    ///
    /// # Errors
    /// When no socket can be made.
    pub(crate) fn dial(&mut self, stalls: bool) -> Result<()> {
        self.peers.slots.push(None);
        self.dial_into(self.peers.slots.len() - 1, stalls)
    }

    /// Begins a connection in the place of one that has ended.
    ///
    /// # Errors
    /// When no socket can be made.
    pub(crate) fn redial(&mut self, index: usize) -> Result<()> {
        debug_assert!(self.peers.slots[index].is_none(), "its place is taken");
        self.dial_into(index, false)
    }

    fn dial_into(&mut self, index: usize, stalls: bool) -> Result<()> {
        let Peers { target, sources, slots, opening, .. } = &mut self.peers;
        let source = (!sources.is_empty()).then(|| sources[index % sources.len()]);
        let mut peer = Peer::dial(target, source, stalls)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(peer.stream.socket(), Token(index), interest)?;
        slots[index] = Some(peer);
        *opening += 1;
        Ok(())
    }
}

impl Peers {
    fn on_event(&mut self, event: &Event, load: &mut impl Load) {
        let index = event.token().0;
        // Its connection may have ended earlier in this turn.
        let Some(Some(peer)) = self.slots.get_mut(index) else { return };
        if peer.phase == Phase::Connecting {
            if !event.is_writable() && !event.is_error() {
                return;
            }
            if !matches!(peer.stream.socket().take_error(), Ok(None))
                || peer.on_connected(&self.target).is_err()
            {
                return self.end(index, End::Refused, load);
            }
            if peer.phase == Phase::Open {
                self.opened(index, load);
            }
        } else if event.is_writable() && peer.flush().is_err() {
            return self.end(index, End::Reset, load);
        }
        if event.is_readable() {
            self.read(index, event.is_read_closed(), load);
        }
    }

    fn opened(&mut self, index: usize, load: &mut impl Load) {
        self.opening -= 1;
        self.open += 1;
        let shaken = self.slots[index].as_ref().and_then(|peer| peer.stream.shaken());
        if load.on_open(index, shaken, clock::now()) == Then::Close {
            return self.close(index, load);
        }
        self.out.clear();
        load.first(index, &mut self.out);
        let peer = self.slots[index].as_mut();
        if peer.is_some_and(|peer| peer.write(&self.out).is_err()) {
            self.end(index, End::Reset, load);
        }
    }

    /// Starts a clean end: a WebSocket close, or the end of the stream.
    fn close(&mut self, index: usize, load: &mut impl Load) {
        let Some(peer) = &mut self.slots[index] else { return };
        if peer.phase != Phase::Open {
            return;
        }
        if self.target.wire == Wire::Ws {
            peer.close_sent = true;
            self.out.clear();
            wire::encode_close(1000, index as u32, &mut self.out);
            if peer.write(&self.out).is_err() {
                self.end(index, End::Reset, load);
            }
        } else {
            // A failure shows as the end of the connection in a later turn.
            drop(peer.stream.shutdown());
        }
    }

    /// The handshake is over: true when it was the last thing before the connection is open.
    fn secured(&mut self, index: usize) -> io::Result<bool> {
        let Some(peer) = &mut self.slots[index] else { return Ok(false) };
        if peer.phase != Phase::Shaking || peer.stream.is_shaking() {
            return Ok(false);
        }
        peer.on_secured(&self.target)?;
        Ok(peer.phase == Phase::Open)
    }

    fn failed(&mut self, index: usize, error: &io::Error) {
        let shaking = |peer: &Peer| peer.phase == Phase::Shaking;
        if self.failure.is_none() && self.slots[index].as_ref().is_some_and(shaking) {
            self.failure = Some(error.to_string());
        }
    }

    /// Reads once, or to the end when the peer has closed: events are edge-triggered, but a short
    /// read says that there was no more.
    fn read(&mut self, index: usize, closed: bool, load: &mut impl Load) {
        loop {
            let Some(peer) = &mut self.slots[index] else { return };
            let kept = peer.inbox.len();
            self.scratch[..kept].copy_from_slice(&peer.inbox);
            peer.inbox.clear();
            let read = peer.stream.read(&mut self.scratch[kept..]);
            match self.secured(index) {
                Ok(true) => self.opened(index, load),
                Ok(false) => {}
                Err(_) => return self.end(index, End::Refused, load),
            }
            let read = match read {
                Ok(0) => return self.end(index, End::Fin, load),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(peer) = &mut self.slots[index] {
                        peer.inbox.extend_from_slice(&self.scratch[..kept]);
                    }
                    return;
                }
                Err(error) => {
                    self.failed(index, &error);
                    return self.end(index, End::Reset, load);
                }
            };
            let filled = kept + read;
            if let Err(end) = self.digest(index, filled, load) {
                return self.end(index, end, load);
            }
            if filled < self.scratch.len() && !closed {
                return;
            }
        }
    }

    /// Goes through the items in the first `filled` bytes of the scratch, answers them in one
    /// write and keeps the rest.
    fn digest(&mut self, index: usize, filled: usize, load: &mut impl Load) -> Result<(), End> {
        let Self { target, slots, scratch, out, .. } = self;
        let Some(peer) = &mut slots[index] else { return Ok(()) };
        let mut bytes = &scratch[..filled];
        let mut just_opened = false;
        out.clear();
        if peer.phase == Phase::Upgrading {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                return peer.keep(bytes);
            };
            check_upgrade(&bytes[..end])?;
            bytes = &bytes[end + 4..];
            peer.phase = Phase::Open;
            just_opened = true;
        }
        let now = clock::now();
        while let Some((item, taken)) = target.wire.decode(bytes).map_err(|_| End::Garbled)? {
            match item {
                Item::Message(message) => load.on_message(index, message, now, out),
                Item::Ping(payload) => {
                    load.on_ping();
                    wire::encode_pong(payload, index as u32, out);
                }
                Item::Pong | Item::Nothing => {}
                Item::Close(code) => {
                    peer.close_code = Some(code.unwrap_or(CODE_ABSENT));
                    if !std::mem::replace(&mut peer.close_sent, true) {
                        wire::encode_close(code.unwrap_or(1000), index as u32, out);
                    }
                }
            }
            bytes = &bytes[taken..];
        }
        peer.keep(bytes)?;
        let written = peer.write(out).map_err(|_| End::Reset);
        if just_opened {
            self.opened(index, load);
        }
        written
    }

    fn end(&mut self, index: usize, end: End, load: &mut impl Load) {
        let Some(peer) = self.slots[index].take() else { return };
        if peer.phase != Phase::Open {
            self.opening -= 1;
            return load.on_end(index, End::Refused);
        }
        self.open -= 1;
        // After a close, how the stream ends is of no interest.
        load.on_end(index, peer.close_code.map_or(end, End::Code));
    }
}
