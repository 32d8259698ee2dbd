//! The side port: metrics, health, connections, configuration, log level, drain and profiles over
//! HTTP/1.1, on a thread and a runtime of its own, so that it answers while all else is saturated.
//!
//! It does not know what a connection, a worker or a listener is: it is handed a registry, a
//! [`Health`] that others beat, and providers behind traits and closures ([`OpsState`]).
//!
//! A request's road: [`server`] accepts within its seats, [`router`] finds the route in
//! [`ROUTES`], [`guard`] says whether this caller may, and one module per route answers.

mod connections;
mod guard;
mod health;
mod logs;
mod metrics;
mod openmetrics;
mod options;
mod pprof;
mod query;
mod reply;
mod router;
mod server;
mod state;

pub use connections::{
    ClosedConnection, ConnectionState, ConnectionsPage, ConnectionsQuery, ConnectionsView,
    LiveConnection, Position, Sort,
};
pub use health::{Health, Heartbeat, LifeStage, Readiness};
pub use logs::LogControl;
pub use openmetrics::Exemplar;
pub use options::{OpsOptions, OpsTimeouts, Token};
pub use router::{Access, ROUTES, Route};
pub use server::{Bound, Ops, OpsError, OpsHandle};
pub use state::{Background, OpsState, Reload, Reloaded};
