//! The HTTP client of the exporter: one connection a batch, on the telemetry thread's runtime.
//!
//! Ready-made clients of the exporter bring their own runtime and threads, or need one that runs. The
//! exporter also leaves out why a collector could not be reached, so the reason is kept here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use parking_lot::Mutex;
use weir_upstream::Once;

/// Most bytes of an answer that are read: it says which spans were refused.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Sends batches to a collector. Holds no connection between them.
#[derive(Clone, Debug)]
pub(super) struct Client {
    once: Once,
    /// Why the last batch found no answer.
    fault: Arc<Mutex<Option<String>>>,
}

impl Client {
    pub(super) fn new(once: Once) -> Self {
        Self { once, fault: Arc::default() }
    }

    /// Takes the reason why the last batch found no answer; a status is an answer.
    pub(super) fn take_fault(&self) -> Option<String> {
        self.fault.lock().take()
    }
}

/// An answer on its way.
type Answering<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    // The form that `async_trait` gives the method of this trait.
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Answering<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let answer = self.once.send(request, ANSWER_BYTES_MAX).await;
            *self.fault.lock() = answer.as_ref().err().map(ToString::to_string);
            answer
        })
    }
}
