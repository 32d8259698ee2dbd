//! Checks tokens against keys and rules. One verifier is one scope: its keys never check what another
//! one's should, however many there are.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::claims::{ClaimRules, Token};
use crate::key::Key;
use crate::key_set::RemoteKeys;
use crate::refusal::TokenError;
use crate::token::Unverified;

/// Most keys that are tried for a token that names none. A bound on the work that a stranger causes.
const TRIES_MAX: usize = 8;

/// Longest check that an event loop makes itself, in microseconds of [`Key::cost`].
const LOOP_COST_MAX: u32 = 200;

/// The time of a look: keys grow old by the one clock, tokens by the other.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time that sessions are told.
    pub now: Instant,
    /// The time of day, which the times in tokens are of (RFC 7519, section 2, NumericDate).
    pub wall: SystemTime,
}

impl Moment {
    /// `now`, with the time of day. This is the one read of a clock for a token.
    pub fn at(now: Instant) -> Self {
        Self { now, wall: SystemTime::now() }
    }
}

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

    /// Checks a token with the keys that are known then. What it takes is its signatures, at most
    /// [`TRIES_MAX`] of them, by kind of key from 2 to 280 µs each: ask
    /// [`is_quick`](Self::is_quick) before calling it where nothing may wait.
    ///
    /// # Errors
    /// What is wrong with it. After [`TokenError::UnknownKey`] it is worth to
    /// [`refresh`](Self::refresh) and to check again.
    pub fn verify(&self, token: &str, at: Moment) -> Result<Token, TokenError> {
        let unverified = Unverified::parse(token)?;
        let set = self.published(at.now);
        check_signature(&unverified, self.known(&set).filter(|key| key.holds(at.wall)))?;
        let claims = unverified.claims()?;
        let (principal, expires) = self.rules.check(&claims.fields, at.wall)?;
        Ok(Token { principal, expires, claims: claims.fields, json: claims.json })
    }

    /// Whether the check of a token is short enough for an event loop, whatever comes of it.
    pub fn is_quick(&self, token: &str, now: Instant) -> bool {
        let Ok(token) = Unverified::parse(token) else { return true };
        let set = self.published(now);
        let tried = candidates(&token, self.known(&set)).filter(|key| key.allows(token.algorithm));
        tried.take(TRIES_MAX).map(Key::cost).sum::<u32>() <= LOOP_COST_MAX
    }

    /// Whether an unknown key may be one that the key set has by now.
    pub fn can_refresh(&self, now: Instant) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.may_refresh(now))
    }

    /// Whether there is a key set of which nothing is known now: nobody can say then what a token
    /// of an unknown key is.
    pub(crate) fn awaits_keys(&self, now: Instant) -> bool {
        self.remote.is_some() && self.published(now).is_empty()
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

    /// The keys of the set, which are as many as there are now.
    fn published(&self, now: Instant) -> Arc<[Key]> {
        self.remote.as_ref().map(|remote| remote.keys(now)).unwrap_or_default()
    }

    /// Every key: those that are listed, and those of the set.
    fn known<'k>(&'k self, set: &'k [Key]) -> impl Iterator<Item = &'k Key> + Clone {
        self.keys.iter().map(|key| &**key).chain(set)
    }
}

/// The keys that a token may be of by its name. Two of one name are one that is being replaced.
fn candidates<'k>(
    token: &Unverified<'_>,
    keys: impl Iterator<Item = &'k Key> + Clone,
) -> impl Iterator<Item = &'k Key> + Clone {
    keys.filter(move |key| token.key_id.as_deref().is_none_or(|id| key.id() == Some(id)))
}

fn check_signature<'k>(
    token: &Unverified<'_>,
    keys: impl Iterator<Item = &'k Key> + Clone,
) -> Result<(), TokenError> {
    let candidates = candidates(token, keys);
    if candidates.clone().next().is_none() {
        return Err(TokenError::UnknownKey);
    }
    let fitting = candidates.filter(|key| key.allows(token.algorithm));
    if fitting.clone().next().is_none() {
        return Err(TokenError::Algorithm);
    }
    let signed = |key: &Key| key.has_signed(token.message, token.signature, token.algorithm);
    if fitting.take(TRIES_MAX).any(signed) { Ok(()) } else { Err(TokenError::Signature) }
}
