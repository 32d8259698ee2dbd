//! What runs as a task beside a worker's table: handshakes, and HTTP connections until they end or
//! go on in the table, as WebSockets or streams. Knows no turn and no message.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Permit, Refusal};
use crate::asks::Asks;
use crate::clock;
use crate::close::CloseReason;
use crate::connection::NewConnection;
use crate::context::{ConnId, RequestId};
use crate::door::Introduction;
use crate::ends::{Ended, Ends, Owed};
use crate::handshake::{Handshake, Patience, Shaken, Stream};
use crate::http::{self, CurrentSite, HttpEnd, HttpPath, HttpPeer, HttpStop, HttpTraffic};
use crate::limits::Timeouts;
use crate::metrics::{Cell, ConnectionRecord, SiteCells, WorkerCells};
use crate::pressure::{Pressure, PressureCell};
use crate::refuse::{self, RefusalForm};
use crate::site::{PathSites, Site};
use crate::tls::{Handshakes, Steps, TlsInfo};
use crate::trace::TraceContext;
use crate::transport::Socket;
use crate::view::{Query, Row};
use crate::wire::stream;
use crate::worker::pace::Pace;

/// An accepted connection of a listener whose connections begin as tasks.
pub(crate) struct Accepted {
    pub(crate) socket: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) id: ConnId,
    pub(crate) permit: Permit,
    pub(crate) record: ConnectionRecord,
    pub(crate) accepted: Instant,
    /// The place of its listener in [`Tasks::listeners`].
    pub(crate) listener: usize,
    /// Its peer is a trusted proxy: the permit counts for no address yet.
    pub(crate) trusted: bool,
}

/// A listener whose connections begin as tasks.
pub(crate) struct TaskListener {
    pub(crate) name: String,
    pub(crate) timeouts: ArcSwap<Timeouts>,
    pub(crate) handshake: Handshake,
    /// What a peer is told that is refused once its address is known.
    pub(crate) form: RefusalForm,
    pub(crate) wire: TaskWire,
    /// The counters of bytes that belong to no message: HTTP's heads, bodies, responses.
    pub(crate) carrier_cells: usize,
}

/// What follows the handshake.
pub(crate) enum TaskWire {
    /// Messages: the connection goes to the table, as this site.
    Messages(u16),
    /// HTTP, whose paths lead and count somewhere.
    Http {
        site: CurrentSite,
        /// For each path of the site: where the connections go that leave HTTP.
        sites: Vec<PathSites>,
        /// For each path of the site: the message counters.
        cells: Vec<usize>,
    },
}

impl TaskListener {
    /// Whether connections of `new` can go on here: the same name, paths and places.
    pub(crate) fn is_shaped_as(&self, new: &Self) -> bool {
        self.name == new.name && self.wire.is_shaped_as(&new.wire)
    }

    /// Holds new connections, and the next requests of open ones, to what `new` is held to.
    pub(crate) fn replace_with(&self, new: &Self) {
        self.timeouts.store(new.timeouts.load_full());
        if let (TaskWire::Http { site, .. }, TaskWire::Http { site: next, .. }) =
            (&self.wire, &new.wire)
        {
            site.replace(next.get());
        }
    }
}

impl TaskWire {
    fn is_shaped_as(&self, new: &Self) -> bool {
        match (self, new) {
            (Self::Messages(site), Self::Messages(other)) => site == other,
            (
                Self::Http { site, sites, cells },
                Self::Http { site: next, sites: next_sites, cells: next_cells },
            ) => {
                let (site, next) = (site.get(), next.get());
                let same = |(one, two): (&HttpPath, &HttpPath)| {
                    one.path == two.path && one.kind == two.kind
                };
                sites == next_sites
                    && cells == next_cells
                    && site.paths().len() == next.paths().len()
                    && site.paths().iter().zip(next.paths()).all(same)
            }
            (Self::Messages(_), Self::Http { .. }) | (Self::Http { .. }, Self::Messages(_)) => {
                false
            }
        }
    }
}

/// A question about the tasks of one worker.
pub(crate) type TaskQuery = (Query, tokio::sync::oneshot::Sender<Vec<Row>>);

/// What the tasks of one worker share.
pub(crate) struct Tasks {
    pub(crate) listeners: Arc<[TaskListener]>,
    pub(crate) sites: Arc<[Site]>,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) steps: Arc<Steps>,
    pub(crate) asks: Asks,
    pub(crate) opens: mpsc::Sender<NewConnection<Socket>>,
    pub(crate) ends: Arc<Ends>,
    pub(crate) load: Arc<AtomicUsize>,
    pub(crate) cells: Arc<WorkerCells>,
    pub(crate) tracker: TaskTracker,
    /// HTTP connections close after their next response.
    pub(crate) notice: CancellationToken,
    pub(crate) force: CancellationToken,
    pub(crate) pressure: Arc<PressureCell>,
    /// Connections that are not in the table. Touched by the worker's thread alone.
    pub(crate) live: Mutex<HashMap<ConnId, Live>>,
}

/// A connection that is a task.
pub(crate) struct Live {
    listener: usize,
    peer: SocketAddr,
    accepted: Instant,
    drain: CancellationToken,
    counts: Arc<Counts>,
}

/// What one connection counts, for itself and for its worker. Only the worker's thread writes.
struct Counts {
    listeners: Arc<[TaskListener]>,
    listener: usize,
    worker: Arc<WorkerCells>,
    received: Cell,
    sent: Cell,
    answered: Cell,
    received_bytes: Cell,
    sent_bytes: Cell,
}

impl Counts {
    fn new(tasks: &Tasks, listener: usize) -> Arc<Self> {
        Arc::new(Self {
            listeners: Arc::clone(&tasks.listeners),
            listener,
            worker: Arc::clone(&tasks.cells),
            received: Cell::default(),
            sent: Cell::default(),
            answered: Cell::default(),
            received_bytes: Cell::default(),
            sent_bytes: Cell::default(),
        })
    }

    fn carrier(&self) -> &SiteCells {
        &self.worker.sites[self.listeners[self.listener].carrier_cells]
    }

    fn path(&self, path: usize) -> &SiteCells {
        let listener = &self.listeners[self.listener];
        let cells = match &listener.wire {
            TaskWire::Http { cells, .. } => cells[path],
            TaskWire::Messages(_) => listener.carrier_cells,
        };
        &self.worker.sites[cells]
    }
}

impl HttpTraffic for Counts {
    fn bytes_received(&self, n: u64) {
        self.received_bytes.add(n);
        self.carrier().bytes_received.add(n);
    }

    fn bytes_sent(&self, n: u64) {
        self.sent_bytes.add(n);
        self.carrier().bytes_sent.add(n);
    }

    fn message_received(&self, path: usize) {
        self.received.add(1);
        self.path(path).messages_received.add(1);
    }

    fn message_sent(&self, path: usize) {
        self.sent.add(1);
        self.path(path).messages_sent.add(1);
    }

    fn message_answered(&self, path: usize, took: Duration) {
        self.answered.add(1);
        self.path(path).durations.observe(took, 1);
    }
}

impl Tasks {
    /// Starts the task of an accepted connection. `forced`: everybody is being closed.
    pub(crate) fn start(this: &Arc<Self>, accepted: Accepted, forced: bool) {
        let drain = this.force.child_token();
        if forced {
            drain.cancel();
        }
        let counts = Counts::new(this, accepted.listener);
        let live = Live {
            listener: accepted.listener,
            peer: accepted.peer,
            accepted: accepted.accepted,
            drain: drain.clone(),
            counts: Arc::clone(&counts),
        };
        this.live.lock().insert(accepted.id, live);
        let Accepted { socket, peer, id, permit, record, accepted, listener, trusted } = accepted;
        let task = Task {
            tasks: Arc::clone(this),
            peer,
            id,
            permit: Arc::new(Mutex::new(Some(permit))),
            record,
            accepted,
            listener,
            drain,
            counts,
        };
        this.tracker.spawn(task.run(socket, trusted));
    }

    pub(crate) fn rows(&self, now: Instant) -> Vec<Row> {
        let row = |(id, live): (&ConnId, &Live)| {
            let age = now.saturating_duration_since(live.accepted);
            Row {
                conn: *id,
                listener: self.listeners[live.listener].name.clone(),
                route: String::new(),
                state: if live.drain.is_cancelled() { "draining" } else { "handshaking" },
                peer: live.peer,
                age,
                idle: age,
                received: live.counts.received.get(),
                sent: live.counts.sent.get(),
                received_bytes: live.counts.received_bytes.get(),
                sent_bytes: live.counts.sent_bytes.get(),
                outbox_bytes: 0,
                in_flight: 0,
            }
        };
        self.live.lock().iter().map(row).collect()
    }

    /// While the process is pressed, tells HTTP connections to finish what has begun and to go.
    pub(crate) fn close_idle_under_pressure(&self) {
        if self.pressure.get() >= Pressure::High {
            self.live.lock().values().for_each(|one| one.drain.cancel());
        }
    }

    /// Tells tasks to go at the pace of the drain.
    pub(crate) fn drain(&self, pace: &mut Option<Pace>, window: Duration, now: Instant) {
        let live = self.live.lock();
        let waiting = || live.values().filter(|one| !one.drain.is_cancelled());
        let pace = pace.get_or_insert_with(|| Pace::new(now, window, waiting().count()));
        let due = if pace.is_over(now) { usize::MAX } else { pace.due(now) };
        for one in waiting().take(due) {
            one.drain.cancel();
            pace.count();
        }
    }
}

/// Takes a connection out of the live ones however its task ends.
struct LiveGuard(Arc<Tasks>, ConnId);

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.0.live.lock().remove(&self.1);
    }
}

/// One connection from its first byte to its end, or until it is one of the table.
struct Task {
    tasks: Arc<Tasks>,
    peer: SocketAddr,
    id: ConnId,
    /// Shared with HTTP, which may learn whose connection it is; there until the end.
    permit: Arc<Mutex<Option<Permit>>>,
    record: ConnectionRecord,
    accepted: Instant,
    listener: usize,
    drain: CancellationToken,
    counts: Arc<Counts>,
}

/// How the part of a connection that is a task ended.
enum Ending {
    /// It goes on in the table.
    Open(Box<Opened>),
    Closed(CloseReason),
}

/// What the table is given.
struct Opened {
    stream: Stream,
    site: Option<u16>,
    early: Vec<u8>,
    /// On a stream, the message that the first bytes of `early` are.
    request: Option<stream::Request>,
    request_id: RequestId,
    tls: Option<Arc<TlsInfo>>,
    /// The span of the upgrade, when that was traced.
    handshake: Option<TraceContext>,
    introduction: Introduction,
}

/// Makes a permit count for this address, if there is room.
fn readmit(permit: &Mutex<Option<Permit>>, address: IpAddr) -> Result<(), Refusal> {
    permit.lock().as_mut().map_or(Ok(()), |permit| permit.move_to(address))
}

impl Task {
    async fn run(mut self, socket: std::net::TcpStream, trusted: bool) {
        let tasks = Arc::clone(&self.tasks);
        let guard = LiveGuard(Arc::clone(&tasks), self.id);
        let reason = match self.serve(socket, trusted).await {
            Ending::Open(opened) => {
                return self.hand_over(*opened, guard).await;
            }
            Ending::Closed(reason) => reason,
        };
        self.close(reason);
    }

    async fn serve(&mut self, socket: std::net::TcpStream, trusted: bool) -> Ending {
        let tasks = Arc::clone(&self.tasks);
        let listener = &tasks.listeners[self.listener];
        let mut socket = match tokio::net::TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "a socket could not be watched");
                return Ending::Closed(CloseReason::InternalError);
            }
        };
        let timeouts = listener.timeouts.load_full();
        let patience = Patience {
            deadline: (self.accepted + timeouts.handshake).into(),
            close: timeouts.close,
            force: &tasks.force,
            handshakes: &tasks.handshakes,
            steps: &tasks.steps,
        };
        let greeted = listener.handshake.proxied(&mut socket, self.peer, trusted, &patience);
        match greeted.await {
            Ok(None) => {}
            Ok(Some(client)) => {
                if let Err(refusal) = self.is_of(client) {
                    return self.refuse(socket, refusal, &listener.form).await;
                }
            }
            Err(reason) => return Ending::Closed(reason),
        }
        let Shaken { stream, tls } = match listener.handshake.tls(socket, &patience).await {
            Ok(shaken) => shaken,
            Err(reason) => return Ending::Closed(reason),
        };
        match &listener.wire {
            TaskWire::Messages(site) => Ending::Open(Box::new(Opened {
                stream,
                site: Some(*site),
                early: Vec::new(),
                request: None,
                request_id: RequestId::Message { conn: self.id, seq: 0 },
                tls,
                handshake: None,
                introduction: Introduction::default(),
            })),
            TaskWire::Http { site, sites, .. } => {
                let client = self.http_peer(tls.clone());
                match http::serve(stream, site.clone(), client).await {
                    HttpEnd::Upgraded {
                        socket,
                        early,
                        path,
                        request_id,
                        client,
                        handshake,
                        introduction,
                        stream,
                    } => {
                        self.peer = client;
                        let framing = stream.as_ref().map(|start| start.options.framing);
                        let request = stream.as_ref().and_then(|start| start.request);
                        let early = stream.map_or(early, |start| start.message);
                        Ending::Open(Box::new(Opened {
                            stream: socket,
                            site: sites[path].of(framing),
                            early: early.into(),
                            request,
                            request_id,
                            tls,
                            handshake,
                            introduction: *introduction,
                        }))
                    }
                    HttpEnd::Closed { reason } => Ending::Closed(reason),
                }
            }
        }
    }

    /// A proxy has said whose connection it is.
    fn is_of(&mut self, client: SocketAddr) -> Result<(), Refusal> {
        self.peer = client;
        if let Some(live) = self.tasks.live.lock().get_mut(&self.id) {
            live.peer = client;
        }
        readmit(&self.permit, client.ip())
    }

    /// Refuses what was admitted before its address was known. It keeps its place meanwhile, so
    /// the number of those who are told is bounded.
    async fn refuse(
        &self,
        socket: tokio::net::TcpStream,
        refusal: Refusal,
        form: &RefusalForm,
    ) -> Ending {
        self.record.refusals().count(refusal);
        let answer = refuse::answer(&self.tasks.sites, refusal, form);
        if let Err(error) = refuse::tell(socket, &answer).await {
            tracing::debug!(%error, "a refused peer could not be told");
        }
        Ending::Closed(CloseReason::Refused)
    }

    fn http_peer(&self, tls: Option<Arc<TlsInfo>>) -> HttpPeer {
        HttpPeer {
            addr: self.peer,
            conn: self.id,
            tls,
            accepted: self.accepted.into(),
            readmit: Some({
                let (permit, record) = (Arc::clone(&self.permit), self.record.refusals());
                Arc::new(move |address| {
                    readmit(&permit, address).inspect_err(|refusal| record.count(*refusal))
                })
            }),
            stop: HttpStop {
                notice: self.tasks.notice.clone(),
                drain: self.drain.clone(),
                force: self.tasks.force.clone(),
                pressure: Arc::clone(&self.tasks.pressure),
            },
            asks: self.tasks.asks.clone(),
            traffic: Arc::clone(&self.counts) as Arc<dyn HttpTraffic>,
        }
    }

    /// Moves the connection from the runtime to the table.
    async fn hand_over(self, opened: Opened, guard: LiveGuard) {
        let Opened { stream, site, mut early, request, request_id, tls, handshake, introduction } =
            opened;
        let (Ok(socket), Some(site)) = (stream.into_socket(&mut early), site) else {
            return self.close(CloseReason::InternalError);
        };
        let Some(permit) = self.permit.lock().take() else {
            return self.close(CloseReason::InternalError);
        };
        let Self { tasks, peer, id, permit: shared, record, accepted, listener, drain, counts } =
            self;
        let new = NewConnection {
            socket,
            site,
            id,
            peer,
            permit,
            record,
            early,
            request,
            request_id,
            accepted,
            tls,
            handshake,
            introduction,
        };
        match tasks.opens.send(new).await {
            Ok(()) => drop(guard),
            Err(mpsc::error::SendError(new)) => {
                let NewConnection { permit: whole, record, .. } = new;
                *shared.lock() = Some(whole);
                let permit = shared;
                let this =
                    Self { tasks, peer, id, permit, record, accepted, listener, drain, counts };
                this.close(CloseReason::Forced);
            }
        }
    }

    fn close(self, reason: CloseReason) {
        let Self { tasks, peer, id, permit, record, accepted, listener, counts, .. } = self;
        record.close(reason);
        drop(permit);
        tasks.load.fetch_sub(1, Ordering::Relaxed);
        if reason == CloseReason::Forced {
            let owed = counts.received.get() > counts.answered.get();
            tasks.ends.count_lost(if owed { Owed::Answers } else { Owed::Nothing });
        }
        tasks.ends.push(Ended {
            conn: id,
            listener: tasks.listeners[listener].name.clone(),
            route: String::new(),
            peer,
            reason,
            duration: clock::now().saturating_duration_since(accepted),
            received: counts.received.get(),
            sent: counts.sent.get(),
            received_bytes: counts.received_bytes.get(),
            sent_bytes: counts.sent_bytes.get(),
            at: SystemTime::now(),
        });
    }
}
