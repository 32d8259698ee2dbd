//! The engine put together: bind everything, then run workers and accept loops on a lifeline.
//! Knows neither signals nor config.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, AdmissionLimits};
use crate::asks::Asks;
use crate::clock;
use crate::connection::NewConnection;
use crate::context::{ConnIds, RequestId};
use crate::door::Introduction;
use crate::ends::{Ended, Ends};
use crate::event_loop::{Beat, EventLoop, Woken};
use crate::handshake::Handshake;
use crate::http::{CurrentSite, HttpMetrics, HttpPath, HttpSite, Origins, PathKind, Trust};
use crate::lifeline::Lifeline;
use crate::limits::{Limits, Timeouts};
use crate::listener::{self, Accepting, SocketOptions, accept_loop};
use crate::metrics::{AcceptErrorKind, ConnectionRecord, CoreMetrics, ExemplarRow, SiteLabels};
use crate::poll::MioPoll;
use crate::pressure::PressureCell;
use crate::refuse::{RefusalForm, Refuser};
use crate::service::Service;
use crate::site::{Site, SiteWire};
use crate::stage::Stage;
use crate::tasks::{Accepted, TaskListener, TaskQuery, TaskWire, Tasks};
use crate::tls::{
    self, HandshakeLimits, Handshakes, ListenerTls, Steps, TlsFault, TlsMetrics, TlsOptions,
    TlsReload, TlsSettings,
};
use crate::trace::Tracing;
use crate::transport::Socket;
use crate::view::{Query, Row};
use crate::worker::asks::AskSpawner;
use crate::worker::{Bench, Control, Mailbox, Worker};

/// Connections that wait for a worker to take them up; beyond it the accept loop waits.
const OPENS_WAITING_MAX: usize = 1024;
/// Answers that wait for a worker; beyond it their tasks wait.
const ANSWERS_WAITING_MAX: usize = 4096;
/// Control messages that wait for a worker.
const CONTROLS_WAITING_MAX: usize = 64;
/// How long a list of connections is waited for.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// What a listener speaks.
pub enum ListenerKind {
    /// Messages of one wire, all for one service.
    Messages {
        /// The wire.
        wire: SiteWire,
        /// What is done with the messages.
        service: Arc<dyn Service>,
        /// A line sent each `ping_interval`.
        heartbeat: Option<Bytes>,
        /// A line sent when the drain closes a connection.
        farewell: Option<Bytes>,
    },
    /// HTTP: WebSocket paths and POST paths.
    Http {
        /// The paths, exact.
        paths: Vec<PathOptions>,
    },
}

/// One path of an HTTP listener.
pub struct PathOptions {
    /// The exact path, such as `/ws`.
    pub path: String,
    /// A WebSocket with these allowed origins, or a POST.
    pub websocket: Option<Origins>,
    /// What is done with its messages.
    pub service: Arc<dyn Service>,
}

/// One listener.
pub struct ListenerOptions {
    /// Its configured name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub kind: ListenerKind,
    /// Its own cap on open connections.
    pub connections_max: Option<usize>,
    /// Socket options.
    pub socket: SocketOptions,
    /// Whether trusted proxies send a PROXY header before all else.
    pub proxy_protocol: bool,
    /// TLS before the wire.
    pub tls: Option<TlsOptions>,
}

/// Everything the engine is made of.
pub struct ServerOptions {
    /// Event loops.
    pub workers: usize,
    /// The listeners.
    pub listeners: Vec<ListenerOptions>,
    /// Who may say that a connection is another's.
    pub trust: Trust,
    /// Caps on TLS handshakes.
    pub handshakes: HandshakeLimits,
    /// Caps on one connection.
    pub limits: Limits,
    /// Waits for a peer.
    pub timeouts: Timeouts,
    /// Open connections in total.
    pub connections_max: usize,
    /// Open connections from one address.
    pub connections_per_address_max: Option<usize>,
    /// New connections a second.
    pub connections_per_second_max: Option<u32>,
    /// Whether stages are timed.
    pub stages: bool,
    /// Whether the end of each connection is logged.
    pub log_connections: bool,
    /// Over how long a drain closes the open connections.
    pub drain_window: Duration,
    /// The random part of connection ids.
    pub seed: u64,
    /// Which messages and requests are traced, and for whom.
    pub tracing: Arc<Tracing>,
}

/// Why the engine could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A listener's address could not be bound.
    #[error("listener {listener}: cannot bind {address}")]
    Listener {
        /// The listener's name.
        listener: String,
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The files of a listener's TLS could not be used.
    #[error("listener {listener}: tls.{fault}")]
    Tls {
        /// The listener's name.
        listener: String,
        /// The first fault.
        fault: TlsFault,
    },
    /// Metrics could not be registered.
    #[error("metrics of listeners")]
    Metrics(#[from] prometheus::Error),
}

/// The listeners are not those that are bound.
#[derive(Debug, thiserror::Error)]
#[error("listeners, their paths and the routes they name cannot change while weir runs")]
pub struct ReloadError;

/// Every port is open, nothing is accepted yet.
pub struct Bound {
    listeners: Vec<BoundListener>,
    sites: Arc<[Site]>,
    tasks: Arc<[TaskListener]>,
    trust: Arc<Trust>,
    handshake_pace: Arc<Handshakes>,
    metrics: Arc<CoreMetrics>,
    http_metrics: HttpMetrics,
    /// What connections go through first, by listener.
    handshakes: Vec<Handshake>,
    admission: Arc<Admission>,
    settings: Settings,
}

struct Settings {
    workers: usize,
    stages: bool,
    log_connections: bool,
    drain_window: Duration,
    seed: u64,
    tracing: Arc<Tracing>,
}

struct BoundListener {
    name: String,
    socket: TcpListener,
    address: SocketAddr,
    target: Target,
}

/// Where accepted sockets of a listener go.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// Straight into a table, as this site.
    Table(u16),
    /// To a task of a worker, as this listener of theirs.
    Task(usize),
}

/// Binds every listener.
///
/// # Errors
/// The first address that cannot be bound, or certificate that cannot be used; what was bound is
/// closed again.
pub fn bind(options: ServerOptions, registry: &prometheus::Registry) -> Result<Bound, BindError> {
    let http_metrics = HttpMetrics::register(registry)?;
    let tls_metrics = TlsMetrics::register(registry)?;
    let trust = Arc::new(options.trust.clone());
    let handshakes = options.listeners.iter().map(|one| handshake(one, &trust, &tls_metrics));
    let handshakes = handshakes.collect::<Result<Vec<_>, _>>()?;
    let plan = Plan::new(&options, &handshakes, &trust, &http_metrics);
    let mut listeners = Vec::with_capacity(options.listeners.len());
    for (one, target) in options.listeners.iter().zip(plan.targets) {
        let fault = |source| BindError::Listener {
            listener: one.name.clone(),
            address: one.address,
            source,
        };
        let socket = listener::bind(one.address, &one.socket).map_err(fault)?;
        let address = socket.local_addr().map_err(fault)?;
        listeners.push(BoundListener { name: one.name.clone(), socket, address, target });
    }
    let names = options.listeners.iter().map(|one| one.name.clone()).collect();
    let metrics = CoreMetrics::new(names, plan.labels, options.workers, options.connections_max);
    registry.register(Box::new(crate::metrics::CoreCollector::new(Arc::clone(&metrics))?))?;
    let admission = Admission::new(options.admission());
    let settings = Settings {
        workers: options.workers,
        stages: options.stages,
        log_connections: options.log_connections,
        drain_window: options.drain_window,
        seed: options.seed,
        tracing: options.tracing,
    };
    let (sites, tasks) = (plan.sites.into(), plan.tasks.into());
    Ok(Bound {
        listeners,
        sites,
        tasks,
        trust,
        handshake_pace: Handshakes::new(options.handshakes),
        metrics,
        http_metrics,
        handshakes,
        admission,
        settings,
    })
}

impl ServerOptions {
    fn admission(&self) -> AdmissionLimits {
        AdmissionLimits {
            connections_max: self.connections_max,
            per_address_max: self.connections_per_address_max,
            per_second_max: self.connections_per_second_max,
            per_listener_max: self.listeners.iter().map(|one| one.connections_max).collect(),
        }
    }
}

/// Sites and listeners worked out from the options.
struct Plan {
    sites: Vec<Site>,
    /// The message counters there are: one place for each listener and route.
    labels: Vec<SiteLabels>,
    tasks: Vec<TaskListener>,
    targets: Vec<Target>,
    trust: Arc<Trust>,
}

impl Plan {
    fn new(
        options: &ServerOptions,
        handshakes: &[Handshake],
        trust: &Arc<Trust>,
        http_metrics: &HttpMetrics,
    ) -> Self {
        let mut plan = Self {
            sites: Vec::new(),
            labels: Vec::new(),
            tasks: Vec::new(),
            targets: Vec::new(),
            trust: Arc::clone(trust),
        };
        for (index, (one, handshake)) in options.listeners.iter().zip(handshakes).enumerate() {
            let handshake = handshake.clone();
            let target = match &one.kind {
                ListenerKind::Messages { wire, service, heartbeat, farewell } => {
                    let site = plan.site(options, index, *wire, service);
                    let place = &mut plan.sites[usize::from(site)];
                    place.heartbeat = heartbeat.clone();
                    place.farewell = farewell.clone();
                    if handshake.is_empty() {
                        Target::Table(site)
                    } else {
                        plan.task(options, index, handshake, TaskWire::Messages(site))
                    }
                }
                ListenerKind::Http { paths } => {
                    let wire = plan.http(options, index, paths, http_metrics);
                    plan.task(options, index, handshake, wire)
                }
            };
            plan.targets.push(target);
        }
        plan.count(options);
        plan
    }

    fn site(
        &mut self,
        options: &ServerOptions,
        listener: usize,
        wire: SiteWire,
        service: &Arc<dyn Service>,
    ) -> u16 {
        // Listeners come from a config file: there are not 65,536 of them.
        let index = self.sites.len() as u16;
        self.sites.push(Site {
            listener: options.listeners[listener].name.clone(),
            index,
            cells: 0,
            wire,
            service: Arc::clone(service),
            limits: options.limits.clone(),
            timeouts: options.timeouts.clone(),
            heartbeat: None,
            farewell: None,
        });
        index
    }

    fn http(
        &mut self,
        options: &ServerOptions,
        listener: usize,
        paths: &[PathOptions],
        metrics: &HttpMetrics,
    ) -> TaskWire {
        let mut websockets = Vec::new();
        let mut served = Vec::new();
        for path in paths {
            let kind = match &path.websocket {
                Some(origins) => PathKind::WebSocket { origins: origins.clone() },
                None => PathKind::Post,
            };
            websockets.push(
                path.websocket
                    .as_ref()
                    .map(|_| self.site(options, listener, SiteWire::WebSocket, &path.service)),
            );
            served.push(HttpPath {
                path: path.path.as_str().into(),
                kind,
                service: Arc::clone(&path.service),
            });
        }
        let site = HttpSite::new(
            options.listeners[listener].name.clone(),
            served,
            options.limits.clone(),
            options.timeouts.clone(),
            metrics,
        );
        let site = site.trusting(Arc::clone(&self.trust)).traced(&options.tracing);
        TaskWire::Http { site: CurrentSite::new(site), websockets, cells: Vec::new() }
    }

    fn task(
        &mut self,
        options: &ServerOptions,
        listener: usize,
        handshake: Handshake,
        wire: TaskWire,
    ) -> Target {
        // Under TLS a refused peer is told nothing: a handshake is what there is no room for.
        let form = match &wire {
            _ if handshake.tls.is_some() => RefusalForm::Silence,
            TaskWire::Messages(site) => RefusalForm::Message(*site),
            TaskWire::Http { .. } => RefusalForm::Http,
        };
        self.tasks.push(TaskListener {
            name: options.listeners[listener].name.clone(),
            timeouts: ArcSwap::from_pointee(options.timeouts.clone()),
            handshake,
            form,
            wire,
            carrier_cells: 0,
        });
        Target::Task(self.tasks.len() - 1)
    }

    /// Gives every site and every HTTP path its place among the message counters.
    fn count(&mut self, options: &ServerOptions) {
        let labels = |listener: &str, route: &str| SiteLabels {
            listener: listener.to_owned(),
            route: route.to_owned(),
        };
        for site in &mut self.sites {
            let labels = labels(&site.listener, site.service.route());
            site.cells = find_or_push(&mut self.labels, labels) as u16;
        }
        for (one, target) in options.listeners.iter().zip(&self.targets) {
            let Target::Task(task) = *target else { continue };
            let task = &mut self.tasks[task];
            match (&mut task.wire, &one.kind) {
                (TaskWire::Http { websockets, cells, .. }, ListenerKind::Http { paths }) => {
                    for (path, websocket) in paths.iter().zip(websockets) {
                        cells.push(match websocket {
                            Some(site) => usize::from(self.sites[usize::from(*site)].cells),
                            None => {
                                let labels = labels(&one.name, path.service.route());
                                find_or_push(&mut self.labels, labels)
                            }
                        });
                    }
                    // HTTP itself belongs to no route.
                    task.carrier_cells = find_or_push(&mut self.labels, labels(&one.name, ""));
                }
                (TaskWire::Messages(site), _) => {
                    task.carrier_cells = usize::from(self.sites[usize::from(*site)].cells);
                }
                (TaskWire::Http { .. }, ListenerKind::Messages { .. }) => {}
            }
        }
    }
}

/// What the connections of a listener go through first.
fn handshake(
    one: &ListenerOptions,
    trust: &Arc<Trust>,
    metrics: &TlsMetrics,
) -> Result<Handshake, BindError> {
    let tls = one.tls.as_ref().map(|options| listener_tls(one, options, metrics));
    let proxies = one.proxy_protocol.then(|| Arc::clone(trust));
    Ok(Handshake { proxies, tls: tls.transpose()? })
}

/// TLS of a listener, from its files.
fn listener_tls(
    one: &ListenerOptions,
    options: &TlsOptions,
    metrics: &TlsMetrics,
) -> Result<Arc<ListenerTls>, BindError> {
    let settings = TlsSettings::load(options.clone()).map_err(|faults| BindError::Tls {
        listener: one.name.clone(),
        fault: faults.into_iter().next().expect("no error is without a fault"),
    })?;
    let metrics = metrics.listener(&one.name);
    Ok(ListenerTls::new(one.name.clone(), settings, metrics))
}

/// Two paths may lead to the same route: a series has one place.
fn find_or_push(all: &mut Vec<SiteLabels>, wanted: SiteLabels) -> usize {
    all.iter().position(|one| *one == wanted).unwrap_or_else(|| {
        all.push(wanted);
        all.len() - 1
    })
}

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
        let worker =
            Worker::new(MioPoll::new()?, bench, mailbox, Arc::clone(ends), Arc::clone(&load), now);
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
struct WorkerHand {
    control: mpsc::Sender<Control>,
    opens: mpsc::Sender<NewConnection<Socket>>,
    accepted: mpsc::Sender<Accepted>,
    queries: mpsc::Sender<TaskQuery>,
    load: Arc<AtomicUsize>,
}

/// Hands what one listener accepts to admission and then to the worker with the least load.
struct Acceptor {
    index: u16,
    target: Target,
    form: RefusalForm,
    admission: Arc<Admission>,
    trust: Arc<Trust>,
    metrics: Arc<CoreMetrics>,
    refuser: Refuser,
    hands: Arc<[WorkerHand]>,
    ids: Arc<ConnIds>,
}

impl Accepting for Acceptor {
    async fn accepted(&mut self, socket: TcpStream, peer: SocketAddr) {
        let accepted = clock::now();
        // A proxy's connections are many clients': each counts for its own address once that is known.
        let address = (!self.trust.proxies.contain(peer.ip())).then_some(peer.ip());
        let permit = match self.admission.admit(self.index, address, accepted) {
            Ok(permit) => permit,
            Err(refusal) => {
                return self.refuser.refuse(socket, self.index, refusal, &self.form);
            }
        };
        let record = ConnectionRecord::open(&self.metrics, self.index);
        let id = self.ids.next();
        let Some(hand) = self.hands.iter().min_by_key(|hand| hand.load.load(Ordering::Relaxed))
        else {
            return;
        };
        hand.load.fetch_add(1, Ordering::Relaxed);
        // A full lane holds the accept loop back, and the kernel's backlog the peers. A closed
        // lane is the end of the process: the drop counts the connection as aborted.
        let handed = match self.target {
            Target::Table(site) => {
                let request_id = RequestId::Message { conn: id, seq: 0 };
                let socket = Socket::Plain(mio::net::TcpStream::from_std(socket));
                let early = Vec::new();
                let new = NewConnection {
                    socket,
                    site,
                    id,
                    peer,
                    permit,
                    record,
                    early,
                    request_id,
                    accepted,
                    tls: None,
                    handshake: None,
                    introduction: Introduction::default(),
                };
                hand.opens.send(new).await.is_ok()
            }
            Target::Task(listener) => {
                let new = Accepted { socket, peer, id, permit, record, accepted, listener };
                hand.accepted.send(new).await.is_ok()
            }
        };
        if handed {
            let took = clock::now().saturating_duration_since(accepted);
            self.metrics.stage(Stage::Accept, took);
        }
    }

    fn failed(&mut self, error: &io::Error, kind: AcceptErrorKind) {
        self.metrics.accept_error(self.index, kind);
        if kind != AcceptErrorKind::Peer {
            tracing::warn!(%error, kind = kind.as_str(), "accept failed; backing off");
        }
    }
}

/// The engine at work.
pub struct Running {
    /// Of every listener that has it.
    tls: Arc<[Arc<ListenerTls>]>,
    admission: Arc<Admission>,
    metrics: Arc<CoreMetrics>,
    http_metrics: HttpMetrics,
    handshakes: Vec<Handshake>,
    trust: Arc<Trust>,
    tasks: Arc<[TaskListener]>,
    ends: Arc<Ends>,
    hands: Arc<[WorkerHand]>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: CancellationToken,
    /// Bound, and not accepting yet.
    acceptors: Mutex<Vec<(BoundListener, Acceptor)>>,
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
    fn obey(&self, lifeline: &Lifeline, service: &Handle, drain_window: Duration) {
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
        // Not on the tracker: it lives until the stop, which waits for the tracker.
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

    /// Holds listeners to other limits, timeouts and services from now on.
    ///
    /// Open connections have the new timeouts and limits at once, except the size of a message,
    /// which stays as it was when they opened, and keep the session they have: a changed service
    /// is for new connections, and for the next request of an HTTP connection.
    ///
    /// # Errors
    /// When the listeners, their paths or the routes that they name are not those that are bound;
    /// nothing has changed then.
    ///
    /// # Cancel safety
    /// When dropped, some workers may hold to the old values: call it again.
    pub async fn reload(&self, options: &ServerOptions) -> Result<(), ReloadError> {
        let plan = Plan::new(options, &self.handshakes, &self.trust, &self.http_metrics);
        let same = plan.labels == self.metrics.sites
            && plan.tasks.len() == self.tasks.len()
            && self.tasks.iter().zip(&plan.tasks).all(|(old, new)| old.is_shaped_as(new));
        if !same {
            return Err(ReloadError);
        }
        self.admission.set_limits(options.admission());
        self.metrics.set_connections_limit(options.connections_max);
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
