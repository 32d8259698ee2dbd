//! What was published, kept in streams, and told to the workers whose subscribers want it.
//!
//! The seam is [`Broker`]; [`Memory`] is the one that weir has without any other program. Nothing
//! here knows a connection, a wire form or a clock, and nothing waits: what a networked broker has
//! to wait for is a [`Answer::Later`].
//!
//! The road of a publication: [`Broker::publish`] gives it its place in the `stream`, adds it to the
//! `tail` of unread events and lists the channel in the [`inbox`] of each worker that has subscribers
//! there. The worker drains its [`Reader`], and [`Broker::read`] gives it the events in order.

mod budget;
pub(crate) mod epoch;
mod event;
#[cfg(feature = "testing")]
pub mod faulty;
mod hash;
pub mod inbox;
mod limits;
mod memory;
mod presence;
mod publication;
mod results;
mod stream;
mod tail;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use epoch::Epoch;
pub use event::{Event, Live, Missed, Read, Top};
pub use inbox::{ChannelId, Inbox, Reader, Wake};
pub use limits::{Counts, IDEMPOTENCY_TTL, Limits, PAGE_MAX, Refusal};
pub use memory::Memory;
pub use presence::PresenceStats;
pub use publication::{ClientInfo, Position, Publication, Since, Tags};
pub use stream::{Page, Range, Recovery, StreamOptions, Version};

/// Keeps streams and presence, and tells workers what happens in channels.
///
/// Called from any thread, also from those that may not block: an implementation that asks
/// another program gives [`Answer::Later`], which ends at a deadline of its own. Names of channels have
/// been checked before; a channel begins when it is first needed.
pub trait Broker: Send + Sync {
    /// Publishes to a channel: from here on it has its place, is in the history if it has one, and is
    /// unread by each worker that is subscribed; or it was refused and nothing has happened.
    fn publish(
        &self,
        channel: &str,
        publication: Publication,
        publish: Publish<'_>,
        now: Instant,
    ) -> Answer<Published>;

    /// Tells the subscribers of a channel that somebody comes or goes. Kept nowhere.
    fn announce(&self, channel: &str, notice: Notice, now: Instant) -> Answer<()>;

    /// Has the worker told of what happens in a channel, and gives the place where that begins and
    /// what was missed before, in one step: nothing is lost or doubled in between. Asked for each
    /// subscriber; a worker that is told already stays so. The channel may come out of the inbox
    /// before a late answer is there: the worker then does not read it, and lists it again by
    /// [`Reader::put_back`] when it knows whose it is.
    fn subscribe(
        &self,
        inbox: &Arc<Inbox>,
        channel: &str,
        subscribe: Subscribe<'_>,
        now: Instant,
    ) -> Answer<Subscribed>;

    /// The worker's last subscriber of this channel is gone. The id may still come out of the inbox
    /// once; reading it then gives nothing and ends it.
    fn unsubscribe(&self, inbox: &Arc<Inbox>, channel: ChannelId, now: Instant);

    /// Adds to `live` at most `max` events that the worker has not read of a channel which its
    /// inbox has given. Each that comes out must be read, also one that the worker has left: until
    /// then the broker keeps it. Never asks another program.
    fn read(
        &self,
        inbox: &Arc<Inbox>,
        channel: ChannelId,
        max: usize,
        live: &mut Vec<Live>,
    ) -> Read;

    /// Has the worker told where the channel's stream is: the channel comes out of its inbox once more,
    /// and the read that leaves nothing of it unread says so ([`Read::top`]). What a read has not brought
    /// then is lost. Nothing comes of it when the broker does not know, or the worker has left.
    fn verify(&self, inbox: &Arc<Inbox>, channel: ChannelId, now: Instant);

    /// Reads a part of a channel's history, and its position. Begins the stream when there is
    /// none, so that a client can recover from there; keeps it for `meta_ttl` more.
    fn history(
        &self,
        channel: &str,
        range: Range<'_>,
        meta_ttl: Duration,
        now: Instant,
    ) -> Answer<Page>;

    /// Forgets a channel's history. The stream begins anew, and its subscribers are told at once.
    fn remove_history(&self, channel: &str, now: Instant) -> Answer<()>;

    /// Says that a client is present for `ttl` from now. True when it was not before.
    fn keep_present(
        &self,
        channel: &str,
        info: &Arc<ClientInfo>,
        ttl: Duration,
        now: Instant,
    ) -> Answer<bool>;

    /// Says that a client is present no more. True when it was.
    fn end_present(&self, channel: &str, client: &str, now: Instant) -> Answer<bool>;

    /// Who is present, in no order.
    fn presence(&self, channel: &str, now: Instant) -> Answer<Vec<Arc<ClientInfo>>>;

    /// How many are present.
    fn presence_stats(&self, channel: &str, now: Instant) -> Answer<PresenceStats>;

    /// Frees what has expired, a slice of it at a time. Called about once a second; what has expired
    /// is gone for everybody before that.
    fn sweep(&self, now: Instant);
}

/// What a broker answers: at once, or later by the service runtime.
#[must_use]
pub enum Answer<T> {
    /// It is done.
    Now(Result<T, BrokerError>),
    /// Another program is asked. The future ends by its own deadline, and dropping it does not
    /// undo what was asked.
    Later(Pin<Box<dyn Future<Output = Result<T, BrokerError>> + Send>>),
}

impl<T> Answer<T> {
    /// Waits for it.
    ///
    /// # Errors
    ///
    /// Whatever the broker says.
    pub async fn wait(self) -> Result<T, BrokerError> {
        match self {
            Self::Now(result) => result,
            Self::Later(future) => future.await,
        }
    }
}

/// Why a broker has not done what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// A bound is reached: error 106, or HTTP 429.
    #[error("the broker refuses: {0}")]
    Refused(#[from] Refusal),
    /// A history is asked for from a place of another epoch: error 112.
    #[error("a position of another epoch")]
    WrongEpoch,
    /// No answer in time. What was asked may have happened all the same: error 100, temporary.
    #[error("the broker is silent")]
    Silent,
}

impl From<stream::WrongEpoch> for BrokerError {
    fn from(_: stream::WrongEpoch) -> Self {
        Self::WrongEpoch
    }
}

/// How something is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publish<'a> {
    /// How the channel remembers; `None` publishes without a place in the stream.
    pub stream: Option<StreamOptions>,
    /// A second publish of the same key within [`IDEMPOTENCY_TTL`] gives the result of the first,
    /// and does nothing else.
    pub idempotency_key: Option<&'a str>,
    /// Suppresses what comes too late. Of no effect without [`Publish::stream`].
    pub version: Option<Version<'a>>,
}

/// What came of a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Its place in the stream, or that of the stream when it was suppressed as outdated.
    pub position: Option<Position>,
    /// Why nothing was published.
    pub suppressed: Option<Suppressed>,
}

/// Why a publish that was not refused has published nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppressed {
    /// Its idempotency key has a result already.
    Repeated,
    /// Its version is not above the stream's.
    Outdated,
}

/// Who comes or goes.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Has subscribed.
    Join(Arc<ClientInfo>),
    /// Is subscribed no more.
    Leave(Arc<ClientInfo>),
}

/// One subscribe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The subscriber has a position: the stream begins when there is none, and is kept for this
    /// long after the last subscriber. `None` when the namespace has no history.
    pub meta_ttl: Option<Duration>,
    /// The place to catch up from. Needs [`Subscribe::meta_ttl`].
    pub recover: Option<Since<'a>>,
}

/// What a subscriber begins with.
#[derive(Clone, Debug)]
pub struct Subscribed {
    /// The channel, as it comes out of the inbox.
    pub channel: ChannelId,
    /// Events up to this number are from before the subscription.
    pub number: u64,
    /// The top of the stream, when it was asked for.
    pub position: Option<Position>,
    /// What came of catching up, when it was asked for.
    pub recovery: Option<Recovery>,
}
