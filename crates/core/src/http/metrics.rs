//! What HTTP counts: the durations of requests, and refusals. Labels are names from the config and
//! closed sets.

use std::sync::OnceLock;
use std::time::Duration;

use http::Method;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::metrics::{Exemplar, ExemplarRow, Histograms, Scale, SharedHistogram};

/// The route of a request that matched no path.
const ROUTE_NONE: &str = "none";

/// 0.1 ms to 10 s: an echo takes tens of microseconds, an upstream up to its timeout.
const SCALE: Scale = Scale::Steps(&[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
]);

/// Every status that weir refuses with before a route has seen the request.
const REFUSALS: [u16; 10] = [400, 401, 403, 404, 405, 408, 413, 426, 431, 503];

/// The label values of methods.
const METHODS: [&str; 5] = ["GET", "POST", "OPTIONS", "HEAD", "other"];

/// The label values of statuses: what weir answers, what upstreams commonly do, and a class for
/// the rest, so that no upstream can grow the set.
const STATUSES: [&str; 32] = [
    "101", "200", "201", "202", "204", "301", "302", "304", "400", "401", "403", "404", "405",
    "408", "409", "410", "413", "415", "422", "426", "429", "431", "500", "501", "502", "503",
    "504", "1xx", "2xx", "3xx", "4xx", "5xx",
];

/// The metrics of all HTTP listeners of a process.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    /// weir_http_request_duration_seconds
    durations: Histograms,
    /// weir_http_refused_total
    refused: IntCounterVec,
}

impl HttpMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let durations = Histograms::new(
            "weir_http_request_duration_seconds",
            "Time from the end of a request's head to its response being ready to write.",
            &["listener", "route", "method", "status"],
            SCALE,
        )?;
        let refused = IntCounterVec::new(
            Opts::new(
                "weir_http_refused_total",
                "HTTP requests that were refused before a route saw them, by the status told.",
            ),
            &["listener", "status"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { durations, refused })
    }

    /// The exemplars of requests that were sampled.
    pub fn exemplars(&self) -> Vec<ExemplarRow> {
        self.durations.exemplars()
    }

    /// The handles of one listener, with every refusal at zero, and for each of its paths the
    /// answer that it is there for: `usual` is a path's route, method and status.
    pub(super) fn site(&self, listener: &str, usual: Vec<(String, Method, u16)>) -> SiteMetrics {
        let refused = REFUSALS
            .map(|status| self.refused.with_label_values(&[listener, label_of_status(status)]));
        let handles = || Durations(std::array::from_fn(|_| OnceLock::new()));
        let site = SiteMetrics {
            durations: self.durations.clone(),
            listener: listener.to_owned(),
            handles: (0..=usual.len()).map(|_| handles()).collect(),
            routes: usual.iter().map(|(route, ..)| route.clone()).collect(),
            refused,
        };
        for (path, (_, method, status)) in usual.iter().enumerate() {
            site.duration(Some(path), method, *status);
        }
        site
    }
}

/// One route's histograms by method and status. But for the usual answer they are resolved when
/// first used: most of the combinations never happen.
struct Durations([OnceLock<SharedHistogram>; METHODS.len() * STATUSES.len()]);

/// The handles of one listener.
pub(super) struct SiteMetrics {
    durations: Histograms,
    listener: String,
    routes: Vec<String>,
    /// By path, and behind them the one for no path.
    handles: Vec<Durations>,
    refused: [IntCounter; REFUSALS.len()],
}

impl SiteMetrics {
    /// Counts a response. `path` is the index of the path, `None` when none matched.
    pub(super) fn responded(
        &self,
        path: Option<usize>,
        method: &Method,
        status: u16,
        took: Duration,
        exemplar: Option<Exemplar>,
    ) {
        let duration = self.duration(path, method, status);
        duration.observe_shared(took);
        if let Some(exemplar) = exemplar {
            duration.show(exemplar);
        }
    }

    fn duration(&self, path: Option<usize>, method: &Method, status: u16) -> &SharedHistogram {
        let route = path.unwrap_or(self.routes.len());
        let (method, status) = (index_of_method(method), index_of_status(status));
        self.handles[route].0[method * STATUSES.len() + status].get_or_init(|| {
            let route = self.routes.get(route).map_or(ROUTE_NONE, String::as_str);
            let labels = [&self.listener, route, METHODS[method], STATUSES[status]];
            self.durations.with(&labels)
        })
    }

    /// Counts a refusal.
    pub(super) fn refused(&self, status: u16) {
        if let Some(at) = REFUSALS.iter().position(|known| *known == status) {
            self.refused[at].inc();
        }
    }
}

fn index_of_method(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

fn index_of_status(status: u16) -> usize {
    // The last five are the classes; a status outside of 100 to 599 counts as the last.
    let class = STATUSES.len() - 6 + usize::from((status / 100).clamp(1, 5));
    STATUSES.iter().position(|label| label.parse() == Ok(status)).unwrap_or(class)
}

fn label_of_status(status: u16) -> &'static str {
    STATUSES[index_of_status(status)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(registry: &Registry) -> SiteMetrics {
        let usual = vec![("echo".to_owned(), Method::POST, 200)];
        HttpMetrics::register(registry).unwrap().site("web", usual)
    }

    #[test]
    fn a_status_without_a_label_of_its_own_counts_as_its_class() {
        let labels = [101, 200, 299, 418, 431, 599, 900].map(label_of_status);
        assert_eq!(labels, ["101", "200", "2xx", "4xx", "431", "5xx", "5xx"]);
        assert_eq!(label_of_status(100), "1xx");
    }

    #[test]
    fn every_refusal_exists_at_zero() {
        let registry = Registry::new();
        let _site = site(&registry);
        let families = registry.gather();
        let refused = families.iter().find(|f| f.name() == "weir_http_refused_total").unwrap();
        assert_eq!(refused.get_metric().len(), REFUSALS.len());
        assert!(refused.get_metric().iter().all(|m| m.get_counter().get_value() == 0.0));
    }

    #[test]
    fn no_method_and_no_status_of_a_peer_or_upstream_grows_the_series() {
        let registry = Registry::new();
        let site = site(&registry);
        for n in 0..900 {
            let method = Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
            site.responded(Some(0), &method, 100 + n, Duration::ZERO, None);
        }
        let families = registry.gather();
        let series = families.iter().find(|f| f.name().contains("duration")).unwrap();
        // And one for the usual answer.
        assert_eq!(series.get_metric().len(), STATUSES.len() + 1);
    }
}
