//! Reading the configuration again while weir runs: validated first, put in force as a whole, or not
//! at all. What a change means is the engine's and the routes' to know.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tokio::sync::Notify;
use tokio::time::timeout;
use weir_core::clock;
use weir_core::lifeline::Lifeline;
use weir_core::server::Running;
use weir_core::trace::Tracing;
use weir_ops::{Reload, Reloaded};
use weir_pipeline::route::RouteParts;
use weir_pipeline::upstream::{Plans, StageMetrics};

use crate::channels::ChannelMaker;
use crate::config::auth::KEY_SET;
use crate::config::changes::Changes;
use crate::config::{Config, Surroundings};
use crate::engine::{self, UpstreamMaker, Upstreams};
use crate::identities::{GuardMaker, KeySet};
use crate::telemetry::Telemetry;

/// How long reading the file may take: it may lie on a network.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the event loops may take to hear of a change.
const APPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// The configuration in force, for everybody who looks at it while weir runs.
pub type Current = Arc<ArcSwap<Config>>;

/// Reads the configuration again when it is asked to, one time after another.
pub struct Reloader {
    /// The file that was named on the command line.
    pub file: Option<PathBuf>,
    /// The configuration in force.
    pub current: Current,
    /// The engine at work.
    pub running: Arc<Running>,
    /// When it drains, nothing is reloaded any more.
    pub lifeline: Lifeline,
    /// Makes upstreams that are new or different.
    pub maker: UpstreamMaker,
    /// Makes the guards of routes.
    pub guards: GuardMaker,
    /// The key set in force.
    pub key_set: Mutex<Option<Arc<KeySet>>>,
    /// The rules of channels.
    pub channels: ChannelMaker,
    /// The upstreams in force.
    pub upstreams: Arc<Mutex<Upstreams>>,
    /// Where upstream routes count.
    pub stages: StageMetrics,
    /// The plans of the upstream routes.
    pub plans: Plans,
    /// The log's filter.
    pub telemetry: Arc<Telemetry>,
    /// Which messages are traced.
    pub tracing: Arc<Tracing>,
    /// What is counted of reloads.
    pub metrics: ReloadMetrics,
    /// One at a time.
    pub turn: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// Reloads at each SIGHUP, for ever.
    pub async fn obey(self: Arc<Self>, asked: Arc<Notify>) {
        loop {
            asked.notified().await;
            tracing::info!("reload asked for by SIGHUP");
            // The outcome is in the log and in the metrics.
            drop(self.reload().await);
        }
    }

    async fn counted(&self) -> Result<Reloaded, Vec<String>> {
        let _turn = self.turn.lock().await;
        let begun = clock::now();
        let outcome = self.once().await;
        self.metrics.seconds.set(clock::now().saturating_duration_since(begun).as_secs_f64());
        match &outcome {
            Ok(changes) => {
                self.metrics.succeeded(&self.current.load());
                let (changed, needs_restart) =
                    (changes.changed.join(" "), changes.restart.join(" "));
                tracing::info!(changed, needs_restart, "configuration reloaded");
            }
            Err(faults) => {
                self.metrics.refused.inc();
                for fault in faults {
                    tracing::error!(fault, "configuration not reloaded");
                }
            }
        }
        let changes = outcome?;
        Ok(Reloaded { changed: changes.changed, restart: changes.restart })
    }

    async fn once(&self) -> Result<Changes, Vec<String>> {
        if self.lifeline.drain.is_cancelled() {
            return Err(vec!["weir is stopping".to_owned()]);
        }
        let running = self.current.load_full();
        let mut new = self.read().await?;
        let mut changes = running.changes(&new);
        new.keep_fixed(&running);
        let open = new.open_by_mistake();
        if !open.is_empty() {
            return Err(open);
        }
        self.put_in_force(new).await.map_err(|error| vec![format!("{error:#}")])?;
        // Files that cannot be used are faults of the configuration, which has just been read.
        let files = self.running.reload_tls().await.into_iter();
        let files = files.filter(|one| matches!(one.result, Ok(true)));
        changes.changed.extend(files.map(|one| format!("listeners.{}.tls", one.listener)));
        Ok(changes)
    }

    async fn read(&self) -> Result<Config, Vec<String>> {
        let file = self.file.clone();
        let load = move || Config::load(file.as_deref(), &Surroundings::here());
        let reading = self.maker.service.spawn_blocking(load);
        match timeout(READ_TIMEOUT, reading).await {
            Ok(Ok(read)) => read.map_err(|faults| faults.lines()),
            Ok(Err(_)) => Err(vec!["the configuration could not be read: panic".to_owned()]),
            Err(_) => Err(vec![format!("the file was not read within {READ_TIMEOUT:?}")]),
        }
    }

    /// Builds everything first; from the first change on nothing can fail but an event loop that
    /// does not turn.
    async fn put_in_force(&self, new: Config) -> anyhow::Result<()> {
        let upstreams = self.maker.make(&new, &self.upstreams.lock().clone())?;
        let parts = RouteParts { upstreams: &upstreams, stages: &self.stages, plans: &self.plans };
        let routes = engine::routes(&new, &parts)?;
        let before = self.key_set.lock().clone();
        let key_set = self.guards.key_set(KEY_SET, &new.auth.jwks, before, &self.maker)?;
        let channels = self.channels.make(&new, &self.guards, &self.maker, &parts)?;
        let services = self.channels.with_routes(&new, routes.services().clone());
        let guarded = self.guards.guard(&new, key_set.as_deref(), &services);
        // The seed is for ids, and these go on from the one of the start.
        let options = engine::options(&new, &guarded, 0, &self.tracing, None)?;
        let told = timeout(APPLY_TIMEOUT, self.running.reload(&options));
        told.await.context("an event loop did not hear of it in time; reload again")??;
        routes.commit();
        self.channels.commit(channels);
        self.telemetry.filter.configure(&new.logs.filter)?;
        self.tracing.set(&new.traces.settings);
        // Upstreams that are gone or different end with their last call.
        *self.upstreams.lock() = upstreams;
        *self.key_set.lock() = key_set;
        self.current.store(Arc::new(new));
        Ok(())
    }
}

impl Reload for Reloader {
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<Reloaded, Vec<String>>> + Send + '_>> {
        Box::pin(self.counted())
    }
}

/// What is counted of reloads.
#[derive(Clone)]
pub struct ReloadMetrics {
    reloaded: IntCounter,
    refused: IntCounter,
    seconds: Gauge,
    succeeded_at: Gauge,
    hash: IntGauge,
}

impl ReloadMetrics {
    /// Makes and registers them; the configuration of the start is the first that is in force.
    ///
    /// # Errors
    /// When one of the names is registered already.
    pub fn register(registry: &Registry, config: &Config) -> prometheus::Result<Self> {
        let opts = Opts::new("weir_reloads_total", "Times the configuration was read again.");
        let reloads = IntCounterVec::new(opts, &["result"])?;
        let metrics = Self {
            reloaded: reloads.with_label_values(&["reloaded"]),
            refused: reloads.with_label_values(&["refused"]),
            seconds: Gauge::new("weir_reload_seconds", "Time that the last reload took.")?,
            succeeded_at: Gauge::new(
                "weir_config_last_success_timestamp_seconds",
                "When the configuration in force was read, since the epoch.",
            )?,
            hash: IntGauge::new(
                "weir_config_hash",
                "48 bits that are the same on two processes exactly when their configurations \
                 are, secrets aside.",
            )?,
        };
        registry.register(Box::new(reloads))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.succeeded_at.clone()))?;
        registry.register(Box::new(metrics.hash.clone()))?;
        metrics.show(config);
        Ok(metrics)
    }

    fn succeeded(&self, config: &Config) {
        self.reloaded.inc();
        self.show(config);
    }

    fn show(&self, config: &Config) {
        self.hash.set(config.hash().cast_signed());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.succeeded_at.set(now.as_secs_f64());
    }
}
