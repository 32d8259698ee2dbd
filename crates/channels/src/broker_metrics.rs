//! What is gathered of the memory broker when somebody asks for it: how full it is, and what it has
//! refused. A publish counts for nobody here.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::broker::{Counts, Memory, Refusal};

/// The metrics of a memory broker.
pub struct BrokerMetrics {
    broker: Arc<Memory>,
    channels: IntGauge,
    channels_limit: IntGauge,
    bytes: IntGauge,
    bytes_limit: IntGauge,
    refused: IntCounterVec,
    suppressed: IntCounterVec,
    missed: IntCounter,
    /// What the counters have counted.
    counted: Mutex<Counts>,
}

impl BrokerMetrics {
    /// Registers the metrics of this broker, every series at zero.
    ///
    /// # Errors
    ///
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry, broker: Arc<Memory>) -> prometheus::Result<()> {
        let by_reason =
            |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["reason"]);
        let metrics = Self {
            channels: IntGauge::new(
                "weir_channels_broker_channels",
                "Channels that have a stream or a subscriber.",
            )?,
            channels_limit: IntGauge::new(
                "weir_channels_broker_channels_limit",
                "The most of them that there may be.",
            )?,
            bytes: IntGauge::new(
                "weir_channels_broker_bytes",
                "Bytes of everything that the broker keeps: histories, unread events, presence, names, keys.",
            )?,
            bytes_limit: IntGauge::new(
                "weir_channels_broker_bytes_limit",
                "The most of them that there may be.",
            )?,
            refused: by_reason(
                "weir_channels_broker_refused_total",
                "What the broker has refused, by the bound that was reached.",
            )?,
            suppressed: by_reason(
                "weir_channels_broker_suppressed_total",
                "Publishes that were taken and published nothing: their idempotency key had a result \
                 already, or their version was outdated.",
            )?,
            missed: IntCounter::new(
                "weir_channels_broker_missed_total",
                "Events that were gone before a worker came to read them.",
            )?,
            broker,
            counted: Mutex::default(),
        };
        metrics.refresh();
        registry.register(Box::new(metrics))
    }

    /// Brings the metrics up to what the broker says now.
    fn refresh(&self) {
        let limits = self.broker.limits();
        let gauges = [
            (&self.channels, self.broker.channels()),
            (&self.channels_limit, limits.channels_max),
            (&self.bytes, self.broker.bytes()),
            (&self.bytes_limit, limits.bytes_max),
        ];
        for (gauge, value) in gauges {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        let mut counted = self.counted.lock();
        let now = self.broker.counts();
        for (refusal, (now, before)) in
            Refusal::ALL.into_iter().zip(now.refused.into_iter().zip(counted.refused))
        {
            self.refused.with_label_values(&[refusal.as_str()]).inc_by(now.saturating_sub(before));
        }
        let suppressed = [
            ("repeated", now.repeated, counted.repeated),
            ("outdated", now.outdated, counted.outdated),
        ];
        for (reason, now, before) in suppressed {
            self.suppressed.with_label_values(&[reason]).inc_by(now.saturating_sub(before));
        }
        self.missed.inc_by(now.missed.saturating_sub(counted.missed));
        *counted = now;
    }

    fn parts(&self) -> [&dyn Collector; 7] {
        [
            &self.channels,
            &self.channels_limit,
            &self.bytes,
            &self.bytes_limit,
            &self.refused,
            &self.suppressed,
            &self.missed,
        ]
    }
}

impl Collector for BrokerMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}
