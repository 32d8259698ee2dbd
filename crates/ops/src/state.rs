//! What the side port shows and moves, handed in by the one who wires the process.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use prometheus::Registry;
use serde_json::Value;

use crate::connections::ConnectionsView;
use crate::health::Health;
use crate::logs::LogControl;

/// A task of the process that runs on the side port's runtime, such as the one that reads signals.
/// It is dropped when the side port has closed.
pub type Background = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Everything behind the routes.
pub struct OpsState {
    /// What `/metrics` gathers.
    pub registry: Registry,
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
    /// Tasks that run beside the server.
    pub background: Vec<Background>,
}
