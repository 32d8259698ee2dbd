//! The metrics of the process as a whole: build, process, log, service runtime.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::runtime::Handle;
use weir_core::metrics::ExemplarRow;
use weir_ops::Exemplar;

use crate::telemetry::Telemetry;
use crate::version;

/// A registry with what every process has.
///
/// # Errors
/// Never: the names are distinct.
pub fn registry(telemetry: &Telemetry) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    registry.register(Box::new(telemetry.dropped.clone()))?;
    registry.register(Box::new(telemetry.trace_metrics.clone()))?;
    let build = Opts::new("weir_build_info", "1, labelled with what this binary was built from.");
    let labels = ["version", "commit", "rustc", "target"];
    let build = IntGaugeVec::new(build, &labels)?;
    let values = [version::VERSION, version::COMMIT, version::RUSTC, version::TARGET];
    build.with_label_values(&values).set(1);
    registry.register(Box::new(build))?;
    Ok(registry)
}

/// The exemplars of histograms as the side port writes them.
pub fn exemplars(rows: Vec<ExemplarRow>) -> Vec<Exemplar> {
    let exemplar = |row: ExemplarRow| Exemplar {
        family: row.family,
        labels: row.labels,
        bound: row.bound,
        trace_id: format!("{:032x}", row.exemplar.trace_id),
        span_id: format!("{:016x}", row.exemplar.span_id),
        value: row.exemplar.value.as_secs_f64(),
        at: row.exemplar.at,
    };
    rows.into_iter().map(exemplar).collect()
}

/// Watches the service runtime: accept loops and upstream calls.
///
/// # Errors
/// When it is watched already.
pub fn watch_runtime(registry: &Registry, service: &Handle) -> prometheus::Result<()> {
    registry.register(Box::new(RuntimeCollector::new(service.clone())?))
}

struct RuntimeCollector {
    runtime: Handle,
    tasks: IntGauge,
    queue: IntGauge,
    threads: IntGauge,
    busy: Counter,
    oldest_busy: Gauge,
}

impl RuntimeCollector {
    fn new(runtime: Handle) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        Ok(Self {
            runtime,
            tasks: gauge("weir_service_tasks", "Tasks that are alive on the service runtime.")?,
            queue: gauge(
                "weir_service_queue_tasks",
                "Tasks in the service runtime's global queue, waiting for a thread.",
            )?,
            threads: gauge("weir_service_threads", "Threads of the service runtime.")?,
            busy: Counter::new(
                "weir_service_busy_seconds_total",
                "Time that threads of the service runtime spent on tasks, over all threads.",
            )?,
            oldest_busy: Gauge::new(
                "weir_service_busy_seconds_max",
                "The same for the thread that has been busiest since the start.",
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 5] {
        [&self.tasks, &self.queue, &self.threads, &self.busy, &self.oldest_busy]
    }
}

impl Collector for RuntimeCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self.runtime.metrics();
        self.tasks.set(metrics.num_alive_tasks() as i64);
        self.queue.set(metrics.global_queue_depth() as i64);
        self.threads.set(metrics.num_workers() as i64);
        let busy = (0..metrics.num_workers()).map(|n| metrics.worker_total_busy_duration(n));
        let busy: Vec<f64> = busy.map(|time| time.as_secs_f64()).collect();
        let total: f64 = busy.iter().sum();
        self.busy.inc_by((total - self.busy.get()).max(0.0));
        self.oldest_busy.set(busy.into_iter().fold(0.0, f64::max));
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}
