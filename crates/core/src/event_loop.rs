//! A worker's thread: its current-thread runtime, and the epoll of its table inside that runtime.
//! HTTP connections and handshakes run as tasks beside the table.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll as TaskPoll};
use std::time::{Duration, Instant};

use mio::Registry;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::metrics::{CoreMetrics, WorkerCells};
use crate::poll::{self, MioPoll};
use crate::tasks::{Accepted, TaskQuery, Tasks};
use crate::view::Row;
use crate::worker::pace::Pace;
use crate::worker::{Progress, Worker};

/// The probe of loop lag, the beat of health, and the clock of a drain's pace.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// Tasks started in one turn.
const STARTS_MAX: usize = 64;

/// Called at least ten times a second by a loop that turns.
pub type Beat = Box<dyn Fn() + Send>;

/// Everything a worker's thread is made of.
pub(crate) struct EventLoop {
    pub(crate) worker: Worker<MioPoll>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) accepted: mpsc::Receiver<Accepted>,
    pub(crate) queries: mpsc::Receiver<TaskQuery>,
    /// What woke the loop, taken out of its lane before the turn.
    pub(crate) woken: Woken,
    pub(crate) metrics: Arc<CoreMetrics>,
    pub(crate) cells: Arc<WorkerCells>,
    pub(crate) stop: CancellationToken,
    pub(crate) beat: Beat,
}

/// At most one of each lane.
#[derive(Default)]
pub(crate) struct Woken {
    accepted: Option<Accepted>,
    query: Option<TaskQuery>,
}

impl EventLoop {
    /// Turns until stopped.
    ///
    /// # Errors
    /// When epoll fails: the worker cannot go on.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let watched = poll::watch(self.worker.poll.watch()?)?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = None;
        while !self.stop.is_cancelled() {
            let begun = clock::now();
            (self.beat)();
            let progress = self.worker.turn(begun)?;
            self.worker.time_turn(begun);
            self.tasks.steps.refill();
            self.start_tasks();
            self.answer_queries(begun);
            self.drain_tasks(&mut pace, begun);
            match progress {
                // The yield lets the runtime poll its own driver and tasks before the next turn.
                Progress::Busy => {
                    tokio::task::yield_now().await;
                    self.look_at(&mut tick).await;
                }
                Progress::Idle => self.wait(&watched, &mut tick).await?,
            }
        }
        Ok(())
    }

    /// Waits for the first of: mail, a socket of the table, an accepted connection, the tick.
    async fn wait(&mut self, watched: &AsyncFd<Registry>, tick: &mut Interval) -> io::Result<()> {
        let stop = self.stop.clone();
        let mut stopped = std::pin::pin!(stop.cancelled());
        let steps = Arc::clone(&self.tasks.steps);
        let mut wanted = std::pin::pin!(steps.wanted());
        let Self { worker, accepted, queries, woken: kept, metrics, cells, tasks, .. } = self;
        std::future::poll_fn(|cx| {
            let mut woken = worker.poll_mail(cx).is_ready();
            // Cleared before the turn polls epoll: what comes after it is a new edge.
            if let TaskPoll::Ready(ready) = watched.poll_read_ready(cx) {
                ready?.clear_ready();
                woken = true;
            }
            if let TaskPoll::Ready(Some(new)) = accepted.poll_recv(cx) {
                kept.accepted = Some(new);
                woken = true;
            }
            if let TaskPoll::Ready(Some(query)) = queries.poll_recv(cx) {
                kept.query = Some(query);
                woken = true;
            }
            woken |= std::future::Future::poll(stopped.as_mut(), cx).is_ready();
            woken |= std::future::Future::poll(wanted.as_mut(), cx).is_ready();
            woken |= ticked(tick, cx, metrics, cells, tasks);
            if woken { TaskPoll::Ready(Ok(())) } else { TaskPoll::Pending }
        })
        .await
    }

    /// Looks whether the tick is due, without waiting: a loop that is always busy lags no more than
    /// a turn takes.
    async fn look_at(&mut self, tick: &mut Interval) {
        std::future::poll_fn(|cx| {
            ticked(tick, cx, &self.metrics, &self.cells, &self.tasks);
            TaskPoll::Ready(())
        })
        .await;
    }

    fn start_tasks(&mut self) {
        for _ in 0..STARTS_MAX {
            let kept = self.woken.accepted.take();
            let Some(accepted) = kept.or_else(|| self.accepted.try_recv().ok()) else { break };
            Tasks::start(&self.tasks, accepted, self.worker.is_forced());
        }
    }

    fn answer_queries(&mut self, now: Instant) {
        loop {
            let kept = self.woken.query.take();
            let Some((query, reply)) = kept.or_else(|| self.queries.try_recv().ok()) else { break };
            let mut rows: Vec<Row> = self.tasks.rows(now);
            rows.retain(|row| query.matches(row));
            query.trim(&mut rows);
            if reply.send(rows).is_err() {
                tracing::debug!("nobody waits for the list of connections any more");
            }
        }
    }

    /// Tells tasks to go at the pace of the drain.
    fn drain_tasks(&self, pace: &mut Option<Pace>, now: Instant) {
        if let Some(window) = self.worker.drain_window() {
            self.tasks.drain(pace, window, now);
        }
    }
}

/// Does what the tick is for when it is due. Returns whether it was.
fn ticked(
    tick: &mut Interval,
    cx: &mut Context<'_>,
    metrics: &CoreMetrics,
    cells: &WorkerCells,
    tasks: &Tasks,
) -> bool {
    let TaskPoll::Ready(due) = tick.poll_tick(cx) else { return false };
    let now = clock::now();
    metrics.ticked(cells, now, now.saturating_duration_since(due.into_std()));
    tasks.close_idle_under_pressure();
    true
}
