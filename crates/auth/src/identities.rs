//! What all guards of a process share: keys and rules, the memory of failures, counters.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use weir_core::door::Principal;

use crate::api_keys::ApiKeys;
use crate::refusal::{Reason, TokenError};
use crate::refusals::Refusals;
use crate::verifier::{Moment, Verifier};

/// What guards are held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityOptions {
    /// How long a verdict may take, and how long a connection may wait with its first message.
    pub handshake_timeout: Duration,
    /// Failures a minute after which every answer to an address comes late. `None`: never.
    pub failures_per_address: Option<u32>,
    /// Whether a connection is closed when the token that it was opened with expires.
    pub close_expired: bool,
}

/// Who may be who.
#[derive(Debug)]
pub struct Identities {
    pub(crate) verifier: Verifier,
    api_keys: ApiKeys,
    pub(crate) options: IdentityOptions,
    pub(crate) refusals: Arc<Refusals>,
}

impl Identities {
    /// The identities that these keys prove.
    pub fn new(
        verifier: Verifier,
        api_keys: ApiKeys,
        options: IdentityOptions,
        refusals: Arc<Refusals>,
    ) -> Arc<Self> {
        Arc::new(Self { verifier, api_keys, options, refusals })
    }

    /// Whom a token is about.
    pub(crate) fn of_token(&self, token: &str, at: Moment) -> Result<Principal, Reason> {
        let token = self.verifier.verify(token, at).map_err(Reason::Token)?;
        let left = |expires: SystemTime| expires.duration_since(at.wall).unwrap_or_default();
        let expires = token
            .expires
            .filter(|_| self.options.close_expired)
            .and_then(|expires| at.now.checked_add(left(expires)));
        Ok(Principal { name: token.principal, expires })
    }

    /// Whose API key it is.
    pub(crate) fn of_api_key(&self, key: &str) -> Result<Principal, Reason> {
        let name = self.api_keys.find(key).ok_or(Reason::UnknownApiKey)?;
        Ok(Principal { name, expires: None })
    }

    /// Whether another look may end otherwise, once the key set is refreshed.
    pub(crate) fn may_be_known_soon(&self, reason: Reason, now: Instant) -> bool {
        reason == Reason::Token(TokenError::UnknownKey) && self.verifier.can_refresh(now)
    }

    /// How long a verdict on this address is to be held back.
    pub(crate) fn delay(&self, address: IpAddr, now: Instant) -> Duration {
        let free = self.options.failures_per_address;
        free.map_or(Duration::ZERO, |free| self.refusals.slowdown.delay(address, free, now))
    }

    /// Counts a failure of an address that may have guessed.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) {
        if let Some(free) = self.options.failures_per_address {
            let addresses = self.refusals.slowdown.failed(address, free, now);
            self.refusals.metrics.failing_addresses(addresses);
        }
    }
}
