//! weir's routes for plain messages: what a listener, a WebSocket path or an HTTP path does with
//! what it is sent.
//!
//! A route is a [`weir_core::service::Service`]. It opens a session for each connection; a session
//! answers a message at once (`echo`, `discard`) or asks for something that takes time
//! (`upstream`). No route knows a socket, a wire or a clock.

mod caller;
pub mod discard;
pub mod echo;
#[cfg(test)]
mod recorder;
pub mod route;
pub mod template;
pub mod traced;
pub mod upstream;
