//! One call, from asking for a connection to giving it back. The decisions are the pool's and the
//! breaker's; the bytes are `connect`'s and `exchange`'s; here is their order and their deadlines.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::response::Parts;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_core::clock;
use weir_core::trace::CallTrace;

use crate::breaker::{BreakerLimits, Verdict};
use crate::call::{CallTimings, UpstreamRequest, UpstreamResponse, strip_hop_by_hop};
use crate::connect::{Connection, Connector};
use crate::error::{UpstreamBuildError, UpstreamError};
use crate::exchange::{ExchangeError, exchange, settle};
use crate::lease::{Acquiring, Lease, SharedPool, Slot, Start};
use crate::metrics::{CallRecord, CallStatus, RefusedReason, UpstreamMetrics};
use crate::options::UpstreamOptions;
use crate::origin::{Host, Origin};
use crate::pool::{Pool, PoolLimits, Refusal};
use crate::resolve::Resolver;
use crate::targets::TargetAddr;
use crate::tls;
use crate::traced::TracedCall;

/// Longest pause between two looks at what time alone changes: idle connections, breakers.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Shortest such pause, whatever the timeouts are.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Most times that one call moves on from a kept connection that was closed. The first retry is
/// on a new one, unless connecting fails and another target has a kept one.
const STALE_RETRIES_MAX: u32 = 2;

/// After a forced close: until the drivers have let go of their sockets.
const FORCE_TIMEOUT: Duration = Duration::from_secs(1);

/// An HTTP/1.1 service that runs on one or several targets.
///
/// A call goes to the target with the fewest calls in flight, within exact connection limits and
/// a bounded wait queue; a target that keeps failing is left alone for a while.
///
/// **What counts as a failure of a target**: connecting fails or takes too long, no whole response
/// in time, a connection that breaks or does not speak HTTP/1.1, and the statuses 502, 503 and
/// 504. Every other answer, also 500, is a sign of life. A response over the cap is an answer;
/// a call that its caller drops says nothing.
///
/// **Second attempts** are made only where they are safe. When connecting fails, another target
/// that can be used at once is tried. When a kept connection turns out to be closed, the request
/// is sent again on a new one if not a byte of it was sent, or if no response came and its method
/// is idempotent (RFC 9110 section 9.2.2).
pub struct Upstream {
    options: UpstreamOptions,
    origins: Vec<Origin>,
    pool: Arc<SharedPool>,
    connector: Connector,
    force: CancellationToken,
    /// Ends the background tasks.
    stop: CancellationToken,
}

impl Upstream {
    /// Builds an upstream; its background tasks run on `runtime` and are counted by `tasks`. They
    /// end when the upstream is closed or dropped.
    ///
    /// Reads the certificate authorities when a target is `https`.
    ///
    /// # Errors
    ///
    /// When the options name no usable target or limit, or TLS cannot be set up.
    pub fn new(
        options: UpstreamOptions,
        metrics: &UpstreamMetrics,
        tasks: &TaskTracker,
        runtime: &Handle,
    ) -> Result<Arc<Self>, UpstreamBuildError> {
        let origins = origins(&options)?;
        let limits = pool_limits(&options)?;
        let needs_tls = origins.iter().any(|origin| origin.tls.is_some());
        let tls =
            needs_tls.then(|| tls::connector(options.ca_file.as_deref(), None)).transpose()?;

        let pool = Pool::new(limits, 0..origins.len());
        let pool = SharedPool::new(options.name.clone(), pool, metrics.pool(&options.name));
        let (stop, force) = (CancellationToken::new(), CancellationToken::new());
        for (index, origin) in origins.iter().enumerate() {
            match &origin.host {
                Host::Address(address) => {
                    pool.turn(|pool, now| pool.set_addresses(index, &[*address], now));
                }
                Host::Name(name, port) => {
                    let resolver = Resolver {
                        pool: Arc::clone(&pool),
                        origin: index,
                        name: name.clone(),
                        port: *port,
                        interval: options.resolve_interval,
                    };
                    let task = stop.clone().run_until_cancelled_owned(resolver.run());
                    drop(tasks.spawn_on(task, runtime));
                }
            }
        }
        let sweep = sweep(Arc::clone(&pool), sweep_interval(&options));
        drop(tasks.spawn_on(stop.clone().run_until_cancelled_owned(sweep), runtime));
        let connector = Connector::new(tls, runtime.clone(), tasks.clone(), force.clone());
        Ok(Arc::new(Self { options, origins, pool, connector, force, stop }))
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// What it was built from.
    pub fn options(&self) -> &UpstreamOptions {
        &self.options
    }

    /// Makes one call. It ends within `wait_timeout + connect_timeout + request_timeout`, and within
    /// its own [`CallTerms::timeout`](crate::CallTerms::timeout).
    ///
    /// # Errors
    ///
    /// When there is no whole response; any status is a response.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives everything back: a place in the queue, a connection that was not
    /// used yet; a connection in the middle of a request is closed.
    pub async fn call(&self, request: UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        self.call_traced(request, None).await
    }

    /// Makes one call on behalf of a traced message, as [`Upstream::call`] does, and tells the
    /// trace of the wait and of the call. What the callee is told of it is the caller's matter.
    ///
    /// # Errors
    ///
    /// When there is no whole response; any status is a response.
    ///
    /// # Cancel safety
    ///
    /// That of [`Upstream::call`]; the trace is told of a call that was given up.
    pub async fn call_traced(
        &self,
        request: UpstreamRequest,
        trace: Option<CallTrace>,
    ) -> Result<UpstreamResponse, UpstreamError> {
        tokio::select! {
            biased; // A response that is there wins over a forced close.
            result = self.recorded_call(&request, trace) => result,
            () = self.force.cancelled() => Err(UpstreamError::Closed),
        }
    }

    /// Closes: new calls are refused, idle connections closed, calls that run or wait finished.
    /// Whatever is left after `within` is cut off and fails with [`UpstreamError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// When dropped the upstream stays closed to new calls, and the rest goes on.
    pub async fn close(&self, within: Duration) {
        self.pool.turn(|pool, now| pool.close(now));
        if timeout(within, self.pool.drained()).await.is_err() {
            tracing::warn!(pool = self.name(), ?within, "upstream calls are cut off");
            self.force.cancel();
            if timeout(FORCE_TIMEOUT, self.pool.drained()).await.is_err() {
                tracing::error!(pool = self.name(), "upstream connections are still open");
            }
        }
        self.stop.cancel();
    }

    async fn recorded_call(
        &self,
        request: &UpstreamRequest,
        trace: Option<CallTrace>,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let trace = trace.map(|trace| TracedCall::new(trace, self.name(), request));
        let mut record = CallRecord::new(&self.pool.metrics, clock::now(), trace);
        let ends = request.terms.timeout.map(|timeout| Instant::now() + timeout);
        let mut lease = self.acquire(&record, ends).await?;
        record.granted(clock::now());
        let result = self.granted_call(&mut lease, request, ends, &mut record).await;
        let (status, verdict) = judge(&result);
        record.ends_as(status);
        record.answered(lease.addr.address, &result);
        lease.judge(verdict);
        if let Err(error) = &result {
            tracing::debug!(pool = self.name(), request_id = %request.request_id, %error, "failed");
        }
        let (response, connection) = result?;
        match connection {
            Some(connection) => lease.give_back(connection),
            None => drop(lease),
        }
        Ok(response)
    }

    /// Waits for a connection or the right to make one.
    async fn acquire(
        &self,
        record: &CallRecord<'_>,
        ends: Option<Instant>,
    ) -> Result<Lease, UpstreamError> {
        let answer = match self.pool.acquire() {
            Acquiring::Granted(lease) => Ok(lease),
            Acquiring::Refused(refusal) => Err(refusal),
            Acquiring::Waits(mut waiting) => {
                let deadline = first(Instant::now() + self.options.wait_timeout, ends);
                match timeout_at(deadline, waiting.answer()).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        record.refused(RefusedReason::WaitTimeout);
                        let timeout = self.options.wait_timeout;
                        return Err(UpstreamError::WaitTimeout { timeout });
                    }
                }
            }
        };
        answer.map_err(|refusal| {
            record.refused(refusal.into());
            match refusal {
                Refusal::QueueFull { waiting } => {
                    UpstreamError::QueueFull { waiting, max: self.options.queue_max }
                }
                Refusal::BreakersOpen { targets } => UpstreamError::BreakersOpen { targets },
                Refusal::Unresolved => UpstreamError::Unresolved,
                Refusal::Closed => UpstreamError::Closed,
            }
        })
    }

    /// Connects if need be and makes the exchange. The connection comes back with the response
    /// when it can be used again.
    async fn granted_call(
        &self,
        lease: &mut Lease,
        request: &UpstreamRequest,
        ends: Option<Instant>,
        record: &mut CallRecord<'_>,
    ) -> Result<(UpstreamResponse, Option<Connection>), UpstreamError> {
        let connection = self.connected(lease, ends).await?;
        let begun = clock::now();
        let pool_wait = record.connected(begun);
        let deadline = first(Instant::from_std(begun) + self.options.request_timeout, ends);
        let mut resends = 0;
        let exchange = self.exchange(lease, connection, request, &mut resends);
        let exchanged = timeout_at(deadline, exchange).await;
        record.resent(resends);
        let (head, body, connection) = match exchanged {
            Ok(result) => result?,
            Err(_) => {
                let own = self.options.request_timeout;
                let timeout = request.terms.timeout.map_or(own, |timeout| timeout.min(own));
                return Err(UpstreamError::RequestTimeout { target: lease.addr.address, timeout });
            }
        };
        let upstream = clock::now().saturating_duration_since(begun);
        let mut headers = head.headers;
        strip_hop_by_hop(&mut headers);
        let timings = CallTimings { pool_wait, upstream };
        let response = UpstreamResponse { status: head.status, headers, body, timings };
        Ok((response, settle(connection).await))
    }

    /// A connection for the lease, or for one of another target if connecting fails.
    async fn connected(
        &self,
        lease: &mut Lease,
        ends: Option<Instant>,
    ) -> Result<Connection, UpstreamError> {
        let deadline = first(Instant::now() + self.options.connect_timeout, ends);
        match self.started(lease, deadline).await {
            Err(_) if self.elsewhere(lease) => self.started(lease, deadline).await,
            result => result,
        }
    }

    async fn started(
        &self,
        lease: &mut Lease,
        deadline: Instant,
    ) -> Result<Connection, UpstreamError> {
        match lease.start() {
            Some(Start::Reuse(connection)) => Ok(connection),
            Some(Start::Connect(slot)) => self.connect(lease.addr, slot, deadline).await,
            None => Err(UpstreamError::Closed),
        }
    }

    /// Trades the lease of a target that cannot be connected to for one of another target, if
    /// one can be used at once.
    fn elsewhere(&self, lease: &mut Lease) -> bool {
        let Some(other) = self.pool.acquire_elsewhere(lease.target) else { return false };
        self.pool.metrics.retried_elsewhere.inc();
        lease.judge(Verdict::Failure);
        *lease = other;
        true
    }

    async fn connect(
        &self,
        addr: TargetAddr,
        slot: Slot,
        deadline: Instant,
    ) -> Result<Connection, UpstreamError> {
        let TargetAddr { origin, address: target } = addr;
        let connect = self.connector.connect(&self.origins[origin], target, slot);
        match timeout_at(deadline, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(source)) => Err(UpstreamError::Connect { target, source }),
            Err(_) => {
                let timeout = self.options.connect_timeout;
                Err(UpstreamError::ConnectTimeout { target, timeout })
            }
        }
    }

    /// Makes the exchange, again on another connection if a kept one was closed under it.
    async fn exchange(
        &self,
        lease: &mut Lease,
        mut connection: Connection,
        request: &UpstreamRequest,
        resends: &mut u32,
    ) -> Result<(Parts, Bytes, Connection), UpstreamError> {
        let max = self.options.response_bytes_max;
        loop {
            let origin = &self.origins[lease.addr.origin];
            let error = match exchange(&mut connection, origin, request, max).await {
                Ok((head, body)) => return Ok((head, body, connection)),
                Err(error) => error,
            };
            let harmless = match &error {
                ExchangeError::NotSent(_) => true,
                ExchangeError::NoHead(_) => request.is_idempotent(),
                ExchangeError::Broken(_) | ExchangeError::TooBig => false,
            };
            if !harmless || !connection.kept || *resends == STALE_RETRIES_MAX {
                return Err(self.exchange_error(lease.addr, error));
            }
            *resends += 1;
            self.pool.metrics.retried_stale.inc();
            // The new connection takes the old one's slot, so it cannot be begun before the old
            // socket is closed.
            lease.start_again(connection.into_slot().await.ok_or(UpstreamError::Closed)?);
            // The exchange as a whole has a deadline already.
            connection = self.connected(lease, None).await?;
        }
    }

    fn exchange_error(&self, addr: TargetAddr, error: ExchangeError) -> UpstreamError {
        let target = addr.address;
        match error {
            ExchangeError::NotSent(source)
            | ExchangeError::NoHead(source)
            | ExchangeError::Broken(source) => UpstreamError::Broken { target, source },
            ExchangeError::TooBig => {
                UpstreamError::ResponseTooBig { target, max: self.options.response_bytes_max }
            }
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // The pool holds idle connections and their drivers hold the pool: this parts them.
        self.pool.turn(|pool, now| pool.close(now));
        self.stop.cancel();
    }
}

/// The sooner of an upstream's own deadline and the end of one call.
fn first(deadline: Instant, ends: Option<Instant>) -> Instant {
    ends.map_or(deadline, |ends| ends.min(deadline))
}

/// What the end of a granted call means for metrics and for the target's breaker.
fn judge<T>(result: &Result<(UpstreamResponse, T), UpstreamError>) -> (CallStatus, Verdict) {
    match result {
        Ok((response, _)) => {
            let verdict = match response.status {
                StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => Verdict::Failure,
                _ => Verdict::Success,
            };
            (CallStatus::of(response.status), verdict)
        }
        Err(UpstreamError::ResponseTooBig { .. }) => (CallStatus::Error, Verdict::Success),
        Err(
            UpstreamError::Connect { .. }
            | UpstreamError::ConnectTimeout { .. }
            | UpstreamError::RequestTimeout { .. }
            | UpstreamError::Broken { .. },
        ) => (CallStatus::Error, Verdict::Failure),
        Err(
            UpstreamError::QueueFull { .. }
            | UpstreamError::WaitTimeout { .. }
            | UpstreamError::BreakersOpen { .. }
            | UpstreamError::Unresolved
            | UpstreamError::Closed,
        ) => (CallStatus::Error, Verdict::Unknown),
    }
}

fn origins(options: &UpstreamOptions) -> Result<Vec<Origin>, UpstreamBuildError> {
    if options.targets.is_empty() {
        return Err(UpstreamBuildError::NoTargets);
    }
    let mut origins: Vec<Origin> = Vec::with_capacity(options.targets.len());
    for target in &options.targets {
        let origin = Origin::parse(target)?;
        let same = |other: &Origin| other.host == origin.host && other.tls == origin.tls;
        if origins.iter().any(same) {
            return Err(UpstreamBuildError::DuplicateTarget { target: target.clone() });
        }
        origins.push(origin);
    }
    Ok(origins)
}

fn pool_limits(options: &UpstreamOptions) -> Result<PoolLimits, UpstreamBuildError> {
    let limits = [
        ("connections_per_target_max", options.connections_per_target_max),
        ("connections_max", options.connections_max),
    ];
    if let Some((limit, _)) = limits.into_iter().find(|(_, max)| *max == 0) {
        return Err(UpstreamBuildError::ZeroLimit { limit });
    }
    Ok(PoolLimits {
        connections_per_target_max: options.connections_per_target_max,
        connections_max: options.connections_max,
        queue_max: options.queue_max,
        idle_timeout: options.idle_timeout,
        breaker: BreakerLimits { failures: options.breaker_failures, open: options.breaker_open },
    })
}

fn sweep_interval(options: &UpstreamOptions) -> Duration {
    let shortest = options.idle_timeout.min(options.breaker_open) / 2;
    shortest.clamp(SWEEP_INTERVAL_MIN, SWEEP_INTERVAL_MAX)
}

/// Does now and then what time alone asks for.
async fn sweep(pool: Arc<SharedPool>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        pool.turn(|pool, now| pool.sweep(now));
    }
}
