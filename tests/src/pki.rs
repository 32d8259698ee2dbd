//! An authority of the test's own, and what it vouches for, as PEM files in a folder that goes with
//! it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

/// An authority.
pub struct Pki {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Identity {
    /// The pair as the configuration lists it.
    pub fn listed(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("{{ certificate = \"{certificate}\", key = \"{key}\" }}")
    }

    /// The `tls` key of a listener with this pair alone, and further keys such as
    /// `, min_version = "1.3"`.
    pub fn listener(&self, further: &str) -> String {
        format!("tls = {{ certificates = [{}]{further} }}", self.listed())
    }
}

impl Pki {
    /// A new authority; its certificate is `ca.pem`.
    ///
    /// # Panics
    ///
    /// When the temporary folder cannot be written.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-tests-pki-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = subject(&format!("authority {number} of the tests"));
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        std::fs::write(folder.join("ca.pem"), issuer.pem()).expect("writable");
        Self { folder, issuer }
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Vouches for a subject with these DNS names, in `<file>.pem` and `<file>.key`, for the days
    /// that are named relative to now.
    ///
    /// # Panics
    ///
    /// When a name is none, or the folder cannot be written.
    pub fn issue_for(
        &self,
        file: &str,
        common_name: &str,
        names: &[&str],
        days: std::ops::Range<i64>,
    ) -> Identity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = subject(common_name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let today = std::time::SystemTime::now();
        let at = |days: i64| {
            let distance = std::time::Duration::from_secs(days.unsigned_abs() * 86_400);
            if days < 0 { today - distance } else { today + distance }
        };
        params.not_before = at(days.start).into();
        params.not_after = at(days.end).into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let identity = Identity {
            certificate: self.folder.join(format!("{file}.pem")),
            key: self.folder.join(format!("{file}.key")),
        };
        std::fs::write(&identity.certificate, certificate.pem()).expect("writable");
        std::fs::write(&identity.key, key.serialize_pem()).expect("writable");
        identity
    }

    /// Vouches for a subject with these DNS names, for a month.
    pub fn issue(&self, file: &str, names: &[&str]) -> Identity {
        self.issue_for(file, file, names, -1..30)
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
