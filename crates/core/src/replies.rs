//! Replies that are owed, in the order of the requests, whatever finished first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::service::Ticket;
use crate::trace::Trace;
use crate::worker::asks::AskGuard;

/// One message's place in the order.
struct Slot {
    message: Waiting,
    state: State,
}

/// A message that waits for its reply to leave.
pub(crate) struct Waiting {
    /// The turn in which it was read.
    pub(crate) begun: Instant,
    pub(crate) trace: Option<Arc<Trace>>,
}

enum State {
    /// Its answer is on the way; dropping the guard cancels it.
    Pending { ticket: Ticket, seq: u64, _guard: AskGuard },
    /// Encoded, and waiting for an earlier one.
    Ready { bytes: Vec<u8>, messages: u32 },
}

/// The slots of one connection. Exists only while an answer is pending.
#[derive(Default)]
pub(crate) struct Replies {
    slots: VecDeque<Slot>,
    /// Messages whose slots were left empty: they have ended, and hold nobody up.
    empty: Vec<Waiting>,
}

impl Replies {
    /// Slots that are taken; the caller bounds them by `limits.in_flight_max`.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// A message that waits for `ticket`.
    pub(crate) fn pending(&mut self, ticket: Ticket, seq: u64, guard: AskGuard, message: Waiting) {
        let state = State::Pending { ticket, seq, _guard: guard };
        self.slots.push_back(Slot { message, state });
    }

    /// A message that was answered at once, behind others that wait.
    pub(crate) fn ready(&mut self, bytes: Vec<u8>, messages: u32, message: Waiting) {
        self.slots.push_back(Slot { message, state: State::Ready { bytes, messages } });
    }

    /// The message that waits for `ticket`: its number on the connection.
    pub(crate) fn seq_of(&self, wanted: Ticket) -> Option<u64> {
        self.slots.iter().find_map(|slot| match &slot.state {
            State::Pending { ticket, seq, .. } => (*ticket == wanted).then_some(*seq),
            State::Ready { .. } => None,
        })
    }

    /// The trace of the message that waits for `ticket`.
    pub(crate) fn trace_of(&self, wanted: Ticket) -> Option<&Arc<Trace>> {
        let slot = self.slots.iter().find(|slot| slot.waits_for(wanted))?;
        slot.message.trace.as_ref()
    }

    /// Takes out the traces of all messages: their replies will not leave.
    pub(crate) fn take_traces(&mut self) -> Vec<Arc<Trace>> {
        let empty = self.empty.iter_mut();
        let messages = self.slots.iter_mut().map(|slot| &mut slot.message).chain(empty);
        messages.filter_map(|message| message.trace.take()).collect()
    }

    /// The slot that waits for `ticket` has nothing to say: it is given up at once, so that one slow
    /// answer does not keep the slots of those behind it.
    pub(crate) fn leave_empty(&mut self, ticket: Ticket) {
        let Some(at) = self.slots.iter().position(|slot| slot.waits_for(ticket)) else { return };
        self.empty.extend(self.slots.remove(at).map(|slot| slot.message));
    }

    /// Fills the slot that waits for `ticket`.
    pub(crate) fn fill(&mut self, ticket: Ticket, bytes: Vec<u8>, messages: u32) {
        self.replace(ticket, State::Ready { bytes, messages });
    }

    /// The answer to `ticket` led to another ask: its slot waits on.
    pub(crate) fn ask_again(&mut self, ticket: Ticket, next: Ticket, seq: u64, guard: AskGuard) {
        self.replace(ticket, State::Pending { ticket: next, seq, _guard: guard });
    }

    fn replace(&mut self, wanted: Ticket, with: State) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.waits_for(wanted)) {
            slot.state = with;
        }
    }

    /// Appends the replies whose turn it is to `out`, while they fit into `room` bytes; the first
    /// fits whatever its size when `alone`. Gives `left` the messages that they answer, and returns
    /// how many replies they are.
    pub(crate) fn take_due(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        alone: bool,
        mut left: impl FnMut(Waiting),
    ) -> u32 {
        self.empty.drain(..).for_each(&mut left);
        let mut sent = 0;
        while let Some(Slot { state: State::Ready { bytes, messages }, .. }) = self.slots.front() {
            let fits = out.len() + bytes.len() <= room || (alone && out.is_empty());
            if !fits {
                break;
            }
            out.extend_from_slice(bytes);
            sent += messages;
            if let Some(slot) = self.slots.pop_front() {
                left(slot.message);
            }
        }
        sent
    }
}

impl Slot {
    fn waits_for(&self, wanted: Ticket) -> bool {
        matches!(self.state, State::Pending { ticket, .. } if ticket == wanted)
    }
}
