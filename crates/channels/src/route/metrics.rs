//! What is counted of routes that publish: by route and reason, never by channel or peer.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::refusal::Reason;

/// The metrics of routes that publish.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    refused: IntCounterVec,
}

impl RouteMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    ///
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let refused = IntCounterVec::new(
            Opts::new(
                "weir_channels_route_refused_total",
                "Messages of routes that were not published, and subscriptions of their connections \
                 that could not be, by route and reason.",
            ),
            &["route", "reason"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { refused })
    }

    /// The handles of a route, every series at zero.
    pub(super) fn route(&self, route: &str) -> Refused {
        let of = |reason: Reason| self.refused.with_label_values(&[route, reason.as_str()]);
        Refused(Reason::ALL.map(of))
    }
}

/// The handles of one route.
#[derive(Debug)]
pub(super) struct Refused([IntCounter; Reason::ALL.len()]);

impl Refused {
    pub(super) fn count(&self, reason: Reason) {
        self.0[reason as usize].inc();
    }
}
