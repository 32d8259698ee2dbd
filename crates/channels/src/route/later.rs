//! What a session waits for, when the broker has to ask somebody else: each wait has a ticket, and what
//! is to be done with its result.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use weir_core::context::RequestId;
use weir_core::service::{Actions, Response, Ticket};

use super::publish::Publishing;
use super::session::RouteSession;
use super::subscribe::Beginning;
use crate::broker::{BrokerError, Published, Subscribed};

/// Where an answer is left.
pub(super) type Slot<T> = Arc<Mutex<Option<Result<T, BrokerError>>>>;

/// One wait.
pub(super) enum Wait {
    /// For a publication.
    Publish(Slot<Published>, Publishing),
    /// For the beginning of a subscription.
    Subscribe(Slot<Subscribed>, Beginning),
    /// For something that nobody is told.
    Quiet,
}

/// The waits of one session: as many as there may be asks of a connection (`limits.in_flight_max`).
#[derive(Default)]
pub(super) struct Waits {
    last: u64,
    waits: Vec<(Ticket, Wait)>,
}

impl Waits {
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Wait> {
        let at = self.waits.iter().position(|(one, _)| *one == ticket)?;
        Some(self.waits.swap_remove(at).1)
    }

    /// Whether a subscription has not begun yet.
    pub(super) fn is_beginning(&self) -> bool {
        self.waits.iter().any(|(_, wait)| matches!(wait, Wait::Subscribe(..)))
    }

    /// The subscriptions that have not begun yet.
    pub(super) fn beginnings(self) -> impl Iterator<Item = Beginning> {
        self.waits.into_iter().filter_map(|(_, wait)| match wait {
            Wait::Subscribe(_, beginning) => Some(beginning),
            Wait::Publish(..) | Wait::Quiet => None,
        })
    }
}

impl RouteSession {
    /// Waits for something outside of the event loop, which ends by a deadline of its own.
    pub(super) fn later<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = Result<T, BrokerError>> + Send + 'static,
        wait: impl FnOnce(Slot<T>) -> Wait,
        actions: &mut Actions,
    ) {
        let slot = Slot::default();
        let filled = Arc::clone(&slot);
        let ask = async move {
            let value = future.await;
            *filled.lock() = Some(value);
            Ok(Response { status: 204, body: bytes::Bytes::new() })
        };
        let waits = self.waits.get_or_insert_default();
        waits.last += 1;
        let ticket = Ticket(waits.last);
        waits.waits.push((ticket, wait(slot)));
        actions.ask(ticket, Box::pin(ask));
    }

    /// A wait is over.
    pub(super) fn go_on(
        &mut self,
        wait: Wait,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        match wait {
            Wait::Publish(slot, publishing) => {
                self.published(taken(&slot), &publishing, request, actions);
            }
            Wait::Subscribe(slot, beginning) => {
                self.begun_later(beginning, taken(&slot), now, actions);
            }
            Wait::Quiet => {}
        }
    }
}

/// What was answered; nothing when the ask broke.
fn taken<T>(slot: &Slot<T>) -> Result<T, BrokerError> {
    slot.lock().take().unwrap_or(Err(BrokerError::Silent))
}
