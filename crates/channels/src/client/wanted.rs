//! What a subscription is on its way from wanted to there: plain values.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect::time_left;
use crate::broker::{Position, Recovery, Since, Subscribed};
use crate::hub::{Place, wire_publication};
use crate::metrics::Counts;
use crate::namespace::{Asked, Modes, SlowConsumers};
use crate::protocol::Payload;
use crate::protocol::reply::SubscribeResult;
use crate::seats::Seat;
use crate::tokens::{Grant, SubscriptionToken};

/// Who sees to it that something goes on when its time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The client, with a new token, for which it has a while longer.
    #[default]
    Client,
    /// The backend, which is asked then. The client is told of no end.
    Backend,
    /// The backend, which has been asked.
    Asked,
}

impl Renewal {
    /// That of something which the backend renews, or does not.
    pub(super) const fn by_backend(is: bool) -> Self {
        if is { Self::Backend } else { Self::Client }
    }

    /// When something has to be done about what ends at `expires`.
    pub(super) fn due(self, expires: Option<Instant>, delay: Duration) -> Option<Instant> {
        match self {
            Self::Client => expires.map(|at| at + delay),
            Self::Backend => expires,
            Self::Asked => None,
        }
    }

    /// The end that a client is told of.
    pub(super) fn told(self, expires: Option<Instant>) -> Option<Instant> {
        expires.filter(|_| self == Self::Client)
    }
}

/// A subscription of this connection.
pub(super) struct Sub {
    pub(super) place: Place,
    /// Given back when the subscription is no more.
    #[expect(dead_code, reason = "it is held")]
    pub(super) seat: Seat,
    pub(super) modes: Modes,
    /// The server's own: the client did not ask, and is told of its end by the connection's.
    pub(super) by_server: bool,
    /// When it ends unless it is refreshed.
    pub(super) expires: Option<Instant>,
    /// Who sees to it that it does not.
    pub(super) renewal: Renewal,
    /// What others see of the client in this channel.
    pub(super) chan_info: Option<Box<[u8]>>,
    pub(super) counts: Counts,
}

/// What is wanted, by the client or for it.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) asked: Asked,
    pub(super) grant: Grant,
    pub(super) expires: Option<Instant>,
    /// A place to catch up from: offset and epoch.
    pub(super) recover: Option<(u64, Box<str>)>,
    /// Rather an error than a subscription that could not catch up.
    pub(super) reject_unrecovered: bool,
    pub(super) by_server: bool,
}

impl Wanted {
    /// What the server gives.
    pub(super) fn by_server(grant: Grant, recover: Option<(u64, Box<str>)>) -> Self {
        Self { grant, recover, by_server: true, ..Self::default() }
    }

    /// What a token adds.
    #[must_use]
    pub(super) fn granted(mut self, token: SubscriptionToken) -> Self {
        self.grant = token.grant;
        self.expires = token.expires;
        self
    }

    /// The place to catch up from.
    pub(super) fn since(&self) -> Option<Since<'_>> {
        let (offset, epoch) = self.recover.as_ref()?;
        Some(Since { offset: *offset, epoch })
    }
}

/// A subscription that may be, before the broker was asked.
pub(super) struct Prepared {
    pub(super) channel: Arc<str>,
    /// Goes to the subscription when it begins.
    pub(super) seat: Option<Seat>,
    pub(super) wanted: Wanted,
    pub(super) modes: Modes,
    pub(super) renewal: Renewal,
    pub(super) counts: Counts,
    pub(super) slow: SlowConsumers,
}

/// A subscription that has begun.
pub(super) struct Joined {
    pub(super) channel: Arc<str>,
    pub(super) modes: Modes,
    pub(super) position: Option<Position>,
    recovery: Option<Recovery>,
    requested: u64,
    expires: Option<Instant>,
    data: Option<Box<[u8]>>,
}

impl Joined {
    pub(super) fn new(prepared: &mut Prepared, begins: Subscribed) -> Self {
        let Prepared { channel, wanted, modes, renewal, .. } = prepared;
        Self {
            channel: Arc::clone(channel),
            modes: *modes,
            position: begins.position.filter(|_| modes.positioned),
            recovery: begins.recovery.filter(|_| wanted.recover.is_some()),
            requested: wanted.recover.as_ref().map_or(0, |(offset, _)| *offset),
            expires: renewal.told(wanted.expires),
            data: wanted.grant.data.take(),
        }
    }

    /// Whether it was to catch up and could not.
    pub(super) fn is_unrecovered(&self) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| !recovery.recovered)
    }

    /// Whether it has caught up; `None`: it had nothing to catch up with.
    pub(super) fn recovered(&self) -> Option<bool> {
        self.recovery.as_ref().map(|recovery| recovery.recovered)
    }

    /// What the backend says to it.
    pub(super) fn data(&self) -> Payload<'_> {
        Payload::new(self.data.as_deref().unwrap_or_default())
    }

    /// What the client is told (protocol, sections 1.4 and 1.7): the place that it has asked from and
    /// all that comes after it, or the newest place and nothing.
    pub(super) fn result(&self, now: Instant) -> SubscribeResult<'_> {
        let (expires, ttl) = time_left(self.expires, now);
        let recovered = self.recovered().unwrap_or_default();
        let top = self.position.map_or(0, |position| position.offset);
        let recovery = self.recovery.as_ref().filter(|recovery| recovery.recovered);
        let publications = recovery.map(|recovery| recovery.publications.as_slice());
        let epoch = self.position.map(|position| position.epoch.to_string()).unwrap_or_default();
        SubscribeResult {
            expires,
            ttl,
            recoverable: self.modes.recoverable,
            positioned: self.modes.positioned,
            epoch: epoch.into(),
            offset: if recovered { self.requested } else { top },
            publications: publications
                .unwrap_or_default()
                .iter()
                .map(|publication| wire_publication(publication))
                .collect(),
            recovered,
            was_recovering: self.recovery.is_some(),
            data: self.data(),
            ..SubscribeResult::default()
        }
    }
}
