//! How a handshake came out: one closed list, which is a metric label and decides how the
//! connection ends. Does no I/O.

use std::io;

use rustls::{CertificateError, Error as RustlsError};

use crate::close::CloseReason;

macro_rules! handshake_results {
    ($($(#[$doc:meta])* $variant:ident, $name:literal;)+) => {
        /// What became of a TLS handshake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum HandshakeResult { $($(#[$doc])* $variant,)+ }

        impl HandshakeResult {
            /// Every result, in order; `result as usize` is its index here.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The metric label and the log field.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

handshake_results! {
    /// The connection is open.
    Ok, "ok";
    /// It did not end within `timeouts.handshake`.
    Timeout, "timeout";
    /// What came first is no TLS.
    NotTls, "not_tls";
    /// No version, cipher, group or application protocol that both speak.
    NothingShared, "nothing_shared";
    /// The peer showed no certificate where it must.
    CertificateMissing, "certificate_missing";
    /// No authority of the listener vouches for the peer's certificate.
    CertificateUnknown, "certificate_unknown_authority";
    /// The peer's certificate is not valid any more, or not yet.
    CertificateExpired, "certificate_expired";
    /// The peer's certificate or its proof is wrong in another way.
    CertificateBad, "certificate_bad";
    /// The peer refused with an alert; most often it does not trust our certificate.
    PeerRefused, "peer_refused";
    /// The peer went away.
    PeerClosed, "peer_closed";
    /// Too many handshakes were waiting already.
    Overloaded, "overloaded";
    /// weir was stopped meanwhile.
    Stopped, "stopped";
    /// The peer broke the rules of TLS in another way.
    Other, "other";
}

impl HandshakeResult {
    /// What the error of a handshake means.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>()) {
            Some(error) => Self::of_tls(error),
            None => Self::PeerClosed,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn of_tls(error: &RustlsError) -> Self {
        match error {
            RustlsError::InvalidMessage(_) => Self::NotTls,
            RustlsError::PeerIncompatible(_) | RustlsError::NoApplicationProtocol => {
                Self::NothingShared
            }
            RustlsError::NoCertificatesPresented => Self::CertificateMissing,
            RustlsError::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer => Self::CertificateUnknown,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::CertificateExpired,
                _ => Self::CertificateBad,
            },
            RustlsError::AlertReceived(_) => Self::PeerRefused,
            _ => Self::Other,
        }
    }
}

impl From<HandshakeResult> for CloseReason {
    fn from(result: HandshakeResult) -> Self {
        match result {
            HandshakeResult::Timeout => Self::HandshakeTimeout,
            HandshakeResult::PeerClosed => Self::PeerReset,
            HandshakeResult::Stopped => Self::Forced,
            HandshakeResult::Ok
            | HandshakeResult::NotTls
            | HandshakeResult::NothingShared
            | HandshakeResult::CertificateMissing
            | HandshakeResult::CertificateUnknown
            | HandshakeResult::CertificateExpired
            | HandshakeResult::CertificateBad
            | HandshakeResult::PeerRefused
            | HandshakeResult::Overloaded
            | HandshakeResult::Other => Self::TlsFailed,
        }
    }
}
