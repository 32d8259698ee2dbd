//! Replies that are owed, in the order of the requests, whatever finished first.

use std::collections::VecDeque;

use crate::service::Ticket;
use crate::worker::asks::AskGuard;

/// One message's place in the order.
enum Slot {
    /// Its answer is on the way; dropping the guard cancels it.
    Pending { ticket: Ticket, seq: u64, _guard: AskGuard },
    /// Encoded, and waiting for an earlier one. Empty when there is nothing to say.
    Ready { bytes: Vec<u8>, messages: u32 },
}

/// The slots of one connection. Exists only while an answer is pending.
#[derive(Default)]
pub(crate) struct Replies {
    slots: VecDeque<Slot>,
}

impl Replies {
    /// Slots that are taken; the caller bounds them by `limits.in_flight_max`.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// A message that waits for `ticket`.
    pub(crate) fn pending(&mut self, ticket: Ticket, seq: u64, guard: AskGuard) {
        self.slots.push_back(Slot::Pending { ticket, seq, _guard: guard });
    }

    /// A message that was answered at once, behind others that wait.
    pub(crate) fn ready(&mut self, bytes: Vec<u8>, messages: u32) {
        self.slots.push_back(Slot::Ready { bytes, messages });
    }

    /// The message that waits for `ticket`: its number on the connection.
    pub(crate) fn seq_of(&self, wanted: Ticket) -> Option<u64> {
        self.slots.iter().find_map(|slot| match slot {
            Slot::Pending { ticket, seq, .. } => (*ticket == wanted).then_some(*seq),
            Slot::Ready { .. } => None,
        })
    }

    /// Fills the slot that waits for `ticket`.
    pub(crate) fn fill(&mut self, ticket: Ticket, bytes: Vec<u8>, messages: u32) {
        self.replace(ticket, Slot::Ready { bytes, messages });
    }

    /// The answer to `ticket` led to another ask: its slot waits on.
    pub(crate) fn ask_again(&mut self, ticket: Ticket, next: Ticket, seq: u64, guard: AskGuard) {
        self.replace(ticket, Slot::Pending { ticket: next, seq, _guard: guard });
    }

    fn replace(&mut self, wanted: Ticket, with: Slot) {
        let place = self
            .slots
            .iter_mut()
            .find(|slot| matches!(slot, Slot::Pending { ticket, .. } if *ticket == wanted));
        if let Some(slot) = place {
            *slot = with;
        }
    }

    /// Appends the replies whose turn it is to `out`, while they fit into `room` bytes; the first
    /// fits whatever its size when `alone`. Returns how many messages.
    pub(crate) fn take_due(&mut self, out: &mut Vec<u8>, room: usize, alone: bool) -> u32 {
        let mut sent = 0;
        while let Some(Slot::Ready { bytes, messages }) = self.slots.front() {
            let fits = out.len() + bytes.len() <= room || (alone && out.is_empty());
            if !fits {
                break;
            }
            out.extend_from_slice(bytes);
            sent += messages;
            self.slots.pop_front();
        }
        sent
    }
}
