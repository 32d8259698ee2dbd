//! weir's HTTP client: one call to an upstream, with its limits, waits, breaker and metrics.
//!
//! The road of a call: [`Upstream::call`] asks the `pool` for a connection and waits its turn
//! when there is none; `client` connects (`connect`, `tls`) or reuses one, sends the request and
//! reads the response under its cap (`exchange`); what came of it goes to the target's `breaker`,
//! and the connection back to the pool or away. `resolve` keeps the addresses of named hosts.
//!
//! Nothing here knows who calls, or what a message, a route or a connection of weir is.

mod breaker;
mod call;
mod error;
mod options;
mod pool;
mod targets;

pub use call::{CallTimings, UpstreamRequest, UpstreamResponse};
pub use error::{ConnectFault, UpstreamBuildError, UpstreamError};
pub use options::UpstreamOptions;
