//! What TLS to an upstream trusts and offers. The handshake itself is in `connect`.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_rustls::TlsConnector;

use crate::error::UpstreamBuildError;

/// A connector that trusts the authorities of `ca_file`, or the system's, and speaks HTTP/1.1.
///
/// The crypto provider is named here, so it does not matter what else the process has installed.
/// Reads files: call it at start-up.
///
/// # Errors
///
/// When the file cannot be read as PEM, when not one authority is usable, or when the TLS library
/// refuses its settings.
pub(crate) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, UpstreamBuildError> {
    let (certificates, unreadable) = match ca_file {
        Some(path) => (named_authorities(path)?, 0),
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
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(UpstreamBuildError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn named_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamBuildError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| UpstreamBuildError::CaFile { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_not_there_is_named() {
        let error = connector(Some(Path::new("/nowhere/ca.pem"))).err().expect("an error");
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let error = connector(Some(Path::new("/dev/null"))).err();
        assert!(matches!(error, Some(UpstreamBuildError::NoAuthorities { skipped: 0 })));
    }
}
