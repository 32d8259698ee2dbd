//! weir's connection engine: it keeps connections open, turns their bytes into messages, asks a
//! [`service::Session`] what to do, and writes what it says. It knows no channel, no JSON, no
//! database, no signal and no environment.
//!
//! # The road of a message
//!
//! 1. [`listener`] accepts a socket: one system call, options inherited from the listening socket.
//! 2. [`admission`] grants a `Permit` or refuses; `refuse` tells the peer why, in its own form.
//! 3. [`server`] hands the socket to the worker with the least load. `tasks` runs its `handshake`
//!    ([`proxy`], [`tls`]) there, and [`http`] until it upgrades; plain lines and length prefixes need neither.
//! 4. The worker's `event_loop` waits for mail, edges of [`poll`] and ticks; `worker` turns its
//!    table in bounded turns.
//! 5. `connection` reads once into the worker's scratch buffer; [`wire`] finds the messages in it.
//! 6. The session answers each with [`service::Actions`]: a reply that is due is encoded at once;
//!    an ask runs on the service runtime and comes back as mail, and `replies` keeps the order.
//! 7. One write sends what a read has caused. What the socket does not take waits in the bounded
//!    `outbox`, and at most 64 outboxes are written a turn. All of them together keep within a [`budget`].
//! 8. Once a second the sweep looks at every deadline ([`limits::Timeouts`]).
//! 9. Each end has one [`close::CloseReason`]: `metrics` counts it, [`ends`] logs and keeps it.
//!
//! [`stage::Stage`] names the hops; [`metrics`] says how long each took. [`lifeline`] is how all
//! of it is told to stop. What is *absent*: a task or a timer a connection, a lock between a socket
//! and its session, a clock inside a session, an unbounded queue.

pub mod admission;
pub mod asks;
pub mod budget;
pub mod clock;
pub mod close;
mod connection;
pub mod context;
pub mod door;
pub mod ends;
mod event_loop;
mod handshake;
pub mod http;
pub mod lifeline;
pub mod limits;
pub mod listener;
pub mod local;
pub mod metrics;
pub mod network;
mod outbox;
pub mod poll;
pub mod pressure;
pub mod proxy;
mod refuse;
mod replies;
pub mod server;
pub mod service;
pub mod site;
pub mod stage;
mod tasks;
pub mod tls;
pub mod trace;
pub mod transport;
pub mod view;
pub mod wire;
mod worker;

pub use event_loop::Beat;
pub use worker::pipes;
