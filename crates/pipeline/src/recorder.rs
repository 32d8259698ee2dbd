//! For tests: one session with its actions taken down as values. Time is what the test says.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_core::clock;
use weir_core::close::CloseReason;
use weir_core::context::{ConnId, RequestId};
use weir_core::service::{
    Action, Actions, Answer, AskFuture, Carrier, Message, MessageKind, Opening, Service, Session,
    Ticket,
};

/// What a session wanted, without ranges and futures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    Reply { status: u16, kind: MessageKind, payload: Bytes },
    Ask(Ticket),
    Push(MessageKind, Bytes),
    Close(CloseReason),
}

impl Recorded {
    pub(crate) fn text(text: &str) -> Self {
        Self::reply(200, MessageKind::Text, text.as_bytes())
    }

    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::reply(200, MessageKind::Binary, bytes)
    }

    pub(crate) fn reply(status: u16, kind: MessageKind, payload: &[u8]) -> Self {
        Self::Reply { status, kind, payload: Bytes::copy_from_slice(payload) }
    }
}

/// One session of connection 42, peer 127.0.0.1:4242, listener `main`.
pub(crate) struct Recorder {
    session: Box<dyn Session>,
    conn: ConnId,
    seq: u64,
    now: Instant,
    actions: Actions,
    /// The asks so far, not begun.
    pub(crate) asks: Vec<(Ticket, AskFuture)>,
}

impl Recorder {
    pub(crate) fn open(service: &dyn Service, carrier: Carrier) -> Self {
        let conn = ConnId::from_raw(42);
        let session = service.open(&Opening {
            conn,
            peer: SocketAddr::from(([127, 0, 0, 1], 4242)),
            listener: "main",
            carrier,
            wire: None,
            request_id: &RequestId::Message { conn, seq: 0 },
            tls: None,
            principal: None,
            path: None,
            headers: None,
            query: None,
        });
        let (now, actions) = (clock::now(), Actions::default());
        Self { session, conn, seq: 0, now, actions, asks: Vec::new() }
    }

    pub(crate) fn text(&mut self, text: &str) -> Vec<Recorded> {
        self.next(Message { payload: text.as_bytes(), kind: MessageKind::Text })
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Vec<Recorded> {
        self.next(Message { payload: bytes, kind: MessageKind::Binary })
    }

    fn next(&mut self, message: Message<'_>) -> Vec<Recorded> {
        self.seq += 1;
        let request = RequestId::Message { conn: self.conn, seq: self.seq };
        self.message(message, &request)
    }

    pub(crate) fn message(&mut self, message: Message<'_>, request: &RequestId) -> Vec<Recorded> {
        self.now += Duration::from_millis(1);
        self.session.on_message(message, request, self.now, &mut self.actions);
        self.record()
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer, seq: u64) -> Vec<Recorded> {
        self.now += Duration::from_millis(1);
        let request = RequestId::Message { conn: self.conn, seq };
        self.session.on_answer(ticket, answer, &request, self.now, &mut self.actions);
        self.record()
    }

    fn record(&mut self) -> Vec<Recorded> {
        let (bytes, mut list) = self.actions.take();
        let mut recorded = Vec::new();
        for action in list.drain(..) {
            recorded.push(match action {
                Action::Reply { status, payload, kind } => {
                    Recorded::reply(status, kind, &bytes[payload])
                }
                Action::Ask(ticket, future) => {
                    self.asks.push((ticket, future));
                    Recorded::Ask(ticket)
                }
                Action::Push(payload, kind) => Recorded::Push(kind, payload),
                Action::Close(reason) => Recorded::Close(reason),
                Action::CloseAt(_) | Action::Hold(_) | Action::WakeAt(_) | Action::AwaitRoom => {
                    continue;
                }
            });
        }
        self.actions.restore(bytes, list);
        recorded
    }
}
