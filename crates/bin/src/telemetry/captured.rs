//! The log of a test, in place of standard error. Only tests have it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounter;
use serde_json::Value as Json;
use tracing_subscriber::layer::SubscriberExt as _;

use super::form::Form;
use super::layer::LogLayer;
use super::writer::{Flushed, LogQueue};

/// Standard error, as far as the test can read it.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The one line that is logged meanwhile.
pub(super) fn logged(act: impl FnOnce()) -> Json {
    let output = Output::default();
    let dropped = IntCounter::new("dropped", "dropped").expect("a counter");
    let queue = LogQueue::start(output.clone(), Form::Json, 4096, dropped).expect("a thread");
    let log = tracing_subscriber::registry().with(LogLayer::new(Form::Json, queue.clone()));
    tracing::subscriber::with_default(log, act);
    assert_eq!(queue.flush(Duration::from_secs(5)), Flushed::All);
    let line = String::from_utf8(output.0.lock().clone()).expect("text");
    serde_json::from_str(&line).expect("one object")
}
