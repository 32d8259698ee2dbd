//! TLS of a listener: its certificates, whose clients may come, and what is spoken at least.

use std::path::PathBuf;

use serde_json::Value as Json;
use weir_core::tls::{CertificateFiles, ClientAuth, TlsOptions, TlsVersion};

use super::faults::Faults;
use super::listener::Wire;
use super::raw::choices;
use super::section::{Key, Section, Table, section};

choices!(TlsVersion { "1.2" => TlsVersion::V1_2, "1.3" => TlsVersion::V1_3 });

/// Whether clients show certificates, by its name in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthName {
    /// They are not asked.
    Off,
    /// They may.
    Optional,
    /// They must.
    Required,
}

choices!(ClientAuthName {
    "off" => ClientAuthName::Off,
    "optional" => ClientAuthName::Optional,
    "required" => ClientAuthName::Required,
});

section! {
    /// TLS of a listener, on every wire. Without this table it speaks in the clear.
    pub struct TlsKeys {
        /// Whether clients show certificates: "off", "optional" or "required". A client is who its
        /// certificate's common name says, else its first DNS name or URI.
        pub client_auth: ClientAuthName = "off";
        /// PEM file of the authorities that vouch for clients.
        pub client_ca: Option<PathBuf> = "off";
        /// The oldest version that is spoken: "1.2" or "1.3".
        pub min_version: TlsVersion = "1.2";
    }
}

section! {
    /// A certificate of a listener, which has one or more. A client that names a server gets the one
    /// with that DNS name; all others get the first.
    pub struct CertificateKeys {
        /// PEM file of the certificate and the authorities between it and a known one.
        pub certificate: PathBuf, like "/etc/weir/tls/tls.crt";
        /// PEM file of its private key.
        pub key: PathBuf, like "/etc/weir/tls/tls.key";
    }
}

/// The list of a listener's certificates, as a key of its TLS table.
const CERTIFICATES: &[Key] = &[Key { name: "certificates", doc: "", default: "", required: true }];

/// What ALPN calls the one version of HTTP that is served (RFC 7301, section 6).
const HTTP_1_1: &[u8] = b"http/1.1";

/// TLS of a listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What stands once.
    pub keys: TlsKeys,
    /// At least one.
    pub certificates: Vec<CertificateKeys>,
}

impl Tls {
    /// Reads the table `[listeners.tls]`.
    pub(super) fn read(mut table: Table<'_>) -> Option<Self> {
        let keys = TlsKeys::read(&mut table);
        let list = table.tables("certificates");
        if list.is_empty() {
            let text = "needs at least one [[listeners.tls.certificates]]";
            table.faults().add(&table.path, text);
        }
        let certificates = list.into_iter().map(|mut table| {
            let certificate = CertificateKeys::read(&mut table);
            table.finish(&[CertificateKeys::KEYS], &[]);
            certificate
        });
        // Every certificate is read, whatever is wrong with the one before it.
        let certificates: Vec<Option<CertificateKeys>> = certificates.collect();
        table.finish(&[TlsKeys::KEYS, CERTIFICATES], &[]);
        let certificates: Vec<_> = certificates.into_iter().collect::<Option<_>>()?;
        (!certificates.is_empty()).then_some(Self { keys: keys?, certificates })
    }

    /// What the engine makes of it on this wire.
    pub fn options(&self, wire: &Wire) -> TlsOptions {
        let files = |one: &CertificateKeys| CertificateFiles {
            certificate: one.certificate.clone(),
            key: one.key.clone(),
        };
        let client_auth = match (self.keys.client_auth, self.keys.client_ca.clone()) {
            (ClientAuthName::Off, _) | (_, None) => ClientAuth::Off,
            (ClientAuthName::Optional, Some(ca)) => ClientAuth::Optional(ca),
            (ClientAuthName::Required, Some(ca)) => ClientAuth::Required(ca),
        };
        TlsOptions {
            certificates: self.certificates.iter().map(files).collect(),
            client_auth,
            min_version: self.keys.min_version,
            alpn: match wire {
                Wire::Http(_) => vec![HTTP_1_1.to_vec()],
                Wire::Lines(_) | Wire::Length(_) => Vec::new(),
            },
        }
    }

    /// The files can be used, and the client's side is whole. Reads the files.
    pub(super) fn check(&self, path: &str, wire: &Wire, faults: &Faults) {
        let (auth, ca) = (format!("{path}.client_auth"), format!("{path}.client_ca"));
        match (self.keys.client_auth, &self.keys.client_ca) {
            (ClientAuthName::Off, Some(_)) => {
                faults.contradiction(&[&ca, &auth], "is not used while client_auth is \"off\"");
            }
            (ClientAuthName::Optional | ClientAuthName::Required, None) => {
                faults.contradiction(&[&auth, &ca], "needs client_ca");
            }
            (ClientAuthName::Off, None) | (_, Some(_)) => {}
        }
        for fault in weir_core::tls::check(&self.options(wire)).err().into_iter().flatten() {
            faults.add(&format!("{path}.{}", fault.at), fault.error.to_string());
        }
    }

    /// The table as `/config` shows it.
    pub(super) fn show(&self) -> Json {
        let mut shown = self.keys.show();
        let certificates = self.certificates.iter().map(|one| Json::from(one.show()));
        shown.insert("certificates".to_owned(), certificates.collect());
        shown.into()
    }
}
