//! The HTTP client of the exporter: one connection a batch, on the telemetry thread's runtime.
//!
//! Ready-made clients of the exporter bring their own runtime and threads, or need one that runs.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};

/// Most bytes of an answer that are read: it says which spans were refused.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Sends batches to a collector. Holds nothing between them.
#[derive(Debug)]
pub(super) struct Client;

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
        Box::pin(weir_upstream::once(request, ANSWER_BYTES_MAX))
    }
}
