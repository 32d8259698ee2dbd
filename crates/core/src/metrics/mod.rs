//! This crate's catalogue of metrics and who may count what. Nothing outside names a metric.
//!
//! Labels are closed enums or names from the config, and every value exists at zero. Message
//! counters are cells of the worker that owns the connection; a scrape adds them up.

mod cell;
mod collect;
mod families;
mod histogram;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub(crate) use cell::Cell;
pub use collect::CoreCollector;
pub use families::Histograms;
pub use histogram::{Exemplar, ExemplarRow, Gathered, Histogram, Scale, SharedHistogram};

use crate::admission::Refusal;
use crate::budget::{OutboxBudget, SharedFrames};
use crate::clock;
use crate::close::CloseReason;
use crate::event_loop::TICK;
use crate::stage::Stage;

/// What an accept error was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AcceptErrorKind {
    /// The peer was gone already.
    Peer,
    /// No descriptor is left (EMFILE, ENFILE) or no buffer.
    Files,
    /// Anything else.
    Other,
}

impl AcceptErrorKind {
    /// Every kind, in order.
    pub const ALL: [Self; 3] = [Self::Peer, Self::Files, Self::Other];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Files => "files",
            Self::Other => "other",
        }
    }
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageRefusal {
    /// Over `limits.message_bytes_max`.
    TooBig,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// The wire's rules were broken.
    Protocol,
    /// Came while the connection was closing, and was discarded.
    Closing,
}

impl MessageRefusal {
    /// Every refusal, in order.
    pub const ALL: [Self; 4] = [Self::TooBig, Self::InvalidUtf8, Self::Protocol, Self::Closing];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooBig => "too_big",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::Protocol => "protocol",
            Self::Closing => "closing",
        }
    }
}

/// Counters of one listener that any thread may count.
#[derive(Debug, Default)]
pub(crate) struct ListenerCells {
    pub(crate) opened: Cell,
    pub(crate) closed: [Cell; CloseReason::ALL.len()],
    pub(crate) refused: [Cell; Refusal::ALL.len()],
    pub(crate) accept_errors: [Cell; AcceptErrorKind::ALL.len()],
    pub(crate) linger_resets: Cell,
}

/// Message counters of one worker and one site (a listener, or a WebSocket path of one).
#[derive(Debug, Default)]
pub(crate) struct SiteCells {
    pub(crate) messages_received: Cell,
    pub(crate) messages_sent: Cell,
    pub(crate) bytes_received: Cell,
    pub(crate) bytes_sent: Cell,
    pub(crate) refused: [Cell; MessageRefusal::ALL.len()],
    /// From reading a message until its reply is with the socket or the outbox.
    pub(crate) durations: Histogram,
}

/// Everything one worker counts; only its thread writes.
#[derive(Debug)]
pub struct WorkerCells {
    pub(crate) sites: Vec<SiteCells>,
    pub(crate) stages: [Histogram; Stage::ALL.len()],
    pub(crate) turn: Histogram,
    pub(crate) lag: Histogram,
    /// How late the last tick was, in nanoseconds.
    pub(crate) late: Cell,
    /// Connections closed because their outboxes were the largest.
    pub(crate) shed: Cell,
    /// What its outboxes hold, as a budget counts it.
    pub(crate) outboxes: Cell,
    /// Frames that were dropped to keep within the budget.
    pub(crate) budget_dropped: Cell,
    /// Connections that were closed to keep within it.
    pub(crate) budget_closed: Cell,
    /// At the last sweep: how many outboxes had something.
    pub(crate) outboxes_waiting: Cell,
    /// At the last sweep: bytes in the largest.
    pub(crate) outbox_largest: Cell,
    /// At the last sweep: the age of the oldest byte, in nanoseconds.
    pub(crate) outbox_oldest: Cell,
    /// When the last tick came, in nanoseconds since the catalogue was made.
    pub(crate) ticked: Cell,
}

/// Names a site in the catalogue: its listener and the route it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteLabels {
    /// The listener's configured name.
    pub listener: String,
    /// The route's configured name.
    pub route: String,
}

/// The catalogue of this crate.
#[derive(Debug)]
pub struct CoreMetrics {
    pub(crate) listener_names: Vec<String>,
    pub(crate) listeners: Vec<ListenerCells>,
    pub(crate) sites: Vec<SiteLabels>,
    pub(crate) workers: Vec<Arc<WorkerCells>>,
    /// Stages that other threads time: accept, handshake, pool_wait, upstream.
    pub(crate) shared_stages: [Histogram; Stage::ALL.len()],
    pub(crate) connections_limit: Cell,
    /// Set once, when the engine is made.
    pub(crate) budget: OnceLock<Arc<OutboxBudget>>,
    origin: Instant,
}

impl CoreMetrics {
    /// A catalogue for these listeners, sites and workers, all at zero.
    pub fn new(
        listeners: Vec<String>,
        sites: Vec<SiteLabels>,
        workers: usize,
        connections_limit: usize,
    ) -> Arc<Self> {
        let worker = || {
            Arc::new(WorkerCells {
                sites: sites.iter().map(|_| SiteCells::default()).collect(),
                stages: Default::default(),
                turn: Histogram::default(),
                lag: Histogram::default(),
                late: Cell::default(),
                shed: Cell::default(),
                outboxes: Cell::default(),
                budget_dropped: Cell::default(),
                budget_closed: Cell::default(),
                outboxes_waiting: Cell::default(),
                outbox_largest: Cell::default(),
                outbox_oldest: Cell::default(),
                ticked: Cell::default(),
            })
        };
        Arc::new(Self {
            listeners: listeners.iter().map(|_| ListenerCells::default()).collect(),
            workers: (0..workers).map(|_| worker()).collect(),
            listener_names: listeners,
            sites,
            shared_stages: Default::default(),
            connections_limit: Cell::new(connections_limit as u64),
            budget: OnceLock::new(),
            origin: clock::now(),
        })
    }

    /// Shows another limit of connections.
    pub(crate) fn set_connections_limit(&self, limit: usize) {
        self.connections_limit.set(limit as u64);
    }

    /// A worker's tick came at `now`, `late` after it was due.
    pub(crate) fn ticked(&self, worker: &WorkerCells, now: Instant, late: Duration) {
        worker.lag.observe(late, 1);
        worker.late.set(late.as_nanos() as u64);
        worker.ticked.set(now.saturating_duration_since(self.origin).as_nanos() as u64);
    }

    /// The lag of the event loop that is furthest behind: how late its last tick was or, when it
    /// is overdue, how late the next one is by now.
    pub fn loop_lag(&self, now: Instant) -> Duration {
        let now = now.saturating_duration_since(self.origin);
        let lag = |worker: &Arc<WorkerCells>| {
            let silent = now.saturating_sub(Duration::from_nanos(worker.ticked.get()));
            Duration::from_nanos(worker.late.get()).max(silent.saturating_sub(TICK))
        };
        self.workers.iter().map(lag).max().unwrap_or_default()
    }

    /// The cells of one worker.
    pub(crate) fn worker(&self, index: usize) -> Arc<WorkerCells> {
        Arc::clone(&self.workers[index])
    }

    /// Counts the time of a stage from any thread.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.shared_stages[stage as usize].observe_shared(took);
    }

    /// Counts a refused connection.
    pub(crate) fn refused(&self, listener: u16, refusal: Refusal) {
        self.listeners[usize::from(listener)].refused[refusal as usize].add_shared(1);
    }

    /// Counts a refusal that could not be told, because too many were being told.
    pub(crate) fn linger_reset(&self, listener: u16) {
        self.listeners[usize::from(listener)].linger_resets.add_shared(1);
    }

    /// Counts an accept error.
    pub(crate) fn accept_error(&self, listener: u16, kind: AcceptErrorKind) {
        self.listeners[usize::from(listener)].accept_errors[kind as usize].add_shared(1);
    }

    /// Connections closed because their outboxes were the largest, over all workers.
    pub fn shed_total(&self) -> u64 {
        self.workers.iter().map(|worker| worker.shed.get()).sum()
    }

    /// Bounds what the outboxes of all workers hold. Called once, before anybody is connected.
    pub(crate) fn keep_budget(
        &self,
        max: Option<usize>,
        frames: SharedFrames,
    ) -> Arc<OutboxBudget> {
        let new = || OutboxBudget::new(max, self.workers.clone(), frames);
        Arc::clone(self.budget.get_or_init(new))
    }

    /// Connections closed to keep within the budget of outboxes, over all workers.
    pub fn budget_closed_total(&self) -> u64 {
        self.workers.iter().map(|worker| worker.budget_closed.get()).sum()
    }

    /// Connections ended, over all listeners.
    pub fn closed_total(&self) -> u64 {
        self.listeners.iter().flat_map(|l| &l.closed).map(Cell::get).sum()
    }

    /// Connections ended for `reason`, over all listeners.
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.listeners.iter().map(|l| l.closed[reason as usize].get()).sum()
    }

    /// Connections refused for `refusal`, over all listeners.
    pub fn refused_for(&self, refusal: Refusal) -> u64 {
        self.listeners.iter().map(|l| l.refused[refusal as usize].get()).sum()
    }

    /// Connections opened, over all listeners.
    pub fn opened_total(&self) -> u64 {
        self.listeners.iter().map(|l| l.opened.get()).sum()
    }
}

/// One for each connection: counts the open when made, and the close with its reason when dropped.
/// A panic or a cancelled task still closes, as `aborted`.
#[derive(Debug)]
#[must_use]
pub struct ConnectionRecord {
    metrics: Arc<CoreMetrics>,
    listener: u16,
    reason: CloseReason,
}

impl ConnectionRecord {
    /// Counts a connection of this listener as opened.
    pub(crate) fn open(metrics: &Arc<CoreMetrics>, listener: u16) -> Self {
        metrics.listeners[usize::from(listener)].opened.add_shared(1);
        Self { metrics: Arc::clone(metrics), listener, reason: CloseReason::Aborted }
    }

    /// What counts that it was refused after it had been opened.
    pub(crate) fn refusals(&self) -> Refusals {
        Refusals { metrics: Arc::clone(&self.metrics), listener: self.listener }
    }

    /// Consumes the record, so that a connection cannot end twice.
    pub(crate) fn close(mut self, reason: CloseReason) {
        self.reason = reason;
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        self.metrics.listeners[usize::from(self.listener)].closed[self.reason as usize]
            .add_shared(1);
    }
}

/// Counts refusals of one listener.
pub(crate) struct Refusals {
    metrics: Arc<CoreMetrics>,
    listener: u16,
}

impl Refusals {
    /// Counts one.
    pub(crate) fn count(&self, refusal: Refusal) {
        self.metrics.refused(self.listener, refusal);
    }
}

/// A chain of stage boundaries: each mark is one clock read, or none while stages are off.
pub(crate) struct Stopwatch {
    last: Option<Instant>,
}

impl Stopwatch {
    /// Starts at `now`, or never when stages are off.
    pub(crate) fn start(now: Instant, on: bool) -> Self {
        Self { last: on.then_some(now) }
    }

    /// The time since the last mark; `None` while off.
    #[inline]
    pub(crate) fn mark(&mut self) -> Option<Duration> {
        let last = self.last.as_mut()?;
        let now = crate::clock::now();
        let took = now.saturating_duration_since(*last);
        *last = now;
        Some(took)
    }

    /// Whether stages are timed.
    pub(crate) fn is_on(&self) -> bool {
        self.last.is_some()
    }
}
