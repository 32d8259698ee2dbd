//! From tracing's events to lines: gathers an event's fields and hands the line to the queue.
//! Spans are not written: a line says for itself which connection and request it is about.

use std::error::Error;
use std::fmt::{Debug, Write};

use opentelemetry::trace::{SpanContext, TraceContextExt};
use serde_json::Value as Json;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use weir_core::trace::current;

use super::form::Form;
use super::writer::LogQueue;

/// Writes every event it is given as one line.
#[derive(Clone, Debug)]
pub struct LogLayer {
    form: Form,
    queue: LogQueue,
}

impl LogLayer {
    /// A layer that writes lines of this form to a queue.
    pub fn new(form: Form, queue: LogQueue) -> Self {
        Self { form, queue }
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.queue.push(&self.form.line(event, span_of(event)));
    }
}

/// The trace and the span that an event belongs to: a sampled message's, or one of weir itself.
fn span_of(event: &Event<'_>) -> Option<(u128, u64)> {
    // What OpenTelemetry logs of itself may come from inside its own context, which is borrowed.
    if !event.metadata().target().starts_with("weir") {
        return None;
    }
    current::ids().or_else(|| {
        opentelemetry::Context::map_current(|context| {
            let span = context.span();
            let ids = span.span_context();
            let as_numbers = |ids: &SpanContext| {
                let (trace, span) = (ids.trace_id().to_bytes(), ids.span_id().to_bytes());
                (u128::from_be_bytes(trace), u64::from_be_bytes(span))
            };
            ids.is_valid().then(|| as_numbers(ids))
        })
    })
}

/// The fields of an event.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// The text of the event.
    pub(super) message: String,
    /// The others, in their order.
    pub(super) list: Vec<(&'static str, Json)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Json>) {
        self.list.push((field.name(), value.into()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            write!(self.message, "{value:?}").expect("a String has room");
        } else {
            self.add(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.add(field, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    /// An error with everything that caused it.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            write!(text, ": {error}").expect("a String has room");
            cause = error.source();
        }
        self.add(field, text);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::telemetry::captured::logged;

    #[test]
    fn an_event_becomes_a_flat_object_with_its_fields_as_they_are() {
        let cause = io::Error::other("the disk is full");
        let json = logged(|| {
            let error: &(dyn Error + 'static) = &cause;
            tracing::info!(listener = "lines", count = 3_u64, took = 0.5, ok = true, error, peer = %"::1", "hello {}", 7);
        });
        assert_eq!(json["msg"], "hello 7");
        assert_eq!(json["level"], "info");
        assert_eq!(json["listener"], "lines");
        assert_eq!(json["count"], 3);
        assert_eq!(json["took"], 0.5);
        assert_eq!(json["ok"], true);
        assert_eq!(json["error"], "the disk is full");
        assert_eq!(json["peer"], "::1");
        assert_eq!(json["target"], "weir::telemetry::layer::tests");
        assert_eq!(json.as_object().expect("an object").len(), 10);
    }
}
