//! What weir says of itself while it runs: log lines, on their way through a bounded queue.
//! Metrics belong to those who count; the side port shows them.

mod form;
mod layer;
mod writer;

use std::io::{self, IsTerminal};

use anyhow::Context;
use parking_lot::Mutex;
use prometheus::IntCounter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

pub use self::form::Form;
pub use self::layer::LogLayer;
pub use self::writer::{Flushed, LogQueue};
use crate::config::sections::{LogFormat, Logs};

/// The log of the process, from when it is made until the end.
pub struct Telemetry {
    /// Where the lines go. Flush it before the process ends.
    pub queue: LogQueue,
    /// Which lines there are.
    pub filter: LogFilter,
    /// Lines that nobody will read, for `/metrics`.
    pub dropped: IntCounter,
}

/// Begins to log to standard error, panics included.
///
/// # Errors
///
/// The writer's thread cannot be made, or something else logs already.
pub fn init(logs: &Logs) -> anyhow::Result<Telemetry> {
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
    tracing_subscriber::registry()
        .with(filter)
        .with(LogLayer::new(form, queue.clone()))
        .try_init()
        .context("the log")?;
    log_panics();
    let text = logs.filter.to_string();
    let filter =
        LogFilter { handle, texts: Mutex::new(Texts { now: text.clone(), configured: text }) };
    Ok(Telemetry { queue, filter, dropped })
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

/// Makes a panic one log line, in place of several on standard error.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("a value that is no text");
        tracing::error!(thread, at, text, "panic");
    }));
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
