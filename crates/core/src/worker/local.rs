//! The turn of the worker's `Local`: it is woken by a lane of its own, hands frames to connections,
//! and sessions are told afterwards what it has noted for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll as TaskPoll};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::table::{Key, Table};
use super::{WRITES_MAX, Worker};
use crate::clock;
use crate::close::CloseReason;
use crate::connection::Connection;
use crate::local::{Address, Delivery, Local, Note, Post, Terms};
use crate::metrics::WorkerCells;
use crate::poll::Poll;
use crate::site::Site;
use crate::stage::Stage;
use crate::transport::Transport;

/// Connections that its last turns have queued and that still wait for their write, from which on the
/// `Local` has no turn: what one turn writes. What it hands out is written while it is in the
/// processor's caches, and what comes meanwhile is handed out together. Whoever is queued after these
/// cannot hold it up.
const AHEAD_MAX: u64 = WRITES_MAX as u64;

/// Whether the `Local` is to have a turn, and what it has noted for sessions.
#[derive(Default)]
pub(super) struct LocalState {
    /// Where it is woken; `None` without a `Local`.
    wakes: Option<mpsc::Receiver<()>>,
    /// It was woken, or had more to do at the end of its last turn.
    due: bool,
    /// Told and emptied after each of its turns, so as long as one turn makes them.
    notes: VecDeque<(Key, Word)>,
    /// What its turn has delivered: since when, and how many.
    delivered: Vec<(Instant, u64)>,
    /// Connections that have had their write turn so far.
    written: u64,
    /// The number of the last connection that each of its turns has queued for writing. A turn of the
    /// worker takes some from the queue, so there are fewer of these than connections there.
    marks: VecDeque<u64>,
}

/// What a connection is told after the turn.
enum Word {
    Note(Note),
    Close(CloseReason),
}

impl LocalState {
    /// Ready when it is to have a turn. Cancel safe.
    pub(super) fn poll_wake(&mut self, cx: &mut Context<'_>) -> TaskPoll<()> {
        if let Some(wakes) = &mut self.wakes
            && let TaskPoll::Ready(Some(())) = wakes.poll_recv(cx)
        {
            self.due = true;
        }
        if self.due { TaskPoll::Ready(()) } else { TaskPoll::Pending }
    }

    /// Whether it has more to do at once.
    pub(super) fn is_busy(&self) -> bool {
        self.due
    }

    /// Whether what it has handed out is to be written first.
    fn is_ahead(&self) -> bool {
        self.marks.back().is_some_and(|mark| mark - self.written > AHEAD_MAX)
    }
}

impl<P: Poll> Worker<P> {
    /// Lets the sessions share this, which is woken by `wakes`.
    pub(crate) fn with_local(mut self, local: Box<dyn Local>, wakes: mpsc::Receiver<()>) -> Self {
        self.bench.put_local(local);
        self.local.wakes = Some(wakes);
        self
    }

    /// Gives the `Local` its turn, if it wants one, and tells sessions what came of it.
    pub(super) fn turn_local(&mut self) {
        let Some(wakes) = &mut self.local.wakes else { return };
        self.local.due |= wakes.try_recv().is_ok();
        if !self.local.due || self.local.is_ahead() {
            return;
        }
        let Some(mut local) = self.bench.take_local() else { return };
        let mut post = TablePost {
            table: &mut self.table,
            sites: &self.bench.sites,
            cells: &self.bench.cells,
            write_queue: &mut self.write_queue,
            notes: &mut self.local.notes,
            delivered: &mut self.local.delivered,
            now: self.bench.now(),
        };
        self.local.due = local.turn(self.bench.now(), &mut post);
        self.bench.put_local(local);
        if !self.local.delivered.is_empty() {
            self.local.marks.push_back(self.local.written + self.write_queue.len() as u64);
        }
        while let Some((key, word)) = self.local.notes.pop_front() {
            self.visit(key, |connection, lent| match word {
                Word::Note(note) => connection.note_to_session(note, lent),
                Word::Close(reason) => connection.dismiss(reason, lent),
            });
        }
    }

    /// Counts what its turn has delivered, as it is at this boundary between stages.
    pub(super) fn time_deliveries(&mut self) {
        let delivered = self.local.delivered.drain(..);
        if self.bench.stages() && delivered.len() > 0 {
            let now = clock::now();
            let stage = &self.bench.cells.stages[Stage::Fanout as usize];
            delivered.for_each(|(since, n)| stage.observe(now.saturating_duration_since(since), n));
        }
    }

    /// So many connections have had their write turn: tells it which of its turns that ends.
    pub(super) fn written_local(&mut self, connections: usize) {
        self.local.written += connections as u64;
        let written = self.local.written;
        if self.local.marks.front().is_none_or(|mark| *mark > written) {
            return;
        }
        let Some(mut local) = self.bench.take_local() else { return };
        let now = if self.bench.stages() { clock::now() } else { self.bench.now() };
        while self.local.marks.pop_front_if(|mark| *mark <= written).is_some() {
            local.written(now);
        }
        self.bench.put_local(local);
    }

    /// Once a second.
    pub(super) fn tick_local(&mut self) {
        if let Some(mut local) = self.bench.take_local() {
            local.tick(self.bench.now());
            self.bench.put_local(local);
        }
    }
}

/// The table, as a `Local` reaches it.
struct TablePost<'a, S: Transport> {
    table: &'a mut Table<Connection<S>>,
    sites: &'a Arc<[Site]>,
    cells: &'a WorkerCells,
    write_queue: &'a mut VecDeque<Key>,
    notes: &'a mut VecDeque<(Key, Word)>,
    delivered: &'a mut Vec<(Instant, u64)>,
    now: Instant,
}

impl<S: Transport> Post for TablePost<'_, S> {
    fn deliver(&mut self, to: Address, frame: &Bytes, messages: u32, terms: Terms) -> Delivery {
        let Some(connection) = self.table.get_mut(to.key()) else { return Delivery::Gone };
        let site = &self.sites[usize::from(connection.site)];
        let before = connection.outbox_cost();
        let delivery = connection.deliver(frame, messages, terms, site, self.now);
        self.cells.outboxes.add_difference(before, connection.outbox_cost());
        if matches!(delivery, Delivery::Taken | Delivery::Displaced(_)) {
            self.cells.sites[usize::from(site.cells)].messages_sent.add(u64::from(messages));
            if connection.enqueue_write() {
                self.write_queue.push_back(to.key());
            }
        }
        delivery
    }

    fn delivered(&mut self, since: Instant, deliveries: u64) {
        self.delivered.push((since, deliveries));
    }

    fn tell(&mut self, to: Address, note: Note) {
        self.notes.push_back((to.key(), Word::Note(note)));
    }

    fn close(&mut self, to: Address, reason: CloseReason) {
        self.notes.push_back((to.key(), Word::Close(reason)));
    }
}
