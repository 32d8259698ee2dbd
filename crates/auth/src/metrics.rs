//! What identities count. Labels are names from the configuration and the closed lists of
//! [`crate::refusal`]; never a principal, an address or a key.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::refusal::{Door, Reason};

/// The metrics of all guarded routes of a process.
#[derive(Clone, Debug)]
pub struct AuthMetrics {
    admitted: IntCounterVec,
    refused: IntCounterVec,
    delayed: IntCounterVec,
    addresses: IntGauge,
    refreshes: IntCounterVec,
    keys: IntGaugeVec,
}

impl AuthMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            admitted: counters(
                "weir_auth_admitted_total",
                "Peers that proved who they are, by the door they came through.",
                &["listener", "door"],
            )?,
            refused: counters(
                "weir_auth_refused_total",
                "Peers that were not let in, by the door they tried and why. They are not told why.",
                &["listener", "door", "reason"],
            )?,
            delayed: counters(
                "weir_auth_delayed_total",
                "Verdicts that were held back because of earlier failures of the same address.",
                &["listener"],
            )?,
            addresses: IntGauge::new(
                "weir_auth_failing_addresses",
                "Addresses whose failures are remembered.",
            )?,
            refreshes: counters(
                "weir_jwks_refreshes_total",
                "Times that a key set was asked for, by what came of it.",
                &["set", "result"],
            )?,
            keys: IntGaugeVec::new(
                Opts::new("weir_jwks_keys", "Usable keys of a key set; 0 while none is known."),
                &["set"],
            )?,
        };
        registry.register(Box::new(metrics.admitted.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.delayed.clone()))?;
        registry.register(Box::new(metrics.addresses.clone()))?;
        registry.register(Box::new(metrics.refreshes.clone()))?;
        registry.register(Box::new(metrics.keys.clone()))?;
        Ok(metrics)
    }

    /// Lets every series of a listener exist at zero.
    pub(crate) fn prepare(&self, listener: &str, doors: &[Door]) {
        self.delayed.with_label_values(&[listener]);
        for door in doors {
            self.admitted.with_label_values(&[listener, door.as_str()]);
            for reason in door.reasons() {
                self.refused.with_label_values(&[listener, door.as_str(), reason.as_str()]);
            }
        }
    }

    pub(crate) fn admitted(&self, listener: &str, door: Door) {
        self.admitted.with_label_values(&[listener, door.as_str()]).inc();
    }

    pub(crate) fn refused(&self, listener: &str, door: Door, reason: Reason) {
        debug_assert!(door.reasons().contains(&reason), "{door:?} {reason:?}");
        self.refused.with_label_values(&[listener, door.as_str(), reason.as_str()]).inc();
    }

    pub(crate) fn delayed(&self, listener: &str) {
        self.delayed.with_label_values(&[listener]).inc();
    }

    pub(crate) fn failing_addresses(&self, count: usize) {
        self.addresses.set(count as i64);
    }

    /// The handles of one key set, with every result at zero.
    pub fn jwks(&self, set: &str) -> JwksMetrics {
        let refreshes = RefreshResult::ALL
            .map(|result| self.refreshes.with_label_values(&[set, result.as_str()]));
        JwksMetrics { set: set.to_owned(), refreshes, keys: self.keys.with_label_values(&[set]) }
    }
}

/// What came of asking for a key set: a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshResult {
    Good,
    Unreachable,
    Status,
    Malformed,
    TooManyKeys,
    NoKeys,
}

impl RefreshResult {
    const ALL: [Self; 6] = [
        Self::Good,
        Self::Unreachable,
        Self::Status,
        Self::Malformed,
        Self::TooManyKeys,
        Self::NoKeys,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unreachable => "unreachable",
            Self::Status => "status",
            Self::Malformed => "malformed",
            Self::TooManyKeys => "too_many_keys",
            Self::NoKeys => "no_keys",
        }
    }
}

/// The handles of one key set.
#[derive(Clone, Debug)]
pub struct JwksMetrics {
    set: String,
    refreshes: [IntCounter; RefreshResult::ALL.len()],
    pub(crate) keys: IntGauge,
}

impl JwksMetrics {
    /// The set's name.
    pub(crate) fn set(&self) -> &str {
        &self.set
    }

    pub(crate) fn refreshed(&self, result: RefreshResult) {
        self.refreshes[result as usize].inc();
    }
}
