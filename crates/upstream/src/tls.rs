//! What TLS to an upstream trusts and offers. The handshakes themselves are in `connect` and `once`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsConnector;

use crate::error::UpstreamBuildError;

/// PEM files of a certificate that this side shows, and of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A connector that trusts the authorities of `ca_file`, or the system's, shows `identity` to who
/// asks for one, and speaks HTTP/1.1.
///
/// The crypto provider is named here, so it does not matter what else the process has installed.
/// Reads files: call it at start-up.
///
/// # Errors
///
/// When a file cannot be read as PEM, when not one authority is usable, or when the TLS library
/// refuses its settings.
pub(crate) fn connector(
    ca_file: Option<&Path>,
    identity: Option<&ClientIdentity>,
) -> Result<TlsConnector, UpstreamBuildError> {
    let (certificates, unreadable) = match ca_file {
        Some(path) => (certificates_of(path)?, 0),
        None => {
            let system = rustls_native_certs::load_native_certs();
            (system.certs, system.errors.len())
        }
    };
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(UpstreamBuildError::NoAuthorities { skipped: ignored + unreadable });
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(UpstreamBuildError::Tls)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(ClientIdentity { certificate, key }) => {
            let own_key = PrivateKeyDer::from_pem_file(key)
                .map_err(|source| UpstreamBuildError::PemFile { path: key.clone(), source })?;
            config
                .with_client_auth_cert(certificates_of(certificate)?, own_key)
                .map_err(UpstreamBuildError::Tls)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamBuildError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| UpstreamBuildError::PemFile { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_not_there_is_named() {
        let error = connector(Some(Path::new("/nowhere/ca.pem")), None).err().expect("an error");
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let error = connector(Some(Path::new("/dev/null")), None).err();
        assert!(matches!(error, Some(UpstreamBuildError::NoAuthorities { skipped: 0 })));
    }
}
