//! What a sampled message sets off elsewhere, and what may go on when the message has ended: spans
//! that are handed over one by one. What they are about is said by who makes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::Tracing;
use super::context::TraceContext;
use super::record::{StageTime, Trace};
use crate::clock;
use crate::stage::Stage;

/// A stage of a sampled message that its session times itself. One that is dropped was not a stage.
#[must_use]
pub struct Part {
    trace: Arc<Trace>,
    context: TraceContext,
    stage: Stage,
    begun: Instant,
}

impl Part {
    pub(super) fn new(trace: Arc<Trace>, context: TraceContext, stage: Stage) -> Self {
        Self { trace, context, stage, begun: clock::now() }
    }

    /// What hangs on this part, wherever it happens.
    pub fn branch(&self) -> Arc<Branch> {
        let left = AtomicU32::new(Branch::SPANS_MAX);
        let tracing = Arc::clone(self.trace.tracing());
        Arc::new(Branch { tracing, parent: self.context.clone(), left })
    }

    /// It has ended, and was about this.
    pub fn end(self, details: Details) {
        let Self { trace, context, stage, begun } = self;
        let (span_id, ended) = (context.span_id, clock::now());
        let time = StageTime { stage, span_id, begun, ended, call: None, details };
        // A message that has ended does not wait for its last part.
        if let Err(time) = trace.part_ended(time) {
            let parent = trace.context().map_or(0, |root| root.span_id);
            let StageTime { details, .. } = time;
            trace.tracing().branched(Branched { context, parent, stage, begun, ended, details });
        }
    }
}

/// The place in a trace that spans hang on, carried by what a sampled message has set off.
pub struct Branch {
    tracing: Arc<Tracing>,
    parent: TraceContext,
    /// Spans that may still begin.
    left: AtomicU32,
}

impl Branch {
    /// Spans of one branch; what comes after them has none, so that what fans out far does not push
    /// the spans of others out.
    pub const SPANS_MAX: u32 = 64;

    /// The part that it hangs on, for who carries it to another process.
    pub fn context(&self) -> &TraceContext {
        &self.parent
    }

    /// Begins a span now; `None` when it has had its share.
    pub fn begin(&self, stage: Stage) -> Option<BranchSpan> {
        let left = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).ok()?;
        let context = self.tracing.span(Some(&self.parent));
        let (tracing, parent) = (Arc::clone(&self.tracing), self.parent.span_id);
        Some(BranchSpan { tracing, context, parent, stage, begun: clock::now() })
    }
}

impl std::fmt::Debug for Branch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Branch").field(&self.parent).finish()
    }
}

/// A span of a branch that has not ended. One that is dropped is not told.
#[must_use]
pub struct BranchSpan {
    tracing: Arc<Tracing>,
    context: TraceContext,
    parent: u64,
    stage: Stage,
    begun: Instant,
}

impl BranchSpan {
    /// It has ended, and was about this.
    pub fn end(self, details: Details) {
        let Self { tracing, context, parent, stage, begun } = self;
        let ended = clock::now();
        tracing.branched(Branched { context, parent, stage, begun, ended, details });
    }
}

/// A span of a branch that has ended.
#[derive(Clone, Debug)]
pub struct Branched {
    /// Its ids.
    pub context: TraceContext,
    /// The id of the span that it hangs on.
    pub parent: u64,
    /// What was done.
    pub stage: Stage,
    /// When it began.
    pub begun: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What it was about.
    pub details: Details,
}

/// What a span is about, by the names of attributes.
pub type Details = Vec<(&'static str, Detail)>;

/// One detail of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A name.
    Text(String),
    /// A number.
    Count(u64),
}
