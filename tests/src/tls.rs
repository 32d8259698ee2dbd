//! A peer that speaks lines over TLS, from this process: for what needs many of them, or needs to
//! know what was agreed on. Foreign TLS clients are run as programs.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::pki::{Identity, Pki};
use crate::wait::{SOON, within};

/// What a TLS client trusts and shows.
#[derive(Clone)]
pub struct TlsClient(TlsConnector);

impl TlsClient {
    /// Trusts this authority, shows nothing.
    ///
    /// # Panics
    ///
    /// When the files are not as written.
    pub fn trusting(pki: &Pki) -> Self {
        Self::new(pki, None)
    }

    /// Forgets every session: each handshake is a whole one, with the server's certificate in it.
    #[must_use]
    pub fn forgetful(self) -> Self {
        let mut config = ClientConfig::clone(self.0.config());
        config.resumption = Resumption::disabled();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Trusts this authority and shows this certificate.
    ///
    /// # Panics
    ///
    /// When the files are not as written.
    pub fn showing(pki: &Pki, identity: &Identity) -> Self {
        Self::new(pki, Some(identity))
    }

    fn new(pki: &Pki, identity: Option<&Identity>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&pki.ca())).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
                let chain = vec![certificate(&identity.certificate)];
                config.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Connects and asks for this server name; the error is that of the handshake.
    ///
    /// # Panics
    ///
    /// When there is no TCP connection, or the handshake takes too long.
    pub async fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<TlsPeer> {
        let socket = TcpStream::connect(address).await.expect("connects");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        let stream = self.handshake(socket, name).await?;
        Ok(TlsPeer { stream: BufReader::new(stream) })
    }

    /// Begins TLS on a connected socket.
    pub(crate) async fn handshake(
        &self,
        socket: TcpStream,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = name.to_owned().try_into().expect("a server name");
        within("a TLS handshake", SOON, self.0.connect(name, socket)).await
    }
}

/// A server's side that shows this certificate, speaks this protocol (ALPN) and lets in whom
/// `clients` vouches for.
///
/// # Panics
///
/// When the files are not as written.
pub fn acceptor(shown: &Identity, clients: &Pki, protocol: &str) -> TlsAcceptor {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&clients.ca())).expect("an authority");
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_file(&shown.key).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![certificate(&shown.certificate)], key)
        .expect("a pair");
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn certificate(file: &std::path::Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).expect("a certificate")
}

/// A TLS connection.
pub struct TlsPeer {
    stream: BufReader<TlsStream<TcpStream>>,
}

impl TlsPeer {
    /// The certificate that the server showed.
    ///
    /// # Panics
    ///
    /// When it showed none.
    pub fn certificate(&self) -> Vec<u8> {
        let (_, tls) = self.stream.get_ref().get_ref();
        tls.peer_certificates().and_then(|chain| chain.first()).expect("a certificate").to_vec()
    }

    /// Whether an earlier session was resumed.
    pub fn is_resumed(&self) -> bool {
        let (_, tls) = self.stream.get_ref().get_ref();
        tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Sends one line.
    ///
    /// # Panics
    ///
    /// When weir does not take it.
    pub async fn say(&mut self, text: &str) {
        let line = format!("{text}\n");
        let stream = self.stream.get_mut();
        let said = async {
            stream.write_all(line.as_bytes()).await?;
            stream.flush().await
        };
        within("weir to read", SOON, said).await.expect("an open connection");
    }

    /// The next line, or `None` at a clean end.
    ///
    /// # Panics
    ///
    /// When nothing comes in time.
    pub async fn try_hear(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        let read = within("weir to write", SOON, self.stream.read_line(&mut line)).await?;
        line.pop();
        Ok((read > 0).then_some(line))
    }

    /// The next line.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub async fn hear(&mut self) -> String {
        self.try_hear().await.expect("an open connection").expect("a line before the end")
    }

    /// Ends this side, as TLS does it.
    ///
    /// # Panics
    ///
    /// When the socket is gone already.
    pub async fn half_close(&mut self) {
        self.stream.get_mut().shutdown().await.expect("an open socket");
    }
}
