//! weir's channels: streams of publications that clients subscribe to in the public Centrifugo
//! protocol.
//!
//! [`protocol`] is bytes to commands, and replies and pushes to bytes, in both of its encodings.
//! [`broker`] holds what was published and tells each worker which channels have grown. Nothing
//! here touches a socket, waits, or reads a clock.

pub mod broker;
pub mod protocol;
mod sync;
