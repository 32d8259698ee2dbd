//! The world's own service: it does what each [`Order`] says, so that replies at once, replies
//! after a while, failures and silence mix on one connection.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_core::close::CloseReason;
use weir_core::context::RequestId;
use weir_core::service::{
    Actions, Answer, AskError, AskFuture, Message, MessageKind, Opening, Response, Service,
    Session, Ticket,
};

use crate::ledger::{AskGuard, Ledger, client_at};
use crate::order::{FAILED, Order};
use crate::time::SimClock;

/// Does what each message says.
pub struct Orders {
    /// What its asks wait by.
    pub clock: SimClock,
    /// Where its asks are counted.
    pub ledger: Ledger,
}

impl Service for Orders {
    fn route(&self) -> &'static str {
        "orders"
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        let (clock, ledger) = (self.clock.clone(), self.ledger.clone());
        let client = client_at(opening.peer);
        Box::new(OrderSession { clock, ledger, client, asked: 0, kinds: HashMap::new() })
    }
}

struct OrderSession {
    clock: SimClock,
    ledger: Ledger,
    client: usize,
    asked: u64,
    kinds: HashMap<Ticket, MessageKind>,
}

impl OrderSession {
    fn ask(&mut self, message: Message<'_>, end: Option<(Duration, bool)>, actions: &mut Actions) {
        self.asked += 1;
        let ticket = Ticket(self.asked);
        self.kinds.insert(ticket, message.kind);
        let guard = AskGuard::new(&self.ledger, self.client);
        let (clock, body) = (self.clock.clone(), Bytes::copy_from_slice(message.payload));
        let future: AskFuture = Box::pin(async move {
            let _guard = guard;
            let Some((after, good)) = end else { return std::future::pending().await };
            clock.sleep(after).await;
            if good { Ok(Response { status: 200, body }) } else { Err(AskError::Failed) }
        });
        actions.ask(ticket, future);
    }
}

impl Session for OrderSession {
    fn on_message(
        &mut self,
        message: Message<'_>,
        _request: &RequestId,
        _now: Instant,
        actions: &mut Actions,
    ) {
        match Order::of(message.payload).expect("clients send orders") {
            Order::Echo => actions.reply(message.kind, &[message.payload]),
            Order::Ask(after) => self.ask(message, Some((after, true)), actions),
            Order::Fail(after) => self.ask(message, Some((after, false)), actions),
            Order::Never => self.ask(message, None, actions),
            Order::Quiet => {}
            Order::Exit => actions.close(CloseReason::Exit),
        }
    }

    fn on_answer(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        _request: &RequestId,
        _now: Instant,
        actions: &mut Actions,
    ) {
        let kind = self.kinds.remove(&ticket).expect("each ask is answered once");
        match answer {
            Ok(response) => actions.reply(kind, &[&response.body]),
            Err(_) => actions.reply(MessageKind::Text, &[FAILED]),
        }
    }
}
