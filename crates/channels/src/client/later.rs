//! What a session waits for: each wait has a ticket, and what is to be done with its result.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use weir_core::service::{Response, Ticket};

use super::{Client, Turn};
use crate::broker::{Answer, BrokerError};
use crate::protocol::codes::ErrorCode;

/// Waits of one connection at a time; beyond it a command is answered with 111.
const WAITS_MAX: usize = 32;

/// What is done when a wait is over.
type Then = Box<dyn FnOnce(&mut Client, &mut Turn<'_>) + Send>;

/// The waits of one session.
#[derive(Default)]
pub(super) struct Waits {
    last: u64,
    waits: Vec<(Ticket, Then)>,
    /// Channels whose beginning the broker has not told yet.
    expected: Vec<Arc<str>>,
}

impl Waits {
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Then> {
        let at = self.waits.iter().position(|(one, _)| *one == ticket)?;
        Some(self.waits.swap_remove(at).1)
    }

    /// The broker will say where a subscription begins.
    pub(super) fn expect(&mut self, channel: &Arc<str>) {
        self.expected.push(Arc::clone(channel));
    }

    /// It has said so. False when nobody waited.
    pub(super) fn forget(&mut self, channel: &Arc<str>) -> bool {
        let at = self.expected.iter().position(|one| one == channel);
        at.map(|at| self.expected.swap_remove(at)).is_some()
    }

    /// The channels that are still waited for.
    pub(super) fn expected(self) -> Vec<Arc<str>> {
        self.expected
    }
}

impl Client {
    /// Waits for something outside of the event loop, which must end by its own deadline, and goes on
    /// with what came of it. The command `id` fails when nothing did.
    pub(super) fn later<T: Send + 'static>(
        &mut self,
        id: u32,
        future: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(&mut Self, T, &mut Turn<'_>) + Send + 'static,
        turn: &mut Turn<'_>,
    ) {
        let waits = self.waits.get_or_insert_default();
        if waits.waits.len() >= WAITS_MAX {
            return self.fail(id, ErrorCode::TooManyRequests, turn);
        }
        waits.last += 1;
        let ticket = Ticket(waits.last);
        let slot = Arc::new(Mutex::new(None));
        let filled = Arc::clone(&slot);
        let ask = async move {
            let value = future.await;
            *filled.lock() = Some(value);
            Ok(Response { status: 204, body: bytes::Bytes::new() })
        };
        let then = move |client: &mut Self, turn: &mut Turn<'_>| {
            let value = slot.lock().take();
            match value {
                Some(value) => then(client, value, turn),
                // It broke.
                None => client.fail(id, ErrorCode::Internal, turn),
            }
        };
        waits.waits.push((ticket, Box::new(then)));
        turn.actions.ask(ticket, Box::pin(ask));
    }

    /// Goes on with a broker's answer, now or later.
    pub(super) fn settle<T: Send + 'static>(
        &mut self,
        id: u32,
        answer: Answer<T>,
        then: impl FnOnce(&mut Self, Result<T, BrokerError>, &mut Turn<'_>) + Send + 'static,
        turn: &mut Turn<'_>,
    ) {
        match answer {
            Answer::Now(result) => then(self, result, turn),
            Answer::Later(future) => self.later(id, future, then, turn),
        }
    }
}

/// The code of what a broker would not do.
pub(super) fn code(error: BrokerError) -> ErrorCode {
    match error {
        BrokerError::Refused(_) => ErrorCode::LimitExceeded,
        BrokerError::WrongEpoch => ErrorCode::UnrecoverablePosition,
        BrokerError::Silent => ErrorCode::Internal,
    }
}
