//! What keeps a storm of handshakes from starving open connections: how many are in progress and
//! begin in the process, and how many steps of them a worker takes between two turns of its table.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::PollSemaphore;

use super::outcome::HandshakeResult;

/// Waiting handshakes for each that may be in progress. Further ones are refused.
const WAITING_FACTOR: usize = 16;

/// Steps of handshakes that a worker takes between two turns of its table. A step is a read and
/// what follows from it; the dearest, a signature with RSA, takes about half a millisecond.
const STEPS_MAX: usize = 8;

/// The caps on handshakes of the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeLimits {
    /// In progress at once. One is in progress from its first byte on.
    pub handshakes_max: usize,
    /// Begun in a second, with one second's burst. "Off" is `None`.
    pub per_second_max: Option<u32>,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self { handshakes_max: 256, per_second_max: None }
    }
}

/// Lets handshakes begin. One for the process.
#[derive(Debug)]
pub(crate) struct Handshakes {
    limits: Mutex<HandshakeLimits>,
    slots: Semaphore,
    /// Slots in use that are more than the cap since it became smaller: they do not come back.
    over: AtomicUsize,
    waiting: AtomicUsize,
    /// When the next one may begin, if they begin one after the other at the rate.
    next: Mutex<Option<Instant>>,
}

/// The right of one handshake to be in progress, until it is dropped.
pub(crate) struct Slot<'a> {
    slot: Option<SemaphorePermit<'a>>,
    over: &'a AtomicUsize,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let less = |over: usize| over.checked_sub(1);
        if self.over.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            self.slot.take().into_iter().for_each(SemaphorePermit::forget);
        }
    }
}

/// A handshake that has stepped aside, until it is dropped.
#[expect(dead_code, reason = "both are held for their drop")]
pub(crate) enum Aside<'a> {
    Waiting(Waiting<'a>),
    InProgress(Slot<'a>),
}

/// One of those that wait.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handshakes {
    pub(crate) fn new(limits: HandshakeLimits) -> Arc<Self> {
        Arc::new(Self {
            limits: Mutex::new(limits),
            slots: Semaphore::new(limits.handshakes_max.min(Semaphore::MAX_PERMITS)),
            over: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            next: Mutex::new(None),
        })
    }

    /// Holds the handshakes that begin from now on to other limits. Those in progress go on.
    pub(crate) fn set_limits(&self, limits: HandshakeLimits) {
        let mut current = self.limits.lock();
        let before = current.handshakes_max.min(Semaphore::MAX_PERMITS);
        let after = limits.handshakes_max.min(Semaphore::MAX_PERMITS);
        *current = limits;
        if after < before {
            let fewer = before - after;
            self.over.fetch_add(fewer - self.slots.forget_permits(fewer), Ordering::Relaxed);
        }
        let mut more = after.saturating_sub(before);
        let paid = |over: usize| Some(over.saturating_sub(more));
        // What an earlier cut still owes is not given out a second time.
        if let Ok(owed) = self.over.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid) {
            more -= owed.min(more);
        }
        self.slots.add_permits(more);
    }

    /// Waits until a handshake may begin; it is in progress for as long as the value is held.
    ///
    /// # Errors
    /// Too many wait already, or its turn would come behind the deadline.
    ///
    /// # Cancel safety
    /// Cancelled, its place goes to the next.
    pub(crate) async fn begin(&self, deadline: Instant) -> Result<Slot<'_>, HandshakeResult> {
        let limits = *self.limits.lock();
        let begins = match limits.per_second_max {
            Some(rate) => self.reserve(rate, deadline)?,
            None => None,
        };
        if let (None, Ok(slot)) = (begins, self.slots.try_acquire()) {
            return Ok(self.slot(slot));
        }
        let _waiting = self.wait(limits.handshakes_max)?;
        if let Some(begins) = begins {
            tokio::time::sleep_until(begins).await;
        }
        // It is never closed.
        let slot = self.slots.acquire().await.map_err(|_| HandshakeResult::Stopped)?;
        Ok(self.slot(slot))
    }

    /// One in progress waits for its peer: its slot goes to the next, and it counts among those
    /// that wait. While there is no room among them it keeps the slot.
    ///
    /// So peers that begin and then say nothing cannot keep others out for as long as
    /// `timeouts.handshake`.
    pub(crate) fn step_aside<'a>(&'a self, slot: Slot<'a>) -> Aside<'a> {
        let max = self.limits.lock().handshakes_max;
        match self.wait(max) {
            Ok(waiting) => Aside::Waiting(waiting),
            Err(_) => Aside::InProgress(slot),
        }
    }

    fn slot<'a>(&'a self, slot: SemaphorePermit<'a>) -> Slot<'a> {
        Slot { slot: Some(slot), over: &self.over }
    }

    fn wait(&self, handshakes_max: usize) -> Result<Waiting<'_>, HandshakeResult> {
        let waiting = Waiting(&self.waiting);
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        if before >= handshakes_max.saturating_mul(WAITING_FACTOR) {
            return Err(HandshakeResult::Overloaded);
        }
        Ok(waiting)
    }

    /// When this one may begin: `None` is at once.
    fn reserve(&self, rate: u32, deadline: Instant) -> Result<Option<Instant>, HandshakeResult> {
        let interval = Duration::from_secs(1) / rate;
        let now = Instant::now();
        let mut next = self.next.lock();
        // A second's worth may begin at once after a quiet second.
        let earliest = now.checked_sub(Duration::from_secs(1) - interval).unwrap_or(now);
        let at = next.unwrap_or(earliest).max(earliest);
        if at > deadline {
            return Err(HandshakeResult::Overloaded);
        }
        *next = Some(at + interval);
        Ok((at > now).then_some(at))
    }
}

/// The steps of one worker: taken by its tasks, given by its loop.
#[derive(Debug)]
pub(crate) struct Steps {
    left: Arc<Semaphore>,
    wanted: Notify,
}

impl Steps {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { left: Arc::new(Semaphore::new(STEPS_MAX)), wanted: Notify::new() })
    }

    /// Gives the steps until the next turn.
    pub(crate) fn refill(&self) {
        let missing = STEPS_MAX.saturating_sub(self.left.available_permits());
        if missing > 0 {
            self.left.add_permits(missing);
        }
    }

    /// Waits until a task wants a step that is not left. Cancel safe.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

/// A socket whose reads take steps, until its handshake is over.
pub(crate) struct Paced {
    socket: TcpStream,
    steps: Option<(Arc<Steps>, PollSemaphore)>,
}

impl Paced {
    pub(crate) fn new(socket: TcpStream, steps: &Arc<Steps>) -> Self {
        let left = PollSemaphore::new(Arc::clone(&steps.left));
        Self { socket, steps: Some((Arc::clone(steps), left)) }
    }

    /// The handshake is over.
    pub(crate) fn unpace(&mut self) {
        self.steps = None;
    }

    /// The socket.
    pub(crate) fn into_inner(self) -> TcpStream {
        self.socket
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((steps, left)) = &mut self.steps else { return Poll::Ready(Ok(())) };
        // One who has nothing to read takes nothing.
        ready!(self.socket.poll_read_ready(cx))?;
        match left.poll_acquire(cx) {
            Poll::Ready(step) => {
                step.into_iter().for_each(|step| step.forget());
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                steps.wanted.notify_one();
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_step(cx))?;
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_seconds(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn one_over_the_cap_waits_for_one_that_ends() {
        let limits = HandshakeLimits { handshakes_max: 1, per_second_max: None };
        let handshakes = Handshakes::new(limits);
        let held = handshakes.begin(in_seconds(9)).await.unwrap();
        let mut waiting = Box::pin(handshakes.begin(in_seconds(9)));
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        drop(held);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_for_its_peer_lets_the_next_begin() {
        let limits = HandshakeLimits { handshakes_max: 1, per_second_max: None };
        let handshakes = Handshakes::new(limits);
        let mut aside = Vec::new();
        for _ in 0..WAITING_FACTOR {
            let slot = handshakes.begin(in_seconds(9)).await.unwrap();
            aside.push(handshakes.step_aside(slot));
        }
        let last = handshakes.begin(in_seconds(9)).await.unwrap();
        aside.push(handshakes.step_aside(last));
        let over = handshakes.begin(in_seconds(9)).await.err();
        assert_eq!(over, Some(HandshakeResult::Overloaded), "and they are bounded");
        aside.clear();
        assert!(handshakes.begin(in_seconds(9)).await.is_ok());
        assert_eq!(handshakes.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_cap_holds_for_those_who_come_and_cuts_nobody() {
        let limits = |handshakes_max| HandshakeLimits { handshakes_max, per_second_max: None };
        let handshakes = Handshakes::new(limits(4));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(handshakes.begin(in_seconds(9)).await.unwrap());
        }
        let free = || handshakes.slots.available_permits();
        handshakes.set_limits(limits(1));
        assert_eq!(free(), 0, "three are in progress where one may be");
        held.pop();
        held.pop();
        assert_eq!(free(), 0, "one is in progress still");
        handshakes.set_limits(limits(3));
        assert_eq!(free(), 2);
        // What a cut still owes is settled by the raise, and only the rest is given out.
        held.push(handshakes.begin(in_seconds(9)).await.unwrap());
        held.push(handshakes.begin(in_seconds(9)).await.unwrap());
        handshakes.set_limits(limits(1));
        handshakes.set_limits(limits(4));
        assert_eq!(free(), 1);
        held.clear();
        assert_eq!(free(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_bounded() {
        let limits = HandshakeLimits { handshakes_max: 1, per_second_max: None };
        let handshakes = Handshakes::new(limits);
        let _held = handshakes.begin(in_seconds(9)).await.unwrap();
        let mut waiting: Vec<_> =
            (0..WAITING_FACTOR).map(|_| Box::pin(handshakes.begin(in_seconds(9)))).collect();
        for one in &mut waiting {
            assert!(tokio::time::timeout(Duration::ZERO, one).await.is_err());
        }
        let over = handshakes.begin(in_seconds(9)).await.err();
        assert_eq!(over, Some(HandshakeResult::Overloaded));
        drop(waiting);
        assert_eq!(handshakes.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_seconds_worth_begins_at_once_and_then_the_rate_holds() {
        let limits = HandshakeLimits { handshakes_max: 99, per_second_max: Some(10) };
        let handshakes = Handshakes::new(limits);
        let start = Instant::now();
        for _ in 0..10 {
            drop(handshakes.begin(in_seconds(9)).await.unwrap());
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            drop(handshakes.begin(in_seconds(9)).await.unwrap());
        }
        assert!((900..1100).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        let late = handshakes.begin(Instant::now()).await.err();
        assert_eq!(late, Some(HandshakeResult::Overloaded), "no use in waiting past the deadline");
    }
}
