//! The port itself: bound at start, served on the thread `weir-ops`, closed last. It knows seats
//! and deadlines; what is asked is the router's.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::guard::Guard;
use crate::logs::LogFilter;
use crate::metrics::Scrapes;
use crate::options::{OpsOptions, OpsTimeouts};
use crate::pprof::Profiles;
use crate::router::{Router, Scope};
use crate::state::{Background, OpsState};

/// Connections that are taken beyond the seats, for health and metrics alone.
const RESERVE: usize = 8;
/// How long a connection of the reserve may take for its one request.
const RESERVE_TIME: Duration = Duration::from_secs(2);
/// Largest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Threads for what blocks: a scrape, a profile being written, and one to spare.
const BLOCKING_THREADS: usize = 3;
/// First wait after an accept error that is the host's; it doubles up to the last one.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// Why the side port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The address cannot be bound.
    #[error("cannot bind the side port to {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The thread or its runtime cannot be started.
    #[error("cannot start the side port's thread")]
    Start(#[source] io::Error),
}

/// The side port.
#[derive(Debug)]
pub struct Ops;

impl Ops {
    /// Binds the port. Nothing is answered before [`Bound::start`].
    ///
    /// # Errors
    /// [`OpsError::Bind`].
    pub fn bind(options: OpsOptions) -> Result<Bound, OpsError> {
        let address = options.address;
        let bind = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Bound { listener, address, options })
        };
        bind().map_err(|source| OpsError::Bind { address, source })
    }
}

/// The port, bound and silent.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    options: OpsOptions,
}

impl Bound {
    /// The address with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Starts the thread `weir-ops`, which serves until [`OpsHandle::stop`].
    ///
    /// # Errors
    /// [`OpsError::Start`] when the runtime or the thread cannot be made.
    pub fn start(self, state: OpsState) -> Result<OpsHandle, OpsError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("weir-ops-block")
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .map_err(OpsError::Start)?;
        let address = self.address;
        let (stop, asked) = watch::channel(None);
        let (ended, end) = sync_channel(1);
        std::thread::Builder::new()
            .name("weir-ops".to_owned())
            .spawn(move || {
                // Dropped last, however this thread ends: that is what `stop` waits for.
                let _ended: SyncSender<()> = ended;
                self.run(runtime, state, asked);
            })
            .map_err(OpsError::Start)?;
        Ok(OpsHandle { address, stop, end })
    }

    fn run(self, runtime: Runtime, state: OpsState, stop: watch::Receiver<Option<Duration>>) {
        let logs = Arc::new(LogFilter::new(state.logs));
        let router = Router {
            guard: Guard::new(&self.options, self.address.ip()),
            health: state.health,
            scrapes: Scrapes::new(state.registry, state.exemplars),
            connections: state.connections,
            config: state.config,
            logs: logs.clone(),
            drain: state.drain,
            reload: state.reload,
            profiles: Profiles::new(self.options.profile_seconds_max),
            timeouts: self.options.timeouts,
        };
        let server = Server {
            router: Arc::new(router),
            seats: Arc::new(Semaphore::new(self.options.requests_max.max(1))),
            reserve: Arc::new(Semaphore::new(RESERVE)),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        let mut background = state.background;
        background.push(Box::pin(logs.revert()));
        if let Err(error) = runtime.block_on(server.run(self.listener, background, stop)) {
            tracing::error!(%error, "the side port does not answer");
        }
        // Not waiting for what blocks: a collector that hangs must not hold up the end.
        runtime.shutdown_background();
    }
}

/// The running side port. Dropping it leaves the port open until the process ends.
#[derive(Debug)]
#[must_use = "the side port closes last, by stop()"]
pub struct OpsHandle {
    address: SocketAddr,
    stop: watch::Sender<Option<Duration>>,
    end: Receiver<()>,
}

impl OpsHandle {
    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port: no new connections, answers under way may end within `within`, then all
    /// is dropped, the background tasks too. Blocks at most `within` and a second.
    pub fn stop(self, within: Duration) {
        self.stop.send_replace(Some(within));
        match self.end.recv_timeout(within + Duration::from_secs(1)) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => tracing::warn!("the side port's thread hangs"),
        }
    }
}

struct Server {
    router: Arc<Router>,
    seats: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// The right to be served. Connections take a seat while there is one, else a place of the
/// reserve, so that idle connections cannot keep health and metrics from answering.
struct Seat {
    scope: Scope,
    _permit: OwnedSemaphorePermit,
}

impl Server {
    async fn run(
        self,
        listener: TcpListener,
        background: Vec<Background>,
        mut stop: watch::Receiver<Option<Duration>>,
    ) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut beside: JoinSet<()> = background.into_iter().collect();
        let within = {
            let mut accept = pin!(self.accept(listener));
            loop {
                tokio::select! {
                    within = asked(&mut stop) => break within,
                    Some(Err(error)) = beside.join_next() => {
                        tracing::error!(%error, "a task on the side port's runtime failed");
                    }
                    never = accept.as_mut() => match never {},
                }
            }
        };
        self.closing.cancel();
        self.tasks.close();
        if timeout(within, self.tasks.wait()).await.is_err() {
            let left = self.tasks.len();
            tracing::info!(left, "requests on the side port were cut short");
        }
        Ok(())
    }

    /// Accepts for ever. At the bound nothing is accepted: the kernel's backlog waits.
    async fn accept(&self, listener: tokio::net::TcpListener) -> Infallible {
        let mut back_off = BACK_OFF_MIN;
        loop {
            let mut seat = self.seat().await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    back_off = BACK_OFF_MIN;
                    // Seats may have come free since.
                    if let Some(better) = self.free_seat() {
                        seat = better;
                    }
                    let connection = connection(
                        self.router.clone(),
                        stream,
                        peer,
                        seat.scope,
                        self.closing.clone(),
                    );
                    self.tasks.spawn(async move {
                        connection.await;
                        drop(seat);
                    });
                }
                Err(error) if is_of_one_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "the side port cannot accept");
                    sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    async fn seat(&self) -> Seat {
        tokio::select! {
            biased; // a seat before a place of the reserve
            Ok(permit) = self.seats.clone().acquire_owned() => {
                Seat { scope: Scope::All, _permit: permit }
            }
            Ok(permit) = self.reserve.clone().acquire_owned() => {
                Seat { scope: Scope::OpenOnly, _permit: permit }
            }
            else => std::future::pending().await, // neither is ever closed
        }
    }

    fn free_seat(&self) -> Option<Seat> {
        let permit = self.seats.clone().try_acquire_owned().ok()?;
        Some(Seat { scope: Scope::All, _permit: permit })
    }
}

async fn asked(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match stop.wait_for(Option::is_some).await.map(|within| *within) {
        Ok(Some(within)) => within,
        // The handle is gone: nobody will ask.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Serves one connection until it ends, its deadline passes, or the port closes.
async fn connection(
    router: Arc<Router>,
    stream: TcpStream,
    peer: SocketAddr,
    scope: Scope,
    closing: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY on the side port");
    }
    let deadline = Arc::new(Deadline::new(router.timeouts, scope));
    let service = service_fn(|request| {
        let (router, deadline) = (router.clone(), deadline.clone());
        async move {
            deadline.answering();
            let reply = router.answer(request, peer, scope).await;
            deadline.answered();
            Ok::<_, Infallible>(reply)
        }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(scope == Scope::All).max_buf_size(HEAD_BYTES_MAX);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut open = true;
    loop {
        tokio::select! {
            biased; // what has been served counts before what is over
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, %peer, "side port connection ended");
                }
                return;
            }
            () = deadline.passed() => return,
            () = closing.cancelled(), if open => {
                open = false;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// How long a connection may do what it does now. An answer under way has the router's time.
struct Deadline {
    at: watch::Sender<Option<Instant>>,
    timeouts: OpsTimeouts,
    scope: Scope,
}

impl Deadline {
    fn new(timeouts: OpsTimeouts, scope: Scope) -> Self {
        let time = match scope {
            Scope::All => timeouts.header,
            Scope::OpenOnly => RESERVE_TIME,
        };
        Self { at: watch::Sender::new(Some(Instant::now() + time)), timeouts, scope }
    }

    fn answering(&self) {
        if self.scope == Scope::All {
            self.at.send_replace(None);
        }
    }

    fn answered(&self) {
        if self.scope == Scope::All {
            self.at.send_replace(Some(Instant::now() + self.timeouts.write));
        }
    }

    async fn passed(&self) {
        let mut moved = self.at.subscribe();
        loop {
            let at = *moved.borrow_and_update();
            tokio::select! {
                _ = moved.changed() => {}
                () = sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => return,
            }
        }
    }
}
