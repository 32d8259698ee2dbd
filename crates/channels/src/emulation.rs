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
        if request.node != self.shared.node() {
            return refuse(404, "no such node", actions);
        }
        // Whose session has ended here is told so by the end of its stream: a client that heard it from
        // this answer first would never read why. To one that never was nothing is said either.
        let Some(client) = self.shared.client_of(&request.session) else { return };
        let (frame, trace) = ((*request.data).into(), actions.sampled().cloned());
        let commands = ForClient::Commands { frame, trace };
        let delivery = deliver(Arc::clone(&self.shared), client, commands);
        let delivery = tokio::time::timeout(DELIVERY_TIMEOUT, delivery);
        actions.ask(
            TICKET,
            Box::pin(async {
                delivery.await.map_err(|_| AskError::Timeout)?;
                Ok(Response { status: 204, body: Bytes::new() })
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
        // Nothing to say is 204.
        if answer.is_err() {
            refuse(503, "too busy to take commands", actions);
        }
    }
}

/// Gives the commands to the session, wherever it is, and waits until every worker has looked: what
/// the client sends next is to come behind them.
async fn deliver(shared: Arc<Shared>, client: Uid, commands: ForClient) {
    let answers = Mutex::new(Vec::new());
    let order = || {
        let (reply, answer) = oneshot::channel();
        answers.lock().push(answer);
        let who = Who { user: "".into(), client: Some(client) };
        Order::Clients { who, what: commands.clone(), reply }
    };
    shared.order(order).await;
    for answer in answers.into_inner() {
        if let Ok(1..) = answer.await {
            return;
        }
    }
}

fn refuse(status: u16, text: &str, actions: &mut Actions) {
    let body = serde_json::json!({ "error": text }).to_string();
    actions.reply_with_status(status, MessageKind::Text, &[body.as_bytes(), b"\n"]);
}
