//! TLS on listeners: what a handshake found out about a peer. Knows no session and no socket.

mod info;

pub use info::{TlsInfo, TlsVersion};
