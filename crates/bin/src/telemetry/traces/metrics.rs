//! What is counted of traces: spans by what became of them, what waits, and what peers sent.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};
use tokio::sync::mpsc::{Sender, WeakSender};
use weir_core::trace::{Source, Tracing};

use super::Item;

/// The metrics of traces. Every series exists at zero, also when nothing is traced.
#[derive(Clone)]
pub struct TraceMetrics {
    spans: IntCounterVec,
    waiting: IntGauge,
    contexts: IntCounterVec,
    watched: Arc<Mutex<Watched>>,
}

/// Whom a scrape asks.
#[derive(Default)]
struct Watched {
    queue: Option<WeakSender<Item>>,
    tracing: Option<Arc<Tracing>>,
}

/// The counters of spans, by what became of them.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    exported: IntCounter,
    dropped: IntCounter,
    failed: IntCounter,
}

impl Spans {
    /// The collector took them.
    pub(super) fn exported(&self, spans: usize) {
        self.exported.inc_by(spans as u64);
    }

    /// There was no room for them.
    pub(super) fn dropped(&self, spans: usize) {
        self.dropped.inc_by(spans as u64);
    }

    /// The collector did not take them.
    pub(super) fn failed(&self, spans: usize) {
        self.failed.inc_by(spans as u64);
    }
}

impl TraceMetrics {
    /// Makes the metrics.
    ///
    /// # Errors
    /// Never with the names of this file.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self {
            spans: IntCounterVec::new(
                Opts::new(
                    "weir_trace_spans_total",
                    "Spans. exported: the collector took them. failed: it did not. dropped: \
                     traces.queue_max was reached.",
                ),
                &["result"],
            )?,
            waiting: IntGauge::new(
                "weir_traces_waiting",
                "Messages, requests and spans that wait for the collector.",
            )?,
            contexts: IntCounterVec::new(
                Opts::new(
                    "weir_trace_contexts_total",
                    "Trace contexts that peers sent while traces are on, by where they stood.",
                ),
                &["source", "result"],
            )?,
            watched: Arc::default(),
        };
        metrics.spans();
        metrics.count_contexts(&Tracing::off());
        Ok(metrics)
    }

    /// Asks this value for what peers sent.
    pub fn watch_tracing(&self, tracing: &Arc<Tracing>) {
        self.watched.lock().tracing = Some(Arc::clone(tracing));
    }

    /// Asks this queue for how much waits.
    pub(super) fn watch(&self, queue: &Sender<Item>) {
        self.watched.lock().queue = Some(queue.downgrade());
    }

    pub(super) fn spans(&self) -> Spans {
        let of = |result: &str| self.spans.with_label_values(&[result]);
        Spans { exported: of("exported"), dropped: of("dropped"), failed: of("failed") }
    }

    fn count_contexts(&self, tracing: &Tracing) {
        for source in Source::ALL {
            let (taken, malformed) = tracing.contexts(source);
            for (result, now) in [("taken", taken), ("malformed", malformed)] {
                let counter = self.contexts.with_label_values(&[source.as_str(), result]);
                counter.inc_by(now.saturating_sub(counter.get()));
            }
        }
    }

    fn all(&self) -> [&dyn Collector; 3] {
        [&self.spans, &self.waiting, &self.contexts]
    }
}

impl Collector for TraceMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let watched = self.watched.lock();
        if let Some(tracing) = &watched.tracing {
            self.count_contexts(tracing);
        }
        let queue = watched.queue.as_ref().and_then(WeakSender::upgrade);
        let waiting = queue.map_or(0, |queue| queue.max_capacity() - queue.capacity());
        self.waiting.set(waiting as i64);
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}
