//! A worker's thread: its current-thread runtime, the epoll of its table inside that runtime, and
//! the HTTP connections and handshakes that are tasks beside the table.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll as TaskPoll;
use std::time::{Duration, Instant, SystemTime};

use mio::Registry;
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Permit;
use crate::asks::Asks;
use crate::clock;
use crate::close::CloseReason;
use crate::connection::NewConnection;
use crate::context::{ConnId, RequestId};
use crate::ends::{Ended, Ends, Owed};
use crate::http::{self, HttpEnd, HttpPeer, HttpSite, HttpStop, HttpTraffic};
use crate::metrics::{Cell, ConnectionRecord, SiteCells, WorkerCells};
use crate::poll::{self, MioPoll};
use crate::view::{Query, Row};
use crate::worker::pace::Pace;
use crate::worker::{Progress, Worker};

/// The probe of loop lag, the beat of health, and the clock of a drain's pace.
const TICK: Duration = Duration::from_millis(100);
/// HTTP connections started in one turn.
const STARTS_MAX: usize = 64;

/// An accepted connection of an HTTP listener.
pub(crate) struct AcceptedHttp {
    pub(crate) socket: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) id: ConnId,
    pub(crate) permit: Permit,
    pub(crate) record: ConnectionRecord,
    pub(crate) accepted: Instant,
    /// The place of its listener in [`HttpSites`].
    pub(crate) listener: usize,
}

/// One HTTP listener, and where its paths lead and count.
pub(crate) struct HttpListener {
    pub(crate) name: String,
    pub(crate) site: Arc<HttpSite>,
    /// For each path of the site: the table site of its WebSockets.
    pub(crate) websockets: Vec<Option<u16>>,
    /// For each path of the site: the message counters.
    pub(crate) cells: Vec<usize>,
    /// The counters of bytes that belong to no path: heads, bodies, responses.
    pub(crate) carrier_cells: usize,
}

/// Called at least ten times a second by a loop that turns.
pub type Beat = Box<dyn Fn() + Send>;

/// Everything a worker's thread is made of.
pub(crate) struct EventLoop {
    pub(crate) worker: Worker<MioPoll>,
    pub(crate) http: Arc<HttpSide>,
    pub(crate) accepted: mpsc::Receiver<AcceptedHttp>,
    pub(crate) queries: mpsc::Receiver<HttpQuery>,
    /// What woke the loop, taken out of its lane before the turn.
    pub(crate) woken: Woken,
    pub(crate) cells: Arc<WorkerCells>,
    pub(crate) stop: CancellationToken,
    pub(crate) beat: Beat,
}

/// At most one of each lane.
#[derive(Default)]
pub(crate) struct Woken {
    accepted: Option<AcceptedHttp>,
    query: Option<HttpQuery>,
}

/// A question about the HTTP connections of one worker.
pub(crate) type HttpQuery = (Query, tokio::sync::oneshot::Sender<Vec<Row>>);

/// What the HTTP tasks of one worker share.
pub(crate) struct HttpSide {
    pub(crate) listeners: Arc<[HttpListener]>,
    pub(crate) asks: Asks,
    pub(crate) opens: mpsc::Sender<NewConnection<mio::net::TcpStream>>,
    pub(crate) ends: Arc<Ends>,
    pub(crate) load: Arc<AtomicUsize>,
    pub(crate) cells: Arc<WorkerCells>,
    pub(crate) tasks: TaskTracker,
    pub(crate) force: CancellationToken,
    /// Connections that are not in the table. Touched by the worker's thread alone.
    pub(crate) live: Mutex<HashMap<ConnId, LiveHttp>>,
}

/// An HTTP connection, or a handshake.
pub(crate) struct LiveHttp {
    listener: usize,
    peer: SocketAddr,
    accepted: Instant,
    drain: CancellationToken,
    counts: Arc<HttpCounts>,
}

/// What one HTTP connection counts, for itself and for its worker. Only the worker's thread writes.
struct HttpCounts {
    listeners: Arc<[HttpListener]>,
    listener: usize,
    worker: Arc<WorkerCells>,
    received: Cell,
    sent: Cell,
    answered: Cell,
    received_bytes: Cell,
    sent_bytes: Cell,
}

impl HttpCounts {
    fn new(http: &HttpSide, listener: usize) -> Arc<Self> {
        Arc::new(Self {
            listeners: Arc::clone(&http.listeners),
            listener,
            worker: Arc::clone(&http.cells),
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
        &self.worker.sites[self.listeners[self.listener].cells[path]]
    }
}

impl HttpTraffic for HttpCounts {
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

    fn message_answered(&self) {
        self.answered.add(1);
    }
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
        let mut http_pace = None;
        while !self.stop.is_cancelled() {
            let begun = clock::now();
            (self.beat)();
            let progress = self.worker.turn(begun)?;
            self.worker.time_turn(begun);
            self.start_http();
            self.answer_queries(begun);
            self.drain_http(&mut http_pace, begun);
            match progress {
                // The yield lets the runtime poll its own driver and tasks before the next turn.
                Progress::Busy => tokio::task::yield_now().await,
                Progress::Idle => self.wait(&watched, &mut tick).await?,
            }
        }
        Ok(())
    }

    /// Waits for the first of: mail, a socket of the table, an HTTP connection, the tick.
    async fn wait(&mut self, watched: &AsyncFd<Registry>, tick: &mut Interval) -> io::Result<()> {
        let stop = self.stop.clone();
        let mut stopped = std::pin::pin!(stop.cancelled());
        let Self { worker, accepted, queries, woken: kept, cells, .. } = self;
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
            if let TaskPoll::Ready(due) = tick.poll_tick(cx) {
                let late = clock::now().saturating_duration_since(due.into_std());
                cells.lag.observe(late, 1);
                woken = true;
            }
            if woken { TaskPoll::Ready(Ok(())) } else { TaskPoll::Pending }
        })
        .await
    }

    fn start_http(&mut self) {
        for _ in 0..STARTS_MAX {
            let kept = self.woken.accepted.take();
            let Some(accepted) = kept.or_else(|| self.accepted.try_recv().ok()) else { break };
            let http = Arc::clone(&self.http);
            let drain = http.force.child_token();
            if self.worker.is_forced() {
                drain.cancel();
            }
            let counts = HttpCounts::new(&http, accepted.listener);
            let live = LiveHttp {
                listener: accepted.listener,
                peer: accepted.peer,
                accepted: accepted.accepted,
                drain: drain.clone(),
                counts: Arc::clone(&counts),
            };
            http.live.lock().insert(accepted.id, live);
            let tasks = http.tasks.clone();
            tasks.spawn(serve_http(http, accepted, drain, counts));
        }
    }

    fn answer_queries(&mut self, now: Instant) {
        loop {
            let kept = self.woken.query.take();
            let Some((query, reply)) = kept.or_else(|| self.queries.try_recv().ok()) else { break };
            let mut rows: Vec<Row> = self.http.rows(now);
            rows.retain(|row| query.matches(row));
            query.trim(&mut rows);
            if reply.send(rows).is_err() {
                tracing::debug!("nobody waits for the list of connections any more");
            }
        }
    }

    /// Tells HTTP connections to go at the pace of the drain.
    fn drain_http(&self, pace: &mut Option<Pace>, now: Instant) {
        let Some(window) = self.worker.drain_window() else { return };
        let live = self.http.live.lock();
        let waiting = || live.values().filter(|one| !one.drain.is_cancelled());
        let pace = pace.get_or_insert_with(|| Pace::new(now, window, waiting().count()));
        let due = if pace.is_over(now) { usize::MAX } else { pace.due(now) };
        for one in waiting().take(due) {
            one.drain.cancel();
            pace.count();
        }
    }
}

impl HttpSide {
    fn rows(&self, now: Instant) -> Vec<Row> {
        let row = |(id, live): (&ConnId, &LiveHttp)| {
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
}

/// Takes an HTTP connection out of the live ones however its task ends.
struct LiveGuard<'a>(&'a HttpSide, ConnId);

impl Drop for LiveGuard<'_> {
    fn drop(&mut self) {
        self.0.live.lock().remove(&self.1);
    }
}

/// One HTTP connection from its first byte to its end, or until it is a WebSocket of the table.
async fn serve_http(
    http: Arc<HttpSide>,
    accepted: AcceptedHttp,
    drain: CancellationToken,
    counts: Arc<HttpCounts>,
) {
    let AcceptedHttp { socket, peer, id, permit, record, accepted, listener } = accepted;
    let guard = LiveGuard(&http, id);
    let listener = &http.listeners[listener];
    let client = HttpPeer {
        addr: peer,
        conn: id,
        tls: None,
        stop: HttpStop { drain, force: http.force.clone() },
        asks: http.asks.clone(),
        traffic: Arc::clone(&counts) as Arc<dyn HttpTraffic>,
    };
    let end = match tokio::net::TcpStream::from_std(socket) {
        Ok(socket) => http::serve(socket, Arc::clone(&listener.site), client).await,
        Err(error) => {
            tracing::warn!(%error, "a socket could not be watched");
            HttpEnd::Closed { reason: CloseReason::InternalError }
        }
    };
    let reason = match end {
        HttpEnd::Upgraded { socket, early, path, request_id } => {
            let open = Upgrade { id, peer, permit, record, accepted, early, request_id };
            match open.hand_over(socket, &http, listener.websockets[path]).await {
                Ok(()) => return drop(guard),
                Err((record, reason)) => {
                    record.close(reason);
                    reason
                }
            }
        }
        HttpEnd::Closed { reason } => {
            record.close(reason);
            drop(permit);
            reason
        }
    };
    http.load.fetch_sub(1, Ordering::Relaxed);
    if reason == CloseReason::Forced {
        let owed = counts.received.get() > counts.answered.get();
        http.ends.count_lost(if owed { Owed::Answers } else { Owed::Nothing });
    }
    http.ends.push(Ended {
        conn: id,
        listener: listener.name.clone(),
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

/// A WebSocket whose handshake is over.
struct Upgrade {
    id: ConnId,
    peer: SocketAddr,
    permit: Permit,
    record: ConnectionRecord,
    accepted: Instant,
    early: bytes::Bytes,
    request_id: RequestId,
}

impl Upgrade {
    /// Moves the socket from the runtime to the table.
    async fn hand_over(
        self,
        socket: tokio::net::TcpStream,
        http: &HttpSide,
        site: Option<u16>,
    ) -> Result<(), (ConnectionRecord, CloseReason)> {
        let Self { id, peer, permit, record, accepted, early, request_id } = self;
        let (Ok(socket), Some(site)) = (socket.into_std(), site) else {
            return Err((record, CloseReason::InternalError));
        };
        let new = NewConnection {
            socket: mio::net::TcpStream::from_std(socket),
            site,
            id,
            peer,
            permit,
            record,
            early: early.into(),
            request_id,
            accepted,
            tls: None,
        };
        match http.opens.send(new).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendError(new)) => Err((new.record, CloseReason::Forced)),
        }
    }
}
