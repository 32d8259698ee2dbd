//! What TLS counts. Labels are names of listeners, DNS names of configured certificates, and closed
//! lists.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::outcome::HandshakeResult;
use super::settings::Expiry;

/// The metrics of all listeners with TLS.
#[derive(Clone, Debug)]
pub(crate) struct TlsMetrics {
    /// weir_tls_handshakes_total
    handshakes: IntCounterVec,
    /// weir_tls_reloads_total
    reloads: IntCounterVec,
    /// weir_tls_certificate_expiry_timestamp_seconds
    expiries: IntGaugeVec,
}

impl TlsMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let handshakes = IntCounterVec::new(
            Opts::new(
                "weir_tls_handshakes_total",
                "TLS handshakes that ended, by what came of them.",
            ),
            &["listener", "result"],
        )?;
        let reloads = IntCounterVec::new(
            Opts::new(
                "weir_tls_reloads_total",
                "Changes of a listener's certificate files that took effect (ok) or were refused (error).",
            ),
            &["listener", "result"],
        )?;
        let expiries = IntGaugeVec::new(
            Opts::new(
                "weir_tls_certificate_expiry_timestamp_seconds",
                "The last second of a listener's certificate in force, by its first DNS name.",
            ),
            &["listener", "certificate"],
        )?;
        registry.register(Box::new(handshakes.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(expiries.clone()))?;
        Ok(Self { handshakes, reloads, expiries })
    }

    /// The handles of one listener, with every result at zero.
    pub(crate) fn listener(&self, listener: &str) -> ListenerTlsMetrics {
        let results = HandshakeResult::ALL.iter();
        ListenerTlsMetrics {
            listener: listener.to_owned(),
            handshakes: results
                .map(|result| self.handshakes.with_label_values(&[listener, result.as_str()]))
                .collect(),
            reloads: ["ok", "error"]
                .map(|result| self.reloads.with_label_values(&[listener, result])),
            expiries: self.expiries.clone(),
        }
    }
}

/// The handles of one listener.
#[derive(Debug)]
pub(crate) struct ListenerTlsMetrics {
    listener: String,
    /// By result.
    handshakes: Vec<IntCounter>,
    /// Good ones, refused ones.
    reloads: [IntCounter; 2],
    expiries: IntGaugeVec,
}

impl ListenerTlsMetrics {
    /// Counts the end of a handshake.
    pub(crate) fn handshake(&self, result: HandshakeResult) {
        self.handshakes[result as usize].inc();
    }

    /// Counts a change of the files.
    pub(super) fn reloaded(&self, good: bool) {
        self.reloads[usize::from(!good)].inc();
    }

    /// Tells when the certificates in force end; those of `before` are forgotten.
    pub(crate) fn certificates(&self, before: &[Expiry], now: &[Expiry]) {
        for old in before {
            // One that was told twice under one name is there once.
            self.expiries.remove_label_values(&[&self.listener, &old.certificate]).ok();
        }
        for new in now {
            let gauge: IntGauge =
                self.expiries.with_label_values(&[&self.listener, &new.certificate]);
            gauge.set(new.not_after);
        }
    }
}
