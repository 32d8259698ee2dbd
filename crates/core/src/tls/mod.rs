//! TLS on listeners: certificates, the settings made of them, the handshake's outcome, and the
//! socket that an open connection reads and writes through. Knows no session and no table.

mod certificate;
mod files;

mod info;
mod metrics;
mod outcome;
mod pace;
mod reload;
mod resolver;
mod settings;
mod socket;

#[cfg(test)]
pub(crate) mod testing;

pub(crate) use certificate::principal;
pub use files::{CertificateFiles, TlsError, TlsFault, TlsPlace};
pub use info::{TlsInfo, TlsVersion};
pub(crate) use metrics::TlsMetrics;
pub(crate) use outcome::HandshakeResult;
pub use pace::HandshakeLimits;
pub(crate) use pace::{Handshakes, Paced, Steps};
pub use reload::TlsReload;
pub(crate) use reload::{ListenerTls, reload, watch};
pub use settings::{ClientAuth, TlsOptions, TlsSettings, check};
pub use socket::TlsSocket;
