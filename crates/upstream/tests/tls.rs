//! `https` targets: trusted through a named authority, refused otherwise, and bounded in time.

mod support;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivateKeyDer;
use support::server::{Peer, Server};
use support::{Bench, options, within};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use weir_core::service::AskError;
use weir_upstream::{ConnectFault, UpstreamError, UpstreamOptions};

/// An authority, its PEM file, and what it vouches for.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(issuer.pem().as_bytes()).expect("room on the disk");
        Self { issuer, file }
    }

    /// A server that has a certificate for `name` and tells what it was asked for.
    async fn server(&self, name: &str) -> Server {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], private)
                .expect("the key fits");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Server::start(move |peer: Peer| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(peer.stream).await else { return };
                let (_, tls) = stream.get_ref();
                let alpn = String::from_utf8_lossy(tls.alpn_protocol().unwrap_or(b"-"));
                let body = format!("{} {alpn}", tls.server_name().unwrap_or("-"));
                let mut request = [0; 1024];
                while matches!(stream.read(&mut request).await, Ok(read) if read > 0) {
                    let length = body.len();
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                    stream.write_all((head + &body).as_bytes()).await.expect("it reads");
                }
            }
        })
        .await
    }

    fn trusted_by(&self, target: String) -> UpstreamOptions {
        UpstreamOptions { ca_file: Some(self.file.path().to_owned()), ..options(&[target]) }
    }
}

#[tokio::test]
async fn a_target_of_a_named_authority_is_trusted_and_told_which_name_is_meant() {
    let authority = Authority::new();
    let server = authority.server("localhost").await;
    let target = format!("https://localhost:{}", server.address.port());
    let bench = Bench::new(authority.trusted_by(target));
    for _ in 0..3 {
        let response = bench.get("/").await.expect("trusted");
        assert_eq!(response.body, "localhost http/1.1");
    }
    assert_eq!(bench.idle(), 1.0);
    bench.ends_clean().await;
}

#[tokio::test]
async fn an_address_is_trusted_by_a_certificate_for_it_and_names_no_server() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1").await;
    let bench = Bench::new(authority.trusted_by(format!("https://{}", server.address)));
    assert_eq!(bench.get("/").await.expect("trusted").body, "- http/1.1");
    bench.ends_clean().await;
}

async fn check_refused(options: UpstreamOptions) {
    let bench = Bench::new(options);
    let error = bench.get("/").await.expect_err("not trusted");
    let fault = matches!(&error, UpstreamError::Connect { source: ConnectFault::Tls(_), .. });
    assert!(fault, "{error:?}");
    assert_eq!(AskError::from(error), AskError::Unavailable);
    bench.ends_clean().await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = authority.server("elsewhere.example").await;
    check_refused(authority.trusted_by(format!("https://{}", server.address))).await;
}

#[tokio::test]
async fn another_authority_is_refused() {
    let server = Authority::new().server("127.0.0.1").await;
    check_refused(Authority::new().trusted_by(format!("https://{}", server.address))).await;
}

#[tokio::test]
async fn a_target_that_never_ends_its_handshake_costs_the_connect_timeout() {
    let authority = Authority::new();
    let server = Server::start(|mut peer: Peer| async move { peer.closed().await }).await;
    let bench = Bench::new(UpstreamOptions {
        connect_timeout: Duration::from_millis(100),
        ..authority.trusted_by(format!("https://{}", server.address))
    });
    let error = within("the timeout", bench.get("/")).await.expect_err("silent");
    assert!(matches!(error, UpstreamError::ConnectTimeout { .. }), "{error}");
    assert_eq!(AskError::from(error), AskError::Timeout);
    support::until("the server sees the close", || async { server.ended() == 1 }).await;
    bench.ends_clean().await;
}
