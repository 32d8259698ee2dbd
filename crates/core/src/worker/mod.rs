//! A worker's table of connections and its bounded turns: mail, sockets, writes, sweep, drain.
//! Knows nothing of what a message means. Time is an argument: production and simulation call the
//! same [`Worker::turn`].

pub(crate) mod asks;
mod bench;
mod budget;
mod closing;
mod listing;
mod local;
pub(crate) mod pace;
pub mod pipes;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll as TaskPoll};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use self::asks::Answered;
pub(crate) use self::bench::Bench;
use self::budget::Looked;
use self::closing::{Drain, Turn};
use self::listing::Listing;
use self::local::LocalState;
use self::pace::Pace;
use self::table::{Key, Table};
use crate::budget::OutboxBudget;
use crate::clock;
use crate::close::CloseReason;
use crate::connection::{Connection, Fate, Lent, NewConnection, Phase};
use crate::ends::{Ended, Ends, Owed};
use crate::poll::{Event, Poll};
use crate::site::Site;
use crate::stage::Stage;
use crate::view::{Query, Row};

/// Connections opened in one turn.
const OPENS_MAX: usize = 64;
/// Answers carried to their connections in one turn.
const ANSWERS_MAX: usize = 256;
/// Connections that have a read turn in one turn of the worker.
const READS_MAX: usize = 256;
/// Messages after which a turn reads no further connection.
const TURN_MESSAGES_MAX: u32 = 2048;
/// Bytes after which a turn reads no further connection: what 64 KiB of each of very many take.
const TURN_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Connections whose peers have ended that have a read turn in one turn of the worker. Closing one
/// takes some 40 µs, most of it the kernel's: thousands that hang up at once would be a long turn,
/// and those who stay would wait behind them.
const HANGUPS_MAX: usize = 16;
/// Connections written to in one turn; later frames join the lists of those that wait.
const WRITES_MAX: usize = 64;
/// Table places swept in one turn.
const SWEEP_MAX: usize = 512;
/// Connections that linger at the same time; beyond it they are closed at once.
const LINGER_MAX: usize = 1024;
/// How often deadlines are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Mail for a worker in a lane of its own: it overtakes connections and answers.
pub(crate) enum Control {
    /// Begin to drain: close everybody over this window.
    Drain(Duration),
    /// Close everybody now.
    Force,
    /// Hold connections to these sites from now on: as many as before, in the same order.
    Reload(Arc<[Site]>),
    /// Close the connections whose outboxes are largest until so many bytes are freed.
    Shed(usize),
    /// Tell about connections.
    List(Query, oneshot::Sender<Vec<Row>>),
}

/// The receiving ends of a worker's lanes.
pub(crate) struct Mailbox<S> {
    pub(crate) control: mpsc::Receiver<Control>,
    pub(crate) opens: mpsc::Receiver<NewConnection<S>>,
    pub(crate) answers: mpsc::Receiver<Answered>,
}

/// Whether a turn left something to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Progress {
    Busy,
    Idle,
}

/// The event loop's state. `P` is what it polls: epoll, or in-memory pipes.
pub(crate) struct Worker<P: Poll> {
    pub(crate) poll: P,
    table: Table<Connection<P::Socket>>,
    bench: Bench,
    mailbox: Mailbox<P::Socket>,
    /// What woke the loop, taken out of a lane before its turn.
    woken: Option<Woken<P::Socket>>,
    read_queue: VecDeque<Key>,
    /// Those to read from whose peers have ended.
    hangup_queue: VecDeque<Key>,
    write_queue: VecDeque<Key>,
    events: Vec<Event>,
    lingering: usize,
    sweep_next: Instant,
    /// The place the running sweep has come to.
    sweep_at: Option<usize>,
    drain: Option<Drain>,
    forced: bool,
    listings: Vec<Listing>,
    local: LocalState,
    /// Of all workers.
    budget: Option<Arc<OutboxBudget>>,
    looked: Looked,
    ends: Arc<Ends>,
    /// Connections this worker has, its handshakes included: accept loops look at it.
    load: Arc<AtomicUsize>,
}

enum Woken<S> {
    Control(Control),
    Open(NewConnection<S>),
    Answer(Answered),
}

impl<P: Poll> Worker<P> {
    pub(crate) fn new(
        poll: P,
        bench: Bench,
        mailbox: Mailbox<P::Socket>,
        ends: Arc<Ends>,
        load: Arc<AtomicUsize>,
        now: Instant,
    ) -> Self {
        Self {
            poll,
            table: Table::new(),
            bench,
            mailbox,
            woken: None,
            read_queue: VecDeque::new(),
            hangup_queue: VecDeque::new(),
            write_queue: VecDeque::new(),
            events: Vec::new(),
            lingering: 0,
            sweep_next: now + SWEEP_INTERVAL,
            sweep_at: None,
            drain: None,
            forced: false,
            listings: Vec::new(),
            local: LocalState::default(),
            budget: None,
            looked: Looked::default(),
            ends,
            load,
        }
    }

    /// How the drain is to be paced, once it has begun.
    pub(crate) fn drain_window(&self) -> Option<Duration> {
        self.drain.as_ref().map(|drain| drain.window)
    }

    /// Whether everybody was closed by force.
    pub(crate) fn is_forced(&self) -> bool {
        self.forced
    }

    /// Connections in the table.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Ready when mail has come; the mail is kept for the next turn. Cancel safe.
    pub(crate) fn poll_mail(&mut self, cx: &mut Context<'_>) -> TaskPoll<()> {
        if self.woken.is_some() {
            return TaskPoll::Ready(());
        }
        if let TaskPoll::Ready(Some(control)) = self.mailbox.control.poll_recv(cx) {
            self.woken = Some(Woken::Control(control));
        }
        if self.woken.is_none()
            && let TaskPoll::Ready(Some(answered)) = self.mailbox.answers.poll_recv(cx)
        {
            self.woken = Some(Woken::Answer(answered));
        }
        if self.woken.is_none()
            && let TaskPoll::Ready(Some(new)) = self.mailbox.opens.poll_recv(cx)
        {
            self.woken = Some(Woken::Open(new));
        }
        let woken = self.woken.is_some() | self.local.poll_wake(cx).is_ready();
        if woken { TaskPoll::Ready(()) } else { TaskPoll::Pending }
    }

    /// One bounded turn at `now`.
    ///
    /// # Errors
    /// Those of the poll: the worker cannot go on.
    pub(crate) fn turn(&mut self, now: Instant) -> io::Result<Progress> {
        self.bench.begin(now);
        self.take_mail();
        let more_events = self.take_events()?;
        self.bench.boundary();
        self.read();
        self.turn_local();
        self.bench.boundary();
        self.time_deliveries();
        self.write();
        self.sweep();
        self.drain();
        self.list();
        self.keep_budget();
        let busy = more_events
            || !self.read_queue.is_empty()
            || !self.hangup_queue.is_empty()
            || !self.write_queue.is_empty()
            || self.sweep_at.is_some()
            || !self.listings.is_empty()
            || self.local.is_busy()
            || self.woken.is_some();
        Ok(if busy { Progress::Busy } else { Progress::Idle })
    }

    /// Counts how long the turn that began at `begun` took.
    pub(crate) fn time_turn(&self, begun: Instant) {
        if self.bench.stages() {
            let took = clock::now().saturating_duration_since(begun);
            self.bench.cells.turn.observe(took, 1);
        }
    }

    fn take_mail(&mut self) {
        match self.woken.take() {
            Some(Woken::Control(control)) => self.control(control),
            Some(Woken::Open(new)) => self.open(new),
            Some(Woken::Answer(answered)) => self.answer(answered),
            None => {}
        }
        while let Ok(control) = self.mailbox.control.try_recv() {
            self.control(control);
        }
        for _ in 0..OPENS_MAX {
            let Ok(new) = self.mailbox.opens.try_recv() else { break };
            self.open(new);
        }
        for _ in 0..ANSWERS_MAX {
            let Ok(answered) = self.mailbox.answers.try_recv() else { break };
            self.answer(answered);
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Drain(window) => {
                if self.drain.is_none() {
                    let pace = Pace::new(self.bench.now(), window, self.table.len());
                    self.drain = Some(Drain { window, pace, at: 0, told: 0 });
                }
            }
            Control::Force => self.force(),
            Control::Reload(sites) => self.bench.sites = sites,
            Control::Shed(bytes) => self.shed(bytes),
            Control::List(query, reply) => self.listings.push(Listing::new(query, reply)),
        }
    }

    fn open(&mut self, mut new: NewConnection<P::Socket>) {
        if let Some(handshake) = new.handshake.take() {
            self.bench.handshakes.insert(new.id, handshake);
        }
        let took = self.bench.now().saturating_duration_since(new.accepted);
        self.bench.cells.stages[Stage::Handshake as usize].observe(took, 1);
        let tick = self.bench.tick();
        let site = usize::from(new.site);
        let connection = Connection::new(new, &self.bench.sites[site], tick);
        let key = self.table.insert_with(|_| connection);
        let registered = match self.table.get_mut(key) {
            Some(connection) => self.poll.register(connection.socket_mut(), key.raw()),
            None => Ok(()),
        };
        if let Err(error) = registered {
            tracing::warn!(%error, "a socket could not be watched");
            return self.remove(key, CloseReason::InternalError);
        }
        if self.forced {
            return self.remove(key, CloseReason::Forced);
        }
        let turn = self.drain.as_mut().map(|drain| drain.join(key.index(), self.bench.now()));
        self.visit(key, |connection, lent| match (connection.tell_open(lent), turn) {
            (Fate::Keep, Some(Turn::Passed)) => connection.drain(lent),
            (Fate::Keep, Some(Turn::Told)) => connection.tell_drain(lent),
            (fate @ (Fate::Keep | Fate::End(_)), _) => fate,
        });
    }

    fn answer(&mut self, answered: Answered) {
        let Answered { key, ticket, answer } = answered;
        self.visit(key, |connection, lent| connection.answer(ticket, answer, lent));
    }

    fn take_events(&mut self) -> io::Result<bool> {
        let more = self.poll.poll(&mut self.events)?;
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            let key = Key::from_raw(event.key);
            let Some(connection) = self.table.get_mut(key) else { continue };
            connection.note(event.readable, event.writable, event.hangup);
            let site = &self.bench.sites[usize::from(connection.site)];
            if connection.enqueue_read(site) {
                let queue =
                    if event.hangup { &mut self.hangup_queue } else { &mut self.read_queue };
                queue.push_back(key);
            }
            if connection.enqueue_write() {
                self.write_queue.push_back(key);
            }
        }
        self.events = events;
        Ok(more)
    }

    fn read(&mut self) {
        let (mut messages, mut bytes) = (0, 0);
        let reads = READS_MAX.min(self.read_queue.len());
        let hangups = HANGUPS_MAX.min(self.hangup_queue.len());
        for n in 0..hangups + reads {
            if messages >= TURN_MESSAGES_MAX || bytes >= TURN_BYTES_MAX {
                break;
            }
            // They go first: there are few in a turn, and they have their turn however busy it is.
            let queue = if n < hangups { &mut self.hangup_queue } else { &mut self.read_queue };
            let Some(key) = queue.pop_front() else { break };
            self.visit(key, |connection, lent| {
                let before = connection.received_bytes;
                let (fate, handled) = connection.read_turn(lent);
                messages += handled;
                bytes += connection.received_bytes - before;
                fate
            });
        }
    }

    fn write(&mut self) {
        let writes = WRITES_MAX.min(self.write_queue.len());
        for _ in 0..writes {
            let Some(key) = self.write_queue.pop_front() else { break };
            self.visit(key, |connection, lent| connection.write_turn(lent));
        }
        self.written_local(writes);
    }

    fn sweep(&mut self) {
        let now = self.bench.now();
        if self.sweep_at.is_none() && now >= self.sweep_next {
            self.sweep_next = now + SWEEP_INTERVAL;
            self.sweep_at = Some(0);
        }
        let Some(from) = self.sweep_at else { return };
        if from == 0 {
            self.drain_late();
            self.tick_local();
            self.looked = Looked::default();
        }
        let end = self.table.index_end();
        let to = (from + SWEEP_MAX).min(end);
        for index in from..to {
            if let Some((key, connection)) = self.table.at(index) {
                self.looked.look(connection, now);
                self.visit(key, |connection, lent| connection.sweep(lent));
            }
        }
        self.sweep_at = (to < end).then_some(to);
        if to >= end {
            self.looked.tell(&self.bench.cells);
        }
    }

    fn list(&mut self) {
        let sites = &self.bench.sites;
        let tick = self.bench.tick();
        self.listings.retain_mut(|listing| !listing.step(&self.table, sites, tick));
    }

    /// Lets `act` work on a connection, then queues or ends it as it wants.
    fn visit(
        &mut self,
        key: Key,
        act: impl FnOnce(&mut Connection<P::Socket>, &mut Lent<'_>) -> Fate,
    ) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let lingered = connection.phase == Phase::Lingering;
        let before = connection.outbox_cost();
        let mut lent = self.bench.lend(key, connection.site, self.lingering < LINGER_MAX);
        let fate = act(connection, &mut lent);
        lent.worker.outboxes.add_difference(before, connection.outbox_cost());
        let site = lent.site;
        match fate {
            Fate::Keep => {
                if !lingered && connection.phase == Phase::Lingering {
                    self.lingering += 1;
                }
                if connection.enqueue_read(site) {
                    self.read_queue.push_back(key);
                }
                if connection.enqueue_write() {
                    self.write_queue.push_back(key);
                }
            }
            Fate::End(reason) => self.remove(key, reason),
        }
    }

    fn remove(&mut self, key: Key, reason: CloseReason) {
        let Some(mut connection) = self.table.remove(key) else { return };
        self.poll.deregister(connection.socket_mut(), key.raw());
        self.bench.cells.outboxes.add_difference(connection.outbox_cost(), 0);
        if connection.phase == Phase::Lingering {
            self.lingering = self.lingering.saturating_sub(1);
        }
        // What was decided first is the reason, unless replies were lost to a limit afterwards.
        let reason = match (connection.ending(), reason) {
            (
                _,
                CloseReason::Forced
                | CloseReason::WriteTimeout
                | CloseReason::SlowConsumer
                | CloseReason::Overload,
            )
            | (None, _) => reason,
            (Some(first), _) => first,
        };
        let mut lent = self.bench.lend(key, connection.site, false);
        if connection.owed() != Owed::Nothing {
            connection.abandon_traces(reason, &lent);
        }
        connection.tell_close(reason, &mut lent);
        self.bench.handshakes.remove(&connection.id);
        let site = &self.bench.sites[usize::from(connection.site)];
        if reason == CloseReason::Forced {
            self.ends.count_lost(connection.owed());
        }
        let ended = Ended {
            conn: connection.id,
            listener: site.listener.clone(),
            route: site.service.route().to_owned(),
            peer: connection.peer(),
            reason,
            duration: self.bench.tick().since(connection.opened),
            received: connection.received,
            sent: connection.sent,
            received_bytes: connection.received_bytes,
            sent_bytes: connection.sent_bytes,
            at: SystemTime::now(),
        };
        connection.end(reason);
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.ends.push(ended);
    }
}
