//! What a certificate says about itself: its names, its subject, its end. Reads only; whether to
//! believe it is the verifier's business.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The facts of one certificate that weir uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The DNS names it is for, in lower case and in its order; the first label may be `*`.
    pub(super) dns_names: Vec<String>,
    /// The last second of its validity, in seconds since 1970.
    pub(super) not_after: i64,
    /// See [`super::TlsInfo::principal`].
    pub(super) principal: Option<String>,
}

/// Who a peer with this certificate is; see [`super::TlsInfo::principal`].
pub(crate) fn principal(certificate: &CertificateDer<'_>) -> Option<String> {
    facts(certificate)?.principal
}

/// Reads a certificate; `None` when it is none.
pub(super) fn facts(certificate: &CertificateDer<'_>) -> Option<Facts> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    let mut dns_names = Vec::new();
    let mut first = None;
    for name in names {
        if let GeneralName::DNSName(dns) = name {
            let dns = dns.to_ascii_lowercase();
            first.get_or_insert_with(|| dns.clone());
            dns_names.push(dns);
        } else if let GeneralName::URI(uri) = name {
            first.get_or_insert_with(|| (*uri).to_owned());
        }
    }
    let common_name = parsed.subject().iter_common_name().next();
    let common_name = common_name.and_then(|name| name.as_str().ok());
    let principal = common_name.filter(|name| !name.is_empty()).map(str::to_owned).or(first);
    Some(Facts { dns_names, not_after: parsed.validity().not_after.timestamp(), principal })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[track_caller]
    fn check(common_name: &str, names: &[SanType], principal: Option<&str>, dns: &[&str]) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !common_name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        params.subject_alt_names = names.to_vec();
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let facts = facts(certificate.der()).unwrap();
        assert_eq!(facts.principal.as_deref(), principal);
        assert_eq!(facts.dns_names, dns);
        assert_eq!(facts.not_after, 2_208_988_800);
    }

    #[test]
    fn the_principal_is_the_common_name_else_the_first_name_or_uri() {
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
        check("meter-7", &[dns("a.example")], Some("meter-7"), &["a.example"]);
        check(
            "",
            &[dns("A.example"), dns("b.example")],
            Some("a.example"),
            &["a.example", "b.example"],
        );
        check(
            "",
            &[uri("spiffe://weir/meter"), dns("a.example")],
            Some("spiffe://weir/meter"),
            &["a.example"],
        );
        check("", &[], None, &[]);
    }

    #[test]
    fn bytes_that_are_no_certificate_say_nothing() {
        assert_eq!(facts(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])), None);
    }
}
