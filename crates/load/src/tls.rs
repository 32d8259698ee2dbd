//! The generator's TLS: whom it trusts, what it calls the server, and which sessions it takes up
//! again. No socket is here.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustls::client::{ClientSessionStore, Resumption};
use rustls::client::{Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, NamedGroup, RootCertStore};

/// Whether and how a server is spoken to in TLS.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TlsArgs {
    /// Speak TLS
    #[arg(long, requires = "ca")]
    pub(crate) tls: bool,
    /// The authorities that may vouch for the server, as PEM
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub(crate) ca: Option<PathBuf>,
    /// The name that its certificate must be for [default: the host of --addr]
    #[arg(long, value_name = "NAME", requires = "tls")]
    pub(crate) server_name: Option<String>,
}

/// What every connection of a fleet begins its handshake with.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Sessions that are kept to be taken up again; more are not used by anything here.
const TICKETS_MAX: usize = 4096;

impl TlsArgs {
    /// TLS to the server at `addr` (HOST:PORT), if it is asked for.
    ///
    /// # Errors
    /// When the file is no good, or the host is no name that a certificate can be for.
    pub(crate) fn client(&self, addr: &str) -> Result<Option<Tls>> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.server_name.as_deref().unwrap_or(host);
        Tls::trusting(ca, name).map(Some)
    }

    /// The same as arguments of another process of this program.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(ca) = &self.ca {
            arguments.extend(["--tls".into(), "--ca".into(), ca.display().to_string()]);
        }
        if let Some(name) = &self.server_name {
            arguments.extend(["--server-name".into(), name.clone()]);
        }
        arguments
    }
}

impl Tls {
    fn trusting(ca: &Path, name: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let file = || format!("authorities in {}", ca.display());
        for certificate in CertificateDer::pem_file_iter(ca).with_context(file)? {
            roots.add(certificate.with_context(file)?).with_context(file)?;
        }
        ensure!(!roots.is_empty(), "there are no authorities in {}", ca.display());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every handshake is a whole one unless it is asked otherwise.
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(name.to_owned())
            .with_context(|| format!("{name} is no name of a server"))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// The same, taking up sessions of earlier connections again.
    pub(crate) fn resuming(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::store(Arc::new(Tickets::default()));
        Self { config: Arc::new(config), name: self.name.clone() }
    }

    /// One connection's side of it.
    ///
    /// # Errors
    /// When the configuration allows no handshake.
    pub(crate) fn connection(&self) -> Result<ClientConnection, rustls::Error> {
        let mut connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        // Loads bound what they have under way; a bound here would only cut messages.
        connection.set_buffer_limit(None);
        Ok(connection)
    }
}

/// Tickets of TLS 1.3, each used once, the oldest first. All are of one server. That of rustls
/// keeps eight, which is less than a fleet takes up at once.
#[derive(Debug, Default)]
struct Tickets(Mutex<VecDeque<Tls13ClientSessionValue>>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= TICKETS_MAX {
            tickets.pop_front();
        }
        tickets.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
