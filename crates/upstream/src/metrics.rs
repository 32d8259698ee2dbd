//! This crate's metric catalogue. Nothing else in the crate names a metric.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::StatusCode;
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use weir_core::metrics::{ExemplarRow, Histograms, Scale, SharedHistogram};

use crate::breaker::Transition;
use crate::call::UpstreamResponse;
use crate::error::UpstreamError;
use crate::pool::{PoolFigures, Refusal};
use crate::traced::TracedCall;

/// The metrics of all upstreams. `pool` is an upstream's configured name.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    acquire: Histograms,
    connections: IntGaugeVec,
    waiting: IntGaugeVec,
    refused: IntCounterVec,
    request: Histograms,
    retries: IntCounterVec,
    resolutions: IntCounterVec,
    breaker_open: IntGaugeVec,
    breaker_transitions: IntCounterVec,
}

/// The histograms reach from 0.5 ms to 30 s.
const SCALE: Scale = Scale::CALLS;

impl UpstreamMetrics {
    /// Makes the families and registers them.
    ///
    /// # Errors
    ///
    /// When one of the names is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            acquire: Histograms::new(
                "weir_pool_acquire_seconds",
                "Time until a call had a connection or had none: waiting and connecting.",
                &["pool"],
                SCALE,
            )?,
            connections: IntGaugeVec::new(
                Opts::new(
                    "weir_pool_connections",
                    "Open connections. idle: kept, unused. busy: all others, from the start of \
                     connecting until the socket is closed.",
                ),
                &["pool", "state"],
            )?,
            waiting: IntGaugeVec::new(
                Opts::new("weir_pool_waiting", "Calls that wait for a connection."),
                &["pool"],
            )?,
            refused: IntCounterVec::new(
                Opts::new("weir_pool_refused_total", "Calls that got no connection, by reason."),
                &["pool", "reason"],
            )?,
            request: Histograms::new(
                "weir_upstream_request_seconds",
                "Time from the request's first byte to the response's last, by class of status. \
                 error: no whole response (from the start of connecting if that failed). \
                 cancelled: the caller gave up.",
                &["pool", "status"],
                SCALE,
            )?,
            retries: IntCounterVec::new(
                Opts::new(
                    "weir_upstream_retries_total",
                    "Second attempts. stale: a kept connection turned out closed. elsewhere: \
                     connecting failed and another target was tried.",
                ),
                &["pool", "reason"],
            )?,
            resolutions: IntCounterVec::new(
                Opts::new("weir_upstream_resolutions_total", "Name look-ups, by result."),
                &["pool", "result"],
            )?,
            breaker_open: IntGaugeVec::new(
                Opts::new("weir_breaker_open", "Targets whose breaker is open or half open."),
                &["pool"],
            )?,
            breaker_transitions: IntCounterVec::new(
                Opts::new("weir_breaker_transitions_total", "Changes of breakers, by new state."),
                &["pool", "to"],
            )?,
        };
        for family in metrics.families() {
            registry.register(family)?;
        }
        Ok(metrics)
    }

    fn families(&self) -> [Box<dyn Collector>; 9] {
        [
            Box::new(self.acquire.clone()),
            Box::new(self.connections.clone()),
            Box::new(self.waiting.clone()),
            Box::new(self.refused.clone()),
            Box::new(self.request.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.resolutions.clone()),
            Box::new(self.breaker_open.clone()),
            Box::new(self.breaker_transitions.clone()),
        ]
    }

    /// The exemplars of calls that were sampled.
    pub fn exemplars(&self) -> Vec<ExemplarRow> {
        [self.acquire.exemplars(), self.request.exemplars()].concat()
    }

    /// The handles of one upstream. Every label value exists from here on, at zero.
    pub(crate) fn pool(&self, pool: &str) -> PoolMetrics {
        PoolMetrics {
            acquire: self.acquire.with(&[pool]),
            idle: self.connections.with_label_values(&[pool, "idle"]),
            busy: self.connections.with_label_values(&[pool, "busy"]),
            waiting: self.waiting.with_label_values(&[pool]),
            refused: RefusedReason::ALL
                .map(|reason| self.refused.with_label_values(&[pool, reason.as_str()])),
            request: CallStatus::ALL.map(|status| self.request.with(&[pool, status.as_str()])),
            retried_stale: self.retries.with_label_values(&[pool, "stale"]),
            retried_elsewhere: self.retries.with_label_values(&[pool, "elsewhere"]),
            resolved: self.resolutions.with_label_values(&[pool, "ok"]),
            unresolved: self.resolutions.with_label_values(&[pool, "failed"]),
            breaker_open: self.breaker_open.with_label_values(&[pool]),
            breaker_transitions: Transition::ALL
                .map(|to| self.breaker_transitions.with_label_values(&[pool, to.as_str()])),
            shown: Mutex::default(),
        }
    }
}

/// The handles of one upstream, resolved once.
#[derive(Debug)]
pub(crate) struct PoolMetrics {
    acquire: SharedHistogram,
    idle: IntGauge,
    busy: IntGauge,
    waiting: IntGauge,
    refused: [IntCounter; RefusedReason::ALL.len()],
    request: [SharedHistogram; CallStatus::ALL.len()],
    pub(crate) retried_stale: IntCounter,
    pub(crate) retried_elsewhere: IntCounter,
    pub(crate) resolved: IntCounter,
    pub(crate) unresolved: IntCounter,
    breaker_open: IntGauge,
    breaker_transitions: [IntCounter; Transition::ALL.len()],
    /// What this pool has added to idle, busy, waiting and breaker_open.
    shown: Mutex<[i64; 4]>,
}

impl PoolMetrics {
    /// Shows the pool as it is. Called under the pool's lock, so the gauges cannot drift. What it
    /// adds is the change since the last time: after a reload the pool before this one has the
    /// same gauges until its last connection is closed.
    pub(crate) fn show(&self, figures: PoolFigures) {
        let shown = [
            (&self.idle, figures.idle),
            (&self.busy, figures.connections - figures.idle),
            (&self.waiting, figures.waiting),
            (&self.breaker_open, figures.breakers_open),
        ];
        let mut before = self.shown.lock();
        for ((gauge, figure), before) in shown.into_iter().zip(&mut *before) {
            let figure = i64::try_from(figure).unwrap_or(i64::MAX);
            gauge.add(figure - *before);
            *before = figure;
        }
    }

    pub(crate) fn refused(&self, reason: RefusedReason) {
        self.refused[reason as usize].inc();
    }

    pub(crate) fn transition(&self, to: Transition) {
        self.breaker_transitions[to as usize].inc();
    }
}

impl Drop for PoolMetrics {
    fn drop(&mut self) {
        self.show(PoolFigures::default());
    }
}

/// Why a call got no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedReason {
    Closed,
    Unresolved,
    BreakersOpen,
    QueueFull,
    WaitTimeout,
}

impl RefusedReason {
    const ALL: [Self; 5] =
        [Self::Closed, Self::Unresolved, Self::BreakersOpen, Self::QueueFull, Self::WaitTimeout];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Unresolved => "unresolved",
            Self::BreakersOpen => "breakers_open",
            Self::QueueFull => "queue_full",
            Self::WaitTimeout => "wait_timeout",
        }
    }
}

impl From<Refusal> for RefusedReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::QueueFull { .. } => Self::QueueFull,
            Refusal::BreakersOpen { .. } => Self::BreakersOpen,
            Refusal::Unresolved => Self::Unresolved,
            Refusal::Closed => Self::Closed,
        }
    }
}

/// How a call ended that had been granted a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallStatus {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
    Error,
    Cancelled,
}

impl CallStatus {
    const ALL: [Self; 7] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::Error,
        Self::Cancelled,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }

    /// The class of a status. What HTTP does not define (600 to 999) counts as an error.
    pub(crate) fn of(status: StatusCode) -> Self {
        match status.as_u16() / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            5 => Self::ServerError,
            _ => Self::Error,
        }
    }
}

/// The time of one call. Counts it once in each histogram it reached, also when it is dropped.
#[must_use]
pub(crate) struct CallRecord<'a> {
    metrics: &'a PoolMetrics,
    begun: Instant,
    granted: Option<Instant>,
    connected: Option<Instant>,
    status: CallStatus,
    trace: Option<TracedCall>,
}

impl<'a> CallRecord<'a> {
    /// A call that asks for a connection now.
    pub(crate) fn new(metrics: &'a PoolMetrics, now: Instant, trace: Option<TracedCall>) -> Self {
        let status = CallStatus::Cancelled;
        Self { metrics, begun: now, granted: None, connected: None, status, trace }
    }

    /// The pool has granted a connection or the right to connect.
    pub(crate) fn granted(&mut self, now: Instant) {
        self.granted = Some(now);
    }

    /// The connection is there. Returns the time since the beginning.
    pub(crate) fn connected(&mut self, now: Instant) -> Duration {
        self.connected = Some(now);
        self.waited(now)
    }

    /// The request was sent again so many times.
    pub(crate) fn resent(&mut self, times: u32) {
        if let Some(trace) = &mut self.trace {
            trace.resent(times);
        }
    }

    /// How it ended, with whom: for its trace.
    pub(crate) fn answered<T>(
        &mut self,
        target: SocketAddr,
        result: &Result<(UpstreamResponse, T), UpstreamError>,
    ) {
        if let Some(trace) = &mut self.trace {
            trace.answered(target, result);
        }
    }

    /// How it ended, to be counted when the record is dropped.
    pub(crate) fn ends_as(&mut self, status: CallStatus) {
        self.status = status;
    }

    /// The call got no connection. It has no part in the request times.
    pub(crate) fn refused(&self, reason: RefusedReason) {
        self.metrics.refused(reason);
    }

    /// The wait for a connection ends now.
    fn waited(&self, now: Instant) -> Duration {
        let waited = now.saturating_duration_since(self.begun);
        self.metrics.acquire.observe_shared(waited);
        if let Some(trace) = &self.trace {
            trace.waited(self.begun, now);
            trace.show(&self.metrics.acquire, waited);
        }
        waited
    }
}

impl Drop for CallRecord<'_> {
    fn drop(&mut self) {
        let now = weir_core::clock::now();
        if self.connected.is_none() {
            self.waited(now);
        }
        let Some(start) = self.connected.or(self.granted) else { return };
        let took = now.saturating_duration_since(start);
        let request = &self.metrics.request[self.status as usize];
        request.observe_shared(took);
        if let Some(trace) = &mut self.trace {
            trace.show(request, took);
            if self.connected.is_some() {
                trace.called(start, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;

    #[test]
    fn every_label_value_exists_at_zero() {
        let registry = Registry::new();
        let metrics = UpstreamMetrics::register(&registry).expect("registers once");
        let _pool = metrics.pool("backend");
        let mut page = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut page).expect("text");
        let page = String::from_utf8(page).expect("UTF-8");
        for reason in RefusedReason::ALL.map(RefusedReason::as_str) {
            let line =
                format!("weir_pool_refused_total{{pool=\"backend\",reason=\"{reason}\"}} 0\n");
            assert!(page.contains(&line), "{line}");
        }
        for status in CallStatus::ALL.map(CallStatus::as_str) {
            let line = format!(
                "weir_upstream_request_seconds_count{{pool=\"backend\",status=\"{status}\"}} 0\n"
            );
            assert!(page.contains(&line), "{line}");
        }
        for line in [
            "weir_pool_acquire_seconds_count{pool=\"backend\"} 0\n",
            "weir_pool_connections{pool=\"backend\",state=\"busy\"} 0\n",
            "weir_pool_connections{pool=\"backend\",state=\"idle\"} 0\n",
            "weir_pool_waiting{pool=\"backend\"} 0\n",
            "weir_breaker_open{pool=\"backend\"} 0\n",
            "weir_breaker_transitions_total{pool=\"backend\",to=\"half_open\"} 0\n",
            "weir_upstream_retries_total{pool=\"backend\",reason=\"stale\"} 0\n",
            "weir_upstream_resolutions_total{pool=\"backend\",result=\"failed\"} 0\n",
        ] {
            assert!(page.contains(line), "{line}");
        }
    }

    #[test]
    fn a_second_registration_is_an_error() {
        let registry = Registry::new();
        UpstreamMetrics::register(&registry).expect("the first");
        assert!(UpstreamMetrics::register(&registry).is_err());
    }
}
