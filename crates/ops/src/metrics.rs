//! `GET /metrics`: the registry in the classic text form, or in OpenMetrics for who asks for that.
//! It names no metric.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::openmetrics::{self, Exemplar};
use crate::reply::{self, Refusal, Reply};

/// The text form of version 0.0.4, in UTF-8.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders the registry off the runtime's thread, one page at a time: a collector that reads
/// files or waits for a lock holds up other scrapes, never `/healthz`.
pub(crate) struct Scrapes {
    registry: Registry,
    exemplars: Exemplars,
    turn: Arc<Semaphore>,
}

/// Asks for the exemplars as they are now.
type Exemplars = Arc<dyn Fn() -> Vec<Exemplar> + Send + Sync>;

impl Scrapes {
    pub(crate) fn new(registry: Registry, exemplars: Exemplars) -> Self {
        debug_assert!(CONTENT_TYPE.starts_with(TEXT_FORMAT));
        Self { registry, exemplars, turn: Arc::new(Semaphore::new(1)) }
    }

    /// The page as it is now, in the form that `headers` ask for.
    ///
    /// # Errors
    /// 503 when the scrapes before it have not ended within `wait`, 500 when the page cannot be
    /// written.
    pub(crate) async fn page(&self, headers: &HeaderMap, wait: Duration) -> Result<Reply, Refusal> {
        let busy = || {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the scrapes before this one have not ended",
            )
        };
        let failed = |error: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error);
        let turn = tokio::time::timeout(wait, self.turn.clone().acquire_owned());
        let turn = turn.await.map_err(|_| busy())?.map_err(|_| busy())?;
        let registry = self.registry.clone();
        let exemplars = openmetrics::is_wanted(headers).then(|| Arc::clone(&self.exemplars));
        let kind = if exemplars.is_some() { openmetrics::CONTENT_TYPE } else { CONTENT_TYPE };
        let page = spawn_blocking(move || {
            // Held here, so that a scrape whose reader has gone still counts until it ends.
            let _turn = turn;
            match exemplars {
                Some(exemplars) => Ok(openmetrics::encode(&registry.gather(), &exemplars())),
                None => TextEncoder::new().encode_to_string(&registry.gather()),
            }
        });
        let page = page.await.map_err(|error| failed(format!("a collector failed: {error}")))?;
        let page = page.map_err(|error| failed(error.to_string()))?;
        Ok(reply::bytes(StatusCode::OK, kind, page))
    }
}

impl fmt::Debug for Scrapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrapes").field("turn", &self.turn).finish_non_exhaustive()
    }
}
