//! The configured API keys. They are kept and compared as digests, in constant time.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};

/// Keys by their digests.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<(Arc<str>, Digest)>);

/// Names only.
impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl ApiKeys {
    /// Keys, each with the name of its principal.
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let entry = |(name, key): (&str, &str)| (name.into(), digest(&SHA256, key.as_bytes()));
        Self(keys.into_iter().map(entry).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The principal of a key. How long it takes says nothing: not of how much of a key was right,
    /// nor of which one it is.
    pub fn find(&self, key: &str) -> Option<Arc<str>> {
        let given = digest(&SHA256, key.as_bytes());
        let mut found = None;
        for (name, known) in &self.0 {
            if verify_slices_are_equal(given.as_ref(), known.as_ref()).is_ok() {
                found = Some(name);
            }
        }
        found.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_all_of_it_and_nothing_else() {
        let keys = ApiKeys::new([("meter", "key-of-the-meter"), ("truck", "key-of-the-truck")]);
        assert_eq!(keys.find("key-of-the-meter").as_deref(), Some("meter"));
        assert_eq!(keys.find("key-of-the-truck").as_deref(), Some("truck"));
        for wrong in ["", "key", "key-of-the-meter ", "key-of-the-mete", "meter"] {
            assert_eq!(keys.find(wrong), None, "{wrong:?}");
        }
        assert_eq!(ApiKeys::default().find(""), None);
    }

    #[test]
    fn keys_are_never_shown() {
        let keys = ApiKeys::new([("meter", "key-of-the-meter")]);
        assert_eq!(format!("{keys:?}"), "[\"meter\"]");
    }
}
