//! Watches memory and the lag of the event loops, and moves the engine's pressure between its levels.
//! What is done at a level is the engine's; how it is measured is the machine's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tokio::time::{MissedTickBehavior, interval};
use weir_core::admission::Refusal;
use weir_core::clock;
use weir_core::close::CloseReason;
use weir_core::metrics::CoreMetrics;
use weir_core::pressure::Pressure;
use weir_core::server::Running;
use weir_ops::{Health, Readiness};

use crate::config::Config;
use crate::reload::Current;
use crate::runtime::MemoryMeter;

/// How often is measured.
const LOOK: Duration = Duration::from_millis(250);
/// How long freed memory may still be seen: the allocator gives it back within a second. What was
/// asked for within this time is not asked for twice.
const SETTLE: Duration = Duration::from_millis(1500);
/// The least that is freed at a time.
const SHED_BYTES_MIN: u64 = 1 << 20;

/// What was measured at one moment.
#[derive(Clone, Copy, Debug)]
struct Measured {
    memory: u64,
    lag: Duration,
}

/// Where a level begins; `None` is off.
#[derive(Clone, Copy, Debug, Default)]
struct Threshold {
    memory: Option<u64>,
    lag: Option<Duration>,
}

impl Threshold {
    /// Whether the level is reached. One that was reached is left at nine tenths of it, so that
    /// nobody is let in and refused by turns.
    fn is_reached(self, measured: &Measured, before: bool) -> bool {
        let tenths = if before { 9 } else { 10 };
        self.memory.is_some_and(|max| measured.memory >= max / 10 * tenths)
            || self.lag.is_some_and(|max| measured.lag >= max / 10 * tenths as u32)
    }
}

/// The two thresholds of a configuration.
#[derive(Clone, Copy, Debug, Default)]
struct Thresholds {
    high: Threshold,
    critical: Threshold,
}

impl Thresholds {
    fn of(config: &Config) -> Self {
        let keys = &config.overload;
        let memory = |part: u8| Some(config.memory_max? / 100 * u64::from(part));
        Self {
            high: Threshold { memory: memory(keys.memory_high.0), lag: keys.lag_high },
            critical: Threshold { memory: memory(keys.memory_critical.0), lag: keys.lag_critical },
        }
    }

    fn pressure(&self, measured: &Measured, before: Pressure) -> Pressure {
        if self.critical.is_reached(measured, before == Pressure::Critical) {
            Pressure::Critical
        } else if self.high.is_reached(measured, before >= Pressure::High) {
            Pressure::High
        } else {
            Pressure::None
        }
    }

    /// How many bytes to free beside the `settling` ones, so that the second threshold is left.
    /// Zero while what was freed may be enough.
    fn excess(&self, measured: &Measured, settling: u64) -> u64 {
        let wanted = self.critical.memory.map_or(u64::MAX, |max| max / 10 * 9);
        match measured.memory.saturating_sub(wanted.saturating_add(settling)) {
            0 if settling == 0 => SHED_BYTES_MIN,
            0 => 0,
            excess => excess.max(SHED_BYTES_MIN),
        }
    }
}

/// The watch over memory and lag.
pub struct Overload {
    current: Current,
    running: Arc<Running>,
    meter: MemoryMeter,
    readiness: Readiness,
    level: IntGauge,
    memory: IntGauge,
    memory_max: IntGauge,
    /// What was asked to be freed within the last [`SETTLE`].
    settling: VecDeque<(Instant, u64)>,
}

impl Overload {
    /// A watch that has seen nothing yet.
    ///
    /// # Errors
    /// When one of its metrics is registered already.
    pub fn new(
        current: Current,
        running: Arc<Running>,
        health: &Health,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        let watch = Self {
            meter: MemoryMeter::new(),
            readiness: health.readiness("overload", "not measured yet"),
            level: gauge(
                "weir_overload_level",
                "0: below every threshold of overload. 1: over the first. 2: over the second.",
            )?,
            memory: gauge(
                "weir_memory_used_bytes",
                "Memory in use as overload sees it: resident, or the cgroup's if that is more and \
                 the limit is the cgroup's.",
            )?,
            memory_max: gauge(
                "weir_memory_max_bytes",
                "Memory that weir may use: overload.memory_max. 0: as much as it likes.",
            )?,
            settling: VecDeque::new(),
            current,
            running,
        };
        for gauge in [&watch.level, &watch.memory, &watch.memory_max] {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(Actions::new(Arc::clone(watch.running.metrics()))?))?;
        Ok(watch)
    }

    /// Watches for ever.
    pub async fn run(mut self) {
        self.readiness.ready();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.look(clock::now());
        }
    }

    fn look(&mut self, now: Instant) {
        let config = self.current.load_full();
        let measured = Measured {
            memory: self.meter.used(config.has_cgroup_limit()),
            lag: self.running.metrics().loop_lag(now),
        };
        let thresholds = Thresholds::of(&config);
        let before = self.running.pressure().get();
        let pressure = thresholds.pressure(&measured, before);
        self.memory.set(i64::try_from(measured.memory).unwrap_or(i64::MAX));
        self.memory_max.set(config.memory_max.unwrap_or(0).cast_signed());
        if pressure != before {
            self.running.pressure().set(pressure);
            self.level.set(pressure as i64);
            self.tell(pressure, &measured, &config);
        }
        if pressure == Pressure::Critical {
            self.shed(&thresholds, &measured, now);
        }
    }

    fn shed(&mut self, thresholds: &Thresholds, measured: &Measured, now: Instant) {
        while self.settling.front().is_some_and(|(asked, _)| now - *asked >= SETTLE) {
            self.settling.pop_front();
        }
        let settling = self.settling.iter().map(|(_, bytes)| bytes).sum();
        let excess = thresholds.excess(measured, settling);
        if excess > 0 {
            self.settling.push_back((now, excess));
            self.running.shed(usize::try_from(excess).unwrap_or(usize::MAX));
        }
    }

    /// Once for each change of the level.
    fn tell(&self, pressure: Pressure, measured: &Measured, config: &Config) {
        let (memory_bytes, lag_ms) = (measured.memory, measured.lag.as_millis() as u64);
        let memory_max_bytes = config.memory_max.unwrap_or(0);
        if pressure == Pressure::None {
            self.readiness.ready();
            tracing::info!(memory_bytes, memory_max_bytes, lag_ms, "overload is over");
            return;
        }
        let pressure = pressure.as_str();
        let limit = match config.memory_max {
            Some(max) => format!(" of {max}"),
            None => String::new(),
        };
        self.readiness
            .pending(format!("{pressure}: memory {memory_bytes}{limit} bytes, lag {lag_ms} ms"));
        tracing::warn!(pressure, memory_bytes, memory_max_bytes, lag_ms, "overload");
    }
}

/// What was done about pressure, read from the engine at each scrape.
struct Actions {
    engine: Arc<CoreMetrics>,
    actions: IntCounterVec,
}

impl Actions {
    fn new(engine: Arc<CoreMetrics>) -> prometheus::Result<Self> {
        let opts = Opts::new(
            "weir_overload_actions_total",
            "What overload did. refused: a new connection. closed_idle: an HTTP connection told to \
             go. closed_outbox: a connection whose outbox was among the largest.",
        );
        Ok(Self { engine, actions: IntCounterVec::new(opts, &["action"])? })
    }
}

impl Collector for Actions {
    fn desc(&self) -> Vec<&Desc> {
        self.actions.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let outboxes = self.engine.shed_total();
        let others = outboxes + self.engine.budget_closed_total();
        let closed = self.engine.closed_for(CloseReason::Overload);
        let figures = [
            ("refused", self.engine.refused_for(Refusal::Overload)),
            ("closed_idle", closed.saturating_sub(others)),
            ("closed_outbox", outboxes),
        ];
        for (action, n) in figures {
            let counter = self.actions.with_label_values(&[action]);
            // Only a scrape counts here, and what it reads never falls.
            counter.inc_by(n.saturating_sub(counter.get()));
        }
        self.actions.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn thresholds() -> Thresholds {
        let threshold = |memory, lag| Threshold {
            memory: Some(memory * MIB),
            lag: Some(Duration::from_millis(lag)),
        };
        Thresholds { high: threshold(200, 500), critical: threshold(225, 2000) }
    }

    #[track_caller]
    fn check(before: Pressure, memory: u64, lag: u64, expected: Pressure) {
        let measured = Measured { memory: memory * MIB, lag: Duration::from_millis(lag) };
        assert_eq!(thresholds().pressure(&measured, before), expected);
    }

    #[test]
    fn memory_or_lag_alone_reaches_a_level() {
        check(Pressure::None, 199, 499, Pressure::None);
        check(Pressure::None, 200, 0, Pressure::High);
        check(Pressure::None, 0, 500, Pressure::High);
        check(Pressure::High, 225, 0, Pressure::Critical);
        check(Pressure::None, 0, 2000, Pressure::Critical);
    }

    #[test]
    fn a_level_is_left_at_nine_tenths_of_where_it_begins() {
        check(Pressure::Critical, 203, 0, Pressure::Critical);
        check(Pressure::Critical, 202, 0, Pressure::High);
        check(Pressure::High, 180, 0, Pressure::High);
        check(Pressure::High, 179, 449, Pressure::None);
        check(Pressure::High, 179, 450, Pressure::High);
    }

    #[test]
    fn without_limits_nothing_is_ever_overloaded() {
        let measured = Measured { memory: u64::MAX, lag: Duration::MAX };
        assert_eq!(Thresholds::default().pressure(&measured, Pressure::None), Pressure::None);
    }

    #[test]
    fn what_is_freed_leaves_the_second_threshold_and_is_asked_for_once() {
        let wanted = 225 * MIB / 10 * 9;
        let excess = |memory: u64, settling: u64| {
            let measured = Measured { memory: memory * MIB, lag: Duration::ZERO };
            thresholds().excess(&measured, settling)
        };
        assert_eq!(excess(250, 0), 250 * MIB - wanted);
        assert_eq!(excess(300, 250 * MIB - wanted), 50 * MIB, "fifty more have come since");
        assert_eq!(excess(250, 250 * MIB - wanted), 0);
        assert_eq!(excess(0, 0), SHED_BYTES_MIN, "when it is the lag");
        assert_eq!(excess(0, SHED_BYTES_MIN), 0);
    }
}
