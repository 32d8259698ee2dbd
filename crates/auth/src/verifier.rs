//! Checks tokens against keys and rules. One verifier is one scope: its keys never check what another
//! one's should, however many there are.

use std::sync::Arc;
use std::time::SystemTime;

use crate::claims::{ClaimRules, Token};
use crate::key::Key;
use crate::key_set::RemoteKeys;
use crate::refusal::TokenError;
use crate::token::Unverified;

/// Most keys that are tried for a token that names none. A bound on the work that a stranger causes.
const TRIES_MAX: usize = 8;

/// The keys and rules of one scope.
#[derive(Debug)]
pub struct Verifier {
    rules: ClaimRules,
    keys: Vec<Arc<Key>>,
    remote: Option<Arc<RemoteKeys>>,
}

impl Verifier {
    /// A verifier with these keys, and those of a key set if there is one.
    pub fn new(rules: ClaimRules, keys: Vec<Arc<Key>>, remote: Option<Arc<RemoteKeys>>) -> Self {
        Self { rules, keys, remote }
    }

    /// Checks a token with the keys that are known now. Takes some 20 to 100 µs: the signature.
    ///
    /// # Errors
    /// What is wrong with it. After [`TokenError::UnknownKey`] it is worth to
    /// [`refresh`](Self::refresh) and to check again.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Token, TokenError> {
        let unverified = Unverified::parse(token)?;
        let set = self.remote.as_ref().map(|remote| remote.keys());
        let all = self.keys.iter().map(|key| &**key).chain(set.iter().flat_map(|set| set.iter()));
        self.check_signature(&unverified, all)?;
        self.rules.check(unverified.claims()?, now)
    }

    /// Whether an unknown key may be one that the key set has by now.
    pub fn can_refresh(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.may_refresh())
    }

    /// Asks the key set for its keys, if it was not asked just now. Ends within the deadlines of
    /// its upstream.
    ///
    /// # Cancel safety
    /// May be dropped; whoever asks next asks again.
    pub async fn refresh(&self) {
        if let Some(remote) = &self.remote {
            remote.refresh_on_demand().await;
        }
    }

    fn check_signature<'k>(
        &self,
        token: &Unverified<'_>,
        keys: impl Iterator<Item = &'k Key> + Clone,
    ) -> Result<(), TokenError> {
        let named = |key: &&Key| token.key_id.as_deref().is_none_or(|id| key.id() == Some(id));
        let candidates = keys.filter(named);
        if candidates.clone().next().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let fitting = candidates.filter(|key| key.allows(token.algorithm));
        if fitting.clone().next().is_none() {
            return Err(TokenError::Algorithm);
        }
        // Two keys of one name are one that is being replaced.
        let signed = |key: &Key| key.has_signed(token.message, token.signature, token.algorithm);
        if fitting.take(TRIES_MAX).any(signed) { Ok(()) } else { Err(TokenError::Signature) }
    }
}
