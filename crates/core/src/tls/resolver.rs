//! Which certificate answers which server name. Fixed when the settings are made.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::facts;

/// Chooses by the certificates' own DNS names: an exact name before a wildcard, the one configured
/// first where two have the same. A name that none has, and a peer that names none, get the first.
#[derive(Debug)]
pub(super) struct BySni {
    first: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl BySni {
    /// `None` when there are no certificates.
    pub(super) fn new(pairs: &[Arc<CertifiedKey>]) -> Option<Self> {
        let first = Arc::clone(pairs.first()?);
        let mut this = Self { first, exact: HashMap::new(), wildcard: HashMap::new() };
        for pair in pairs {
            let facts = pair.cert.first().and_then(facts);
            for name in facts.into_iter().flat_map(|facts| facts.dns_names) {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut this.wildcard, parent.to_owned()),
                    None => (&mut this.exact, name),
                };
                names.entry(name).or_insert_with(|| Arc::clone(pair));
            }
        }
        Some(this)
    }

    fn choose(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let find = |name: &str| {
            // A wildcard stands for one whole label (RFC 9525, section 6.3).
            let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
            self.exact.get(name).or_else(parent)
        };
        name.and_then(find).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.choose(hello.server_name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing;

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_the_first_answers_the_rest() {
        let pairs = [&["first.example"][..], &["*.b.example", "b.example"], &["x.b.example"]]
            .map(testing::pair);
        let by_sni = BySni::new(&pairs).unwrap();
        let index = |name| {
            let chosen = by_sni.choose(name);
            pairs.iter().position(|pair| Arc::ptr_eq(pair, chosen)).unwrap()
        };
        assert_eq!(index(Some("first.example")), 0);
        assert_eq!(index(Some("b.example")), 1);
        assert_eq!(index(Some("y.b.example")), 1);
        assert_eq!(index(Some("x.b.example")), 2);
        assert_eq!(index(Some("z.y.b.example")), 0);
        assert_eq!(index(Some("nobody.example")), 0);
        assert_eq!(index(None), 0);
    }
}
