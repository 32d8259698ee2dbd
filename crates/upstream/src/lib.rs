//! weir's HTTP client: one call to an upstream, with its limits, waits, breaker and metrics.
//!
//! The road of a call: [`Upstream::call`] (`client`) asks the `pool` for a `lease` of a target,
//! one of the `targets`, and waits its turn when there is none; it reuses a connection or makes
//! one (`connect`, `tls`, `socket`), sends the request and reads the response under its cap (`exchange`).
//! What came of it goes to the target's `breaker`, and the connection back to the pool or away.
//! `origin` takes a configured target apart, `resolve` keeps the addresses of named hosts.
//!
//! Nothing here knows who calls, or what a message, a route or a connection of weir is.

mod breaker;
mod call;
mod client;
mod connect;
mod error;
mod exchange;
mod lease;
mod metrics;
mod once;
mod options;
mod origin;
mod pool;
mod resolve;
mod socket;
mod targets;
mod tls;
mod traced;

pub use call::{CallTerms, CallTimings, UpstreamRequest, UpstreamResponse};
pub use client::Upstream;
pub use error::{ConnectFault, UpstreamBuildError, UpstreamError};
pub use metrics::UpstreamMetrics;
pub use once::Once;
pub use options::UpstreamOptions;
pub use tls::ClientIdentity;
