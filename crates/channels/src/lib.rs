//! weir's channels: streams of publications that clients subscribe to in the public Centrifugo
//! protocol.
//!
//! [`protocol`] is bytes to commands, and replies and pushes to bytes, in both of its encodings.
//! [`broker`] holds what was published and tells each worker which channels have grown.
//! [`namespace`] decides which channels there are and who may do what in them, and [`tokens`] who
//! somebody is. Nothing here touches a socket or reads a clock, and only the check of a token may wait,
//! for keys that somebody else publishes.

pub mod broker;
pub mod namespace;
pub mod protocol;
mod sync;
pub mod tokens;
