//! The harness: starts the real weir on free ports and talks to it as its peers, its upstreams
//! and its operator do. It knows weir only from outside: configuration, sockets, the side port,
//! logs, signals and the exit code. Every wait here is bounded and says what it waited for.
//!
//! ```no_run
//! # use weir_tests::{Gateway, LinePeer};
//! # async fn example() {
//! let gateway = Gateway::start().limits("connections_max = 3").await;
//! let mut peer = LinePeer::connect(gateway.address("lines")).await;
//! peer.say("hello").await;
//! assert_eq!(peer.hear().await, "hello");
//! # }
//! ```

pub mod autobahn;
pub mod browser;
pub mod collector;
pub mod doors;
pub mod gateway;
pub mod haproxy;
pub mod http;
pub mod kernel;
pub mod manifests;
pub mod metrics;
pub mod nginx;
pub mod pki;
pub mod prometheus;
pub mod promql;
pub mod rows;
pub mod source;
mod stream;
pub mod tcp;
pub mod tls;
pub mod tokens;
pub mod tools;
pub mod traffic;
pub mod upstream;
pub mod wait;
pub mod websocket;

pub use browser::Browser;
pub use gateway::Gateway;
pub use haproxy::Haproxy;
pub use metrics::Metrics;
pub use nginx::Nginx;
pub use rows::Client;
pub use tcp::{Ending, FramePeer, LinePeer, Peer};
pub use tokens::{Issuer, KeyServer};
pub use upstream::{Answer, Received, Upstream};
pub use websocket::WebSocket;
