//! The process put together: [`App::bind`] opens every port, [`App::run`] lives through the stages
//! of [`crate::shutdown`]. Each step returns what the next one takes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, oneshot};
use weir_channels::Shared;
use weir_core::clock;
use weir_core::lifeline::Lifeline;
use weir_core::server::{self, Running};
use weir_core::trace::Tracing;
use weir_ops::{Background, Health, Ops, OpsHandle, OpsOptions, OpsState, Token};
use weir_pipeline::route::RouteParts;
use weir_pipeline::upstream::{Plans, StageMetrics as RouteStages};
use weir_upstream::UpstreamMetrics;

use crate::channels::ChannelMaker;
use crate::config::auth::KEY_SET;
use crate::config::{Config, environment};
use crate::console::{Connections, Filter};
use crate::engine::{self, UpstreamMaker, Upstreams};
use crate::identities::{GuardMaker, KeySet};
use crate::metrics;
use crate::notify::Notifier;
use crate::overload::Overload;
use crate::reload::{ReloadMetrics, Reloader};
use crate::runtime;
use crate::shutdown::{Lost, Outcome, Shutdown, Stage, StageMetrics, Stop, Stoppable};
use crate::signals::Signals;
use crate::telemetry::{Telemetry, Traces};

/// Asks to stop that wait to be heard. More are dropped: whoever asks has been heard.
const STOPS_WAITING_MAX: usize = 16;
/// How long the side port finishes its answers at the very end.
const OPS_STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// How long what is left of the service runtime is waited for.
const RUNTIME_STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Every port is bound, nothing is accepted.
pub struct App {
    config: Config,
    telemetry: Telemetry,
    registry: Registry,
    service: Runtime,
    lifeline: Lifeline,
    maker: UpstreamMaker,
    guards: GuardMaker,
    key_set: Option<Arc<KeySet>>,
    channels: ChannelMaker,
    upstreams: Upstreams,
    stages: RouteStages,
    plans: Plans,
    reloads: ReloadMetrics,
    file: Option<PathBuf>,
    tracing: Arc<Tracing>,
    engine: server::Bound,
    ops: weir_ops::Bound,
}

impl App {
    /// Opens every port. `file` is read again by a reload.
    ///
    /// # Errors
    /// An address in use, a certificate file that cannot be read, a thread that cannot be made.
    pub fn bind(
        config: Config,
        file: Option<PathBuf>,
        telemetry: Telemetry,
    ) -> anyhow::Result<Self> {
        let _start = tracing::info_span!("start").entered();
        let open_files = runtime::raise_open_files().context("raise the open-file limit")?;
        let registry = metrics::registry(&telemetry).context("metrics")?;
        let service = runtime::service(&config.runtime).context("service runtime")?;
        metrics::watch_runtime(&registry, service.handle()).context("metrics")?;
        let lifeline = Lifeline::new();
        let reloads = ReloadMetrics::register(&registry, &config).context("metrics")?;
        let maker = UpstreamMaker {
            metrics: UpstreamMetrics::register(&registry).context("metrics of upstreams")?,
            service: service.handle().clone(),
            tasks: lifeline.tasks.clone(),
        };
        let upstreams = maker.make(&config, &Upstreams::new())?;
        let (stages, plans) = (RouteStages::default(), Plans::default());
        let parts = RouteParts { upstreams: &upstreams, stages: &stages, plans: &plans };
        let routes = engine::routes(&config, &parts)?;
        let guards = GuardMaker::new(&registry, &lifeline, &maker).context("metrics")?;
        let key_set = guards.key_set(KEY_SET, &config.auth.jwks, None, &maker)?;
        let seed = seed();
        let channels = ChannelMaker::new(&registry, &config, &guards, &maker, &parts, seed)?;
        let services = channels.with_routes(&config, routes.services().clone());
        let guarded = guards.guard(&config, key_set.as_deref(), &services);
        let tracing = telemetry.tracing(&config.traces.settings, seed);
        let locals = Some(channels.locals());
        let options = engine::options(&config, &guarded, seed, &tracing, locals)?;
        routes.commit();
        let engine = {
            // Sockets of the service runtime are made inside it.
            let _inside = service.enter();
            server::bind(options, &registry)?
        };
        stages.attach(engine.metrics());
        let ops = Ops::bind(ops_options(&config)).context("side port")?;
        if let Some(warning) = channels.warning(&config, environment::replicas()) {
            tracing::warn!(warning, "configuration");
        }
        for warning in &config.warnings {
            tracing::warn!(warning, "configuration");
        }
        for (listener, address) in engine.addresses() {
            tracing::info!(listener, %address, "listening");
        }
        tracing::info!(listener = "ops", address = %ops.local_addr(), "listening");
        tracing::info!(
            version = crate::version::VERSION,
            source = config.source,
            workers = config.runtime.workers,
            connections_max = config.admission.connections_max,
            open_files,
            "bound"
        );
        Ok(Self {
            config,
            telemetry,
            registry,
            service,
            lifeline,
            maker,
            guards,
            key_set,
            channels,
            upstreams,
            stages,
            plans,
            reloads,
            file,
            tracing,
            engine,
            ops,
        })
    }

    /// Serves until it is asked to stop, and stops. The value is the exit code of the process.
    ///
    /// # Errors
    /// A thread or an event queue that cannot be made.
    pub fn run(self, signals: Signals) -> anyhow::Result<ExitCode> {
        let health = Health::new(self.config.health.stall, clock::now());
        let beats = (0..self.config.runtime.workers).map(|index| beat(&health, index)).collect();
        let handle = self.service.handle().clone();
        let running =
            Arc::new(self.engine.start(&self.lifeline, &handle, beats).context("workers")?);
        let (stops, asked) = mpsc::channel(STOPS_WAITING_MAX);
        let stages = StageMetrics::register(&self.registry).context("metrics")?;
        let lifeline = self.lifeline.clone();
        let shutdown = Shutdown::new(self.config.shutdown.clone(), lifeline.clone(), asked, stages);
        let follow = follow(shutdown.stage(), Arc::clone(&health));
        let traces = self.telemetry.traces.clone();
        let traces_timeout =
            self.config.traces.export_timeout.min(self.config.shutdown.flush.0 / 2);
        let exemplars = {
            let (running, calls) = (Arc::clone(&running), self.maker.metrics.clone());
            Arc::new(move || metrics::exemplars([running.exemplars(), calls.exemplars()].concat()))
        };
        let flush_timeout = self.config.shutdown.flush.0;
        let telemetry = Arc::new(self.telemetry);
        let current = Arc::new(ArcSwap::from_pointee(self.config));
        let upstreams = Arc::new(Mutex::new(self.upstreams));
        self.channels.tell_backends(&self.maker);
        let channels = Arc::clone(self.channels.shared());
        let reloader = Arc::new(Reloader {
            file: self.file,
            current: Arc::clone(&current),
            running: Arc::clone(&running),
            lifeline: lifeline.clone(),
            maker: self.maker,
            guards: self.guards,
            key_set: Mutex::new(self.key_set),
            channels: self.channels,
            upstreams: Arc::clone(&upstreams),
            stages: self.stages,
            plans: self.plans,
            telemetry: Arc::clone(&telemetry),
            tracing: self.tracing,
            metrics: self.reloads,
            turn: tokio::sync::Mutex::default(),
        });
        let reload_asked = Arc::new(Notify::new());
        let overload =
            Overload::new(Arc::clone(&current), Arc::clone(&running), &health, &self.registry)
                .context("metrics")?;
        let work = Work {
            running: Arc::clone(&running),
            upstreams,
            channels,
            notices_timeout: flush_timeout / 3,
            notices_lost: 0,
            traces: traces.map(|traces| (traces, traces_timeout)),
        };
        let start = {
            let (running, lifeline) = (Arc::clone(&running), lifeline.clone());
            async move { running.accept(&lifeline, &handle) }
        };
        let (ended, end) = oneshot::channel();
        let notify = notify(shutdown.stage(), Arc::clone(&health));
        let background: Vec<Background> = vec![
            // Read where the side port runs, so that they are heard while all else is saturated.
            Box::pin(signals.forward(stops.clone(), Arc::clone(&reload_asked))),
            Box::pin(Arc::clone(&reloader).obey(reload_asked)),
            Box::pin(overload.run()),
            Box::pin(follow),
            Box::pin(notify),
            Box::pin(live(shutdown, start, work, ended)),
        ];
        let ops = self.ops.start(OpsState {
            registry: self.registry,
            exemplars,
            health,
            connections: Arc::new(Connections(Arc::clone(&running))),
            config: Arc::new(move || current.load().shown.clone()),
            logs: Arc::new(Filter(Arc::clone(&telemetry))),
            drain: Arc::new(move || request_stop(&stops)),
            reload: reloader,
            background,
        })?;
        let outcome = end.blocking_recv().context("the stages of the stop ended early")?;
        Ok(finish(outcome, &running, self.service, &telemetry, flush_timeout, ops))
    }
}

fn request_stop(stops: &mpsc::Sender<Stop>) {
    if stops.try_send(Stop::Request).is_err() {
        tracing::debug!("already stopping");
    }
}

/// The random part of connection ids: two starts within a second still differ.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

fn ops_options(config: &Config) -> OpsOptions {
    OpsOptions {
        hosts: config.ops.hosts.iter().map(ToString::to_string).collect(),
        token: config.ops.token.as_ref().map(|token| Token::new(token.expose())),
        profile_seconds_max: config.ops.profile_seconds_max,
        ..OpsOptions::new(config.ops.address)
    }
}

fn beat(health: &Arc<Health>, index: usize) -> weir_core::Beat {
    let heartbeat = health.worker(format!("weir-worker-{index}"), clock::now());
    Box::new(move || heartbeat.beat(clock::now()))
}

/// Tells the side port of each stage.
async fn follow(mut stage: tokio::sync::watch::Receiver<Stage>, health: Arc<Health>) {
    loop {
        let now = *stage.borrow_and_update();
        health.enter(now);
        if stage.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the service manager of each stage, when one has started weir.
async fn notify(stage: tokio::sync::watch::Receiver<Stage>, health: Arc<Health>) {
    let Some(manager) = environment::manager() else { return };
    match Notifier::connect(&manager) {
        Ok(notifier) => notifier.follow(stage, health).await,
        Err(error) => tracing::warn!(%error, "the service manager cannot be told"),
    }
}

async fn live(
    shutdown: Shutdown,
    start: impl Future<Output = ()>,
    mut work: Work,
    ended: oneshot::Sender<Outcome>,
) {
    let outcome = shutdown.run(start, &mut work).await;
    if ended.send(outcome).is_err() {
        tracing::debug!("nobody waits for the end");
    }
}

/// What a stop stops.
struct Work {
    running: Arc<Running>,
    upstreams: Arc<Mutex<Upstreams>>,
    channels: Arc<Shared>,
    /// How long a backend may take to be told of what has ended.
    notices_timeout: Duration,
    notices_lost: u64,
    /// The way of spans, and how long the last ones are waited for: a collector that is gone costs
    /// its spans, not the flush stage.
    traces: Option<(Traces, Duration)>,
}

impl Stoppable for Work {
    fn remaining(&self) -> u64 {
        self.running.open() as u64
    }

    fn lost(&self) -> Lost {
        let (in_flight, undelivered) = self.running.lost();
        Lost { in_flight, undelivered, notices: self.notices_lost }
    }

    async fn flush(&mut self) {
        // Their upstream is closed behind them.
        self.notices_lost = self.channels.notices().flush(self.notices_timeout).await;
        let upstreams = std::mem::take(&mut *self.upstreams.lock());
        for upstream in upstreams.values() {
            // The flush stage has the deadline for all of them.
            upstream.close(UPSTREAM_CLOSE_TIMEOUT).await;
        }
        if let Some((traces, timeout)) = &self.traces {
            traces.flush(*timeout).await;
        }
    }
}

/// How long the calls of one upstream may still run when everybody who asked is gone.
const UPSTREAM_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Threads, then the log, then the side port: it closes last.
fn finish(
    outcome: Outcome,
    running: &Running,
    service: Runtime,
    telemetry: &Telemetry,
    flush_timeout: Duration,
    ops: OpsHandle,
) -> ExitCode {
    let code = match outcome {
        Outcome::Complete => 0,
        Outcome::Lossy | Outcome::Abandoned => 1,
    };
    if outcome != Outcome::Abandoned {
        running.stop();
        service.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    }
    tracing::info!(exit_code = code, "stopped");
    // What is left after it has nobody to be told to.
    telemetry.queue.flush(flush_timeout);
    if outcome == Outcome::Abandoned {
        // A third signal: nothing is waited for any more.
        std::process::exit(code.into());
    }
    ops.stop(OPS_STOP_TIMEOUT);
    ExitCode::from(code)
}
