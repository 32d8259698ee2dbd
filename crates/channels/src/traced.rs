//! What channels add to a sampled trace: the broker's part of a publish, and one span for what each
//! worker has told its subscribers of it. Never one for a subscriber.

use std::sync::Arc;

use weir_core::stage::Stage;
use weir_core::trace::{BranchSpan, Detail, Part, Trace};

use crate::broker::{Event, Publication};

/// The channel's name. An attribute of spans, never a label of metrics.
const CHANNEL: &str = "weir.channel";
/// How many channels were published to.
const CHANNELS: &str = "weir.channels";
/// The number of the worker.
const WORKER: &str = "weir.worker";
/// How many subscribers of the channel it has.
const SUBSCRIBERS: &str = "weir.subscribers";

/// The broker's part of a publish that is sampled.
pub(crate) struct Traced {
    part: Part,
    about: (&'static str, Detail),
}

impl Traced {
    /// A publish to this channel begins; `None` when it is not sampled.
    pub(crate) fn begin(trace: Option<&Arc<Trace>>, channel: &str) -> Option<Self> {
        let part = trace?.part(Stage::Publish)?;
        Some(Self { part, about: (CHANNEL, Detail::Text(channel.to_owned())) })
    }

    /// A publish to so many channels begins.
    pub(crate) fn begin_many(trace: Option<&Arc<Trace>>, channels: usize) -> Option<Self> {
        let part = trace?.part(Stage::Publish)?;
        Some(Self { part, about: (CHANNELS, Detail::Count(channels as u64)) })
    }

    /// The publication with what its fan-out hangs on.
    pub(crate) fn mark(traced: Option<&Self>, publication: Publication) -> Publication {
        match traced {
            Some(traced) => publication.traced(traced.part.branch()),
            None => publication,
        }
    }

    /// The broker has it.
    pub(crate) fn end(self) {
        self.part.end(vec![self.about]);
    }
}

/// The spans of what one worker tells the subscribers of a channel at once. Without an allocation when
/// nothing of it is sampled.
#[derive(Default)]
pub(crate) struct Spans(Vec<BranchSpan>);

impl Spans {
    /// Those of these events begin.
    pub(crate) fn begin<'a>(events: impl Iterator<Item = &'a Event>) -> Self {
        let branches = events.filter_map(|event| match event {
            Event::Publication(publication) => publication.trace.as_ref(),
            Event::Join(_) | Event::Leave(_) | Event::Reset(_) => None,
        });
        Self(branches.filter_map(|branch| branch.begin(Stage::Fanout)).collect())
    }

    /// All subscribers that a worker has of a channel have been told.
    pub(crate) fn end(self, worker: usize, channel: &str, subscribers: usize) {
        for span in self.0 {
            span.end(vec![
                (CHANNEL, Detail::Text(channel.to_owned())),
                (WORKER, Detail::Count(worker as u64)),
                (SUBSCRIBERS, Detail::Count(subscribers as u64)),
            ]);
        }
    }
}
