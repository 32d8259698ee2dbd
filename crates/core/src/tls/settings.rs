//! From a listener's TLS options to what its handshakes are made with; replaced as a whole by a
//! reload. Holds no connection.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::certificate::facts;
use super::files::{CertificateFiles, Contents, TlsError, TlsFault, TlsPlace};
use super::info::TlsVersion;
use super::resolver::BySni;

/// Whether clients show certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    Off,
    /// They are asked, and may come without. What they show must be vouched for by this file.
    Optional(PathBuf),
    /// They must show one that is vouched for by this file.
    Required(PathBuf),
}

/// TLS of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// At least one; the first answers peers that ask for none of the names.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// What is spoken inside, as ALPN writes it (RFC 7301). Empty: nothing is agreed on.
    pub alpn: Vec<Vec<u8>>,
}

/// One listener's TLS. Handshakes take what is in force when they begin.
pub struct TlsSettings {
    options: TlsOptions,
    /// Tickets of before a reload stay good after it.
    tickets: Option<Arc<dyn ProducesTickets>>,
    current: RwLock<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    fingerprint: u64,
    expiries: Vec<Expiry>,
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// Its first DNS name, else its place in the list.
    pub(crate) certificate: String,
    /// The last second of its validity, in seconds since 1970.
    pub(crate) not_after: i64,
}

/// What a reload came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reloaded {
    /// The files are as they were.
    Unchanged,
    /// Handshakes that begin now use the new files.
    Changed,
}

/// Reads everything that these options name, and throws it away.
///
/// # Errors
/// Every fault.
pub fn check(options: &TlsOptions) -> Result<(), Vec<TlsFault>> {
    TlsSettings::load(options.clone()).map(drop)
}

impl TlsSettings {
    /// Reads the files.
    ///
    /// # Errors
    /// Every fault.
    pub fn load(options: TlsOptions) -> Result<Self, Vec<TlsFault>> {
        // A resumed session would keep an identity that nobody verifies again.
        let tickets = match options.client_auth {
            ClientAuth::Off => Some(aws_lc_rs::Ticketer::new().map_err(settings_fault)?),
            ClientAuth::Optional(_) | ClientAuth::Required(_) => None,
        };
        let current = Current::load(&options, tickets.as_ref())?;
        Ok(Self { options, tickets, current: RwLock::new(current) })
    }

    /// What a handshake that begins now is made with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().config)
    }

    /// When each certificate in force ends.
    pub(crate) fn expiries(&self) -> Vec<Expiry> {
        self.current.read().expiries.clone()
    }

    /// Reads the files again; what is in force stays when anything is wrong with them. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// Every fault.
    pub(crate) fn reload(&self) -> Result<Reloaded, Vec<TlsFault>> {
        let new = Current::load(&self.options, self.tickets.as_ref())?;
        let mut current = self.current.write();
        if new.fingerprint == current.fingerprint {
            return Ok(Reloaded::Unchanged);
        }
        *current = new;
        Ok(Reloaded::Changed)
    }
}

impl Current {
    fn load(
        options: &TlsOptions,
        tickets: Option<&Arc<dyn ProducesTickets>>,
    ) -> Result<Self, Vec<TlsFault>> {
        // Named here, so it does not matter what else the process has installed.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut contents = Contents::new();
        let mut faults = Vec::new();
        let mut pairs = Vec::with_capacity(options.certificates.len());
        for (index, files) in options.certificates.iter().enumerate() {
            pairs.extend(contents.pair(index, files, &provider, &mut faults));
        }
        let verifier = match &options.client_auth {
            ClientAuth::Off => None,
            ClientAuth::Optional(path) | ClientAuth::Required(path) => {
                match contents.authorities(path) {
                    Ok(roots) => Some((path, roots)),
                    Err(error) => {
                        faults.push(TlsFault { at: TlsPlace::ClientCa, error });
                        None
                    }
                }
            }
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let versions = match options.min_version {
            TlsVersion::V1_2 => &[&TLS13, &TLS12][..],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(settings_fault)?;
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some((path, roots)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = match options.client_auth {
                    ClientAuth::Optional(_) => verifier.allow_unauthenticated().build(),
                    ClientAuth::Off | ClientAuth::Required(_) => verifier.build(),
                };
                let verifier = verifier.map_err(|source| {
                    let error = TlsError::Verifier { path: path.clone(), source };
                    vec![TlsFault { at: TlsPlace::ClientCa, error }]
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let expiries = expiries(&pairs);
        let Some(resolver) = BySni::new(&pairs) else {
            return Err(settings_fault(rustls::Error::NoCertificatesPresented));
        };
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols.clone_from(&options.alpn);
        match tickets {
            Some(tickets) => config.ticketer = Arc::clone(tickets),
            None => {
                config.send_tls13_tickets = 0;
                config.session_storage = Arc::new(NoServerSessionStorage {});
            }
        }
        let fingerprint = contents.fingerprint();
        Ok(Self { config: Arc::new(config), fingerprint, expiries })
    }
}

fn expiries(pairs: &[Arc<CertifiedKey>]) -> Vec<Expiry> {
    let expiry = |(index, pair): (usize, &Arc<CertifiedKey>)| {
        let facts = facts(pair.cert.first()?)?;
        let certificate = facts.dns_names.into_iter().next().unwrap_or_else(|| index.to_string());
        Some(Expiry { certificate, not_after: facts.not_after })
    };
    pairs.iter().enumerate().filter_map(expiry).collect()
}

fn settings_fault(error: rustls::Error) -> Vec<TlsFault> {
    vec![TlsFault { at: TlsPlace::Listener, error: error.into() }]
}
