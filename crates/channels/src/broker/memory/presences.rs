//! The presence of all channels, spread over locks of their own: a list of ten thousand clients is
//! never read under a lock that a publish needs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::step::Shared;
use crate::broker::budget::Share;
use crate::broker::hash::Seed;
use crate::broker::limits::{Counts, Refusal};
use crate::broker::presence::{Presence, PresenceStats};
use crate::broker::publication::ClientInfo;
use crate::sync::{AtomicUsize, Mutex, Ordering};

/// Parts of the presence. It changes with connections, not with messages; a sweep looks at one part,
/// so their number keeps short for how long it is locked.
pub(super) const PARTS: usize = 64;

/// Bytes that a channel is charged for beside its name and its clients.
const CHANNEL_COST: usize = size_of::<Presence>() + 64;

/// The presence of all channels.
pub(super) struct Presences {
    parts: Box<[Mutex<Part>]>,
    seed: Seed,
    clients_max: usize,
    /// Which part is swept next.
    turn: AtomicUsize,
}

struct Part {
    channels: HashMap<Box<str>, Presence, Seed>,
    seed: Seed,
    bytes: Share,
    counts: Counts,
}

impl Presences {
    pub(super) fn new(shared: &Shared) -> Self {
        let seed = shared.seed;
        let part = |_| {
            Mutex::new(Part {
                channels: HashMap::with_hasher(seed),
                seed,
                bytes: Share::new(&shared.bytes),
                counts: Counts::default(),
            })
        };
        let parts = (0..PARTS).map(part).collect();
        Self {
            parts,
            seed,
            clients_max: shared.limits.presence_clients_max,
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn keep(
        &self,
        channel: &str,
        info: &Arc<ClientInfo>,
        ttl: Duration,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let mut part = self.part(channel).lock();
        let kept = part.keep(channel, info, self.clients_max, ttl, now);
        kept.map_err(|refusal| part.counts.refuse(refusal))
    }

    pub(super) fn end(&self, channel: &str, client: &str, now: Instant) -> bool {
        let mut part = self.part(channel).lock();
        part.change(channel, now, |presence| presence.remove(client).is_some()).unwrap_or(false)
    }

    pub(super) fn list(&self, channel: &str, now: Instant) -> Vec<Arc<ClientInfo>> {
        let mut part = self.part(channel).lock();
        part.change(channel, now, |presence| presence.list()).unwrap_or_default()
    }

    pub(super) fn stats(&self, channel: &str, now: Instant) -> PresenceStats {
        let mut part = self.part(channel).lock();
        part.change(channel, now, |presence| presence.stats()).unwrap_or_default()
    }

    /// Frees what nobody has refreshed, one part at a time.
    pub(super) fn sweep(&self, now: Instant) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.parts[turn % PARTS].lock().sweep(now);
    }

    /// The bytes that it has set aside.
    pub(super) fn bytes_spare(&self) -> usize {
        self.parts.iter().map(|part| part.lock().bytes.spare()).sum()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for part in &self.parts {
            sum += part.lock().counts;
        }
        sum
    }

    fn part(&self, channel: &str) -> &Mutex<Part> {
        &self.parts[(self.seed.hash_name(channel) >> 32) as usize % PARTS]
    }
}

impl Part {
    fn keep(
        &mut self,
        channel: &str,
        info: &Arc<ClientInfo>,
        clients_max: usize,
        ttl: Duration,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let found = self.change(channel, now, |presence| {
            (presence.charged(&info.client), presence.stats().clients)
        });
        let (charged, clients) = found.unwrap_or_default();
        if charged.is_none() && clients >= clients_max {
            return Err(Refusal::PresenceClients);
        }
        let begins = !self.channels.contains_key(channel);
        let cost = Presence::cost(info) + if begins { CHANNEL_COST + channel.len() } else { 0 };
        // A client that is there pays for what it grows by, so that it may stay when all is full.
        let paid = charged.unwrap_or(0);
        if !self.bytes.take(cost.saturating_sub(paid)) {
            return Err(Refusal::Bytes);
        }
        self.bytes.give(paid.saturating_sub(cost));
        if begins {
            self.channels.insert(channel.into(), Presence::new(self.seed));
        }
        let presence = self.channels.get_mut(channel).expect("it was found or put there");
        presence.keep(Arc::clone(info), ttl, now);
        Ok(charged.is_none())
    }

    /// Changes the presence of a channel, if there is any, without those that have expired.
    fn change<T>(
        &mut self,
        channel: &str,
        now: Instant,
        change: impl FnOnce(&mut Presence) -> T,
    ) -> Option<T> {
        let presence = self.channels.get_mut(channel)?;
        let before = presence.bytes();
        presence.settle(now);
        let changed = change(presence);
        self.bytes.give(before - presence.bytes());
        if presence.is_empty() {
            self.channels.remove(channel);
            self.bytes.give(CHANNEL_COST + channel.len());
        }
        Some(changed)
    }

    fn sweep(&mut self, now: Instant) {
        let bytes = &mut self.bytes;
        self.channels.retain(|channel, presence| {
            let before = presence.bytes();
            presence.settle(now);
            bytes.give(before - presence.bytes());
            if presence.is_empty() {
                bytes.give(CHANNEL_COST + channel.len());
            }
            !presence.is_empty()
        });
    }
}
