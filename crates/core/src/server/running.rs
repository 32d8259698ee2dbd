//! The engine at work: what the rest of the process may ask of it and tell it. Everything reaches
//! the workers as mail; nothing here waits for a turn of theirs without a bound.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::accept::Acceptor;
use super::plan::Plan;
use super::start::WorkerHand;
use super::{BoundListener, ServerOptions};
use crate::admission::Admission;
use crate::ends::{Ended, Ends};
use crate::handshake::Handshake;
use crate::http::{HttpMetrics, Trust};
use crate::lifeline::Lifeline;
use crate::listener::accept_loop;
use crate::metrics::{CoreMetrics, ExemplarRow};
use crate::pressure::PressureCell;
use crate::site::Site;
use crate::tasks::TaskListener;
use crate::tls::{self, Handshakes, ListenerTls, TlsReload};
use crate::view::{Query, Row};
use crate::worker::Control;

/// How long a list of connections is waited for.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// The listeners are not those that are bound.
#[derive(Debug, thiserror::Error)]
#[error("listeners, their paths and the routes they name cannot change while weir runs")]
pub struct ReloadError;

/// The engine at work.
pub struct Running {
    /// Of every listener that has it.
    pub(super) tls: Arc<[Arc<ListenerTls>]>,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Arc<CoreMetrics>,
    pub(super) http_metrics: HttpMetrics,
    pub(super) handshakes: Vec<Handshake>,
    pub(super) trust: Arc<ArcSwap<Trust>>,
    pub(super) handshake_pace: Arc<Handshakes>,
    pub(super) tasks: Arc<[TaskListener]>,
    pub(super) ends: Arc<Ends>,
    pub(super) hands: Arc<[WorkerHand]>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) stop: CancellationToken,
    /// Bound, and not accepting yet.
    pub(super) acceptors: Mutex<Vec<(BoundListener, Acceptor)>>,
}

impl Running {
    /// Begins to accept on every listener, until the lifeline drains. The second call does nothing.
    pub fn accept(&self, lifeline: &Lifeline, service: &Handle) {
        for (listener, acceptor) in self.acceptors.lock().drain(..) {
            let drain = lifeline.drain.clone();
            let task = async move {
                if let Err(error) = accept_loop(listener.socket, drain, acceptor).await {
                    tracing::error!(listener = listener.name, %error, "accept loop ended");
                }
            };
            lifeline.tasks.spawn_on(task, service);
        }
    }

    /// Passes the lifeline's word on to the workers.
    pub(super) fn obey(&self, lifeline: &Lifeline, service: &Handle, drain_window: Duration) {
        let hands = Arc::clone(&self.hands);
        let (drain, force) = (lifeline.drain.clone(), lifeline.force.clone());
        let stop = self.stop.clone();
        let task = async move {
            tokio::select! {
                () = drain.cancelled() => {}
                () = stop.cancelled() => return,
            }
            tell(&hands, || Control::Drain(drain_window)).await;
            tokio::select! {
                () = force.cancelled() => tell(&hands, || Control::Force).await,
                () = stop.cancelled() => {}
            }
        };
        // Neither is on the tracker: they live until the stop, which waits for the tracker.
        drop(service.spawn(task));
        if !self.tls.is_empty() {
            drop(service.spawn(tls::watch(Arc::clone(&self.tls), self.stop.clone())));
        }
    }

    /// Reads the certificate files of every listener again, at once; that is done every few seconds
    /// anyway. What is good takes effect for the handshakes that begin from then on.
    pub async fn reload_tls(&self) -> Vec<TlsReload> {
        tls::reload(Arc::clone(&self.tls)).await
    }

    /// Holds listeners to other limits, timeouts, trusted proxies and services from now on.
    ///
    /// Open connections have the new timeouts and limits at once, except the size of a message,
    /// which stays as it was when they opened, and keep the session they have: a changed service
    /// is for new connections, and for the next request of an HTTP connection. Whether a connection
    /// may begin with a PROXY header was decided when it was accepted.
    ///
    /// # Errors
    /// When the listeners, their paths or the routes that they name are not those that are bound;
    /// nothing has changed then.
    ///
    /// # Cancel safety
    /// When dropped, some workers may hold to the old values: call it again.
    pub async fn reload(&self, options: &ServerOptions) -> Result<(), ReloadError> {
        let plan = Plan::new(options, &self.handshakes, &self.http_metrics);
        let same = plan.labels == self.metrics.sites
            && plan.tasks.len() == self.tasks.len()
            && self.tasks.iter().zip(&plan.tasks).all(|(old, new)| old.is_shaped_as(new));
        if !same {
            return Err(ReloadError);
        }
        self.admission.set_limits(options.admission());
        self.metrics.set_connections_limit(options.connections_max);
        if let Some(budget) = self.metrics.budget.get() {
            budget.set(options.outboxes_bytes_max);
        }
        self.trust.store(Arc::new(options.trust.clone()));
        self.handshake_pace.set_limits(options.handshakes);
        for (old, new) in self.tasks.iter().zip(&plan.tasks) {
            old.replace_with(new);
        }
        let sites: Arc<[Site]> = plan.sites.into();
        tell(&self.hands, || Control::Reload(Arc::clone(&sites))).await;
        Ok(())
    }

    /// How hard the process is pressed: whoever measures sets it, admission and HTTP act on it.
    pub fn pressure(&self) -> &PressureCell {
        self.admission.pressure()
    }

    /// Closes the connections whose outboxes are largest until about `bytes` are freed, the same
    /// part of it on each worker; at most 256 on each. A worker whose lane is full is left out.
    pub fn shed(&self, bytes: usize) {
        let part = bytes.div_ceil(self.hands.len().max(1));
        for hand in self.hands.iter() {
            if hand.control.try_send(Control::Shed(part)).is_err() {
                tracing::debug!("a worker is told to shed already");
            }
        }
    }

    /// Connections that are open, handshakes included.
    pub fn open(&self) -> usize {
        self.admission.open()
    }

    /// The catalogue of this engine.
    pub fn metrics(&self) -> &Arc<CoreMetrics> {
        &self.metrics
    }

    /// The exemplars of the engine's histograms.
    pub fn exemplars(&self) -> Vec<ExemplarRow> {
        [self.metrics.exemplars(), self.http_metrics.exemplars()].concat()
    }

    /// Connections as they are now, in the query's order; a worker that does not answer within
    /// 5 s is left out.
    pub async fn list(&self, query: Query) -> Vec<Row> {
        let mut waiting = Vec::new();
        for hand in self.hands.iter() {
            let (reply, rows) = oneshot::channel();
            if hand.control.try_send(Control::List(query.clone(), reply)).is_ok() {
                waiting.push(rows);
            }
            let (reply, rows) = oneshot::channel();
            if hand.queries.try_send((query.clone(), reply)).is_ok() {
                waiting.push(rows);
            }
        }
        let mut all = Vec::new();
        for rows in waiting {
            if let Ok(Ok(rows)) = tokio::time::timeout(LIST_TIMEOUT, rows).await {
                all.extend(rows);
            }
        }
        query.trim(&mut all);
        all
    }

    /// The connections that ended last, newest first.
    pub fn ended(&self) -> Vec<Ended> {
        self.ends.newest()
    }

    /// Connections closed by force while answers were owed, and while only bytes were.
    pub fn lost(&self) -> (u64, u64) {
        self.ends.lost()
    }

    /// Ends the worker threads; what they still hold is closed as aborted. Blocks until they have.
    pub fn stop(&self) {
        self.stop.cancel();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

async fn tell(hands: &[WorkerHand], control: impl Fn() -> Control) {
    for hand in hands {
        if hand.control.send(control()).await.is_err() {
            tracing::debug!("a worker has ended already");
        }
    }
}
