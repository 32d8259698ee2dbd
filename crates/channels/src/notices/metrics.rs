//! What is counted of notices.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What a notice is of; its name in JSON and in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A client has gone.
    Disconnect,
    /// A subscription has ended.
    Unsubscribe,
}

impl Named {
    const ALL: [Self; 2] = [Self::Disconnect, Self::Unsubscribe];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Unsubscribe => "unsubscribe",
        }
    }
}

/// What became of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The backend has it.
    Delivered,
    /// Dropped: too many waited, or too many bytes.
    Full,
    /// Dropped: the backend was away for too long.
    TooOld,
    /// Dropped: weir has ended before the backend had it.
    Shutdown,
}

impl Fate {
    const ALL: [Self; 4] = [Self::Delivered, Self::Full, Self::TooOld, Self::Shutdown];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Full => "full",
            Self::TooOld => "too_old",
            Self::Shutdown => "shutdown",
        }
    }

    pub(super) const fn is_loss(self) -> bool {
        match self {
            Self::Delivered => false,
            Self::Full | Self::TooOld | Self::Shutdown => true,
        }
    }
}

/// The metrics of notices. Clones count in the same place.
#[derive(Clone, Debug)]
pub(crate) struct NoticeMetrics {
    ended: [[IntCounter; Fate::ALL.len()]; Named::ALL.len()],
    waiting: IntGauge,
}

impl NoticeMetrics {
    /// Makes the metrics, every series at zero, and registers them.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let ended = IntCounterVec::new(
            Opts::new(
                "weir_channels_notices_total",
                "Notices to the backend, by what they tell and what became of them. All but \
                 delivered were dropped: full (too many waited), too_old (over \
                 channels.hooks.notice_age_max), shutdown.",
            ),
            &["event", "outcome"],
        )?;
        let waiting = IntGauge::new(
            "weir_channels_notices_waiting",
            "Notices that the backend does not have yet.",
        )?;
        registry.register(Box::new(ended.clone()))?;
        registry.register(Box::new(waiting.clone()))?;
        let ended = Named::ALL.map(|named| {
            Fate::ALL.map(|fate| ended.with_label_values(&[named.as_str(), fate.as_str()]))
        });
        Ok(Self { ended, waiting })
    }

    pub(super) fn ended(&self, event: Named, fate: Fate) {
        self.ended[event as usize][fate as usize].inc();
    }

    pub(super) fn waiting(&self, count: usize) {
        self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
