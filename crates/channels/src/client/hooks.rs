//! What a session has its backend say: how it asks, and what becomes of what the backend declines.
//! A hook that is slow keeps nothing waiting but the channel that it is about.

use std::time::Duration;

use weir_core::context::RequestId;
use weir_core::service::Carrier;

use super::{Client, Turn};
use crate::hooks::answer::{Declined, Granted, RpcAnswer};
use crate::hooks::request::{Asked, Who, body};
use crate::hooks::{Hook, Question};
use crate::protocol::codes::ErrorCode;
use crate::protocol::command::RpcRequest;
use crate::protocol::reply::{self, Body, RpcResult};
use crate::protocol::{Payload, Reply};

/// How much later a client of a stream is told that its connect has failed: the SDK for JavaScript
/// tries again without a pause of its own (protocol, section 1.13).
const STREAM_FAILURE_DELAY: Duration = Duration::from_secs(1);

impl Client {
    /// Whether the backend is asked that.
    pub(super) fn has_hook(&self, hook: Hook) -> bool {
        self.shared.policy.load().hooks.as_ref().is_some_and(|hooks| hooks.has(hook))
    }

    /// Asks the backend, and goes on with what it says. False when the connection has as many calls
    /// waiting as it may.
    pub(super) fn ask_backend<T: Granted>(
        &mut self,
        hook: Hook,
        asked: &Asked<'_>,
        then: impl FnOnce(&mut Self, Result<T, Declined>, &mut Turn<'_>) + Send + 'static,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(hooks) = self.policy().hooks.clone() else { return false };
        let waiting = self.waits.as_ref().map_or(0, |waits| waits.hooks);
        if waiting >= hooks.options().calls_max {
            hooks.refused(hook);
            return false;
        }
        let question = self.question(hook, asked, hooks.options().binary_encoding, turn);
        let in_stream = matches!(self.carrier, Carrier::Sse | Carrier::HttpStream);
        let call = async move {
            let (answer, fault) = hooks.ask::<T>(hook, question).await;
            if fault.is_some() && in_stream && hook == Hook::Connect {
                tokio::time::sleep(STREAM_FAILURE_DELAY).await;
            }
            (answer, fault)
        };
        let then = move |client: &mut Self, answer: Option<_>, turn: &mut Turn<'_>| {
            if let Some(waits) = &mut client.waits {
                waits.hooks -= 1;
            }
            then(client, answer.unwrap_or(Err(Declined::Failed)), turn);
        };
        let begun = self.wait_for(call, then, turn);
        if begun {
            self.waits.get_or_insert_default().hooks += 1;
        }
        begun
    }

    fn question(
        &self,
        hook: Hook,
        asked: &Asked<'_>,
        binary: bool,
        turn: &mut Turn<'_>,
    ) -> Question {
        let client = self.uid().to_string();
        let caller = self.caller.as_ref();
        let who = Who {
            client: &client,
            carrier: self.carrier,
            encoding: self.encoding,
            user: Some(&*self.user).filter(|user| hook != Hook::Connect || !user.is_empty()),
            meta: caller.and_then(|caller| caller.meta.as_deref()),
        };
        // What no message has caused is of the connection alone, and no part of a message's trace.
        let trace = turn.request.and_then(|_| turn.actions.trace(turn.now));
        let own = || RequestId::Message { conn: self.conn, seq: 0 };
        Question {
            headers: caller.map(|caller| caller.headers()).unwrap_or_default(),
            body: body(&who, asked, binary),
            request: turn.request.cloned().unwrap_or_else(own),
            trace: trace.map(|trace| trace.call()),
        }
    }

    /// Tells the client what the backend does not want.
    pub(super) fn decline(&mut self, id: u32, declined: Declined, turn: &mut Turn<'_>) {
        match declined {
            Declined::Failed => self.fail(id, ErrorCode::Internal, turn),
            Declined::Disconnect(code, reason) => self.end_by_backend(code, reason, turn),
            Declined::Error(error) => {
                self.shared.metrics.custom_error();
                let temporary = error.temporary;
                // The SDK for Python fails of a message that is not there.
                let message = match error.message {
                    message if message.is_empty() => "error".into(),
                    message => message.into(),
                };
                self.fail_with(id, reply::Error { code: error.code, message, temporary }, turn);
            }
        }
    }

    /// Ends the connection as the backend says.
    pub(super) fn end_by_backend(&mut self, code: u16, reason: String, turn: &mut Turn<'_>) {
        if self.farewell.is_none() {
            self.shared.metrics.disconnect(None);
        }
        self.end_with(code, reason.into(), turn);
    }

    pub(super) fn rpc(&mut self, id: u32, request: &RpcRequest<'_>, turn: &mut Turn<'_>) {
        if !self.has_hook(Hook::Rpc) {
            return self.fail(id, ErrorCode::NotAvailable, turn);
        }
        let asked = Asked { method: Some(&request.method), data: request.data, ..Asked::default() };
        let then = move |client: &mut Self, answer: Result<RpcAnswer, _>, turn: &mut Turn<'_>| {
            match answer {
                Ok(answer) => {
                    let body = Body::Rpc(RpcResult { data: Payload::new(&answer.data) });
                    client.reply(&Reply { id, body }, turn);
                }
                Err(declined) => client.decline(id, declined, turn),
            }
        };
        if !self.ask_backend(Hook::Rpc, &asked, then, turn) {
            self.fail(id, ErrorCode::TooManyRequests, turn);
        }
    }
}
