//! What the three parts of one connection tell each other: the socket's side, the answers, and the
//! driver that holds the deadlines. State only; it decides nothing.

use std::net::SocketAddr;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::StreamStart;
use super::refusal::Refusal;
use crate::close::CloseReason;
use crate::context::RequestId;
use crate::door::Introduction;
use crate::trace::TraceContext;
use crate::wire::stream::Options;

/// Where the conversation stands, as seen from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests, no byte of the next head has come.
    Idle,
    /// A head has begun.
    Head,
    /// A head has passed, its body has not ended.
    Body,
    /// A whole request has passed; its answer is awaited or being written.
    Answer,
}

/// An upgrade that was taken, or a stream: the connection goes on without hyper.
#[derive(Clone, Debug)]
pub(super) struct Upgrade {
    pub(super) path: usize,
    pub(super) request_id: RequestId,
    pub(super) client: SocketAddr,
    pub(super) handshake: Option<TraceContext>,
    pub(super) introduction: Introduction,
    /// What a stream goes on with; `None` for a WebSocket.
    pub(super) stream: Option<StreamStart>,
}

/// Shared by the parts of one connection, which all run in one task: the lock is never waited for.
pub(super) struct Exchange(Mutex<State>);

struct State {
    phase: Phase,
    since: Instant,
    /// Requests whose head has passed.
    requests: u64,
    /// The head that passed last offers WebSocket.
    offer: bool,
    /// The request that passed last has no answer yet.
    unanswered: bool,
    upgrade: Option<Upgrade>,
    /// The head of a stream that was taken; hyper is to end here.
    first_words: Option<Vec<u8>>,
    /// Since when the socket has taken no more of what was written.
    stalled: Option<Instant>,
    refusal: Option<Refusal>,
    /// The refusal is a response that hyper writes.
    told: bool,
    /// Why to close after the response.
    close: Option<CloseReason>,
    peer_closed: bool,
    failed: bool,
}

/// What the driver looks at between polls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) phase: Phase,
    pub(super) since: Instant,
    /// Whether no head has passed yet.
    pub(super) first: bool,
    pub(super) stalled: Option<Instant>,
    pub(super) refused: bool,
}

impl Standing {
    /// Whether nothing has begun that is owed an end.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && self.stalled.is_none() && !self.refused
    }
}

/// What the driver looks at when hyper is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) refusal: Option<Refusal>,
    pub(super) told: bool,
    pub(super) close: Option<CloseReason>,
    pub(super) peer_closed: bool,
    pub(super) failed: bool,
    pub(super) requests: u64,
}

impl Exchange {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            phase: Phase::Idle,
            since: now,
            requests: 0,
            offer: false,
            unanswered: false,
            upgrade: None,
            first_words: None,
            stalled: None,
            refusal: None,
            told: false,
            close: None,
            peer_closed: false,
            failed: false,
        }))
    }

    /// The socket's side waits for this, or has let it pass. The clock is read at a change only.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.0.lock();
        if state.phase != phase {
            state.phase = phase;
            state.since = Instant::now();
        }
    }

    /// A head has passed.
    pub(super) fn head_passed(&self, body: bool, offer: bool) {
        let mut state = self.0.lock();
        state.requests += 1;
        state.offer = offer;
        state.unanswered = true;
        state.phase = if body { Phase::Body } else { Phase::Answer };
        state.since = Instant::now();
    }

    /// The number of the request that passed last, from 1, and whether it offers WebSocket.
    pub(super) fn request(&self) -> (u64, bool) {
        let state = self.0.lock();
        (state.requests, state.offer)
    }

    /// The request that passed last has its answer.
    pub(super) fn answered(&self) {
        self.0.lock().unanswered = false;
    }

    /// Whether the upgrade that was offered last is not taken.
    pub(super) fn declined(&self) -> bool {
        let state = self.0.lock();
        !state.unanswered && state.upgrade.is_none()
    }

    /// The upgrade is taken: its answer is a 101, or the head of a stream.
    pub(super) fn accept(&self, upgrade: Upgrade) {
        self.0.lock().upgrade = Some(upgrade);
    }

    /// How the stream that was taken is written; `None` when none was.
    pub(super) fn stream(&self) -> Option<Options> {
        let state = self.0.lock();
        Some(state.upgrade.as_ref()?.stream.as_ref()?.options)
    }

    /// The stream begins with these bytes, which are not hyper's.
    pub(super) fn begin_stream(&self, first_words: Vec<u8>) {
        self.0.lock().first_words = Some(first_words);
    }

    /// The first words of a stream, once everything before them is with the socket.
    pub(super) fn take_first_words(&self) -> Option<Vec<u8>> {
        let mut state = self.0.lock();
        if state.stalled.is_some() { None } else { state.first_words.take() }
    }

    /// Whether the connection goes on without hyper.
    pub(super) fn is_taken(&self) -> bool {
        self.0.lock().upgrade.is_some()
    }

    pub(super) fn take_upgrade(&self) -> Option<Upgrade> {
        self.0.lock().upgrade.take()
    }

    /// Refuses what the peer sends from here on. The first refusal stays.
    pub(super) fn refuse(&self, refusal: Refusal) {
        self.0.lock().refusal.get_or_insert(refusal);
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.0.lock().refusal
    }

    /// The refusal became a response that hyper writes.
    pub(super) fn told(&self) {
        self.0.lock().told = true;
    }

    /// The connection ends for this reason once the response is written.
    pub(super) fn close_after_response(&self, reason: CloseReason) {
        self.0.lock().close.get_or_insert(reason);
    }

    /// The socket takes no more for now.
    pub(super) fn stalled(&self) {
        self.0.lock().stalled.get_or_insert_with(Instant::now);
    }

    /// Everything that was written is with the socket.
    pub(super) fn flushed(&self) {
        self.0.lock().stalled = None;
    }

    /// The peer has ended its side.
    pub(super) fn peer_closed(&self) {
        self.0.lock().peer_closed = true;
    }

    /// The socket failed.
    pub(super) fn failed(&self) {
        self.0.lock().failed = true;
    }

    pub(super) fn standing(&self) -> Standing {
        let state = self.0.lock();
        Standing {
            phase: state.phase,
            since: state.since,
            first: state.requests == 0,
            stalled: state.stalled,
            refused: state.refusal.is_some(),
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        let state = self.0.lock();
        Outcome {
            refusal: state.refusal,
            told: state.told,
            close: state.close,
            peer_closed: state.peer_closed,
            failed: state.failed,
            requests: state.requests,
        }
    }
}
