//! The pool behind its lock, and the three rights that must come back to it: a call to a target
//! ([`Lease`]), an open connection ([`Slot`]) and a place in the queue ([`Waiting`]). Each gives
//! itself back when dropped, so cancelling a call at any await leaks nothing.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use weir_core::clock;

use crate::breaker::{Gate, Transition, Verdict};
use crate::connect::Connection;
use crate::metrics::PoolMetrics;
use crate::pool::{Acquired, Effects, Grant, Pool, Refusal, Ticket};
use crate::targets::{Serial, TargetAddr, TargetId};

/// A waiter's place to be answered.
type Waiter = oneshot::Sender<Result<Lease, Refusal>>;

/// The pool, shared by calls, connections and the sweep.
#[derive(Debug)]
pub(crate) struct SharedPool {
    name: String,
    state: Mutex<Pool<Connection, Waiter>>,
    pub(crate) metrics: PoolMetrics,
    drained: Notify,
}

/// What a call gets from the pool.
pub(crate) enum Acquiring {
    Granted(Lease),
    Waits(Waiting),
    Refused(Refusal),
}

impl SharedPool {
    pub(crate) fn new(
        name: String,
        pool: Pool<Connection, oneshot::Sender<Result<Lease, Refusal>>>,
        metrics: PoolMetrics,
    ) -> Arc<Self> {
        Arc::new(Self { name, state: Mutex::new(pool), metrics, drained: Notify::new() })
    }

    /// The upstream's configured name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Changes the pool, shows its new figures, and carries out what it asks for once the lock is
    /// free: closing connections and answering waiters may come back here.
    pub(crate) fn turn<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Pool<Connection, Waiter>, Instant) -> R,
    ) -> R {
        let (result, effects, drained) = {
            let mut pool = self.state.lock();
            let result = change(&mut pool, clock::now());
            self.metrics.show(pool.figures());
            (result, pool.take_effects(), pool.is_drained())
        };
        self.carry_out(effects);
        if drained {
            self.drained.notify_waiters();
        }
        result
    }

    /// Asks for a connection.
    pub(crate) fn acquire(self: &Arc<Self>) -> Acquiring {
        let (sender, answer) = oneshot::channel();
        match self.turn(|pool, now| pool.acquire(|| sender, now)) {
            Acquired::Granted(grant) => Acquiring::Granted(Lease::new(self, grant)),
            Acquired::Waits(ticket) => {
                Acquiring::Waits(Waiting { pool: Arc::clone(self), ticket, answer })
            }
            Acquired::Refused(refusal) => Acquiring::Refused(refusal),
        }
    }

    /// Asks for a connection to another target than `avoid`, there and then.
    pub(crate) fn acquire_elsewhere(self: &Arc<Self>, avoid: TargetId) -> Option<Lease> {
        let grant = self.turn(|pool, now| pool.acquire_elsewhere(avoid, now))?;
        Some(Lease::new(self, grant))
    }

    /// Waits until nobody waits and every socket is closed. Cancel safe.
    pub(crate) async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            if self.state.lock().is_drained() {
                return;
            }
            drained.await;
        }
    }

    fn carry_out(self: &Arc<Self>, effects: Effects<Connection, Waiter>) {
        for (target, to) in effects.transitions {
            self.metrics.transition(to);
            let pool = self.name.as_str();
            match to {
                Transition::Open => {
                    tracing::warn!(pool, %target, "breaker opened: the target keeps failing");
                }
                Transition::HalfOpen => tracing::info!(pool, %target, "breaker probes the target"),
                Transition::Closed => tracing::info!(pool, %target, "breaker closed: it is back"),
            }
        }
        drop(effects.close);
        for (waiter, answer) in effects.answer {
            // A waiter that is gone by now drops its lease, which goes to the next.
            drop(waiter.send(answer.map(|grant| Lease::new(self, grant))));
        }
    }
}

/// A place in the queue. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Waiting {
    pool: Arc<SharedPool>,
    ticket: Ticket,
    answer: oneshot::Receiver<Result<Lease, Refusal>>,
}

impl Waiting {
    /// Waits for the pool's answer. Cancel safe: an answer that came is there the next time.
    pub(crate) async fn answer(&mut self) -> Result<Lease, Refusal> {
        // The sender lives in the queue until it is used, so it is only lost with the pool.
        (&mut self.answer).await.unwrap_or(Err(Refusal::Closed))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pool.turn(|pool, _| pool.give_up(self.ticket));
    }
}

/// The right to one call to a target.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<SharedPool>,
    pub(crate) target: TargetId,
    pub(crate) addr: TargetAddr,
    gate: Gate,
    verdict: Verdict,
    /// Goes back to the pool with the lease.
    connection: Option<Connection>,
    /// The right to connect, until it is taken.
    slot: Option<Slot>,
}

/// How a lease is to be turned into a connection.
pub(crate) enum Start {
    Reuse(Connection),
    Connect(Slot),
}

impl Lease {
    fn new(pool: &Arc<SharedPool>, grant: Grant<Connection>) -> Self {
        let Grant { target, addr, gate, serial, reuse } = grant;
        let slot = reuse.is_none().then(|| Slot { pool: Arc::clone(pool), target, serial });
        let verdict = Verdict::Unknown;
        Self { pool: Arc::clone(pool), target, addr, gate, verdict, connection: reuse, slot }
    }

    /// Takes the connection, or the right to make one, out. `None` when it has been taken.
    pub(crate) fn start(&mut self) -> Option<Start> {
        let reuse = self.connection.take().map(Start::Reuse);
        reuse.or_else(|| self.slot.take().map(Start::Connect))
    }

    /// The right to connect again in place of a connection that is closed.
    pub(crate) fn start_again(&mut self, slot: Slot) {
        self.slot = Some(slot);
    }

    /// Says how the target did, to be told to its breaker.
    pub(crate) fn judge(&mut self, verdict: Verdict) {
        self.verdict = verdict;
    }

    /// Ends the call; the connection can be used again.
    pub(crate) fn give_back(mut self, connection: Connection) {
        self.connection = Some(connection);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut connection = self.connection.take();
        self.pool.turn(|pool, now| {
            // Asked under the lock: a connection that ends later finds itself in the pool. One
            // that has ended is dropped when the lock is free.
            let back = connection.take_if(|connection| !connection.has_ended());
            let back = back.map(|connection| (connection.serial(), connection));
            pool.end(self.target, self.gate, self.verdict, back, now);
        });
    }
}

/// The right to one open connection. Whoever has the socket drops the slot after it.
#[derive(Debug)]
pub(crate) struct Slot {
    pool: Arc<SharedPool>,
    target: TargetId,
    serial: Serial,
}

/// Names a connection to its pool.
#[derive(Debug)]
pub(crate) struct Mark {
    pool: Arc<SharedPool>,
    target: TargetId,
    serial: Serial,
}

impl Slot {
    pub(crate) fn serial(&self) -> Serial {
        self.serial
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { pool: Arc::clone(&self.pool), target: self.target, serial: self.serial }
    }
}

impl Mark {
    /// Tells the pool that the connection has ended, so that it does not keep it.
    pub(crate) fn ended(self) {
        self.pool.turn(|pool, now| pool.ended(self.target, self.serial, now));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.turn(|pool, now| pool.closed(self.target, self.serial, now));
    }
}
