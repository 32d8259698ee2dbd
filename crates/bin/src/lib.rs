//! weir, the program: arguments, configuration, logs, signals, the stages of a stop, and the
//! wiring of everything else. No policy of connections or messages lives here.

pub mod app;
pub mod args;
pub mod channels;
pub mod client_tokens;
pub mod config;
pub mod console;
pub mod engine;
pub mod hooks;
pub mod identities;
pub mod metrics;
pub mod notify;
pub mod overload;
pub mod probe;
pub mod reload;
pub mod runtime;
pub mod shutdown;
pub mod signals;
pub mod telemetry;
pub mod token;
pub mod version;
