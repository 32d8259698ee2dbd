//! The server API over the broker, the hubs and real sessions.

mod channels;
mod clients;
mod many;
mod publish;
#[path = "../session/support.rs"]
#[allow(dead_code, reason = "shared with the tests of sessions")]
mod session;
mod support;
