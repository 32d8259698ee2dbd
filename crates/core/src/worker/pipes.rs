//! The engine over in-memory pipes, turned by hand with time as an argument: what simulations and
//! the measurement of a million sessions stand on. The table, the connections and the turns are
//! those of production; only the poll and the accept loop are not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::asks::AskSpawner;
use super::{Bench, Control, Mailbox, Progress, Worker};
use crate::admission::{Admission, AdmissionLimits, Refusal};
use crate::connection::NewConnection;
use crate::context::{ConnId, ConnIds, RequestId};
use crate::door::Introduction;
use crate::ends::{Ended, Ends};
use crate::local::{Locals, Wake};
use crate::metrics::{ConnectionRecord, CoreMetrics, SiteLabels};
use crate::poll::PipePoll;
use crate::service::MessageKind;
use crate::site::Site;
use crate::transport::{PipeSocket, Socket};
use crate::wire::stream::Request;

/// Mail of each kind that waits for a worker.
const MAIL_MAX: usize = 1024;

/// Workers whose connections are pipes. Nothing happens but in its methods.
pub struct PipeEngine {
    workers: Vec<Worker<PipePoll>>,
    hands: Vec<Hand>,
    sites: Arc<[Site]>,
    admission: Arc<Admission>,
    metrics: Arc<CoreMetrics>,
    ends: Arc<Ends>,
    ids: ConnIds,
}

/// The sending ends of a worker's lanes.
struct Hand {
    control: mpsc::Sender<Control>,
    opens: mpsc::Sender<NewConnection<Socket<PipeSocket>>>,
    load: Arc<AtomicUsize>,
}

/// What one connection holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which one.
    pub conn: ConnId,
    /// Bytes that wait for its socket.
    pub outbox_bytes: usize,
    /// Bytes of its unfinished message, or that wait because reading is held back.
    pub rest_bytes: usize,
    /// Messages whose answers are owed.
    pub in_flight: usize,
}

impl PipeEngine {
    /// `workers` workers with these sites. The place of a site is its index, the index of its
    /// cells and of its listener in `admission`. Asks run on `runtime`.
    pub fn new(
        sites: Vec<Site>,
        workers: usize,
        admission: AdmissionLimits,
        runtime: &Handle,
        now: Instant,
    ) -> Self {
        let names = sites.iter().map(|site| site.listener.clone()).collect();
        let labels = sites
            .iter()
            .map(|site| SiteLabels {
                listener: site.listener.clone(),
                route: site.service.route().to_owned(),
            })
            .collect();
        let metrics = CoreMetrics::new(names, labels, workers, admission.connections_max);
        let mut engine = Self {
            workers: Vec::with_capacity(workers),
            hands: Vec::with_capacity(workers),
            sites: sites.into(),
            admission: Admission::new(admission),
            metrics,
            ends: Arc::new(Ends::new(false)),
            ids: ConnIds::new(0),
        };
        for index in 0..workers {
            engine.add_worker(index, runtime, now);
        }
        engine
    }

    /// Gives each worker what its sessions share. Called before anybody is connected.
    #[must_use]
    pub fn with_locals(mut self, locals: &dyn Locals) -> Self {
        let budget = self.metrics.keep_budget(None, locals.frames());
        let open = |(index, worker): (usize, Worker<PipePoll>)| {
            let (wake, wakes) = Wake::new();
            worker.with_local(locals.open(index, wake), wakes).with_budget(Arc::clone(&budget))
        };
        self.workers = self.workers.into_iter().enumerate().map(open).collect();
        self
    }

    /// Bounds what all outboxes hold together; of no effect before [`PipeEngine::with_locals`].
    pub fn keep_outboxes_within(&self, bytes: usize) {
        if let Some(budget) = self.metrics.budget.get() {
            budget.set(Some(bytes));
        }
    }

    /// What all outboxes hold together.
    pub fn outboxes(&self) -> u64 {
        self.metrics.budget.get().map_or(0, |budget| budget.held())
    }

    fn add_worker(&mut self, index: usize, runtime: &Handle, now: Instant) {
        let (control, control_lane) = mpsc::channel(MAIL_MAX);
        let (opens, opens_lane) = mpsc::channel(MAIL_MAX);
        let (answers, answers_lane) = mpsc::channel(MAIL_MAX);
        let load = Arc::new(AtomicUsize::new(0));
        let asks = AskSpawner::new(runtime.clone(), TaskTracker::new(), answers);
        let (sites, cells) = (Arc::clone(&self.sites), self.metrics.worker(index));
        // Stages are timed by the real clock: off, so that a run is the same every time.
        let bench = Bench::new(sites, cells, asks, false, now);
        let mailbox = Mailbox { control: control_lane, opens: opens_lane, answers: answers_lane };
        let (poll, ends) = (PipePoll::new(), Arc::clone(&self.ends));
        self.workers.push(Worker::new(poll, bench, mailbox, ends, Arc::clone(&load), now));
        self.hands.push(Hand { control, opens, load });
    }

    /// Reads at most this many bytes at once, where production has room for 64 KiB: so that small
    /// pipes, too, hold more than a turn takes.
    pub fn read_at_most(&mut self, bytes: usize) {
        for worker in &mut self.workers {
            worker.bench.read_at_most(bytes);
        }
    }

    /// What the accept loop does: admission, then the worker with the least load. The handshakes of
    /// `socket` are over; `early` came right behind them; on a stream it is the text
    /// of its request.
    ///
    /// # Errors
    ///
    /// The limit that refuses it; the pipe is dropped.
    ///
    /// # Panics
    ///
    /// When 1,024 connections wait for one worker: turn it in between.
    pub fn connect(
        &self,
        socket: Socket<PipeSocket>,
        site: u16,
        peer: SocketAddr,
        early: Vec<u8>,
        now: Instant,
    ) -> Result<ConnId, Refusal> {
        let permit = self
            .admission
            .admit(site, peer.ip(), now)
            .inspect_err(|refusal| self.metrics.refused(site, *refusal))?;
        let record = ConnectionRecord::open(&self.metrics, site);
        let id = self.ids.next();
        let request_id = RequestId::Message { conn: id, seq: 0 };
        let bytes = u32::try_from(early.len()).unwrap_or(u32::MAX);
        let request = (bytes > 0).then_some(Request { bytes, kind: MessageKind::Text });
        let new = NewConnection {
            socket,
            site,
            id,
            peer,
            permit,
            record,
            request,
            early,
            request_id,
            accepted: now,
            tls: None,
            handshake: None,
            introduction: Introduction::default(),
        };
        let hand = self.hands.iter().min_by_key(|hand| hand.load.load(Ordering::Relaxed));
        if let Some(hand) = hand {
            hand.load.fetch_add(1, Ordering::Relaxed);
            assert!(hand.opens.try_send(new).is_ok(), "the lane of a worker is full");
        }
        Ok(id)
    }

    /// One bounded turn of every worker; true when one of them left something to do at once.
    ///
    /// # Errors
    ///
    /// Those of the poll: pipes have none.
    pub fn turn(&mut self, now: Instant) -> io::Result<bool> {
        let mut busy = false;
        for worker in &mut self.workers {
            busy |= worker.turn(now)? == Progress::Busy;
        }
        Ok(busy)
    }

    /// Begins the drain: nobody is admitted, and everybody is closed over this window.
    pub fn drain(&self, window: Duration) {
        self.admission.drain();
        self.tell(|| Control::Drain(window));
    }

    /// Closes everybody in the next turn.
    pub fn force(&self) {
        self.tell(|| Control::Force);
    }

    fn tell(&self, control: impl Fn() -> Control) {
        for hand in &self.hands {
            assert!(hand.control.try_send(control()).is_ok(), "the lane of a worker is full");
        }
    }

    /// What each connection holds now.
    pub fn held(&self) -> impl Iterator<Item = Held> {
        self.workers.iter().flat_map(|worker| {
            let places = (0..worker.table.index_end()).filter_map(|at| worker.table.at(at));
            // A table fills from its front: there is no need to walk its empty end.
            places.take(worker.table.len()).map(|(_, connection)| Held {
                conn: connection.id,
                outbox_bytes: connection.outbox_bytes(),
                rest_bytes: connection.rest_bytes(),
                in_flight: connection.in_flight(),
            })
        })
    }

    /// The metrics of this engine.
    pub fn metrics(&self) -> &CoreMetrics {
        &self.metrics
    }

    /// Permits that are out.
    pub fn permits(&self) -> usize {
        self.admission.open()
    }

    /// The connections that ended last, newest first.
    pub fn ended(&self) -> Vec<Ended> {
        self.ends.newest()
    }
}
