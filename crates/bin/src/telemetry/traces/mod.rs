//! The way of spans to a collector: a bounded queue, and the thread `weir-telemetry` that owns the
//! exporter. Whoever traces never waits: what does not fit is dropped and counted.
//!
//! What weir does with a message comes as a [`Finished`] and is made into spans on that thread; what
//! weir does as a process comes as spans of `tracing`, by the SDK.

mod exporter;
mod http;
mod metrics;
mod span;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};
use tokio::sync::{mpsc, oneshot};
use weir_core::trace::{Branched, Finished, Tracer};

use self::exporter::Export;
use self::metrics::Spans;
pub use self::metrics::TraceMetrics;
use self::span::SpanMaker;
use crate::config::traces::TracesPlan;

/// Spans that are sent to the collector at once.
const BATCH_MAX: usize = 512;
/// How long spans are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(200);

/// What waits for the telemetry thread.
enum Item {
    Finished(Box<Finished>),
    Branched(Box<Branched>),
    Span(Box<SpanData>),
    /// Send everything, then answer.
    Flush(oneshot::Sender<()>),
}

/// The way to the collector. Clones share it.
#[derive(Clone, Debug)]
pub struct Traces {
    queue: mpsc::Sender<Item>,
    spans: Spans,
}

impl Traces {
    /// Starts the thread `weir-telemetry`. The collector is not connected to yet.
    ///
    /// # Errors
    /// An endpoint that is none, or a thread that cannot be made.
    pub fn start(plan: &TracesPlan, metrics: &TraceMetrics) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let exporter = {
            // The exporter of gRPC binds itself to the runtime that it is made in.
            let _inside = runtime.enter();
            exporter::build(plan).context("traces.endpoint")?
        };
        let (queue, waiting) = mpsc::channel(plan.queue_max);
        metrics.watch(&queue);
        let spans = metrics.spans();
        let sender = Sender {
            waiting,
            exporter,
            timeout: plan.export_timeout,
            maker: SpanMaker::new(),
            spans: spans.clone(),
            failing: false,
        };
        std::thread::Builder::new()
            .name("weir-telemetry".to_owned())
            .spawn(move || runtime.block_on(sender.run()))
            .context("the thread that exports spans")?;
        Ok(Self { queue, spans })
    }

    /// A provider of the SDK whose spans take the same way.
    pub fn provider(&self) -> SdkTracerProvider {
        SdkTracerProvider::builder().with_span_processor(self.clone()).build()
    }

    /// Sends what waits, for at most `timeout`. What is left then is lost with the process.
    pub async fn flush(&self, timeout: Duration) {
        let flush = async {
            let (done, flushed) = oneshot::channel();
            if self.queue.send(Item::Flush(done)).await.is_ok() {
                flushed.await.ok();
            }
        };
        if tokio::time::timeout(timeout, flush).await.is_err() {
            tracing::warn!(?timeout, "not all spans were exported in time");
        }
    }

    /// Takes an item of so many spans, or drops and counts them.
    fn push(&self, item: Item, spans: usize) {
        if self.queue.try_send(item).is_err() {
            self.spans.dropped(spans);
        }
    }
}

impl Tracer for Traces {
    fn finished(&self, finished: Finished) {
        let spans = 1 + finished.stages.len();
        self.push(Item::Finished(Box::new(finished)), spans);
    }

    fn branched(&self, branched: Branched) {
        self.push(Item::Branched(Box::new(branched)), 1);
    }
}

impl SpanProcessor for Traces {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        self.push(Item::Span(Box::new(span)), 1);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The telemetry thread at work.
struct Sender {
    waiting: mpsc::Receiver<Item>,
    exporter: Arc<dyn Export>,
    timeout: Duration,
    maker: SpanMaker,
    spans: Spans,
    /// The last export failed.
    failing: bool,
}

impl Sender {
    /// Sends batches until nobody can queue any more.
    async fn run(mut self) {
        let mut items = Vec::with_capacity(BATCH_MAX);
        while self.waiting.recv_many(&mut items, BATCH_MAX).await > 0 {
            let until = tokio::time::Instant::now() + GATHER;
            while items.len() < BATCH_MAX && !items.iter().any(Item::is_flush) {
                let room = BATCH_MAX - items.len();
                let more = self.waiting.recv_many(&mut items, room);
                match tokio::time::timeout_at(until, more).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => break,
                }
            }
            self.send(&mut items).await;
        }
    }

    async fn send(&mut self, items: &mut Vec<Item>) {
        let mut batch = Vec::new();
        let mut flushes = Vec::new();
        for item in items.drain(..) {
            match item {
                Item::Finished(finished) => self.maker.make(*finished, &mut batch),
                Item::Branched(branched) => batch.push(self.maker.branch(*branched)),
                Item::Span(span) => batch.push(*span),
                Item::Flush(done) => flushes.push(done),
            }
        }
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH_MAX));
            self.export(std::mem::replace(&mut batch, rest)).await;
        }
        for done in flushes {
            // Who asked may have stopped waiting.
            done.send(()).ok();
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len();
        let exported = tokio::time::timeout(self.timeout, self.exporter.export(batch)).await;
        let error = match exported {
            Ok(Ok(())) => {
                self.spans.exported(spans);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("spans are exported again");
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {:?}", self.timeout),
        };
        self.spans.failed(spans);
        // Told once, then counted.
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(error, "spans cannot be exported");
        }
    }
}

impl Item {
    fn is_flush(&self) -> bool {
        matches!(self, Self::Flush(_))
    }
}
