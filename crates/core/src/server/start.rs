//! From bound to running: a thread, a runtime and five lanes for each worker. The lanes' capacities
//! are here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::accept::Acceptor;
use super::plan::Target;
use super::running::Running;
use super::{Bound, BoundListener};
use crate::asks::Asks;
use crate::clock;
use crate::connection::NewConnection;
use crate::context::ConnIds;
use crate::ends::Ends;
use crate::event_loop::{Beat, EventLoop, Woken};
use crate::lifeline::Lifeline;
use crate::local::Wake;
use crate::metrics::CoreMetrics;
use crate::poll::MioPoll;
use crate::refuse::{RefusalForm, Refuser};
use crate::tasks::{Accepted, TaskQuery, Tasks};
use crate::tls::Steps;
use crate::transport::Socket;
use crate::worker::asks::AskSpawner;
use crate::worker::{Bench, Control, Mailbox, Worker};

/// Connections that wait for a worker to take them up; beyond it the accept loop waits.
const OPENS_WAITING_MAX: usize = 1024;
/// Answers that wait for a worker; beyond it their tasks wait.
const ANSWERS_WAITING_MAX: usize = 4096;
/// Control messages that wait for a worker.
const CONTROLS_WAITING_MAX: usize = 64;
impl Bound {
    /// Each listener's name and the address it is bound to.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.listeners.iter().map(|one| (one.name.clone(), one.address)).collect()
    }

    /// The catalogue of this engine.
    pub fn metrics(&self) -> Arc<CoreMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Starts the workers; nothing is accepted before [`Running::accept`]. `service` runs accept
    /// loops, refusals and asks; `beats` has one value for each worker.
    ///
    /// # Errors
    /// When a thread, a runtime or an epoll instance cannot be made.
    pub fn start(
        self,
        lifeline: &Lifeline,
        service: &Handle,
        beats: Vec<Beat>,
    ) -> io::Result<Running> {
        let stop = CancellationToken::new();
        let ends = Arc::new(Ends::new(self.settings.log_connections));
        let mut hands = Vec::with_capacity(self.settings.workers);
        let mut threads = Vec::with_capacity(self.settings.workers);
        for (index, beat) in beats.into_iter().enumerate().take(self.settings.workers) {
            let (hand, thread) = self.start_worker(index, lifeline, service, &ends, &stop, beat)?;
            hands.push(hand);
            threads.push(thread);
        }
        let hands: Arc<[WorkerHand]> = hands.into();
        let tls = self.tasks.iter().filter_map(|one| one.handshake.tls.clone()).collect();
        let running = Running {
            tls,
            admission: Arc::clone(&self.admission),
            metrics: Arc::clone(&self.metrics),
            http_metrics: self.http_metrics.clone(),
            handshakes: self.handshakes.clone(),
            trust: Arc::clone(&self.trust),
            handshake_pace: Arc::clone(&self.handshake_pace),
            tasks: Arc::clone(&self.tasks),
            ends,
            hands,
            threads: Mutex::new(threads),
            stop,
            acceptors: Mutex::default(),
        };
        running.obey(lifeline, service, self.settings.drain_window);
        *running.acceptors.lock() = self.acceptors(&running, lifeline, service);
        Ok(running)
    }

    fn start_worker(
        &self,
        index: usize,
        lifeline: &Lifeline,
        service: &Handle,
        ends: &Arc<Ends>,
        stop: &CancellationToken,
        beat: Beat,
    ) -> io::Result<(WorkerHand, JoinHandle<()>)> {
        let (control, control_lane) = mpsc::channel(CONTROLS_WAITING_MAX);
        let (opens, opens_lane) = mpsc::channel(OPENS_WAITING_MAX);
        let (answers, answers_lane) = mpsc::channel(ANSWERS_WAITING_MAX);
        let (accepted, accepted_lane) = mpsc::channel(OPENS_WAITING_MAX);
        let (queries, queries_lane) = mpsc::channel(CONTROLS_WAITING_MAX);
        let load = Arc::new(AtomicUsize::new(0));
        let asks = AskSpawner::new(service.clone(), lifeline.tasks.clone(), answers);
        let now = clock::now();
        let cells = self.metrics.worker(index);
        let bench = Bench::new(
            Arc::clone(&self.sites),
            Arc::clone(&cells),
            asks,
            self.settings.stages,
            now,
        )
        .traced(&self.settings.tracing);
        let mailbox = Mailbox { control: control_lane, opens: opens_lane, answers: answers_lane };
        let mut worker =
            Worker::new(MioPoll::new()?, bench, mailbox, Arc::clone(ends), Arc::clone(&load), now);
        worker = worker.with_budget(Arc::clone(&self.budget));
        if let Some(locals) = &self.settings.locals {
            let (wake, wakes) = Wake::new();
            worker = worker.with_local(locals.open(index, wake), wakes);
        }
        let tasks = Arc::new(Tasks {
            listeners: Arc::clone(&self.tasks),
            sites: Arc::clone(&self.sites),
            handshakes: Arc::clone(&self.handshake_pace),
            steps: Steps::new(),
            asks: Asks::new(service.clone(), lifeline.tasks.clone()),
            opens: opens.clone(),
            ends: Arc::clone(ends),
            load: Arc::clone(&load),
            cells: Arc::clone(&cells),
            tracker: lifeline.tasks.clone(),
            notice: lifeline.notice.clone(),
            force: lifeline.force.clone(),
            pressure: Arc::clone(self.admission.pressure()),
            live: Mutex::default(),
        });
        let event_loop = EventLoop {
            worker,
            tasks,
            accepted: accepted_lane,
            queries: queries_lane,
            woken: Woken::default(),
            metrics: Arc::clone(&self.metrics),
            cells,
            stop: stop.clone(),
            beat,
        };
        let thread = spawn_worker(index, event_loop)?;
        Ok((WorkerHand { control, opens, accepted, queries, load }, thread))
    }

    /// What a refused peer of this listener is told.
    fn form(&self, target: Target) -> RefusalForm {
        match target {
            Target::Table(site) => RefusalForm::Message(site),
            Target::Task(task) => self.tasks[task].form,
        }
    }

    fn acceptors(
        self,
        running: &Running,
        lifeline: &Lifeline,
        service: &Handle,
    ) -> Vec<(BoundListener, Acceptor)> {
        let refuser = Refuser::new(
            Arc::clone(&self.metrics),
            Arc::clone(&self.sites),
            lifeline.tasks.clone(),
            service.clone(),
        );
        let ids = Arc::new(ConnIds::new(self.settings.seed));
        let forms: Vec<_> = self.listeners.iter().map(|one| self.form(one.target)).collect();
        let acceptor = |((index, listener), form): ((usize, BoundListener), RefusalForm)| {
            let acceptor = Acceptor {
                index: index as u16,
                target: listener.target,
                form,
                admission: Arc::clone(&self.admission),
                trust: Arc::clone(&self.trust),
                metrics: Arc::clone(&self.metrics),
                refuser: refuser.clone(),
                hands: Arc::clone(&running.hands),
                ids: Arc::clone(&ids),
            };
            (listener, acceptor)
        };
        self.listeners.into_iter().enumerate().zip(forms).map(acceptor).collect()
    }
}

fn spawn_worker(index: usize, event_loop: EventLoop) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("weir-worker-{index}")).spawn(move || {
        if let Err(error) = runtime.block_on(event_loop.run()) {
            tracing::error!(worker = index, %error, "worker ended");
        }
    })
}

/// The sending ends of a worker's lanes.
pub(super) struct WorkerHand {
    pub(super) control: mpsc::Sender<Control>,
    pub(super) opens: mpsc::Sender<NewConnection<Socket>>,
    pub(super) accepted: mpsc::Sender<Accepted>,
    pub(super) queries: mpsc::Sender<TaskQuery>,
    pub(super) load: Arc<AtomicUsize>,
}
