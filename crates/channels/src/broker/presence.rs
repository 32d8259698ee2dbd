//! Who is in one channel. Entries that nobody refreshes end by themselves, so that a lost node or
//! a lost leave does not stay for ever. Pure: time is an argument.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hash::Seed;
use super::publication::ClientInfo;

/// How many are in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Connections.
    pub clients: usize,
    /// Different users among them; all anonymous ones are one.
    pub users: usize,
}

/// A client found by its id.
#[derive(Debug)]
struct ById(Arc<ClientInfo>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.client
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.client.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.client == other.0.client
    }
}

impl Eq for ById {}

/// The clients of one channel.
#[derive(Debug)]
pub(crate) struct Presence {
    clients: HashMap<ById, Instant, Seed>,
    /// How many clients each user has.
    users: HashMap<Box<str>, usize, Seed>,
    bytes: usize,
    /// No entry ends before.
    next: Option<Instant>,
}

impl Presence {
    pub(crate) fn new(seed: Seed) -> Self {
        let (clients, users) = (HashMap::with_hasher(seed), HashMap::with_hasher(seed));
        Self { clients, users, bytes: 0, next: None }
    }

    /// The bytes that a client is charged for.
    pub(crate) fn cost(info: &ClientInfo) -> usize {
        info.cost() + info.user.len() + 64
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// What a client that is present is charged for.
    pub(crate) fn charged(&self, client: &str) -> Option<usize> {
        self.clients.get_key_value(client).map(|(ById(info), _)| Self::cost(info))
    }

    /// Adds a client, or refreshes it with what is known of it now.
    pub(crate) fn keep(&mut self, info: Arc<ClientInfo>, ttl: Duration, now: Instant) {
        self.remove(&info.client);
        self.bytes += Self::cost(&info);
        *self.users.entry(info.user.clone()).or_default() += 1;
        let ends = now + ttl.min(TTL_MAX);
        self.next = Some(self.next.map_or(ends, |next| next.min(ends)));
        self.clients.insert(ById(info), ends);
    }

    /// Removes a client; gives what was known of it.
    pub(crate) fn remove(&mut self, client: &str) -> Option<Arc<ClientInfo>> {
        let (ById(info), _) = self.clients.remove_entry(client)?;
        self.forget(&info);
        Some(info)
    }

    /// Removes the clients that were not refreshed in time. Looks at them only when one may be due.
    pub(crate) fn settle(&mut self, now: Instant) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        let over = self.clients.extract_if(|_, ends| now >= *ends).map(|(client, _)| client.0);
        for info in over.collect::<Vec<_>>() {
            self.forget(&info);
        }
        self.next = self.clients.values().min().copied();
    }

    /// Everybody, in no order.
    pub(crate) fn list(&self) -> Vec<Arc<ClientInfo>> {
        self.clients.keys().map(|client| Arc::clone(&client.0)).collect()
    }

    pub(crate) fn stats(&self) -> PresenceStats {
        PresenceStats { clients: self.clients.len(), users: self.users.len() }
    }

    fn forget(&mut self, info: &ClientInfo) {
        self.bytes -= Self::cost(info);
        if let Some(clients) = self.users.get_mut(&info.user) {
            *clients -= 1;
            if *clients == 0 {
                self.users.remove(&info.user);
            }
        }
    }
}

/// Longer than any entry can be waited for, and short enough to be added to an instant.
const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
