//! The metrics of the stages.

use std::time::Duration;

use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use super::Stage;

/// Which stage the process is in, and how long each took.
#[derive(Clone, Debug)]
pub struct StageMetrics {
    on: IntGaugeVec,
    seconds: GaugeVec,
}

impl StageMetrics {
    /// Registers the metrics, every stage at zero.
    ///
    /// # Errors
    ///
    /// They are in this registry already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let on = Opts::new("weir_shutdown_stage", "1 for the stage the process is in, else 0.");
        let seconds = Opts::new(
            "weir_shutdown_stage_seconds",
            "How long each stage took; 0 for those that have not been left.",
        );
        let on = IntGaugeVec::new(on, &["stage"])?;
        let seconds = GaugeVec::new(seconds, &["stage"])?;
        registry.register(Box::new(on.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        for stage in Stage::ALL {
            on.with_label_values(&[stage.as_str()]).set(0);
            seconds.with_label_values(&[stage.as_str()]).set(0.0);
        }
        Ok(Self { on, seconds })
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.on.with_label_values(&[stage.as_str()]).set(1);
    }

    pub(super) fn left(&self, stage: Stage, took: Duration) {
        self.on.with_label_values(&[stage.as_str()]).set(0);
        self.seconds.with_label_values(&[stage.as_str()]).set(took.as_secs_f64());
    }
}
