//! Who may connect, who reuses, who waits, and which idle connection makes room: the exact
//! accounting of one upstream as a pure state machine.
//!
//! Nothing here does I/O or reads a clock. What has to be done outside (sockets to close, waiters
//! to answer) is gathered in [`Effects`], which the client carries out after the lock is free.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::breaker::{BreakerLimits, Gate, Transition, Verdict};
use crate::targets::{Choice, Idle, Serial, Target, TargetAddr, TargetId, Targets, Way};

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    pub(crate) connections_per_target_max: u32,
    pub(crate) connections_max: u32,
    pub(crate) queue_max: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) breaker: BreakerLimits,
}

/// Connections and waiters of one upstream. `C` is a handle whose drop closes the connection,
/// `W` a waiter's place to be answered.
///
/// A connection counts against the limits from the grant to connect until [`Pool::closed`];
/// closing one is not enough. Waiters are served first come, first served: nobody passes the
/// first of the queue, and whenever it could be served it has been.
#[derive(Debug)]
pub(crate) struct Pool<C, W> {
    limits: PoolLimits,
    targets: Targets<C>,
    waiting: BTreeMap<Ticket, W>,
    /// All connections, of every target.
    total: u32,
    /// Connections that the pool has told to close and that are not closed yet.
    closing: HashSet<Serial>,
    /// Origins that have not had their first resolution, good or bad.
    unresolved: HashSet<usize>,
    closed: bool,
    next: u64,
    effects: Effects<C, W>,
}

/// A place in the wait queue. Smaller is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// A target and the right to one call to it. It must come back through [`Pool::end`].
#[derive(Debug)]
pub(crate) struct Grant<C> {
    pub(crate) target: TargetId,
    pub(crate) addr: TargetAddr,
    pub(crate) gate: Gate,
    /// It must come back through [`Pool::end`] or through [`Pool::closed`].
    pub(crate) serial: Serial,
    /// The connection to reuse; `None` is the right to connect.
    pub(crate) reuse: Option<C>,
}

/// Why a call gets no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    QueueFull { waiting: usize },
    BreakersOpen { targets: usize },
    Unresolved,
    Closed,
}

/// What an acquiring call gets at once.
#[derive(Debug)]
pub(crate) enum Acquired<C> {
    Granted(Grant<C>),
    Waits(Ticket),
    Refused(Refusal),
}

/// What is to be done outside of the lock.
#[derive(Debug)]
pub(crate) struct Effects<C, W> {
    /// To be dropped.
    pub(crate) close: Vec<C>,
    /// To be told.
    pub(crate) answer: Vec<(W, Result<Grant<C>, Refusal>)>,
    /// To be logged and counted.
    pub(crate) transitions: Vec<(SocketAddr, Transition)>,
}

impl<C, W> Default for Effects<C, W> {
    fn default() -> Self {
        Self { close: Vec::new(), answer: Vec::new(), transitions: Vec::new() }
    }
}

/// The figures of a pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolFigures {
    pub(crate) connections: usize,
    pub(crate) idle: usize,
    pub(crate) waiting: usize,
    pub(crate) breakers_open: usize,
}

impl<C, W> Pool<C, W> {
    /// A pool without targets. `unresolved` are the origins whose addresses are still to come:
    /// until each has been heard of, a call without a target waits instead of failing.
    pub(crate) fn new(limits: PoolLimits, unresolved: impl IntoIterator<Item = usize>) -> Self {
        Self {
            limits,
            targets: Targets::new(limits.breaker),
            waiting: BTreeMap::new(),
            total: 0,
            closing: HashSet::new(),
            unresolved: unresolved.into_iter().collect(),
            closed: false,
            next: 0,
            effects: Effects::default(),
        }
    }

    /// Grants a connection, or queues the caller, or refuses.
    pub(crate) fn acquire(&mut self, waiter: impl FnOnce() -> W, now: Instant) -> Acquired<C> {
        if self.closed {
            return Acquired::Refused(Refusal::Closed);
        }
        // What time alone has changed goes to those who wait first.
        self.serve(now);
        if self.waiting.is_empty() {
            match self.choose(None, now) {
                Choice::Target(id, gate, Way::Reuse | Way::Connect) => {
                    if let Some(grant) = self.grant(id, gate) {
                        return Acquired::Granted(grant);
                    }
                }
                Choice::Target(_, _, Way::Evict) if self.limits.queue_max > 0 => self.evict(),
                Choice::Target(_, _, Way::Evict) | Choice::AllBusy => {}
                Choice::AllShut | Choice::Nowhere => {
                    if let Some(refusal) = self.refusal() {
                        return Acquired::Refused(refusal);
                    }
                }
            }
        }
        let waiting = self.waiting.len();
        if waiting >= self.limits.queue_max {
            return Acquired::Refused(Refusal::QueueFull { waiting });
        }
        let ticket = Ticket(self.number());
        self.waiting.insert(ticket, waiter());
        Acquired::Waits(ticket)
    }

    /// Grants a connection to another target than `avoid` if that takes nobody's turn.
    pub(crate) fn acquire_elsewhere(&mut self, avoid: TargetId, now: Instant) -> Option<Grant<C>> {
        self.serve(now);
        if self.closed || !self.waiting.is_empty() {
            return None;
        }
        match self.choose(Some(avoid), now) {
            Choice::Target(id, gate, Way::Reuse | Way::Connect) => self.grant(id, gate),
            Choice::Target(_, _, Way::Evict)
            | Choice::AllBusy
            | Choice::AllShut
            | Choice::Nowhere => None,
        }
    }

    /// A waiter leaves the queue. Nothing happens when it has been answered already.
    pub(crate) fn give_up(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    /// A granted call has ended. `back` is its connection, when it can be used again.
    pub(crate) fn end(
        &mut self,
        target: TargetId,
        gate: Gate,
        verdict: Verdict,
        back: Option<(Serial, C)>,
        now: Instant,
    ) {
        if let Some(target) = self.targets.get_mut(target) {
            target.in_flight -= 1;
            if let Some(transition) = target.breaker.end(gate, verdict, now) {
                self.effects.transitions.push((target.addr.address, transition));
            }
            target.idle.extend(back.map(|(serial, handle)| Idle { serial, handle, since: now }));
        }
        self.serve(now);
    }

    /// A connection has ended by itself. If nobody uses it, its handle comes out to be dropped.
    pub(crate) fn ended(&mut self, target: TargetId, serial: Serial, now: Instant) {
        if let Some(idle) = self.targets.get_mut(target).and_then(|t| t.take_idle(serial)) {
            self.close_handle(idle);
        }
        self.serve(now);
    }

    /// A connection's socket is closed and its handle dropped, or its connect has failed.
    pub(crate) fn closed(&mut self, target: TargetId, serial: Serial, now: Instant) {
        self.closing.remove(&serial);
        self.total -= 1;
        if let Some(target) = self.targets.get_mut(target) {
            target.live -= 1;
        }
        self.serve(now);
    }

    /// The addresses of an origin are known, for now.
    pub(crate) fn set_addresses(&mut self, origin: usize, addresses: &[SocketAddr], now: Instant) {
        self.unresolved.remove(&origin);
        self.targets.set_addresses(origin, addresses);
        self.serve(now);
    }

    /// The addresses of an origin could not be found out: the last good ones stay.
    pub(crate) fn resolution_failed(&mut self, origin: usize, now: Instant) {
        self.unresolved.remove(&origin);
        self.serve(now);
    }

    /// Does what time alone asks for.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.serve(now);
    }

    /// Lets nobody in any more. Who waits is still served; what comes back is closed.
    pub(crate) fn close(&mut self, now: Instant) {
        self.closed = true;
        self.serve(now);
    }

    /// Whether nobody waits and every socket is closed.
    pub(crate) fn is_drained(&self) -> bool {
        self.total == 0 && self.waiting.is_empty()
    }

    pub(crate) fn figures(&self) -> PoolFigures {
        PoolFigures {
            connections: self.total as usize,
            idle: self.targets.iter().map(|(_, target)| target.idle.len()).sum(),
            waiting: self.waiting.len(),
            breakers_open: self.targets.current().filter(|(_, t)| t.breaker.is_open()).count(),
        }
    }

    pub(crate) fn take_effects(&mut self) -> Effects<C, W> {
        std::mem::take(&mut self.effects)
    }

    /// Serves the queue from its head until the head has to wait. Every change ends here.
    fn serve(&mut self, now: Instant) {
        self.close_unwanted(now);
        while !self.waiting.is_empty() {
            let answer = match self.choose(None, now) {
                Choice::Target(id, gate, Way::Reuse | Way::Connect) => self.grant(id, gate).map(Ok),
                Choice::Target(_, _, Way::Evict) => {
                    self.evict();
                    None
                }
                Choice::AllBusy => None,
                Choice::AllShut | Choice::Nowhere => self.refusal().map(Err),
            };
            let Some(answer) = answer else { break };
            if let Some((_, waiter)) = self.waiting.pop_first() {
                self.effects.answer.push((waiter, answer));
            }
        }
        if self.closed && self.waiting.is_empty() {
            self.close_idle(|target| target.idle.drain(..).collect());
        }
        self.targets.forget_retired();
    }

    fn choose(&self, avoid: Option<TargetId>, now: Instant) -> Choice {
        let room = self.total < self.limits.connections_max;
        self.targets.choose(self.limits.connections_per_target_max, room, avoid, now)
    }

    /// Why a call fails at once; `None` while the first addresses are still to come.
    fn refusal(&self) -> Option<Refusal> {
        match self.targets.current().count() {
            0 if !self.unresolved.is_empty() => None,
            0 => Some(Refusal::Unresolved),
            targets => Some(Refusal::BreakersOpen { targets }),
        }
    }

    fn grant(&mut self, id: TargetId, gate: Gate) -> Option<Grant<C>> {
        let fresh = Serial(self.number());
        let target = self.targets.get_mut(id)?;
        target.in_flight += 1;
        if let Some(transition) = target.breaker.begin(gate) {
            self.effects.transitions.push((target.addr.address, transition));
        }
        // The one used last: the others can grow old and be closed.
        let (serial, reuse) = match target.idle.pop_back() {
            Some(idle) => (idle.serial, Some(idle.handle)),
            None => {
                target.live += 1;
                self.total += 1;
                (fresh, None)
            }
        };
        let addr = target.addr;
        self.targets.chosen(id);
        Some(Grant { target: id, addr, gate, serial, reuse })
    }

    /// Closes the connection that has been idle longest, unless one is closing already: the head
    /// of the queue needs one.
    fn evict(&mut self) {
        if !self.closing.is_empty() {
            return;
        }
        if let Some(idle) = self.targets.longest_idle().and_then(|target| target.idle.pop_front()) {
            self.close_handle(idle);
        }
    }

    /// Closes idle connections that are too old or whose target is shut or gone.
    fn close_unwanted(&mut self, now: Instant) {
        let timeout = self.limits.idle_timeout;
        self.close_idle(|target| match target.retired || target.breaker.is_open() {
            true => target.idle.drain(..).collect(),
            false => target.take_expired(timeout, now),
        });
    }

    fn close_idle(&mut self, take: impl Fn(&mut Target<C>) -> Vec<Idle<C>>) {
        let unwanted: Vec<_> = self.targets.values_mut().flat_map(take).collect();
        for idle in unwanted {
            self.close_handle(idle);
        }
    }

    fn close_handle(&mut self, idle: Idle<C>) {
        self.closing.insert(idle.serial);
        self.effects.close.push(idle.handle);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
