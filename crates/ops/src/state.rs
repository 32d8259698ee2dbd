//! What the side port shows and moves, handed in by the one who wires the process.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use prometheus::Registry;
use serde_json::Value;

use crate::connections::ConnectionsView;
use crate::health::Health;
use crate::logs::LogControl;
use crate::openmetrics::Exemplar;

/// A task of the process that runs on the side port's runtime, such as the one that reads signals.
/// It is dropped when the side port has closed.
pub type Background = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a reload did: paths of keys such as `routes.echo.reply`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys that are different and hold now.
    pub changed: Vec<String>,
    /// Keys that are different and hold after a restart.
    pub restart: Vec<String>,
}

/// Reads the configuration again.
pub trait Reload: Send + Sync {
    /// Puts the configuration as it is written now in force; one at a time.
    ///
    /// # Errors
    /// Every fault as a line; what was in force stays.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<Reloaded, Vec<String>>> + Send + '_>>;
}

/// Everything behind the routes.
pub struct OpsState {
    /// What `/metrics` gathers.
    pub registry: Registry,
    /// The exemplars of its histograms.
    pub exemplars: Arc<dyn Fn() -> Vec<Exemplar> + Send + Sync>,
    /// What `/healthz`, `/readyz` and `/startupz` tell.
    pub health: Arc<Health>,
    /// What `/connections` asks.
    pub connections: Arc<dyn ConnectionsView>,
    /// The configuration in force, its secrets already redacted.
    pub config: Arc<dyn Fn() -> Value + Send + Sync>,
    /// What `/log` reads and changes.
    pub logs: Arc<dyn LogControl>,
    /// Starts the drain. Called once for each `POST /drain`; must not block.
    pub drain: Arc<dyn Fn() + Send + Sync>,
    /// What `POST /reload` does.
    pub reload: Arc<dyn Reload>,
    /// Tasks that run beside the server.
    pub background: Vec<Background>,
}
