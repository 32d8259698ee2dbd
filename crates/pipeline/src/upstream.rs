//! The upstream route: a message becomes an HTTP request, the answer becomes the reply.
//!
//! What the peer is told of a status or a failure is decided here, by the carrier alone.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use weir_core::context::RequestId;
use weir_core::metrics::CoreMetrics;
use weir_core::service::{
    Actions, Answer, AskError, Carrier, Message, MessageKind, Opening, Response, Service, Session,
    Ticket,
};
use weir_core::stage::Stage;
use weir_core::trace::{CallTrace, TraceContext};
use weir_upstream::{CallTerms, CallTimings, Upstream, UpstreamRequest};

use crate::caller::Caller;

/// Sends each message to an upstream and replies with what it answers.
pub struct UpstreamRoute {
    route: String,
    plan: PlanSlot,
    forward_headers: Vec<HeaderName>,
}

/// The plan of one route as it is now, shared by its sessions: the next message of an open
/// connection goes by the plan of that moment.
type PlanSlot = Arc<ArcSwap<Plan>>;

/// The plans of upstream routes by the routes' names, kept over reloads.
#[derive(Default)]
pub struct Plans(Mutex<HashMap<String, PlanSlot>>);

/// A plan that is made and not yet in force.
pub(crate) struct NextPlan {
    slot: PlanSlot,
    plan: Arc<Plan>,
}

impl NextPlan {
    /// Puts it in force, for open connections too.
    pub(crate) fn commit(self) {
        self.slot.store(self.plan);
    }
}

/// What is the same in every request of a route.
#[derive(Clone, Debug)]
pub struct RequestForm {
    /// The method.
    pub method: Method,
    /// The path and query, as they are sent.
    pub path_and_query: PathAndQuery,
    /// The content type of every message; `None` sends none.
    pub content_type: Option<HeaderValue>,
    /// The headers of a client's handshake or request that are passed on.
    pub forward_headers: Vec<HeaderName>,
}

/// Where the stages of calls are counted: nowhere until [`StageMetrics::attach`]. Routes are made
/// before the engine that has the metrics. Clones are the same place.
#[derive(Clone, Default)]
pub struct StageMetrics(Arc<OnceLock<Arc<CoreMetrics>>>);

impl StageMetrics {
    /// Counts in these metrics from now on. The first call stands.
    pub fn attach(&self, metrics: Arc<CoreMetrics>) {
        self.0.get_or_init(|| metrics);
    }

    /// Counts the stages of one call.
    pub fn count(&self, timings: CallTimings) {
        if let Some(metrics) = self.0.get() {
            metrics.stage(Stage::PoolWait, timings.pool_wait);
            metrics.stage(Stage::Upstream, timings.upstream);
        }
    }
}

struct Plan {
    upstream: Arc<Upstream>,
    form: RequestForm,
    stages: StageMetrics,
}

impl UpstreamRoute {
    /// A route that sends requests of this form. When `plans` knows a route of this name, the
    /// form is in force once the plan that comes with it is committed.
    pub(crate) fn new(
        route: &str,
        upstream: Arc<Upstream>,
        form: RequestForm,
        stages: StageMetrics,
        plans: &Plans,
    ) -> (Self, NextPlan) {
        let forward_headers = form.forward_headers.clone();
        let plan = Arc::new(Plan { upstream, form, stages });
        let mut slots = plans.0.lock();
        let slot = slots
            .entry(route.to_owned())
            .or_insert_with(|| Arc::new(ArcSwap::new(Arc::clone(&plan))));
        let slot = Arc::clone(slot);
        let route = route.to_owned();
        (Self { route, plan: Arc::clone(&slot), forward_headers }, NextPlan { slot, plan })
    }
}

impl Service for UpstreamRoute {
    fn route(&self) -> &str {
        &self.route
    }

    fn headers(&self) -> &[HeaderName] {
        &self.forward_headers
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        let (plan, carrier) = (Arc::clone(&self.plan), opening.carrier);
        let caller = Caller::of(opening, self.headers());
        Box::new(UpstreamSession { plan, carrier, caller, asked: 0 })
    }
}

impl Plan {
    fn request(
        &self,
        caller: &Caller,
        message: &[u8],
        request: &RequestId,
        context: Option<TraceContext>,
    ) -> UpstreamRequest {
        let mut headers = caller.headers();
        if let Some(context) = context {
            context.write_to(&mut headers);
        }
        UpstreamRequest {
            method: self.form.method.clone(),
            path_and_query: self.form.path_and_query.clone(),
            content_type: self.form.content_type.clone(),
            headers,
            body: Bytes::copy_from_slice(message),
            request_id: request.clone(),
            terms: CallTerms::default(),
        }
    }

    async fn call(self: Arc<Self>, request: UpstreamRequest, trace: Option<CallTrace>) -> Answer {
        let response = self.upstream.call_traced(request, trace).await?;
        self.stages.count(response.timings);
        Ok(Response::from(response))
    }
}

struct UpstreamSession {
    plan: PlanSlot,
    carrier: Carrier,
    caller: Caller,
    /// Messages so far.
    asked: u64,
}

impl Session for UpstreamSession {
    fn on_message(
        &mut self,
        message: Message<'_>,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        self.asked += 1;
        let plan = self.plan.load_full();
        let trace = actions.trace(now).map(|trace| trace.call());
        let context = trace.as_ref().and_then(CallTrace::context);
        let request = plan.request(&self.caller, message.payload, request, context);
        let call = plan.call(request, trace);
        actions.ask(ticket(self.asked, message.kind), Box::pin(call));
    }

    fn on_answer(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        request: &RequestId,
        _now: Instant,
        actions: &mut Actions,
    ) {
        let kind = kind_of(ticket);
        match self.carrier {
            Carrier::Http => reply_http(answer, request, actions),
            Carrier::Lines | Carrier::Sse | Carrier::HttpStream => {
                reply(answer.map(without_line_end), kind, request, actions);
            }
            Carrier::Length | Carrier::WebSocket => reply(answer, kind, request, actions),
        }
    }
}

/// A ticket says which message it is for, and in its lowest bit whether that was text: so an
/// answer finds its kind without a map of what is on the way.
fn ticket(number: u64, kind: MessageKind) -> Ticket {
    let text = match kind {
        MessageKind::Text => 1,
        MessageKind::Binary => 0,
    };
    Ticket(number << 1 | text)
}

fn kind_of(ticket: Ticket) -> MessageKind {
    if ticket.0 & 1 == 1 { MessageKind::Text } else { MessageKind::Binary }
}

/// A body that is one line is that line, however the upstream ends it.
fn without_line_end(mut response: Response) -> Response {
    if response.body.ends_with(b"\n") {
        response.body.truncate(response.body.len() - 1);
        if response.body.ends_with(b"\r") {
            response.body.truncate(response.body.len() - 1);
        }
    }
    response
}

/// On a wire of messages: the body of a 2xx, or an error that names the request. Text is answered
/// with text, bytes with bytes.
fn reply(answer: Answer, kind: MessageKind, request: &RequestId, actions: &mut Actions) {
    let fault = match &answer {
        Ok(Response { status, .. }) if !(200..300).contains(status) => {
            format!("upstream answered {status}")
        }
        Ok(Response { body, .. }) if kind == MessageKind::Text && !is_text(body) => {
            "upstream answered bytes that are not text".to_owned()
        }
        Ok(Response { body, .. }) => return actions.reply(kind, &[body]),
        Err(error) => error.to_string(),
    };
    let text = format!("error: {fault} (request_id={request})");
    actions.reply(kind, &[text.as_bytes()]);
}

/// On HTTP: the upstream's status and body as they are, or a gateway's error in JSON.
fn reply_http(answer: Answer, request: &RequestId, actions: &mut Actions) {
    match answer {
        Ok(Response { status, body }) => {
            let kind = if is_text(&body) { MessageKind::Text } else { MessageKind::Binary };
            actions.reply_with_status(status, kind, &[&body]);
        }
        Err(error) => {
            // Neither the fixed texts nor the letters of a request id need escapes in JSON.
            let mut json = String::new();
            write!(json, r#"{{"error":"{error}","request_id":"{request}"}}"#)
                .expect("writing to a string does not fail");
            let status = gateway_status(error);
            actions.reply_with_status(status, MessageKind::Text, &[json.as_bytes()]);
        }
    }
}

/// RFC 9110, section 15.6: 502 for a bad answer, 503 for none now, 504 for none in time.
fn gateway_status(error: AskError) -> u16 {
    match error {
        AskError::Timeout => 504,
        AskError::Overloaded | AskError::Unavailable => 503,
        AskError::ResponseTooBig | AskError::Failed => 502,
    }
}

fn is_text(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok()
}

#[cfg(test)]
mod tests {
    use weir_upstream::UpstreamOptions;

    use super::*;
    use crate::recorder::{Recorded, Recorder};

    /// A session whose upstream is never called: asks are recorded and not begun.
    fn upstream(carrier: Carrier) -> Recorder {
        let options = UpstreamOptions {
            targets: vec!["http://127.0.0.1:9".to_owned()],
            ..UpstreamOptions::default()
        };
        let upstream = crate::route::tests::upstream(options);
        let form = RequestForm {
            method: Method::POST,
            path_and_query: PathAndQuery::from_static("/orders"),
            content_type: None,
            forward_headers: Vec::new(),
        };
        let (stages, plans) = (StageMetrics::default(), Plans::default());
        let (route, _) = UpstreamRoute::new("orders", upstream, form, stages, &plans);
        Recorder::open(&route, carrier)
    }

    fn response(status: u16, body: &'static [u8]) -> Answer {
        Ok(Response { status, body: Bytes::from_static(body) })
    }

    /// What `answer` to a first message of this kind becomes.
    fn check(carrier: Carrier, kind: MessageKind, answer: Answer, expected: &Recorded) {
        let mut session = upstream(carrier);
        let asked = match kind {
            MessageKind::Text => session.text("an order"),
            MessageKind::Binary => session.bytes(b"an order"),
        };
        let [Recorded::Ask(ticket)] = asked[..] else { panic!("no ask but {asked:?}") };
        assert_eq!(session.answer(ticket, answer, 1), std::slice::from_ref(expected));
    }

    const MESSAGES: [Carrier; 3] = [Carrier::Lines, Carrier::Length, Carrier::WebSocket];

    #[test]
    fn every_message_is_an_ask_of_its_own() {
        let mut session = upstream(Carrier::WebSocket);
        let asked = [session.text("one"), session.bytes(b"two"), session.text("one")].concat();
        let tickets: std::collections::HashSet<_> =
            session.asks.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!((asked.len(), tickets.len()), (3, 3));
    }

    #[test]
    fn the_body_of_a_2xx_is_the_reply() {
        for carrier in MESSAGES {
            check(carrier, MessageKind::Text, response(200, b"done"), &Recorded::text("done"));
            check(carrier, MessageKind::Text, response(204, b""), &Recorded::text(""));
            let bytes = Recorded::bytes(&[0xff]);
            check(carrier, MessageKind::Binary, response(201, &[0xff]), &bytes);
        }
    }

    #[test]
    fn a_body_that_ends_a_line_is_that_line_on_a_line_wire() {
        let cases: [(&'static [u8], &str); 5] =
            [(b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b"\n", ""), (b"a\r", "a\r")];
        for (body, line) in cases {
            check(Carrier::Lines, MessageKind::Text, response(200, body), &Recorded::text(line));
        }
        let kept = Recorded::text("a\n");
        check(Carrier::WebSocket, MessageKind::Text, response(200, b"a\n"), &kept);
    }

    #[test]
    fn another_status_is_an_error_that_names_the_request() {
        let text = "error: upstream answered 503 (request_id=000000000000002a-1)";
        for carrier in MESSAGES {
            let answer = response(503, b"internal details");
            check(carrier, MessageKind::Text, answer.clone(), &Recorded::text(text));
            check(carrier, MessageKind::Binary, answer, &Recorded::bytes(text.as_bytes()));
        }
    }

    #[test]
    fn a_failure_is_an_error_that_names_the_request() {
        let text = "error: upstream timed out (request_id=000000000000002a-1)";
        for carrier in MESSAGES {
            let answer = Err(AskError::Timeout);
            check(carrier, MessageKind::Text, answer, &Recorded::text(text));
        }
    }

    #[test]
    fn a_body_that_is_not_text_never_answers_text() {
        let text = "error: upstream answered bytes that are not text \
                    (request_id=000000000000002a-1)";
        for carrier in MESSAGES {
            let answer = response(200, &[0xff]);
            check(carrier, MessageKind::Text, answer, &Recorded::text(text));
        }
    }

    #[test]
    fn http_passes_status_and_body_through() {
        let (text, binary) = (MessageKind::Text, MessageKind::Binary);
        let expected = Recorded::reply(404, text, b"no such order\n");
        check(Carrier::Http, binary, response(404, b"no such order\n"), &expected);
        let expected = Recorded::reply(200, binary, &[0xff]);
        check(Carrier::Http, text, response(200, &[0xff]), &expected);
    }

    #[test]
    fn http_is_told_of_failures_by_a_gateways_status() {
        let cases = [
            (AskError::Timeout, 504, "upstream timed out"),
            (AskError::Overloaded, 503, "upstream overloaded"),
            (AskError::Unavailable, 503, "upstream unavailable"),
            (AskError::ResponseTooBig, 502, "upstream response over upstream.response_bytes_max"),
            (AskError::Failed, 502, "upstream failed"),
        ];
        for (error, status, text) in cases {
            let json = format!(r#"{{"error":"{text}","request_id":"000000000000002a-1"}}"#);
            let expected = Recorded::reply(status, MessageKind::Text, json.as_bytes());
            check(Carrier::Http, MessageKind::Text, Err(error), &expected);
        }
    }
}
