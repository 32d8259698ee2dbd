//! One connection's life once it is open: reads, asks the session, carries its actions out, closes.
//! Holds no policy beyond its limits, and is polled by its worker's table; no task, no timer.

mod deadlines;
mod delivery;
mod leaving;
mod reading;
mod talking;
mod traces;
mod writing;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admission::Permit;
use crate::clock::Tick;
use crate::close::CloseReason;
use crate::context::{ConnId, RequestId};
use crate::door::Introduction;
use crate::ends::Owed;
use crate::metrics::{ConnectionRecord, SiteCells, Stopwatch, WorkerCells};
use crate::outbox::Outbox;
use crate::replies::Replies;
use crate::service::{Actions, Opening, Session};
use crate::site::{Decoder, Site};
use crate::tls::TlsInfo;
use crate::trace::{Sampler, TraceContext};
use crate::transport::Transport;
use crate::wire::stream;
use crate::worker::asks::AskSpawner;
use crate::worker::table::Key;

/// Bytes read in one turn of a connection.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;
/// Messages handled in one turn of a connection.
pub(crate) const READ_MESSAGES_MAX: u32 = 256;
/// Input discarded from a connection that lingers after its last word.
const LINGER_BYTES_MAX: u32 = 64 * 1024;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Reads and writes.
    Open,
    /// Reads no more messages; replies that are owed are still awaited and written.
    Finishing,
    /// The last bytes are in the outbox.
    Closing,
    /// Our side is shut; input is discarded until the peer's end, for a bounded time.
    Lingering,
}

/// What came of a turn: keep the connection, or take it out of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fate {
    Keep,
    End(CloseReason),
}

/// The spans of handshakes, of those connections whose handshake was traced.
pub(crate) type Handshakes = HashMap<ConnId, TraceContext>;

/// What a worker lends to a connection for one turn.
pub(crate) struct Lent<'a> {
    pub(crate) key: Key,
    pub(crate) site: &'a Site,
    pub(crate) cells: &'a SiteCells,
    pub(crate) worker: &'a WorkerCells,
    pub(crate) asks: &'a AskSpawner,
    pub(crate) actions: &'a mut Actions,
    pub(crate) scratch: &'a mut [u8],
    pub(crate) now: Instant,
    pub(crate) tick: Tick,
    pub(crate) watch: &'a mut Stopwatch,
    pub(crate) sampler: &'a mut Sampler,
    pub(crate) handshakes: &'a Handshakes,
    /// Time the session at the next message as well: the first one of a batch in sixteen.
    pub(crate) sample: bool,
    /// It may linger: fewer than the bound do.
    pub(crate) may_linger: bool,
}

/// An open connection, small enough that tens of thousands rest in a table.
#[expect(clippy::box_collection, reason = "8 bytes of the table in place of 24")]
pub(crate) struct Connection<S> {
    socket: S,
    session: Box<dyn Session>,
    decoder: Decoder,
    /// Bytes of an unfinished message, or that wait because reading is held back.
    rest: Option<Box<Vec<u8>>>,
    outbox: Option<Box<Outbox>>,
    replies: Option<Box<Replies>>,
    pub(crate) id: ConnId,
    /// A socket address would be 12 bytes larger, for what is of use on links only.
    peer: (IpAddr, u16),
    pub(crate) site: u16,
    permit: Permit,
    record: ConnectionRecord,
    pub(crate) phase: Phase,
    reason: CloseReason,
    /// Why the session wants it closed at `close_at`.
    close_for: CloseReason,
    /// The Close frame to echo: `Some(None)` is one without a code.
    echo: Option<Option<u16>>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) opened: Tick,
    /// The last complete message or pong.
    pub(crate) active: Tick,
    /// The first byte of the unfinished message in `rest`.
    partial_since: Tick,
    heartbeat_sent: Tick,
    /// When it is closed: while it is open, when the session wants that, mostly never; while it
    /// lingers, when the peer's end is no longer waited for.
    close_at: Tick,
    /// When the session wants to be told of the time, mostly never.
    wake_at: Tick,
    /// Messages since the rate's window began; while it lingers, bytes discarded.
    window: u32,
    flags: Flags,
}

/// What is known of the socket, and which queues of the worker hold this connection.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// An edge said that there is input; it has not been read to the end.
    readable: bool,
    /// The peer ended or cut its side: a short read is not the end.
    hangup: bool,
    /// The socket was full.
    full: bool,
    /// `rest` may hold whole messages.
    undecoded: bool,
    ping: PingFlags,
    /// Reading met the peer's end of stream.
    ended: bool,
    in_read_queue: bool,
    in_write_queue: bool,
    drain_told: bool,
    /// Its route looks for a trace context in each message.
    carries_trace: bool,
    /// The session takes no further message for now.
    held: bool,
    /// Its place in the drain has come: nothing more is read, what was read is still answered.
    leaving: bool,
    /// It is leaving because of its age.
    aged: bool,
    /// A delivery found the outbox full, or the session has said so: it waits for room.
    wants_room: bool,
    /// Something was written since the last sweep.
    wrote: bool,
}

/// Two flags in one byte: with one byte more the table would have 8 for each connection.
#[derive(Clone, Copy, Debug, Default)]
struct PingFlags(u8);

impl PingFlags {
    const UNANSWERED: u8 = 1;
    const OWN: u8 = 2;

    fn new(own: bool) -> Self {
        Self(if own { Self::OWN } else { 0 })
    }

    /// Its session has pings of its own.
    fn are_own(self) -> bool {
        self.0 & Self::OWN != 0
    }

    /// A ping has not been answered.
    fn is_unanswered(self) -> bool {
        self.0 & Self::UNANSWERED != 0
    }

    fn set_unanswered(&mut self, unanswered: bool) {
        self.0 = self.0 & Self::OWN | u8::from(unanswered);
    }
}

/// What a connection is made of when its handshake is over.
pub(crate) struct NewConnection<S> {
    pub(crate) socket: S,
    /// Its place in the list of sites.
    pub(crate) site: u16,
    pub(crate) id: ConnId,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: Permit,
    pub(crate) record: ConnectionRecord,
    /// Bytes that came behind the handshake.
    pub(crate) early: Vec<u8>,
    /// On a stream, the message that the first bytes of `early` are.
    pub(crate) request: Option<stream::Request>,
    /// The handshake's request id.
    pub(crate) request_id: RequestId,
    /// When the listener accepted it.
    pub(crate) accepted: Instant,
    /// What TLS found out, for the session.
    pub(crate) tls: Option<Arc<TlsInfo>>,
    /// The span of its handshake, when that was traced: the worker keeps it.
    pub(crate) handshake: Option<TraceContext>,
    /// What the handshake leaves for the session.
    pub(crate) introduction: Introduction,
}

impl<S: Transport> Connection<S> {
    pub(crate) fn new(new: NewConnection<S>, site: &Site, tick: Tick) -> Self {
        let session = site.service.open(&Opening {
            conn: new.id,
            peer: new.peer,
            listener: &site.listener,
            carrier: site.carrier(),
            wire: Some(site.wire),
            request_id: &new.request_id,
            tls: new.tls.as_ref(),
            principal: new.introduction.principal.as_ref(),
            path: new.introduction.path.as_ref(),
            headers: new.introduction.headers.as_deref(),
            query: new.introduction.query.as_deref(),
        });
        let own_pings = session.pings().is_some();
        let early = !new.early.is_empty();
        let readable = new.socket.has_unread();
        Self {
            socket: new.socket,
            session,
            decoder: site.decoder(new.request),
            rest: early.then(|| Box::new(new.early)),
            outbox: None,
            replies: None,
            id: new.id,
            peer: (new.peer.ip(), new.peer.port()),
            site: site.index,
            permit: new.permit,
            record: new.record,
            phase: Phase::Open,
            reason: CloseReason::Aborted,
            close_for: CloseReason::Aborted,
            echo: None,
            received: 0,
            sent: 0,
            received_bytes: 0,
            sent_bytes: 0,
            opened: tick,
            active: tick,
            partial_since: tick,
            heartbeat_sent: tick,
            close_at: Tick::NEVER,
            wake_at: Tick::NEVER,
            window: 0,
            flags: Flags {
                readable,
                undecoded: early,
                carries_trace: site.service.carries_trace(),
                ping: PingFlags::new(own_pings),
                ..Flags::default()
            },
        }
    }

    pub(crate) fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The peer's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer.into()
    }

    /// Bytes that wait in the outbox.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes())
    }

    /// What its outbox holds, as a budget counts it.
    #[inline]
    pub(crate) fn outbox_cost(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.cost())
    }

    /// How long the oldest byte of its outbox has waited; `None` when nothing waits.
    pub(crate) fn outbox_age(&self, now: Instant) -> Option<Duration> {
        self.outbox.as_ref().map(|outbox| outbox.age(now))
    }

    /// Lets go what its channels let be dropped. Gives how many frames.
    pub(crate) fn relieve_outbox(&mut self) -> u32 {
        self.outbox.as_mut().map_or(0, |outbox| outbox.relieve())
    }

    /// Messages whose answers are owed.
    pub(crate) fn in_flight(&self) -> usize {
        self.replies.as_ref().map_or(0, |replies| replies.len())
    }

    /// Bytes kept of an unfinished message.
    pub(crate) fn rest_bytes(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// What the peer is owed.
    pub(crate) fn owed(&self) -> Owed {
        if self.replies.is_some() || self.flags.undecoded {
            Owed::Answers
        } else if self.outbox.is_some() {
            Owed::Bytes
        } else {
            Owed::Nothing
        }
    }

    /// Ends the record; the permit goes back and the socket closes with the drop.
    pub(crate) fn end(mut self, reason: CloseReason) {
        // What still waits is lost: an ordinary end would make a cut message look whole.
        if self.outbox.is_some() {
            self.socket.reset_on_drop();
        }
        let Self { socket, permit, record, .. } = self;
        drop(socket);
        record.close(reason);
        drop(permit);
    }

    /// Notes an edge of the poll.
    pub(crate) fn note(&mut self, readable: bool, writable: bool, hangup: bool) {
        self.flags.readable |= readable || hangup;
        self.flags.hangup |= hangup;
        if writable {
            self.flags.full = false;
        }
    }
}
