//! Traces as the engine sees them: which messages are sampled, what is known of each, and the seam
//! to whoever makes spans of it. Nothing here knows OpenTelemetry, an exporter or a collector.
//!
//! The decision to sample is taken before anything else exists: a message that is not sampled costs
//! a counter of its worker. What is sampled gathers the times of its stages in a [`Trace`], which
//! becomes one [`Finished`] for the [`Tracer`] when the last byte of its reply is written.

mod branch;
mod context;
pub mod current;
mod record;
mod sampling;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::RwLock;

pub use branch::{Branch, BranchSpan, Branched, Detail, Details, Part};
pub use context::TraceContext;
pub use record::{About, Call, CallTrace, Cause, Finished, RequestSpan, StageTime, Trace, What};
pub(crate) use sampling::Sampler;
use sampling::{Ceiling, Ids};

use crate::metrics::Exemplar;
use crate::network::Networks;

/// Makes spans of what is finished. Called by event loops: it must neither block nor wait.
pub trait Tracer: Send + Sync {
    /// A message or request has ended.
    fn finished(&self, finished: Finished);

    /// Something that a sampled message has set off has ended.
    fn branched(&self, branched: Branched);
}

/// Which messages are traced. A value that can change while weir runs.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// Of messages and requests, 0 to 1.
    pub ratio: f64,
    /// Sampled ones a second, over all workers.
    pub per_second_max: u32,
    /// What takes longer is traced afterwards; `None`: nothing is.
    pub slow: Option<Duration>,
    /// Slow and failed ones a second that are traced afterwards.
    pub slow_per_second_max: u32,
    /// Peers whose word counts on whether their trace is sampled.
    pub trusted: Networks,
}

/// Where a trace context was found, or was to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// The `traceparent` header of an HTTP request.
    Http,
    /// Inside a message, where the route says.
    Message,
}

impl Source {
    /// Every source, in order.
    pub const ALL: [Self; 2] = [Self::Http, Self::Message];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Message => "message",
        }
    }
}

/// What the engine needs to trace: one value a process, shared by workers and HTTP connections.
pub struct Tracing {
    /// `None`: nothing is traced.
    tracer: Option<Arc<dyn Tracer>>,
    ids: Ids,
    /// The bits of an `f64`.
    ratio: AtomicU64,
    ceiling: Ceiling,
    /// In nanoseconds; `u64::MAX`: nothing is slow.
    slow: AtomicU64,
    late: Ceiling,
    trusted: RwLock<Networks>,
    /// By source: contexts that were taken, and those that were malformed.
    contexts: [[AtomicU64; 2]; Source::ALL.len()],
}

impl Tracing {
    /// Nothing is traced, and nothing is asked whether it should be.
    pub fn off() -> Arc<Self> {
        let settings = TraceSettings {
            ratio: 0.0,
            per_second_max: 1,
            slow: None,
            slow_per_second_max: 1,
            trusted: Networks::default(),
        };
        Arc::new(Self::made(None, &settings, 0, crate::clock::now()))
    }

    /// Traces for `tracer`. `seed` is the random part of every id.
    pub fn new(
        tracer: Arc<dyn Tracer>,
        settings: &TraceSettings,
        seed: u64,
        now: Instant,
    ) -> Arc<Self> {
        Arc::new(Self::made(Some(tracer), settings, seed, now))
    }

    fn made(
        tracer: Option<Arc<dyn Tracer>>,
        settings: &TraceSettings,
        seed: u64,
        now: Instant,
    ) -> Self {
        let made = Self {
            tracer,
            ids: Ids::new(seed),
            ratio: AtomicU64::default(),
            ceiling: Ceiling::new(settings.per_second_max, now),
            slow: AtomicU64::default(),
            late: Ceiling::new(settings.slow_per_second_max, now),
            trusted: RwLock::default(),
            contexts: Default::default(),
        };
        made.set(settings);
        made
    }

    /// Changes which messages are traced, from now on.
    pub fn set(&self, settings: &TraceSettings) {
        self.ratio.store(settings.ratio.to_bits(), Ordering::Relaxed);
        self.ceiling.set(settings.per_second_max);
        let slow = settings.slow.map_or(u64::MAX, |slow| slow.as_nanos() as u64);
        self.slow.store(slow, Ordering::Relaxed);
        self.late.set(settings.slow_per_second_max);
        *self.trusted.write() = settings.trusted.clone();
    }

    /// Whether anything is traced.
    pub fn is_on(&self) -> bool {
        self.tracer.is_some()
    }

    /// Contexts from this source so far: taken, and malformed.
    pub fn contexts(&self, source: Source) -> (u64, u64) {
        let [taken, malformed] = &self.contexts[source as usize];
        (taken.load(Ordering::Relaxed), malformed.load(Ordering::Relaxed))
    }

    /// Counts a context that a peer sent, and lets it through when it is well formed.
    pub(crate) fn take(&self, source: Source, found: Found) -> Option<TraceContext> {
        let (index, context) = match found {
            Found::Nothing => return None,
            Found::Context(context) => (0, Some(context)),
            Found::Malformed => {
                let source = source.as_str();
                tracing::debug!(source, "a malformed trace context was ignored");
                (1, None)
            }
        };
        self.contexts[source as usize][index].fetch_add(1, Ordering::Relaxed);
        context
    }

    fn ratio(&self) -> f64 {
        f64::from_bits(self.ratio.load(Ordering::Relaxed))
    }

    /// Whether to sample something that came from `peer` with this context. `own` decides when the
    /// peer's word does not count.
    pub(crate) fn decide(
        &self,
        context: Option<&TraceContext>,
        peer: IpAddr,
        now: Instant,
        own: impl FnOnce() -> bool,
    ) -> bool {
        let believed = context.filter(|_| self.trusted.read().contain(peer));
        match believed {
            Some(context) => context.sampled && self.ceiling.take(now).is_ok(),
            None => own(),
        }
    }

    /// Whether to sample a request: for those who have no [`Sampler`] of their own.
    pub(crate) fn sample(&self, now: Instant) -> bool {
        let draw = (self.ids.next() >> 11) as f64 / (1_u64 << 53) as f64;
        draw < self.ratio() && self.ceiling.take(now).is_ok()
    }

    /// Ids for a span of its own below `parent`.
    fn span(&self, parent: Option<&TraceContext>) -> TraceContext {
        let new = || u128::from(self.ids.next()) << 64 | u128::from(self.ids.next());
        TraceContext {
            trace_id: parent.map_or_else(new, |parent| parent.trace_id),
            span_id: self.ids.next(),
            sampled: true,
            state: parent.and_then(|parent| parent.state.clone()),
        }
    }

    /// A trace that begins at `now`. One that is not sampled is watched: it may turn out slow.
    pub(crate) fn begin(
        self: &Arc<Self>,
        parent: Option<TraceContext>,
        sampled: bool,
        now: Instant,
    ) -> Arc<Trace> {
        let own = sampled.then(|| self.span(parent.as_ref()));
        Arc::new(Trace::new(Arc::clone(self), own, parent, now))
    }

    /// Hands a trace over that has ended at `now`, if it was sampled or turned out slow or failed.
    /// Returns an exemplar for what it took.
    pub(crate) fn finish(
        &self,
        trace: &Trace,
        now: Instant,
        about: impl FnOnce() -> About,
    ) -> Option<Exemplar> {
        let tracer = self.tracer.as_ref()?;
        let cause = self.cause(trace, now)?;
        let context = trace.context_or(|parent| self.span(parent)).clone();
        let value = now.saturating_duration_since(trace.begun());
        let (trace_id, span_id) = (context.trace_id, context.span_id);
        tracer.finished(trace.finished(context, cause, now, about()));
        Some(Exemplar { trace_id, span_id, value, at: SystemTime::now() })
    }

    /// Hands over a span of what a sampled message has set off.
    fn branched(&self, branched: Branched) {
        if let Some(tracer) = &self.tracer {
            tracer.branched(branched);
        }
    }

    /// Why a trace is handed over, if it is.
    fn cause(&self, trace: &Trace, now: Instant) -> Option<Cause> {
        if trace.context().is_some() {
            return Some(Cause::Sampled);
        }
        let took = now.saturating_duration_since(trace.begun()).as_nanos() as u64;
        let cause = if trace.failure().is_some() {
            Cause::Failed
        } else if took >= self.slow.load(Ordering::Relaxed) {
            Cause::Slow
        } else {
            return None;
        };
        self.late.take(now).is_ok().then_some(cause)
    }
}

/// What a look for a trace context has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    #[default]
    Nothing,
    /// A well-formed one.
    Context(TraceContext),
    /// Something that is not one, in the place of one.
    Malformed,
}

impl Found {
    /// What a text in the place of a `traceparent` is.
    pub fn parse(text: &[u8]) -> Self {
        TraceContext::parse(text).map_or(Self::Malformed, Self::Context)
    }
}

#[cfg(test)]
mod tests;
