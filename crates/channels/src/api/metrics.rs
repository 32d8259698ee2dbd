//! What is counted of the server API: commands by method and errors by code, those inside of a batch
//! or a broadcast too.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::Method;
use crate::protocol::codes::ErrorCode;

/// The metrics of the server API.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    /// By method.
    commands: Vec<IntCounter>,
    /// By code.
    errors: Vec<IntCounter>,
}

impl ApiMetrics {
    /// Makes the metrics and registers them, every series at zero.
    ///
    /// # Errors
    ///
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let commands = IntCounterVec::new(
            Opts::new(
                "weir_channels_api_commands_total",
                "Commands of the server API, by method; those in a batch too.",
            ),
            &["method"],
        )?;
        let errors = IntCounterVec::new(
            Opts::new(
                "weir_channels_api_errors_total",
                "Errors that the server API answered with, by code; those of one channel of a \
                 broadcast and of one command of a batch too.",
            ),
            &["error"],
        )?;
        registry.register(Box::new(commands.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        let methods = Method::ALL.iter();
        let codes = ErrorCode::ALL.iter();
        Ok(Self {
            commands: methods.map(|one| commands.with_label_values(&[one.as_str()])).collect(),
            errors: codes.map(|one| errors.with_label_values(&[one.as_str()])).collect(),
        })
    }

    pub(super) fn command(&self, method: Method) {
        self.commands[method as usize].inc();
    }

    pub(super) fn error(&self, code: ErrorCode) {
        self.errors[code as usize].inc();
    }
}
