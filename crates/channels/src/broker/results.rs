//! What came of publishes with an idempotency key, kept for five minutes. Each shard has its own.
//! All live equally long, so the oldest is always the next to go.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::Published;
use super::hash::Seed;
use super::limits::IDEMPOTENCY_TTL;

/// The results of one shard.
#[derive(Debug)]
pub(crate) struct Results {
    kept: HashMap<Arc<[u8]>, Published, Seed>,
    oldest: VecDeque<(Instant, Arc<[u8]>)>,
    /// Where names are put together for a look-up.
    name: Vec<u8>,
}

impl Results {
    pub(crate) fn new(seed: Seed) -> Self {
        Self { kept: HashMap::with_hasher(seed), oldest: VecDeque::new(), name: Vec::new() }
    }

    /// The bytes that a key is charged for.
    pub(crate) fn cost(channel: &str, key: &str) -> usize {
        let entries = size_of::<Published>() + size_of::<(Instant, Arc<[u8]>)>() + 64;
        entries + channel.len() + key.len()
    }

    /// Forgets a result that has become too old; gives its cost. Called until it gives nothing.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<usize> {
        let (kept_at, _) = self.oldest.front()?;
        if now.saturating_duration_since(*kept_at) < IDEMPOTENCY_TTL {
            return None;
        }
        let (_, name) = self.oldest.pop_front()?;
        self.kept.remove(&name);
        Some(Self::cost("", "") + name.len() - size_of::<u32>())
    }

    /// What came of this key before.
    pub(crate) fn get(&mut self, channel: &str, key: &str) -> Option<Published> {
        self.spell(channel, key);
        self.kept.get(self.name.as_slice()).copied()
    }

    /// Keeps a result. The key must not be there.
    pub(crate) fn put(&mut self, channel: &str, key: &str, published: Published, now: Instant) {
        self.spell(channel, key);
        let name = Arc::<[u8]>::from(self.name.as_slice());
        self.oldest.push_back((now, Arc::clone(&name)));
        self.kept.insert(name, published);
    }

    /// The length of the channel's name comes first, so that no two pairs are spelt alike.
    fn spell(&mut self, channel: &str, key: &str) {
        self.name.clear();
        self.name.extend_from_slice(&(channel.len() as u32).to_le_bytes());
        self.name.extend_from_slice(channel.as_bytes());
        self.name.extend_from_slice(key.as_bytes());
    }
}
