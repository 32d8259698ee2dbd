//! What a handshake found out about the peer, for services and logs. Facts only: who may do what
//! is decided elsewhere.

/// The version of TLS that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl TlsVersion {
    /// The version as the configuration and logs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

/// What is known of a connection because it came over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The version that was agreed on.
    pub version: TlsVersion,
    /// The server name that the peer asked for (RFC 6066, section 3), in lower case.
    pub sni: Option<String>,
    /// Who the peer proved to be: the common name of its certificate's subject, else the first DNS
    /// name or URI among its alternative names. `None` when it showed no certificate; what it
    /// showed was verified against the listener's client authorities.
    pub principal: Option<String>,
}
