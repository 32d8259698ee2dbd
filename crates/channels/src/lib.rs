//! weir's channels: what clients that speak the public Centrifugo protocol are understood by.
//!
//! [`protocol`] is bytes to commands, and replies and pushes to bytes, in both of its encodings. Nothing
//! here touches a socket, waits, or reads a clock.

pub mod protocol;
