//! weir's channels: streams of publications that clients subscribe to in the public Centrifugo
//! protocol.
//!
//! [`protocol`] is bytes to commands, and replies and pushes to bytes, in both of its encodings.
//! [`broker`] holds what was published and tells each worker which channels have grown.
//! [`namespace`] decides which channels there are and who may do what in them, and [`tokens`] who
//! somebody is. [`Channels`] is the service: a
//! session for each connection, which reads commands and answers them, and on each worker a [`hub`],
//! which tells subscribers what was published. Through [`hooks`] a backend has its say,
//! and by [`notices`] it hears of who has gone. A [`route`] of plain
//! messages publishes what comes on it, and subscribes its connections. Nothing here touches a socket or reads a
//! clock; what may wait are the check of a token, for keys that somebody else publishes, and a hook, for its backend.

pub mod api;
pub mod broker;
mod broker_metrics;
mod client;
mod emulation;
pub mod hooks;
pub mod hub;
pub mod metrics;
pub mod namespace;
pub mod notices;
pub mod protocol;
pub mod route;
mod seats;
mod service;
mod shared;
mod sync;
pub mod tokens;
mod traced;

pub use broker_metrics::BrokerMetrics;
pub use metrics::ChannelMetrics;
pub use service::Channels;
pub use shared::{ClientOptions, Hubs, Policy, Shared};
