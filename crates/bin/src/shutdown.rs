//! The stages of a stop: one place moves them, each with its timeout, metric and log line.
//! It tells others through tokens, and knows nothing of sockets or upstreams.

mod metrics;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::Span;
use weir_core::lifeline::Lifeline;
pub use weir_ops::LifeStage as Stage;

pub use self::metrics::StageMetrics;
use crate::config::sections::Shutdown as Graces;

/// How often what remains is counted.
const LOOK: Duration = Duration::from_millis(50);
/// How often the log tells what remains.
const PROGRESS: Duration = Duration::from_secs(3);

/// Somebody asks weir to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A signal. The second one forces, the third ends the process.
    Signal(&'static str),
    /// `POST /drain`. However often it comes, it is only the beginning.
    Request,
}

/// Work that was cut off: connections by force, and what was left behind them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// With a message whose answer had not come.
    pub in_flight: u64,
    /// With answers that their peer had not taken.
    pub undelivered: u64,
    /// What backends should have been told, and were not when it was flushed.
    pub notices: u64,
}

/// What is being stopped.
pub trait Stoppable {
    /// How many connections are open or being opened. Zero ends the drain.
    fn remaining(&self) -> u64;

    /// What was cut off so far.
    fn lost(&self) -> Lost;

    /// Closes and writes what stands behind connections. Dropped when the flush stage is over.
    fn flush(&mut self) -> impl Future<Output = ()> + Send;
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every accepted request has its answer. Exit code 0.
    Complete,
    /// Work was cut off, or what stands behind connections was not flushed. Exit code 1.
    Lossy,
    /// A third signal: the process ends now, whatever is left. Exit code 1.
    Abandoned,
}

/// The stage machine.
#[derive(Debug)]
pub struct Shutdown {
    graces: Graces,
    lifeline: Lifeline,
    stops: mpsc::Receiver<Stop>,
    metrics: StageMetrics,
    stage: watch::Sender<Stage>,
    entered: Instant,
    signals: u32,
    /// The span of the stop, and that of its stage.
    spans: Option<(Span, Span)>,
}

/// Why a stage was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Nothing remains.
    Done,
    /// Its time was over.
    TimedOut,
    /// A second signal.
    Urged,
    /// A third signal.
    Abandoned,
}

impl Shutdown {
    /// A machine that is at `starting` and listens for stops.
    pub fn new(
        graces: Graces,
        lifeline: Lifeline,
        stops: mpsc::Receiver<Stop>,
        metrics: StageMetrics,
    ) -> Self {
        metrics.enter(Stage::Starting);
        let (stage, _) = watch::channel(Stage::Starting);
        Self {
            graces,
            lifeline,
            stops,
            metrics,
            stage,
            entered: Instant::now(),
            signals: 0,
            spans: None,
        }
    }

    /// The stage, as it moves.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Lives through every stage. `start` begins to accept and resolves once everything is ready.
    pub async fn run(
        mut self,
        start: impl Future<Output = ()>,
        work: &mut impl Stoppable,
    ) -> Outcome {
        if self.started(start).await {
            self.enter(Stage::Serving, work);
            self.asked().await;
            // Before it is told: who reads of the stage finds that it holds.
            self.lifeline.notice.cancel();
            self.enter(Stage::Unready, work);
            if self.wait(self.graces.unready.0, Until::Time, work).await == Left::Abandoned {
                return Outcome::Abandoned;
            }
        }
        if self.signals < 2 {
            self.enter(Stage::Draining, work);
            self.lifeline.drain.cancel();
            if self.wait(self.graces.drain.0, Until::Empty, work).await == Left::Abandoned {
                return Outcome::Abandoned;
            }
        }
        if work.remaining() > 0 || self.signals > 1 {
            self.enter(Stage::Forcing, work);
            let forced = work.remaining();
            self.lifeline.force.cancel();
            let left = self.wait(self.graces.force.0, Until::Empty, work).await;
            self.tell_forced(forced, left, work);
            if left == Left::Abandoned {
                return Outcome::Abandoned;
            }
        }
        self.lifeline.force.cancel();
        let closed = work.remaining() == 0;
        self.enter(Stage::Flushing, work);
        let left = self.flush(work).await;
        let kept = closed && work.lost() == Lost::default();
        self.enter(Stage::Stopped, work);
        match left {
            Left::Abandoned => Outcome::Abandoned,
            Left::Done if kept => Outcome::Complete,
            Left::Done | Left::TimedOut | Left::Urged => Outcome::Lossy,
        }
    }

    /// Waits until everything is ready; false when a stop comes first.
    async fn started(&mut self, start: impl Future<Output = ()>) -> bool {
        // Readiness first: a stop that has come by then still gets its unready stage.
        tokio::select! {
            biased;
            () = start => true,
            () = self.asked() => false,
        }
    }

    /// Waits for the first ask to stop.
    async fn asked(&mut self) {
        match self.stops.recv().await {
            Some(stop) => self.note(stop),
            // Nobody is left who could ask: weir serves until it is killed.
            None => std::future::pending().await,
        }
    }

    fn note(&mut self, stop: Stop) {
        match stop {
            Stop::Signal(signal) => {
                self.signals += 1;
                tracing::info!(signal, signals = self.signals, "asked to stop");
            }
            Stop::Request => tracing::info!("asked to stop by POST /drain"),
        }
    }

    /// Moves on to a stage: gauge, `/readyz`, and a line about the stage that was left.
    fn enter(&mut self, stage: Stage, work: &impl Stoppable) {
        let now = Instant::now();
        let took = now - self.entered;
        self.entered = now;
        let left = self.stage.send_replace(stage);
        self.metrics.left(left, took);
        self.metrics.enter(stage);
        let seconds = round(took);
        tracing::info!(%stage, %left, seconds, connections = work.remaining(), "stage");
        self.spans = match stage {
            Stage::Unready | Stage::Draining | Stage::Forcing => {
                let stop = self.spans.take().map(|(stop, _)| stop);
                let stop = stop.unwrap_or_else(|| tracing::info_span!(parent: None, "stop"));
                let name = stage.to_string();
                let of_stage = tracing::info_span!(parent: &stop, "stage", otel.name = name);
                Some((stop, of_stage))
            }
            // Spans end here, so that the flush has the last of them.
            Stage::Starting | Stage::Serving | Stage::Flushing | Stage::Stopped => None,
        };
    }

    /// Stays in a stage for at most `grace`.
    async fn wait(&mut self, grace: Duration, until: Until, work: &impl Stoppable) -> Left {
        let stage = *self.stage.borrow();
        let deadline = self.entered + grace;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = self.entered;
        loop {
            // Signals first: a stage whose time is over must not swallow one.
            tokio::select! {
                biased;
                Some(stop) = self.stops.recv() => {
                    self.note(stop);
                    if self.signals > 2 {
                        return Left::Abandoned;
                    }
                    if self.signals > 1 && stage < Stage::Forcing {
                        return Left::Urged;
                    }
                }
                () = sleep_until(deadline) => return Left::TimedOut,
                now = look.tick() => {
                    let connections = work.remaining();
                    if until == Until::Empty && connections == 0 {
                        return Left::Done;
                    }
                    if now - told >= PROGRESS {
                        told = now;
                        let seconds_left = round(deadline - now);
                        tracing::info!(%stage, connections, seconds_left, "stopping");
                    }
                }
            }
        }
    }

    /// The one line about what the force closed.
    fn tell_forced(&self, connections: u64, left: Left, work: &impl Stoppable) {
        let Lost { in_flight, undelivered, notices: _ } = work.lost();
        let still_open = work.remaining();
        if left == Left::Done && in_flight + undelivered == 0 {
            tracing::info!(connections, "closed by force; their peers were owed nothing");
        } else {
            tracing::warn!(
                connections,
                in_flight,
                undelivered,
                still_open,
                "closed by force; work was lost"
            );
        }
    }

    /// Flushes, and waits for every task.
    async fn flush(&mut self, work: &mut impl Stoppable) -> Left {
        let tasks = self.lifeline.tasks.clone();
        let deadline = self.entered + self.graces.flush.0;
        let flush = async {
            work.flush().await;
            tasks.close();
            tasks.wait().await;
        };
        tokio::pin!(flush);
        loop {
            tokio::select! {
                biased;
                () = &mut flush => return Left::Done,
                Some(stop) = self.stops.recv() => {
                    self.note(stop);
                    if self.signals > 2 {
                        return Left::Abandoned;
                    }
                }
                () = sleep_until(deadline) => {
                    tracing::warn!(tasks = tasks.len(), "not everything was flushed in time");
                    return Left::TimedOut;
                }
            }
        }
    }
}

/// What ends a stage besides its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Nothing: the stage is there to be waited for.
    Time,
    /// No connections remain.
    Empty,
}

/// Seconds to a thousandth, for a log line.
fn round(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
