//! What is published and who publishes it: values that are shared, never changed, between the
//! history and every worker. How they look on a wire is not known here.

use std::sync::Arc;
use std::time::Instant;

use weir_core::trace::Branch;

use super::epoch::Epoch;

/// What a publication takes beside what it holds: two reference counts, its place in a queue, and
/// what the allocator rounds up.
const ALLOCATED: usize = 64;

/// Names and values that travel with a publication.
pub type Tags = Arc<[(Box<str>, Box<str>)]>;

/// A place in a stream. Offsets count from 1; 0 is the place before the first publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the stream.
    pub epoch: Epoch,
    /// The last publication before this place.
    pub offset: u64,
}

/// A place as a client claims it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since<'a> {
    /// The last offset that the client has.
    pub offset: u64,
    /// The text of an epoch; empty when the client does not know it.
    pub epoch: &'a str,
}

/// Who publishes, joins, leaves or is present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The user's id; empty for an anonymous one.
    pub user: Box<str>,
    /// The id of the connection.
    pub client: Box<str>,
    /// What the connection's token or hook says about it.
    pub conn_info: Option<Box<[u8]>>,
    /// What the subscription's token or hook says about it.
    pub chan_info: Option<Box<[u8]>>,
}

impl ClientInfo {
    /// The bytes it is charged for.
    pub(crate) fn cost(&self) -> usize {
        let infos = self.conn_info.as_deref().map_or(0, <[u8]>::len)
            + self.chan_info.as_deref().map_or(0, <[u8]>::len);
        size_of::<Self>() + self.user.len() + self.client.len() + infos
    }
}

/// One publication. Cheap to clone before it is published, shared behind an [`Arc`] afterwards.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The payload. Of its own allocation, so that it never keeps a read buffer alive.
    pub data: Arc<[u8]>,
    /// The publisher, when it was a client.
    pub info: Option<Arc<ClientInfo>>,
    /// Names and values beside the payload.
    pub tags: Option<Tags>,
    /// Its place in the stream; `None` when it was published without history. On the wire the
    /// epoch is written at offset 1 only.
    pub position: Option<Position>,
    /// Wall time of the publish, in milliseconds since 1970.
    pub time_ms: i64,
    /// When this process took it, for what is measured from publish to write.
    pub taken: Instant,
    /// What its fan-out hangs on, when it is part of a sampled trace.
    pub trace: Option<Arc<Branch>>,
}

impl Publication {
    /// One that has not been published yet.
    pub fn new(data: &[u8], time_ms: i64, taken: Instant) -> Self {
        let (data, info, tags) = (data.into(), None, None);
        Self { data, info, tags, position: None, time_ms, taken, trace: None }
    }

    /// Says who publishes it.
    #[must_use]
    pub fn by(mut self, info: Arc<ClientInfo>) -> Self {
        self.info = Some(info);
        self
    }

    /// Adds names and values.
    #[must_use]
    pub fn tagged(mut self, tags: Tags) -> Self {
        self.tags = Some(tags);
        self
    }

    /// Says which part of a trace has published it.
    #[must_use]
    pub fn traced(mut self, branch: Arc<Branch>) -> Self {
        self.trace = Some(branch);
        self
    }

    /// The offset; 0 when it was published without history, as on the wire.
    pub fn offset(&self) -> u64 {
        self.position.map_or(0, |position| position.offset)
    }

    /// The bytes it is charged for, as if it shared nothing with others.
    pub(crate) fn cost(&self) -> usize {
        let tags = self.tags.iter().flat_map(|tags| tags.iter());
        let tags =
            tags.map(|(name, value)| size_of::<(Box<str>, Box<str>)>() + name.len() + value.len());
        let info = self.info.as_deref().map_or(0, ClientInfo::cost);
        let trace = self.trace.as_ref().map_or(0, |_| size_of::<Branch>());
        size_of::<Self>() + ALLOCATED + self.data.len() + tags.sum::<usize>() + info + trace
    }
}
