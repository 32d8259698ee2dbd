//! What is known of one message or request while it is on its road, and what is handed over at its
//! end: plain values with a begin and an end each. They are made into spans elsewhere.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use http::Method;
use parking_lot::Mutex;

use super::branch::{Details, Part};
use super::context::TraceContext;
use super::{Tracing, current};
use crate::context::{ConnId, RequestId};
use crate::metrics::Exemplar;
use crate::service::Carrier;
use crate::stage::Stage;

/// One message or request on its road. Shared by its connection and by what it asks for.
pub struct Trace {
    tracing: Arc<Tracing>,
    /// Its span's ids. Unset while it is only watched: it may turn out slow or failed.
    context: OnceLock<TraceContext>,
    /// What the peer sent.
    parent: Option<TraceContext>,
    begun: Instant,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    stages: Vec<StageTime>,
    /// Parts that have begun.
    parts: usize,
    /// They were handed over.
    over: bool,
    failure: Option<&'static str>,
    /// The size of the message.
    bytes: usize,
    /// Its number on its connection.
    seq: u64,
    /// When its reply was ready to be written.
    ready: Option<Instant>,
}

/// One stage of a road.
#[derive(Clone, Debug)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// The id of its span.
    pub span_id: u64,
    /// When it began.
    pub begun: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What was called, on the stage `upstream`.
    pub call: Option<Box<Call>>,
    /// What it was about, where its session says.
    pub details: Details,
}

/// One HTTP call to an upstream.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The upstream's configured name.
    pub upstream: String,
    /// The method.
    pub method: Method,
    /// The path as it is configured, so of few values.
    pub path: String,
    /// Which server.
    pub target: Option<SocketAddr>,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// How often the request was sent again.
    pub resends: u32,
    /// Why there was no response.
    pub error: Option<&'static str>,
}

/// Why something is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// By ratio, or because a trusted peer does.
    Sampled,
    /// It took longer than `traces.slow`.
    Slow,
    /// It failed.
    Failed,
}

impl Cause {
    /// The value of the attribute.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::Slow => "slow",
            Self::Failed => "failed",
        }
    }
}

/// What something is, told at its end by who carried it.
#[derive(Clone, Debug)]
pub struct About {
    /// The listener it came in by.
    pub listener: String,
    /// The route it took; empty when there was none.
    pub route: String,
    /// Its connection.
    pub conn: ConnId,
    /// The peer, or whom a trusted proxy names.
    pub peer: SocketAddr,
    /// Its id in logs and upstream calls.
    pub request: RequestId,
    /// The handshake of its connection, if that was traced.
    pub handshake: Option<TraceContext>,
    /// A message or a request.
    pub what: What,
}

/// A message or a request.
#[derive(Clone, Debug)]
pub enum What {
    /// A message of an open connection.
    Message {
        /// How it was carried.
        carrier: Carrier,
        /// Its size.
        bytes: usize,
    },
    /// An HTTP request: a POST, or the handshake of a WebSocket.
    Request(Box<RequestSpan>),
}

/// An HTTP request as a span tells it.
#[derive(Clone, Debug)]
pub struct RequestSpan {
    /// The method.
    pub method: Method,
    /// The path that was asked for.
    pub path: String,
    /// The configured path, when it matched one.
    pub route: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// The bytes of the body.
    pub bytes: usize,
    /// The `user-agent`, cut to a harmless length.
    pub user_agent: Option<String>,
    /// Whether it came over HTTP/1.0.
    pub is_http_10: bool,
}

/// A message or request that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The ids of its span.
    pub context: TraceContext,
    /// What the peer sent as the parent.
    pub parent: Option<TraceContext>,
    /// Why it is traced.
    pub cause: Cause,
    /// When it began.
    pub begun: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Its stages as far as they are known, in the order in which they ended.
    pub stages: Vec<StageTime>,
    /// Why it failed.
    pub failure: Option<&'static str>,
    /// What it is.
    pub about: About,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.context.get()).finish()
    }
}

impl Trace {
    /// Parts of one message that are told: a batch of very many commands is one message.
    const PARTS_MAX: usize = 64;

    pub(super) fn new(
        tracing: Arc<Tracing>,
        own: Option<TraceContext>,
        parent: Option<TraceContext>,
        begun: Instant,
    ) -> Self {
        let context = own.map_or_else(OnceLock::new, OnceLock::from);
        Self { tracing, context, parent, begun, times: Mutex::default() }
    }

    /// The ids of its span, when it is sampled.
    pub fn context(&self) -> Option<&TraceContext> {
        self.context.get()
    }

    pub(super) fn context_or(
        &self,
        new: impl FnOnce(Option<&TraceContext>) -> TraceContext,
    ) -> &TraceContext {
        self.context.get_or_init(|| new(self.parent.as_ref()))
    }

    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    pub(super) fn failure(&self) -> Option<&'static str> {
        self.times.lock().failure
    }

    /// Says which message of its connection it is, and its size.
    pub(crate) fn is_message(&self, seq: u64, bytes: usize) {
        let mut times = self.times.lock();
        (times.seq, times.bytes) = (seq, bytes);
    }

    /// Its number on its connection and its size, as they were said.
    pub(crate) fn message(&self) -> (u64, usize) {
        let times = self.times.lock();
        (times.seq, times.bytes)
    }

    /// Notes that it failed. The first reason stays.
    pub(crate) fn fail(&self, reason: &'static str) {
        self.times.lock().failure.get_or_insert(reason);
    }

    /// Notes a stage.
    pub(crate) fn stage(&self, stage: Stage, begun: Instant, ended: Instant) {
        let span_id = self.tracing.ids.next();
        self.push(StageTime { stage, span_id, begun, ended, call: None, details: Vec::new() });
    }

    /// Begins a part that its session times itself; `None` when it is not sampled, and when it has had
    /// its share of them.
    pub fn part(self: &Arc<Self>, stage: Stage) -> Option<Part> {
        let own = self.context()?;
        let mut times = self.times.lock();
        if times.parts >= Self::PARTS_MAX {
            return None;
        }
        times.parts += 1;
        drop(times);
        let context = TraceContext { span_id: self.tracing.ids.next(), ..own.clone() };
        Some(Part::new(Arc::clone(self), context, stage))
    }

    /// Notes a part; gives it back when everything has been handed over already.
    pub(super) fn part_ended(&self, time: StageTime) -> Result<(), StageTime> {
        let mut times = self.times.lock();
        if times.over {
            return Err(time);
        }
        times.stages.push(time);
        Ok(())
    }

    pub(super) fn tracing(&self) -> &Arc<Tracing> {
        &self.tracing
    }

    /// Its reply waits to be written from `now` on.
    pub(crate) fn ready(&self, now: Instant) {
        self.times.lock().ready = Some(now);
    }

    /// Its reply was written between the two; what it waited before is the stage `queue`.
    pub(crate) fn written(&self, begun: Instant, ended: Instant) {
        let ready = self.times.lock().ready;
        if let Some(ready) = ready {
            self.stage(Stage::Queue, ready.min(begun), begun);
        }
        self.stage(Stage::Write, begun, ended);
    }

    fn push(&self, time: StageTime) {
        self.times.lock().stages.push(time);
    }

    /// How long each stage took, for exemplars.
    pub(crate) fn stages(&self) -> Vec<(Stage, Duration)> {
        let took = |time: &StageTime| time.ended.saturating_duration_since(time.begun);
        self.times.lock().stages.iter().map(|time| (time.stage, took(time))).collect()
    }

    /// An exemplar for something of it that took so long; `None` while it is only watched.
    pub fn exemplar(&self, value: Duration) -> Option<Exemplar> {
        let context = self.context()?;
        let (trace_id, span_id) = (context.trace_id, context.span_id);
        Some(Exemplar { trace_id, span_id, value, at: SystemTime::now() })
    }

    pub(super) fn finished(
        &self,
        context: TraceContext,
        cause: Cause,
        ended: Instant,
        about: About,
    ) -> Finished {
        let mut times = self.times.lock();
        times.over = true;
        Finished {
            context,
            parent: self.parent.clone(),
            cause,
            begun: self.begun,
            ended,
            stages: std::mem::take(&mut times.stages),
            failure: times.failure,
            about,
        }
    }

    /// A call that is about to be made for it.
    pub fn call(self: &Arc<Self>) -> CallTrace {
        CallTrace { trace: Arc::clone(self), span_id: self.tracing.ids.next() }
    }

    /// Runs `work` so that what it logs names this trace, if it is sampled.
    pub(crate) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        match self.context() {
            Some(context) => current::within(context, work),
            None => work(),
        }
    }
}

/// One call of a traced message: its ids, and where its times go.
#[derive(Clone)]
pub struct CallTrace {
    trace: Arc<Trace>,
    span_id: u64,
}

impl CallTrace {
    /// What the callee is told of its parent: this call when the message is sampled; else what the
    /// peer sent, if anything, as not sampled: a stranger's flag is not passed on.
    pub fn context(&self) -> Option<TraceContext> {
        match self.trace.context() {
            Some(own) => Some(TraceContext { span_id: self.span_id, ..own.clone() }),
            None => {
                let parent = self.trace.parent.as_ref()?;
                Some(TraceContext { sampled: false, ..parent.clone() })
            }
        }
    }

    /// Notes the wait for a connection.
    pub fn waited(&self, begun: Instant, ended: Instant) {
        self.trace.stage(Stage::PoolWait, begun, ended);
    }

    /// Notes the call itself.
    pub fn called(&self, begun: Instant, ended: Instant, call: Call) {
        if let Some(error) = call.error {
            self.trace.fail(error);
        }
        let (stage, span_id) = (Stage::Upstream, self.span_id);
        let (call, details) = (Some(Box::new(call)), Vec::new());
        self.trace.push(StageTime { stage, span_id, begun, ended, call, details });
    }

    /// An exemplar for a part of it that took so long; `None` when it is not sampled.
    pub fn exemplar(&self, value: Duration) -> Option<Exemplar> {
        self.trace.exemplar(value)
    }
}
