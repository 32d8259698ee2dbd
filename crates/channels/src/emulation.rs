//! The way from client to server beside a stream of HTTP: a POST brings commands for the session of
//! another connection, which any worker may have (protocol, section 1.13). Looks into no command.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use weir_core::context::RequestId;
use weir_core::service::{
    Actions, Answer, AskError, Message, MessageKind, Response, Session, Ticket,
};

use crate::hub::Uid;
use crate::hub::orders::{ForClient, Order, Who};
use crate::protocol::Encoding;
use crate::protocol::emulation::EmulationRequest;
use crate::shared::Shared;

/// How long the workers may take to say whether one of them has the session.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Each request has one ask.
const TICKET: Ticket = Ticket(0);
const TAKEN: u16 = 204;
const UNKNOWN: u16 = 404;

/// The session of one POST.
pub(crate) struct Emulation {
    shared: Arc<Shared>,
    encoding: Encoding,
}

impl Emulation {
    /// For a request whose body is in this encoding.
    pub(crate) fn new(shared: Arc<Shared>, encoding: Encoding) -> Self {
        Self { shared, encoding }
    }
}

impl Session for Emulation {
    fn on_message(
        &mut self,
        message: Message<'_>,
        _request: &RequestId,
        _now: Instant,
        actions: &mut Actions,
    ) {
        let request = match EmulationRequest::decode(self.encoding, message.payload) {
            Ok(request) => request,
            Err(error) => return refuse(400, &error.to_string(), actions),
        };
        let client = match request.node == self.shared.node() {
            true => self.shared.client_of(&request.session),
            false => None,
        };
        let Some(client) = client else { return unknown(actions) };
        let delivery = deliver(Arc::clone(&self.shared), client, (*request.data).into());
        let delivery = tokio::time::timeout(DELIVERY_TIMEOUT, delivery);
        actions.ask(
            TICKET,
            Box::pin(async {
                let status = delivery.await.map_err(|_| AskError::Timeout)?;
                Ok(Response { status, body: Bytes::new() })
            }),
        );
    }

    fn on_answer(
        &mut self,
        _ticket: Ticket,
        answer: Answer,
        _request: &RequestId,
        _now: Instant,
        actions: &mut Actions,
    ) {
        match answer {
            // Nothing to say is 204.
            Ok(response) if response.status == TAKEN => {}
            Ok(_) => unknown(actions),
            Err(error) => refuse(503, &error.to_string(), actions),
        }
    }
}

/// Gives the commands to the session, wherever it is.
async fn deliver(shared: Arc<Shared>, client: Uid, data: Arc<[u8]>) -> u16 {
    let answers = Mutex::new(Vec::new());
    let order = || {
        let (reply, answer) = oneshot::channel();
        answers.lock().push(answer);
        let who = Who { user: "".into(), client: Some(client) };
        Order::Clients { who, what: ForClient::Commands(Arc::clone(&data)), reply }
    };
    shared.order(order).await;
    for answer in answers.into_inner() {
        if let Ok(1..) = answer.await {
            return TAKEN;
        }
    }
    UNKNOWN
}

/// It is not said which of them is unknown: who guesses learns nothing.
fn unknown(actions: &mut Actions) {
    refuse(UNKNOWN, "no such session on this node", actions);
}

fn refuse(status: u16, text: &str, actions: &mut Actions) {
    let body = serde_json::json!({ "error": text }).to_string();
    actions.reply_with_status(status, MessageKind::Text, &[body.as_bytes(), b"\n"]);
}
