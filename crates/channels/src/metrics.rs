//! What is counted of channels: by namespace, which a configuration names, and never by channel, user
//! or client. The handles of a namespace are found once.

use std::sync::Arc;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use weir_core::metrics::{Histograms, Scale, SharedHistogram};

use crate::notices::NoticeMetrics;
use crate::protocol::codes::{DisconnectCode, ErrorCode};

/// What is done about a subscriber that does not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowAction {
    /// The connection was ended.
    Disconnected,
    /// A publication was dropped for a newer one, or found no room.
    Dropped,
    /// A publication was dropped for a newer one of its key.
    Superseded,
    /// The subscriber reads from the history from here on, until it has caught up.
    CaughtUp,
}

impl SlowAction {
    const ALL: [Self; 4] = [Self::Disconnected, Self::Dropped, Self::Superseded, Self::CaughtUp];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Dropped => "dropped",
            Self::Superseded => "superseded",
            Self::CaughtUp => "caught_up",
        }
    }
}

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client.
    Client,
    /// A backend, through the server API.
    Api,
    /// A connection of a route that publishes its messages.
    Route,
}

impl Origin {
    const ALL: [Self; 3] = [Self::Client, Self::Api, Self::Route];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Api => "api",
            Self::Route => "route",
        }
    }
}

/// What came of an attempt to catch up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryOutcome {
    /// Everything that was missed was sent.
    Recovered,
    /// The history did not reach back, or was another one.
    Unrecovered,
}

impl RecoveryOutcome {
    const ALL: [Self; 2] = [Self::Recovered, Self::Unrecovered];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Unrecovered => "unrecovered",
        }
    }
}

/// What came of comparing a subscriber's position with the broker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionCheck {
    /// It has everything.
    Good,
    /// It has missed something, and was told.
    Behind,
}

impl PositionCheck {
    const ALL: [Self; 2] = [Self::Good, Self::Behind];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Behind => "behind",
        }
    }
}

/// The metrics of channels.
#[derive(Clone, Debug)]
pub struct ChannelMetrics {
    clients: IntGauge,
    errors: IntCounterVec,
    disconnects: IntCounterVec,
    subscriptions: IntGaugeVec,
    publications: IntCounterVec,
    deliveries: IntCounterVec,
    gaps: IntCounterVec,
    behind: IntCounterVec,
    slow: IntCounterVec,
    recoveries: IntCounterVec,
    positions: IntCounterVec,
    width: HistogramVec,
    latency: Histograms,
    notices: NoticeMetrics,
}

/// Subscribers of a channel when something is told to them.
const WIDTHS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];

impl ChannelMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    ///
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            clients: IntGauge::new(
                "weir_channels_clients",
                "Clients that are connected in the channels' protocol.",
            )?,
            errors: counter(
                "weir_channels_errors_total",
                "Commands that were answered with an error, and subscriptions of backends that could not \
                 be, by its code.",
                &["error"],
            )?,
            disconnects: counter(
                "weir_channels_disconnects_total",
                "Connections that weir ended in the channels' protocol, by its code.",
                &["code"],
            )?,
            subscriptions: IntGaugeVec::new(
                Opts::new("weir_channels_subscriptions", "Subscriptions, by namespace."),
                &["namespace"],
            )?,
            publications: counter(
                "weir_channels_publications_total",
                "Publications, by namespace and by who made them: a client, a backend through the server \
                 API, or a connection of a route.",
                &["namespace", "origin"],
            )?,
            deliveries: counter(
                "weir_channels_deliveries_total",
                "Publications, joins and leaves that were put into the outbox of a subscriber, by \
                 namespace.",
                &["namespace"],
            )?,
            gaps: counter(
                "weir_channels_gaps_total",
                "Subscribers that were told of a hole, by namespace.",
                &["namespace"],
            )?,
            behind: counter(
                "weir_channels_worker_behind_total",
                "How often a worker came so late to a channel that publications were gone, by \
                 namespace.",
                &["namespace"],
            )?,
            slow: counter(
                "weir_channels_slow_consumers_total",
                "What was done about subscribers that did not keep up, by namespace: connections that \
                 were ended, publications that were dropped or superseded, subscribers that caught up \
                 from the history.",
                &["namespace", "action"],
            )?,
            recoveries: counter(
                "weir_channels_recoveries_total",
                "Subscriptions that were to catch up, by namespace and by what came of it.",
                &["namespace", "outcome"],
            )?,
            positions: counter(
                "weir_channels_positions_checked_total",
                "Subscribers' positions that were compared with the broker's, by namespace and by what \
                 came of it.",
                &["namespace", "result"],
            )?,
            width: HistogramVec::new(
                HistogramOpts::new(
                    "weir_channels_fanout_subscribers",
                    "Subscribers that a worker has of a channel when something is told to them, by \
                     namespace.",
                )
                .buckets(WIDTHS.to_vec()),
                &["namespace"],
            )?,
            latency: Histograms::new(
                "weir_channels_publish_to_write_seconds",
                "Time from taking a publication until the sockets of its subscribers are written to, by \
                 namespace. Deliveries of one slice of the fan-out have a value in common, that of its \
                 oldest publication; a socket that is full is not waited for.",
                &["namespace"],
                Scale::Octaves,
            )?,
            notices: NoticeMetrics::register(registry)?,
        };
        metrics.register_all(registry)?;
        for code in ErrorCode::ALL {
            metrics.errors.with_label_values(&[code.as_str()]);
        }
        metrics.errors.with_label_values(&[CUSTOM]);
        for code in DisconnectCode::ALL {
            metrics.disconnects.with_label_values(&[code.as_str()]);
        }
        metrics.disconnects.with_label_values(&[CUSTOM]);
        Ok(metrics)
    }

    fn register_all(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.clients.clone()))?;
        registry.register(Box::new(self.errors.clone()))?;
        registry.register(Box::new(self.disconnects.clone()))?;
        registry.register(Box::new(self.subscriptions.clone()))?;
        registry.register(Box::new(self.publications.clone()))?;
        registry.register(Box::new(self.deliveries.clone()))?;
        registry.register(Box::new(self.gaps.clone()))?;
        registry.register(Box::new(self.behind.clone()))?;
        registry.register(Box::new(self.slow.clone()))?;
        registry.register(Box::new(self.recoveries.clone()))?;
        registry.register(Box::new(self.positions.clone()))?;
        registry.register(Box::new(self.width.clone()))?;
        registry.register(Box::new(self.latency.clone()))
    }

    /// The handles of a namespace, every series at zero.
    pub(crate) fn namespace(&self, name: &str) -> NamespaceCounts {
        // The channels without a namespace have a name for it here: an empty label is no label.
        let name = if name.is_empty() { NO_NAMESPACE } else { name };
        NamespaceCounts {
            subscriptions: self.subscriptions.with_label_values(&[name]),
            publications: Origin::ALL
                .map(|origin| self.publications.with_label_values(&[name, origin.as_str()])),
            deliveries: self.deliveries.with_label_values(&[name]),
            gaps: self.gaps.with_label_values(&[name]),
            behind: self.behind.with_label_values(&[name]),
            slow: SlowAction::ALL
                .map(|action| self.slow.with_label_values(&[name, action.as_str()])),
            recoveries: RecoveryOutcome::ALL
                .map(|outcome| self.recoveries.with_label_values(&[name, outcome.as_str()])),
            positions: PositionCheck::ALL
                .map(|result| self.positions.with_label_values(&[name, result.as_str()])),
            width: self.width.with_label_values(&[name]),
            latency: self.latency.with(&[name]),
        }
    }

    /// Those of notices.
    pub(crate) fn notices(&self) -> NoticeMetrics {
        self.notices.clone()
    }

    /// Clients that are connected.
    pub(crate) fn clients(&self) -> &IntGauge {
        &self.clients
    }

    pub(crate) fn error(&self, code: ErrorCode) {
        self.errors.with_label_values(&[code.as_str()]).inc();
    }

    /// A command was answered with an error of a backend's own.
    pub(crate) fn custom_error(&self) {
        self.errors.with_label_values(&[CUSTOM]).inc();
    }

    pub(crate) fn disconnect(&self, code: Option<DisconnectCode>) {
        self.disconnects.with_label_values(&[code.map_or(CUSTOM, DisconnectCode::as_str)]).inc();
    }
}

/// The label of codes that an application has made up.
const CUSTOM: &str = "custom";

/// The label of channels without a namespace. No namespace can be called so.
const NO_NAMESPACE: &str = "(none)";

/// The handles of one namespace.
#[derive(Debug)]
pub struct NamespaceCounts {
    pub(crate) subscriptions: IntGauge,
    publications: [IntCounter; Origin::ALL.len()],
    pub(crate) deliveries: IntCounter,
    pub(crate) gaps: IntCounter,
    pub(crate) behind: IntCounter,
    slow: [IntCounter; SlowAction::ALL.len()],
    recoveries: [IntCounter; RecoveryOutcome::ALL.len()],
    positions: [IntCounter; PositionCheck::ALL.len()],
    pub(crate) width: Histogram,
    pub(crate) latency: SharedHistogram,
}

impl NamespaceCounts {
    pub(crate) fn published(&self, origin: Origin) {
        self.publications[origin as usize].inc();
    }

    pub(crate) fn slow(&self, action: SlowAction, times: u32) {
        self.slow[action as usize].inc_by(u64::from(times));
    }

    pub(crate) fn checked(&self, result: PositionCheck) {
        self.positions[result as usize].inc();
    }

    pub(crate) fn recovery(&self, outcome: RecoveryOutcome) {
        self.recoveries[outcome as usize].inc();
    }
}

/// Shared handles.
pub(crate) type Counts = Arc<NamespaceCounts>;
