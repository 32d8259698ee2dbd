//! What weir says of itself while it runs: log lines and spans, on their way through bounded queues.
//! Metrics belong to those who count; the side port shows them.

#[cfg(test)]
mod captured;
mod form;
mod layer;
mod panics;
mod traces;
mod writer;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use parking_lot::Mutex;
use prometheus::IntCounter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};
use weir_core::clock;
use weir_core::trace::{TraceSettings, Tracing};

pub use self::form::Form;
pub use self::layer::LogLayer;
pub use self::traces::{TraceMetrics, Traces};
pub use self::writer::{Flushed, LogQueue};
use crate::config::sections::{LogFormat, Logs};
use crate::config::traces::TracesPlan;

/// The log of the process, from when it is made until the end.
pub struct Telemetry {
    /// Where the lines go. Flush it before the process ends.
    pub queue: LogQueue,
    /// Which lines there are.
    pub filter: LogFilter,
    /// Lines that nobody will read, for `/metrics`.
    pub dropped: IntCounter,
    /// The way of spans, when there is a collector. Flush it before the log.
    pub traces: Option<Traces>,
    /// What is counted of traces, for `/metrics`.
    pub trace_metrics: TraceMetrics,
}

impl Telemetry {
    /// What the engine asks which messages to trace.
    pub fn tracing(&self, settings: &TraceSettings, seed: u64) -> Arc<Tracing> {
        let tracing = match &self.traces {
            Some(traces) => Tracing::new(Arc::new(traces.clone()), settings, seed, clock::now()),
            None => Tracing::off(),
        };
        self.trace_metrics.watch_tracing(&tracing);
        tracing
    }
}

/// Begins to log to standard error, panics included.
///
/// # Errors
///
/// A thread cannot be made, the collector's address is none, or something else logs already.
pub fn init(logs: &Logs, traces: &TracesPlan) -> anyhow::Result<Telemetry> {
    let form = Form::of(logs.format, io::stderr().is_terminal());
    let dropped = IntCounter::new(
        "weir_logs_dropped_total",
        "Log lines dropped because their reader was too slow for logs.queue_bytes_max.",
    )
    .context("a counter of dropped lines")?;
    let queue = LogQueue::start(io::stderr(), form, logs.queue_bytes_max.0, dropped.clone())
        .context("the thread that writes the log")?;
    let filter = EnvFilter::try_new(&*logs.filter).context("logs.filter")?;
    let (filter, handle) = reload::Layer::new(filter);
    let trace_metrics = TraceMetrics::new().context("metrics of traces")?;
    let wanted = traces.endpoint.is_some();
    let traces = wanted.then(|| Traces::start(traces, &trace_metrics)).transpose()?;
    // The filter is the log's alone, and the only thing that can be changed: spans stay.
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.provider().tracer("weir"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_own_span))
    });
    tracing_subscriber::registry()
        .with(LogLayer::new(form, queue.clone()).with_filter(filter))
        .with(spans)
        .try_init()
        .context("the log")?;
    panics::log();
    let text = logs.filter.to_string();
    let filter =
        LogFilter { handle, texts: Mutex::new(Texts { now: text.clone(), configured: text }) };
    Ok(Telemetry { queue, filter, dropped, traces, trace_metrics })
}

/// Spans of weir itself: the exporter's own would be exported by it.
fn is_own_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("weir") && *metadata.level() <= Level::INFO
}

impl Form {
    fn of(format: LogFormat, terminal: bool) -> Self {
        match format {
            LogFormat::Auto if terminal => Self::Human { colour: true },
            LogFormat::Auto | LogFormat::Json => Self::Json,
            LogFormat::Human => Self::Human { colour: terminal },
        }
    }
}

/// Which lines are logged; can be changed while weir runs.
pub struct LogFilter {
    handle: reload::Handle<EnvFilter, Registry>,
    texts: Mutex<Texts>,
}

struct Texts {
    now: String,
    configured: String,
}

/// Directives that are no filter, or a log that has ended.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The text is not a filter.
    #[error("not a log filter: {0}")]
    Directives(#[from] tracing_subscriber::filter::ParseError),
    /// There is no log to be filtered.
    #[error("the log has ended")]
    Gone(#[from] reload::Error),
}

impl LogFilter {
    /// The directives in effect.
    pub fn get(&self) -> String {
        self.texts.lock().now.clone()
    }

    /// The directives that are configured; others are in effect for a while at most.
    pub fn configured(&self) -> String {
        self.texts.lock().configured.clone()
    }

    /// Changes the directives.
    ///
    /// # Errors
    ///
    /// They are no filter; the old ones stay.
    pub fn set(&self, directives: &str) -> Result<(), FilterError> {
        let mut texts = self.texts.lock();
        self.apply(&mut texts, directives)
    }

    /// Changes what is configured. Directives that are in effect for a while stay until it is over.
    ///
    /// # Errors
    ///
    /// They are no filter; the old ones stay.
    pub fn configure(&self, directives: &str) -> Result<(), FilterError> {
        let mut texts = self.texts.lock();
        if texts.now == texts.configured {
            self.apply(&mut texts, directives)?;
        }
        texts.configured = directives.to_owned();
        Ok(())
    }

    fn apply(&self, texts: &mut Texts, directives: &str) -> Result<(), FilterError> {
        self.handle.reload(EnvFilter::try_new(directives)?)?;
        texts.now = directives.to_owned();
        Ok(())
    }
}
