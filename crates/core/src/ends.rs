//! The end of a connection as one event: its log line and its place among the last ones.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::close::{CloseLevel, CloseReason};
use crate::context::ConnId;

/// Ended connections that stay readable.
pub const ENDS_MAX: usize = 4096;

/// What a peer is owed when its connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// Nothing.
    Nothing,
    /// A message whose answer has not come, or that has not been looked at.
    Answers,
    /// Bytes that it has not taken.
    Bytes,
}

/// What is told of a connection that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its id.
    pub conn: ConnId,
    /// Its listener's name.
    pub listener: String,
    /// Its route's name; empty when it ended before it had one.
    pub route: String,
    /// The peer's address.
    pub peer: SocketAddr,
    /// Why it ended.
    pub reason: CloseReason,
    /// How long it was open.
    pub duration: Duration,
    /// Messages read.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Bytes read.
    pub received_bytes: u64,
    /// Bytes the socket took.
    pub sent_bytes: u64,
    /// When it ended.
    pub at: SystemTime,
}

/// The last [`ENDS_MAX`] ends.
#[derive(Debug)]
pub struct Ends {
    ring: Mutex<VecDeque<Ended>>,
    log: bool,
    in_flight: AtomicU64,
    undelivered: AtomicU64,
}

impl Ends {
    /// Keeps ends, and logs each as one line when `log` is on.
    pub fn new(log: bool) -> Self {
        Self {
            ring: Mutex::new(VecDeque::new()),
            log,
            in_flight: AtomicU64::new(0),
            undelivered: AtomicU64::new(0),
        }
    }

    /// A connection was closed by force while its peer was owed something.
    pub(crate) fn count_lost(&self, owed: Owed) {
        let counter = match owed {
            Owed::Nothing => return,
            Owed::Answers => &self.in_flight,
            Owed::Bytes => &self.undelivered,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections closed by force while answers were owed, and while only bytes were.
    pub fn lost(&self) -> (u64, u64) {
        (self.in_flight.load(Ordering::Relaxed), self.undelivered.load(Ordering::Relaxed))
    }

    /// A connection has ended.
    pub(crate) fn push(&self, ended: Ended) {
        if self.log {
            log(&ended);
        }
        let mut ring = self.ring.lock();
        if ring.len() == ENDS_MAX {
            ring.pop_front();
        }
        ring.push_back(ended);
    }

    /// The last ends, newest first.
    pub fn newest(&self) -> Vec<Ended> {
        self.ring.lock().iter().rev().cloned().collect()
    }
}

fn log(ended: &Ended) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                conn = %ended.conn,
                listener = ended.listener,
                route = ended.route,
                peer = %ended.peer,
                reason = ended.reason.as_str(),
                duration_ms = ended.duration.as_millis() as u64,
                received = ended.received,
                sent = ended.sent,
                received_bytes = ended.received_bytes,
                sent_bytes = ended.sent_bytes,
                "connection closed"
            )
        };
    }
    match ended.reason.level() {
        CloseLevel::Info => line!(info),
        CloseLevel::Warn => line!(warn),
    }
}
