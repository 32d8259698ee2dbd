//! What a broker may hold, what it says when it would hold more, and what it counts.

use std::ops::AddAssign;
use std::time::Duration;

/// How many publications one recovery or one history read gives at most (protocol, section 1.7).
pub const PAGE_MAX: usize = 300;

/// How long the result of an idempotency key is kept (protocol, section 2.2).
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(5 * 60);

/// Caps of one broker. Each has a [`Refusal`] or is said to forget the oldest.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Channels that have a stream or a subscriber.
    pub channels_max: usize,
    /// Bytes of everything: publications, unread events, presence, names, keys. A publication that
    /// is in a history and unread is counted for both.
    pub bytes_max: usize,
    /// Publications in one history, whatever its namespace says. Forgets the oldest.
    pub history_publications_max: usize,
    /// Bytes of one history, and so of one publication. Forgets the oldest; what alone is larger
    /// is refused.
    pub history_bytes_max: usize,
    /// Events of one channel that wait for the slowest worker. Forgets the oldest, which is a hole
    /// for the workers that have not read it.
    pub unread_events_max: usize,
    /// Bytes of them. Forgets the oldest, but never the newest.
    pub unread_bytes_max: usize,
    /// Idempotency keys of all channels.
    pub idempotency_keys_max: usize,
    /// Clients in the presence of one channel.
    pub presence_clients_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channels_max: 1_000_000,
            bytes_max: 512 << 20,
            history_publications_max: 10_000,
            history_bytes_max: 4 << 20,
            unread_events_max: 4_096,
            unread_bytes_max: 4 << 20,
            idempotency_keys_max: 100_000,
            presence_clients_max: 10_000,
        }
    }
}

/// Why a broker would not do it: error 106 for a client, HTTP 429 for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// [`Limits::channels_max`].
    #[error("as many channels as channels_max allows")]
    Channels,
    /// [`Limits::bytes_max`].
    #[error("as many bytes as bytes_max allows")]
    Bytes,
    /// [`Limits::history_bytes_max`], of one publication.
    #[error("a publication larger than history_bytes_max allows")]
    PublicationBytes,
    /// [`Limits::idempotency_keys_max`].
    #[error("as many idempotency keys as idempotency_keys_max allows")]
    IdempotencyKeys,
    /// [`Limits::presence_clients_max`].
    #[error("as many clients in a channel as presence_clients_max allows")]
    PresenceClients,
}

impl Refusal {
    /// Each of them, in the order of [`Counts::refused`].
    pub const ALL: [Self; 5] = [
        Self::Channels,
        Self::Bytes,
        Self::PublicationBytes,
        Self::IdempotencyKeys,
        Self::PresenceClients,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Bytes => "bytes",
            Self::PublicationBytes => "publication_bytes",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::PresenceClients => "presence_clients",
        }
    }
}

/// What a broker has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Publications that were taken.
    pub published: u64,
    /// Publishes whose idempotency key had a result already.
    pub repeated: u64,
    /// Publishes whose version was not above the stream's.
    pub outdated: u64,
    /// Recoveries that gave all that was missed.
    pub recovered: u64,
    /// Recoveries that could not.
    pub unrecovered: u64,
    /// How often a worker came so late that events were gone: `worker_behind`.
    pub holes: u64,
    /// The events in these holes.
    pub missed: u64,
    /// What was refused, in the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
}

impl Counts {
    /// Counts a refusal, and hands it on.
    pub(crate) fn refuse(&mut self, refusal: Refusal) -> Refusal {
        self.refused[refusal as usize] += 1;
        refusal
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.published += other.published;
        self.repeated += other.repeated;
        self.outdated += other.outdated;
        self.recovered += other.recovered;
        self.unrecovered += other.unrecovered;
        self.holes += other.holes;
        self.missed += other.missed;
        for (sum, n) in self.refused.iter_mut().zip(other.refused) {
            *sum += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_in_their_order() {
        for (i, refusal) in Refusal::ALL.into_iter().enumerate() {
            let mut counts = Counts::default();
            assert_eq!(counts.refuse(refusal), refusal);
            assert_eq!(counts.refused[i], 1, "{}", refusal.as_str());
        }
    }
}
