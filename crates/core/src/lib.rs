//! weir's connection engine. (The road of a message is told here; being built.)

pub mod admission;
pub mod asks;
pub mod clock;
pub mod close;
mod connection;
pub mod context;
pub mod ends;
mod event_loop;
pub mod http;
pub mod lifeline;
pub mod limits;
pub mod listener;
pub mod metrics;
mod outbox;
pub mod poll;
mod refuse;
mod replies;
pub mod server;
pub mod service;
pub mod site;
pub mod stage;
pub mod transport;
pub mod view;
pub mod wire;
mod worker;

pub use event_loop::Beat;
pub use worker::pipes;
