//! The catalogue as a `prometheus` collector: names, help texts, labels.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

use super::cell::Cell;
use super::families::{counter, family, push_counter, push_gauge, push_histogram};
use super::histogram::{ExemplarRow, HistogramTotal};
use super::{AcceptErrorKind, CoreMetrics, MessageRefusal, SiteCells, WorkerCells};
use crate::admission::Refusal;
use crate::close::CloseReason;
use crate::stage::Stage;

/// The durations of messages.
const MESSAGE_SECONDS: &str = "weir_message_seconds";
/// The durations of stages.
const STAGE_SECONDS: &str = "weir_stage_seconds";

impl CoreMetrics {
    fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.connections();
        families.extend(self.messages());
        families.extend(self.outboxes());
        families.extend(self.times());
        families
    }

    fn connections(&self) -> Vec<MetricFamily> {
        let mut closed = counter(
            "weir_connections_closed_total",
            "Connections that ended, by the one reason that ended each.",
        );
        let mut opened =
            counter("weir_connections_opened_total", "Connections that were admitted.");
        let mut open = family(
            "weir_connections_open",
            "Connections that are open: opened minus closed.",
            MetricType::GAUGE,
        );
        let mut refused = counter(
            "weir_connections_refused_total",
            "Connections that admission refused, by the limit that was reached.",
        );
        let mut errors = counter("weir_accept_errors_total", "Failed accept calls, by cause.");
        let mut resets = counter(
            "weir_linger_resets_total",
            "Refused or closing connections that were reset, because too many lingered.",
        );
        for (name, cells) in self.listener_names.iter().zip(&self.listeners) {
            let listener = ("listener", name.as_str());
            // Ends are read before starts: a scrape never shows more ends than starts.
            let mut ended = 0;
            for reason in CloseReason::ALL {
                let n = cells.closed[*reason as usize].get();
                ended += n;
                push_counter(&mut closed, &[listener, ("reason", reason.as_str())], n);
            }
            let started = cells.opened.get();
            push_counter(&mut opened, &[listener], started);
            push_gauge(&mut open, &[listener], started.saturating_sub(ended) as f64);
            for refusal in Refusal::ALL {
                let n = cells.refused[refusal as usize].get();
                push_counter(&mut refused, &[listener, ("reason", refusal.as_str())], n);
            }
            for kind in AcceptErrorKind::ALL {
                let n = cells.accept_errors[kind as usize].get();
                push_counter(&mut errors, &[listener, ("kind", kind.as_str())], n);
            }
            push_counter(&mut resets, &[listener], cells.linger_resets.get());
        }
        let mut limit = family(
            "weir_connections_limit",
            "limits.connections_max as it is in force.",
            MetricType::GAUGE,
        );
        push_gauge(&mut limit, &[], self.connections_limit.get() as f64);
        vec![closed, opened, open, refused, errors, resets, limit]
    }

    fn messages(&self) -> Vec<MetricFamily> {
        type Read = fn(&SiteCells) -> &Cell;
        let counters: [(&str, &str, Read); 4] = [
            (
                "weir_messages_received_total",
                "Whole messages that connections have read.",
                |cells| &cells.messages_received,
            ),
            (
                "weir_messages_sent_total",
                "Messages that connections have handed to the socket or the outbox.",
                |cells| &cells.messages_sent,
            ),
            ("weir_received_bytes_total", "Bytes read from sockets, framing included.", |cells| {
                &cells.bytes_received
            }),
            ("weir_sent_bytes_total", "Bytes that sockets took, framing included.", |cells| {
                &cells.bytes_sent
            }),
        ];
        let mut families = Vec::with_capacity(5);
        for (name, help, read) in counters {
            let mut family = counter(name, help);
            for (index, site) in self.sites.iter().enumerate() {
                let n = self.workers.iter().map(|worker| read(&worker.sites[index]).get()).sum();
                let labels = [("listener", &*site.listener), ("route", &*site.route)];
                push_counter(&mut family, &labels, n);
            }
            families.push(family);
        }
        let mut refused = counter(
            "weir_messages_refused_total",
            "Messages that were refused or discarded, by reason.",
        );
        for (index, site) in self.sites.iter().enumerate() {
            for refusal in MessageRefusal::ALL {
                let read = |cells: &SiteCells| cells.refused[refusal as usize].get();
                let n = self.workers.iter().map(|worker| read(&worker.sites[index])).sum();
                let labels = [
                    ("listener", &*site.listener),
                    ("route", &*site.route),
                    ("reason", refusal.as_str()),
                ];
                push_counter(&mut refused, &labels, n);
            }
        }
        families.push(refused);
        families
    }

    fn outboxes(&self) -> Vec<MetricFamily> {
        let gauge = |name: &str, help: &str, value: f64| {
            let mut gauge = family(name, help, MetricType::GAUGE);
            push_gauge(&mut gauge, &[], value);
            gauge
        };
        let each = |read: fn(&WorkerCells) -> &Cell| {
            self.workers.iter().map(move |worker| read(worker).get())
        };
        let budget = self.budget.get();
        let mut actions = counter(
            "weir_outbox_budget_total",
            "What was done because all outboxes together held more than limits.outboxes_bytes_max. \
             dropped: publications that gave way by the policy of their channel. closed: connections, \
             from the fullest outbox on.",
        );
        let dropped = each(|worker| &worker.budget_dropped).sum();
        push_counter(&mut actions, &[("action", "dropped")], dropped);
        push_counter(&mut actions, &[("action", "closed")], self.budget_closed_total());
        vec![
            gauge(
                "weir_outbox_bytes",
                "What all outboxes hold: bytes of their own, 64 for each frame that waits, and frames \
                 that several share once.",
                budget.map_or(0, |budget| budget.held()) as f64,
            ),
            gauge(
                "weir_outbox_bytes_limit",
                "limits.outboxes_bytes_max as it is in force. 0: as much as they like.",
                budget.and_then(|budget| budget.max()).unwrap_or(0) as f64,
            ),
            gauge(
                "weir_outbox_connections",
                "Connections with something in their outbox, when that was last looked at: every second.",
                each(|worker| &worker.outboxes_waiting).sum::<u64>() as f64,
            ),
            gauge(
                "weir_outbox_largest_bytes",
                "Bytes that waited in the fullest outbox then.",
                each(|worker| &worker.outbox_largest).max().unwrap_or(0) as f64,
            ),
            gauge(
                "weir_outbox_oldest_seconds",
                "How long the oldest byte of all outboxes had waited then.",
                each(|worker| &worker.outbox_oldest).max().unwrap_or(0) as f64 / 1e9,
            ),
            actions,
        ]
    }

    fn times(&self) -> Vec<MetricFamily> {
        let mut messages = family(
            MESSAGE_SECONDS,
            "Time from reading a message until its reply is with the socket or the outbox. \
             A batch's value counts once for each of its messages.",
            MetricType::HISTOGRAM,
        );
        self.each_message(|labels, total| push_histogram(&mut messages, labels, total));
        let mut stages = family(
            STAGE_SECONDS,
            "Time that messages (or connections: accept, handshake) spend in each stage. \
             A batch's value counts once for each of its messages; decode is a sample.",
            MetricType::HISTOGRAM,
        );
        self.each_stage(|labels, total| push_histogram(&mut stages, labels, total));
        let mut lag = family(
            "weir_loop_lag_seconds",
            "How late the worker's probe timer ran: what an event waits for its loop.",
            MetricType::HISTOGRAM,
        );
        let mut turn = family(
            "weir_loop_turn_seconds",
            "Time of one turn of the worker's loop that had something to do.",
            MetricType::HISTOGRAM,
        );
        for (index, worker) in self.workers.iter().enumerate() {
            let label = index.to_string();
            push_histogram(&mut lag, &[("worker", &label)], &worker.lag.total());
            push_histogram(&mut turn, &[("worker", &label)], &worker.turn.total());
        }
        vec![messages, stages, lag, turn]
    }

    /// Each series of the durations of messages. HTTP itself, which has no route, has none.
    fn each_message(&self, mut tell: impl FnMut(&[(&str, &str)], &HistogramTotal)) {
        for (index, site) in self.sites.iter().enumerate().filter(|(_, s)| !s.route.is_empty()) {
            let all = self.workers.iter().map(|worker| &worker.sites[index].durations);
            let labels = [("listener", &*site.listener), ("route", &*site.route)];
            tell(&labels, &HistogramTotal::of(all));
        }
    }

    fn each_stage(&self, mut tell: impl FnMut(&[(&str, &str)], &HistogramTotal)) {
        for stage in Stage::ALL {
            let workers = self.workers.iter().map(|worker| &worker.stages[stage as usize]);
            let all = workers.chain([&self.shared_stages[stage as usize]]);
            tell(&[("stage", stage.as_str())], &HistogramTotal::of(all));
        }
    }

    /// The exemplars of this catalogue: sampled messages and their stages.
    pub fn exemplars(&self) -> Vec<ExemplarRow> {
        let mut rows = Vec::new();
        self.each_message(|labels, total| {
            rows.extend(ExemplarRow::of(MESSAGE_SECONDS, labels, total));
        });
        self.each_stage(|labels, total| {
            rows.extend(ExemplarRow::of(STAGE_SECONDS, labels, total));
        });
        rows
    }
}

/// The catalogue as something a registry takes. It describes itself by its first family only: the
/// others are fixed here too, and their label values come from the config.
pub struct CoreCollector {
    metrics: Arc<CoreMetrics>,
    desc: Desc,
}

impl CoreCollector {
    /// A collector of `metrics`.
    ///
    /// # Errors
    /// Never with the names of this file; the crate's constructor checks them.
    pub fn new(metrics: Arc<CoreMetrics>) -> prometheus::Result<Self> {
        let name = "weir_connections_limit".to_owned();
        let desc = Desc::new(name, "weir-core".to_owned(), Vec::new(), HashMap::new())?;
        Ok(Self { metrics, desc })
    }
}

impl Collector for CoreCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.metrics.families()
    }
}
