//! The guard of one route: takes a credential, and says who that is or refuses. It counts what it
//! says, and nobody else learns the reason.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_core::clock;
use weir_core::door::{Denial, Doorkeeper, Principal, Verdict};
use weir_core::service::Opening;

use crate::claims::is_name;
use crate::credential::{Credential, Shown};
use crate::identities::Identities;
use crate::refusal::{Door, Reason};
use crate::verifier::Moment;

/// Who a route lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardOptions {
    /// The doors that it has, at least one.
    pub doors: Vec<Door>,
    /// The principals that may pass. Empty: everybody who is somebody.
    pub principals: Vec<String>,
    /// The listeners that it is reached through: labels.
    pub listeners: Vec<String>,
    /// An API key may also be in the query.
    pub query_key: bool,
}

/// The guard of one route. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identities: Arc<Identities>,
    doors: Vec<Door>,
    principals: Vec<String>,
    query_key: bool,
}

/// Who knocks, for counters and the memory of failures.
#[derive(Clone, Debug)]
pub(crate) struct Knock {
    pub(crate) listener: String,
    pub(crate) address: IpAddr,
}

/// What a look at a credential finds: who it is of, or what is wrong; and at which door.
type Finding = (Door, Result<Principal, Reason>);

impl Guard {
    /// A guard at these doors.
    pub fn new(identities: Arc<Identities>, options: GuardOptions) -> Self {
        let GuardOptions { doors, principals, listeners, query_key } = options;
        for listener in &listeners {
            identities.refusals.metrics.prepare(listener, &doors);
        }
        Self(Arc::new(Inner { identities, doors, principals, query_key }))
    }

    /// How long a connection may wait with its first message.
    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.0.identities.options.handshake_timeout
    }

    /// The verdict on a peer that has shown a certificate, if that counts here; `None` when it has to
    /// show something else.
    pub(crate) fn by_certificate(&self, opening: &Opening<'_>, now: Instant) -> Option<Verdict> {
        if !self.has(Door::Mtls) {
            return None;
        }
        let shown = opening.tls.and_then(|tls| tls.principal.as_deref());
        let found = match shown.filter(|name| is_name(name)) {
            Some(name) => Ok(Principal { name: name.into(), expires: None }),
            // Where there is another door, it may still come through that.
            None if self.0.doors.len() > 1 => return None,
            None => Err(Reason::Missing),
        };
        Some(self.settle(&Knock::of(opening), (Door::Mtls, found), now))
    }

    /// The verdict on what a peer has shown.
    pub(crate) fn judge(
        &self,
        knock: Knock,
        shown: Result<Credential, Shown>,
        now: Instant,
    ) -> Verdict {
        let credential = match shown {
            Ok(credential) => credential,
            Err(shown) => {
                let reason = match shown {
                    Shown::Nothing => Reason::Missing,
                    Shown::TooMuch => Reason::Ambiguous,
                };
                return self.settle(&knock, (self.usual_door(), Err(reason)), now);
            }
        };
        let delay = self.0.identities.delay(knock.address, now);
        if !delay.is_zero() {
            self.0.identities.refusals.metrics.delayed(&knock.listener);
        } else if self.is_quick(&credential, now) {
            match self.look(&credential, now) {
                (_, Err(reason)) if self.0.identities.may_be_known_soon(reason, now) => {}
                finding => return self.settle(&knock, finding, now),
            }
        }
        let guard = self.clone();
        Verdict::Wait(Box::pin(async move {
            let look = guard.look_slowly(&credential, delay);
            let finding = tokio::time::timeout(guard.handshake_timeout(), look).await;
            let finding = finding.unwrap_or((guard.usual_door(), Err(Reason::Timeout)));
            guard.settle(&knock, finding, clock::now())
        }))
    }

    /// Looks after a delay, and once more when the key set may have changed. It runs outside of the
    /// event loops, where time has gone on since the session was told of it.
    async fn look_slowly(&self, credential: &Credential, delay: Duration) -> Finding {
        tokio::time::sleep(delay).await;
        let now = clock::now();
        match self.look(credential, now) {
            (_, Err(reason)) if self.0.identities.may_be_known_soon(reason, now) => {
                self.0.identities.verifier.refresh().await;
                self.look(credential, clock::now())
            }
            finding => finding,
        }
    }

    /// Whether a look takes so little that the event loop can do it.
    fn is_quick(&self, credential: &Credential, now: Instant) -> bool {
        match credential {
            Credential::Token(text) | Credential::Either(text) if self.has(Door::Token) => {
                self.0.identities.verifier.is_quick(text, now)
            }
            Credential::Token(_) | Credential::ApiKey(_) | Credential::Either(_) => true,
        }
    }

    fn look(&self, credential: &Credential, now: Instant) -> Finding {
        let identities = &self.0.identities;
        let by_token = |token: &str| identities.of_token(token, Moment::at(now));
        let missing = (self.usual_door(), Err(Reason::Missing));
        match credential {
            Credential::Token(token) if self.has(Door::Token) => (Door::Token, by_token(token)),
            Credential::ApiKey(key) if self.has(Door::ApiKey) => {
                (Door::ApiKey, identities.of_api_key(key))
            }
            Credential::Either(text) => {
                let by_key = self.has(Door::ApiKey).then(|| identities.of_api_key(text));
                match by_key {
                    Some(found) if found.is_ok() || !self.has(Door::Token) => (Door::ApiKey, found),
                    _ if self.has(Door::Token) => (Door::Token, by_token(text)),
                    _ => missing,
                }
            }
            Credential::Token(_) | Credential::ApiKey(_) => missing,
        }
    }

    /// Counts a finding and makes the verdict of it.
    fn settle(&self, knock: &Knock, (door, found): Finding, now: Instant) -> Verdict {
        let Inner { identities, principals, .. } = &*self.0;
        let reason = match found {
            Ok(principal) if self.may_pass(&principal) => {
                identities.refusals.metrics.admitted(&knock.listener, door);
                return Verdict::Pass(principal);
            }
            Ok(_) => Reason::Forbidden,
            Err(reason) => reason,
        };
        debug_assert!(reason != Reason::Forbidden || !principals.is_empty());
        identities.refusals.metrics.refused(&knock.listener, door, reason);
        identities.refusals.log.note(door, reason, now);
        if reason.is_guess() {
            identities.failed(knock.address, now);
        }
        Verdict::Refuse(match reason {
            Reason::Forbidden => Denial::Forbidden,
            Reason::Missing
            | Reason::Ambiguous
            | Reason::Token(_)
            | Reason::UnknownApiKey
            | Reason::Timeout => Denial::Unauthorized,
        })
    }

    fn may_pass(&self, principal: &Principal) -> bool {
        let principals = &self.0.principals;
        principals.is_empty() || principals.iter().any(|name| **name == *principal.name)
    }

    fn has(&self, door: Door) -> bool {
        self.0.doors.contains(&door)
    }

    /// The door that counts a peer who showed nothing: the first that takes what can be shown.
    fn usual_door(&self) -> Door {
        let doors = &self.0.doors;
        let shown = doors.iter().find(|door| **door != Door::Mtls);
        shown.or(doors.first()).copied().unwrap_or(Door::Token)
    }
}

impl Knock {
    pub(crate) fn of(opening: &Opening<'_>) -> Self {
        Self { listener: opening.listener.to_owned(), address: opening.peer.ip() }
    }
}

impl Doorkeeper for Guard {
    fn knock(&self, opening: &Opening<'_>, now: Instant) -> Verdict {
        if let Some(verdict) = self.by_certificate(opening, now) {
            return verdict;
        }
        let shown = match opening.headers {
            Some(headers) => {
                let query = opening.query.filter(|_| self.0.query_key);
                Credential::of_request(headers, query, opening.carrier)
            }
            None => Err(Shown::Nothing),
        };
        self.judge(Knock::of(opening), shown, now)
    }
}
