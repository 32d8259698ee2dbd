//! The engine put together: bind everything, then run workers and accept loops on a lifeline.
//! Knows neither signals nor config.

mod accept;
mod options;
mod plan;
mod running;
mod start;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

pub use self::options::{ListenerKind, ListenerOptions, PathOptions, ServerOptions};
use self::plan::{Plan, Target};
pub use self::running::{ReloadError, Running};
use crate::admission::Admission;
use crate::budget::OutboxBudget;
use crate::handshake::Handshake;
use crate::http::{HttpMetrics, Trust};
use crate::listener;
use crate::local::Locals;
use crate::metrics::CoreMetrics;
use crate::site::Site;
use crate::tasks::TaskListener;
use crate::tls::{Handshakes, ListenerTls, TlsFault, TlsMetrics, TlsOptions, TlsSettings};
use crate::trace::Tracing;

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

/// Every port is open, nothing is accepted yet.
pub struct Bound {
    listeners: Vec<BoundListener>,
    sites: Arc<[Site]>,
    tasks: Arc<[TaskListener]>,
    trust: Arc<ArcSwap<Trust>>,
    handshake_pace: Arc<Handshakes>,
    metrics: Arc<CoreMetrics>,
    http_metrics: HttpMetrics,
    /// What connections go through first, by listener.
    handshakes: Vec<Handshake>,
    admission: Arc<Admission>,
    budget: Arc<OutboxBudget>,
    settings: Settings,
}

struct Settings {
    workers: usize,
    stages: bool,
    log_connections: bool,
    drain_window: Duration,
    seed: u64,
    tracing: Arc<Tracing>,
    locals: Option<Arc<dyn Locals>>,
}

struct BoundListener {
    name: String,
    socket: TcpListener,
    address: SocketAddr,
    target: Target,
}

/// Binds every listener.
///
/// # Errors
/// The first address that cannot be bound, or certificate that cannot be used; what was bound is
/// closed again.
pub fn bind(options: ServerOptions, registry: &prometheus::Registry) -> Result<Bound, BindError> {
    let http_metrics = HttpMetrics::register(registry)?;
    let tls_metrics = TlsMetrics::register(registry)?;
    let trust = Arc::new(ArcSwap::from_pointee(options.trust.clone()));
    let handshakes = options.listeners.iter().map(|one| handshake(one, &tls_metrics));
    let handshakes = handshakes.collect::<Result<Vec<_>, _>>()?;
    let plan = Plan::new(&options, &handshakes, &http_metrics);
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
    let frames = options.locals.as_ref().map(|locals| locals.frames()).unwrap_or_default();
    let budget = metrics.keep_budget(options.outboxes_bytes_max, frames);
    let settings = Settings {
        workers: options.workers,
        stages: options.stages,
        log_connections: options.log_connections,
        drain_window: options.drain_window,
        seed: options.seed,
        tracing: options.tracing,
        locals: options.locals,
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
        budget,
        settings,
    })
}

/// What the connections of a listener go through first.
fn handshake(one: &ListenerOptions, metrics: &TlsMetrics) -> Result<Handshake, BindError> {
    let tls = one.tls.as_ref().map(|options| listener_tls(one, options, metrics));
    Ok(Handshake { proxied: one.proxy_protocol, tls: tls.transpose()? })
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
