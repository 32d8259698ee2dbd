//! What is counted of tokens. Labels are the closed lists of [`super::refusal`]; never a user, a
//! channel or a key.

use prometheus::{IntCounterVec, Opts, Registry};

use super::refusal::{Reason, TokenKind};

/// The metrics of all tokens of a process.
#[derive(Clone, Debug)]
pub struct TokenMetrics {
    refused: IntCounterVec,
}

impl TokenMetrics {
    /// Makes the metrics, every series at zero, and registers them.
    ///
    /// # Errors
    ///
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new(
            "weir_channels_tokens_refused_total",
            "Tokens that clients showed and that were not taken, by what they were for and why. \
             Clients are not told why.",
        );
        let refused = IntCounterVec::new(opts, &["kind", "reason"])?;
        for kind in TokenKind::ALL {
            for reason in kind.reasons() {
                refused.with_label_values(&[kind.as_str(), reason.as_str()]);
            }
        }
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { refused })
    }

    pub(super) fn refused(&self, kind: TokenKind, reason: Reason) {
        self.refused.with_label_values(&[kind.as_str(), reason.as_str()]).inc();
    }
}
