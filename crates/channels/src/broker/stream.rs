//! One channel's stream: offsets, history, recovery. Pure: it knows no subscriber, no lock and no
//! clock, and time only goes forward.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::epoch::Epoch;
use super::limits::{Limits, PAGE_MAX};
use super::publication::{Position, Publication, Since};

/// How long and how much a stream remembers: a namespace's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Publications in the history (`history_size`).
    pub size: usize,
    /// When the history is forgotten, counted from the last publication (`history_ttl`). As the
    /// protocol's own server does, each publication renews it for all of them.
    pub ttl: Duration,
    /// When the stream itself is forgotten, and with it the epoch, counted from the last
    /// publication, read or subscriber (`history_meta_ttl`).
    pub meta_ttl: Duration,
}

/// What a publisher says about the order of its states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// Counts from 1.
    pub number: u64,
    /// Versions of different epochs are not compared; an empty one is compared with any.
    pub epoch: &'a str,
}

/// Which part of a history is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range<'a> {
    /// Only what comes after this place; with [`Range::reverse`], before it.
    pub since: Option<Since<'a>>,
    /// How many publications; 0 asks for the position alone. At most [`PAGE_MAX`] are given.
    pub limit: usize,
    /// The newest first.
    pub reverse: bool,
}

/// A part of a history, and the place of its stream at that moment.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order that was asked for.
    pub publications: Vec<Arc<Publication>>,
    /// The top of the stream.
    pub position: Position,
}

/// What came of an attempt to catch up.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Whether `publications` is everything that was missed.
    pub recovered: bool,
    /// What was missed, oldest first; empty when it is not everything.
    pub publications: Vec<Arc<Publication>>,
}

/// The history asked for is of another epoch: error 112 (protocol, section 1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position of another epoch")]
pub(crate) struct WrongEpoch;

/// The stream of one channel.
#[derive(Debug)]
pub(crate) struct Stream {
    epoch: Epoch,
    top: u64,
    /// The last publications without a gap; the newest has the offset `top`.
    kept: VecDeque<Arc<Publication>>,
    bytes: usize,
    version: u64,
    version_epoch: Box<str>,
    appended: Instant,
    ttl: Duration,
    touched: Instant,
    meta_ttl: Duration,
}

impl Stream {
    pub(crate) fn new(epoch: Epoch, meta_ttl: Duration, now: Instant) -> Self {
        Self {
            epoch,
            top: 0,
            kept: VecDeque::new(),
            bytes: 0,
            version: 0,
            version_epoch: Box::default(),
            appended: now,
            ttl: Duration::ZERO,
            touched: now,
            meta_ttl,
        }
    }

    pub(crate) fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// The bytes it is charged for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.version_epoch.len()
    }

    /// Postpones the end of the stream.
    pub(crate) fn touch(&mut self, meta_ttl: Duration, now: Instant) {
        self.touched = now;
        self.meta_ttl = meta_ttl;
    }

    /// As [`Stream::touch`], for who does not know the settings.
    pub(crate) fn touch_again(&mut self, now: Instant) {
        self.touched = now;
    }

    pub(crate) fn meta_ttl(&self) -> Duration {
        self.meta_ttl
    }

    /// Whether nobody has wanted it for so long that it may be forgotten.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.touched) >= self.meta_ttl
    }

    /// Forgets a history that has become too old. Called before anything is read or added.
    pub(crate) fn settle(&mut self, now: Instant) {
        if now.saturating_duration_since(self.appended) >= self.ttl {
            self.kept = VecDeque::new();
            self.bytes = 0;
        }
    }

    /// Whether a publication of this version comes too late.
    pub(crate) fn is_outdated(&self, version: Version<'_>) -> bool {
        let same = version.epoch.is_empty() || *version.epoch == *self.version_epoch;
        same && version.number <= self.version
    }

    /// Remembers the version of the publication that is appended next.
    pub(crate) fn set_version(&mut self, version: Version<'_>) {
        self.version = version.number;
        if *self.version_epoch != *version.epoch {
            self.version_epoch = version.epoch.into();
        }
    }

    /// The place that the next publication gets.
    pub(crate) fn next_position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top + 1 }
    }

    /// Appends a publication that has the place [`Stream::next_position`], and forgets what is
    /// beyond the bounds.
    pub(crate) fn append(
        &mut self,
        publication: Arc<Publication>,
        options: StreamOptions,
        limits: &Limits,
        now: Instant,
    ) {
        debug_assert_eq!(publication.position, Some(self.next_position()));
        self.top += 1;
        self.bytes += publication.cost();
        self.kept.push_back(publication);
        let size = options.size.min(limits.history_publications_max);
        while self.kept.len() > size || self.bytes > limits.history_bytes_max {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.cost();
        }
        (self.appended, self.ttl) = (now, options.ttl);
        self.touch(options.meta_ttl, now);
    }

    /// Catches up from a client's place: exactly what comes after it, or nothing.
    pub(crate) fn recover(&self, since: Since<'_>) -> Recovery {
        let missed = self.top.checked_sub(since.offset).and_then(|n| usize::try_from(n).ok());
        let complete = |missed: &usize| *missed <= PAGE_MAX.min(self.kept.len());
        match missed.filter(complete) {
            Some(_) if self.epoch.accepts(since.epoch) => Recovery {
                recovered: true,
                publications: self.between(since.offset + 1..=self.top).cloned().collect(),
            },
            _ => Recovery { recovered: false, publications: Vec::new() },
        }
    }

    /// Reads a part of the history.
    ///
    /// # Errors
    ///
    /// When the place it is asked from is of another epoch.
    pub(crate) fn page(&self, range: Range<'_>) -> Result<Page, WrongEpoch> {
        if range.since.is_some_and(|since| !self.epoch.accepts(since.epoch)) {
            return Err(WrongEpoch);
        }
        let limit = range.limit.min(PAGE_MAX);
        let since = range.since.map(|since| since.offset);
        let publications = if range.reverse {
            let last = since.map_or(self.top, |offset| offset.saturating_sub(1).min(self.top));
            self.between(1..=last).rev().take(limit).cloned().collect()
        } else {
            let first = since.map_or(1, |offset| offset.saturating_add(1));
            self.between(first..=self.top).take(limit).cloned().collect()
        };
        Ok(Page { publications, position: self.position() })
    }

    /// Those of these offsets that are kept.
    fn between(
        &self,
        offsets: RangeInclusive<u64>,
    ) -> impl DoubleEndedIterator<Item = &Arc<Publication>> {
        let forgotten = self.top - self.kept.len() as u64;
        // Offsets are at most `top`, so both fit into the length of what is kept.
        let end = offsets.end().saturating_sub(forgotten) as usize;
        let start = offsets.start().saturating_sub(forgotten + 1).min(end as u64) as usize;
        self.kept.range(start..end)
    }
}
