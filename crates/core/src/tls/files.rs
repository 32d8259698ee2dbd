//! PEM files: reading them, and saying what is wrong with them. Decides nothing about TLS itself.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error as RustlsError, RootCertStore};
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate with its chain, and its key: two PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then the authorities between it and a root that peers know.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Which of a listener's TLS settings a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPlace {
    /// The certificate file of this pair.
    Certificate(usize),
    /// The key file of this pair.
    Key(usize),
    /// The file of client authorities.
    ClientCa,
    /// The settings as a whole.
    Listener,
}

/// The key below a listener's `tls` table.
impl fmt::Display for TlsPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(index) => write!(f, "certificates[{index}].certificate"),
            Self::Key(index) => write!(f, "certificates[{index}].key"),
            Self::ClientCa => f.write_str("client_ca"),
            Self::Listener => f.write_str("certificates"),
        }
    }
}

/// What is wrong with a file, or with what was made of the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file is not PEM, or not of what it should hold.
    #[error("{path} holds no {what} in PEM: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What the parser says.
        source: PemError,
    },
    /// A PEM file without a certificate.
    #[error("{path} holds no certificate")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate that cannot be read.
    #[error("{path} holds a certificate that cannot be read")]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// The key is of another certificate.
    #[error("the key in {key} is not that of the certificate in {certificate}")]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A key of a kind that is not supported.
    #[error("the key in {path} cannot be used: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What the TLS library says.
        source: RustlsError,
    },
    /// No certificate of the file can vouch for clients.
    #[error("{path} holds no authority that can vouch for clients: {source}")]
    Verifier {
        /// The file.
        path: PathBuf,
        /// What the TLS library says.
        source: rustls::server::VerifierBuilderError,
    },
    /// The TLS library refuses the settings.
    #[error("TLS settings: {0}")]
    Settings(#[from] RustlsError),
}

/// One fault, and which setting it is about.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {error}")]
pub struct TlsFault {
    /// The setting.
    pub at: TlsPlace,
    /// What is wrong.
    pub error: TlsError,
}

/// The contents of a listener's files, read in one go so that what is checked is what is used.
pub(super) struct Contents {
    hash: DefaultHasher,
}

impl Contents {
    pub(super) fn new() -> Self {
        Self { hash: DefaultHasher::new() }
    }

    /// A number that changes when any of the files read so far does.
    pub(super) fn fingerprint(&self) -> u64 {
        self.hash.finish()
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, TlsError> {
        let bytes = std::fs::read(path)
            .map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
        bytes.hash(&mut self.hash);
        Ok(bytes)
    }

    /// The certificates of a file; at least one.
    fn certificates(&mut self, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.read(path)?;
        let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|source| pem(path, "certificate", source))?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate { path: path.to_owned() });
        }
        Ok(certificates)
    }

    /// A pair of files as what TLS signs with.
    pub(super) fn pair(
        &mut self,
        index: usize,
        files: &CertificateFiles,
        provider: &CryptoProvider,
        faults: &mut Vec<TlsFault>,
    ) -> Option<Arc<CertifiedKey>> {
        let mut note = |at, error| {
            faults.push(TlsFault { at, error });
            None
        };
        // Both files are read, whatever is wrong with the first.
        let chain = self.certificates(&files.certificate);
        let key = self.read(&files.key).and_then(|bytes| {
            PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| pem(&files.key, "key", source))
        });
        let chain = chain.map_err(|error| note(TlsPlace::Certificate(index), error));
        let key = key.map_err(|error| note(TlsPlace::Key(index), error));
        let (Ok(chain), Ok(key)) = (chain, key) else { return None };
        if super::certificate::facts(&chain[0]).is_none() {
            let path = files.certificate.clone();
            return note(TlsPlace::Certificate(index), TlsError::Certificate { path });
        }
        match CertifiedKey::from_der(chain, key, provider) {
            Ok(pair) => Some(Arc::new(pair)),
            Err(RustlsError::InconsistentKeys(_)) => {
                let CertificateFiles { certificate, key } = files.clone();
                note(TlsPlace::Key(index), TlsError::Mismatch { key, certificate })
            }
            Err(source) => {
                let path = files.key.clone();
                note(TlsPlace::Key(index), TlsError::Key { path, source })
            }
        }
    }

    /// The authorities of a file.
    pub(super) fn authorities(&mut self, path: &Path) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(path)? {
            roots.add(certificate).map_err(|_| TlsError::Certificate { path: path.to_owned() })?;
        }
        Ok(roots)
    }
}

fn pem(path: &Path, what: &'static str, source: PemError) -> TlsError {
    TlsError::Pem { path: path.to_owned(), what, source }
}
