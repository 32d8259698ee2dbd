//! A keyed hash, so that nobody can choose names that all meet in one place. The key comes from a
//! seed: a run can be repeated.

use std::hash::{BuildHasher, Hasher};

use siphasher::sip::SipHasher13;

/// Makes hashers of one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u64, u64);

impl Seed {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed, !seed.rotate_left(32))
    }

    /// The hash of a channel's name.
    pub(crate) fn hash_name(self, name: &str) -> u64 {
        let mut hasher = self.build_hasher();
        hasher.write(name.as_bytes());
        hasher.finish()
    }
}

impl BuildHasher for Seed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}
