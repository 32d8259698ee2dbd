//! The ends of a connection's sampled messages: written, or given up. Makes no span, and reads no
//! clock for a message that is not sampled.

use std::sync::Arc;
use std::time::Instant;

use crate::clock;
use crate::close::CloseReason;
use crate::connection::{Connection, Lent};
use crate::context::RequestId;
use crate::metrics::Exemplar;
use crate::stage::Stage;
use crate::trace::{About, Trace, What};
use crate::transport::Transport;

impl<S: Transport> Connection<S> {
    /// The replies of these messages were written, beginning at `begun`.
    #[cold]
    pub(super) fn trace_written(&self, traces: Vec<Arc<Trace>>, begun: Instant, lent: &Lent<'_>) {
        let now = clock::now();
        for trace in traces {
            trace.written(begun, now);
            self.trace_ends(&trace, now, lent);
        }
    }

    /// Ends the traces of messages whose replies will not be written, for `reason`.
    pub(crate) fn abandon_traces(&mut self, reason: CloseReason, lent: &Lent<'_>) {
        let owed = self.replies.as_mut().map(|replies| replies.take_traces()).unwrap_or_default();
        let waiting = self.outbox.as_mut().map(|outbox| outbox.take_traces(usize::MAX));
        for trace in owed.into_iter().chain(waiting.unwrap_or_default()) {
            trace.fail(reason.as_str());
            self.trace_ends(&trace, lent.now, lent);
        }
    }

    /// Hands a trace over, and shows it at the histograms it counts in.
    pub(super) fn trace_ends(&self, trace: &Trace, now: Instant, lent: &Lent<'_>) {
        let stages = trace.stages();
        let about = || {
            let (seq, bytes) = trace.message();
            About {
                listener: lent.site.listener.clone(),
                route: lent.site.service.route().to_owned(),
                conn: self.id,
                peer: self.peer.into(),
                request: RequestId::Message { conn: self.id, seq },
                handshake: lent.handshakes.get(&self.id).cloned(),
                what: What::Message { carrier: lent.site.carrier(), bytes },
            }
        };
        let Some(exemplar) = lent.sampler.tracing().finish(trace, now, about) else { return };
        if !lent.watch.is_on() {
            return;
        }
        // Nobody else times it.
        for (stage, value) in stages.iter().filter(|(stage, _)| *stage == Stage::Publish) {
            lent.worker.stages[*stage as usize].observe(*value, 1);
        }
        lent.cells.durations.show(exemplar);
        for (stage, value) in stages {
            lent.worker.stages[stage as usize].show(Exemplar { value, ..exemplar });
        }
    }
}
