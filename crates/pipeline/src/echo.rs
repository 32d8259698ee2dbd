//! The echo route: a reply to each message, made from a template, and an optional exit word.
//!
//! It allocates nothing for a message, and a connection holds one pointer of it.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use weir_core::close::CloseReason;
use weir_core::context::RequestId;
use weir_core::service::{Actions, Answer, Carrier, Message, Opening, Service, Session, Ticket};

use crate::template::Template;

/// Answers each message with its template filled in; text with text, bytes with bytes.
pub struct Echo {
    route: String,
    plan: Arc<Plan>,
    /// The plan without the exit word: an HTTP request is one message with one reply, and says
    /// with its own header whether the connection ends.
    http: Arc<Plan>,
}

#[derive(Clone)]
struct Plan {
    template: Template,
    exit: Option<Box<[u8]>>,
    /// Looked up once: formatting an id that nobody wants would cost more than the reply.
    names_request: bool,
}

impl Plan {
    fn new(template: Template, exit: Option<Box<[u8]>>) -> Arc<Self> {
        let names_request = template.names_request();
        Arc::new(Self { template, exit, names_request })
    }
}

impl Echo {
    /// An echo that replies with `template` and ends the connection at a message equal to `exit`,
    /// after the replies that it is owed. The exit word itself gets none.
    pub fn new(route: impl Into<String>, template: Template, exit: Option<String>) -> Self {
        let exit = exit.map(|word| word.into_bytes().into_boxed_slice());
        let http = Plan::new(template.clone(), None);
        Self { route: route.into(), plan: Plan::new(template, exit), http }
    }
}

impl Service for Echo {
    fn route(&self) -> &str {
        &self.route
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        let plan = match opening.carrier {
            Carrier::Lines
            | Carrier::Length
            | Carrier::WebSocket
            | Carrier::Sse
            | Carrier::HttpStream => &self.plan,
            Carrier::Http => &self.http,
        };
        let plan = if plan.template.names_connection() {
            Plan::new(plan.template.bind(opening.listener, opening.peer), plan.exit.clone())
        } else {
            Arc::clone(plan)
        };
        Box::new(EchoSession { plan })
    }
}

struct EchoSession {
    plan: Arc<Plan>,
}

impl Session for EchoSession {
    fn on_message(
        &mut self,
        message: Message<'_>,
        request: &RequestId,
        _now: Instant,
        actions: &mut Actions,
    ) {
        let Plan { template, exit, names_request } = &*self.plan;
        if exit.as_deref() == Some(message.payload) {
            actions.close(CloseReason::Exit);
            return;
        }
        let reply = |parts: &[&[u8]]| actions.reply(message.kind, parts);
        if *names_request {
            let mut buffer = [0; RequestId::GIVEN_BYTES_MAX];
            template.fill(message.payload, written(request, &mut buffer), reply);
        } else {
            template.fill(message.payload, &[], reply);
        }
    }

    /// Never told: an echo asks for nothing.
    fn on_answer(&mut self, _: Ticket, _: Answer, _: &RequestId, _: Instant, _: &mut Actions) {}
}

/// Formats an id on the stack: at most 128 bytes when given, 37 when ours.
fn written<'a>(request: &RequestId, buffer: &'a mut [u8; RequestId::GIVEN_BYTES_MAX]) -> &'a [u8] {
    let mut rest = &mut buffer[..];
    write!(rest, "{request}").expect("no request id is longer than GIVEN_BYTES_MAX");
    let left = rest.len();
    &buffer[..RequestId::GIVEN_BYTES_MAX - left]
}

#[cfg(test)]
mod tests {
    use weir_core::service::MessageKind;

    use super::*;
    use crate::recorder::{Recorded, Recorder};

    fn echo(template: &str, exit: Option<&str>, carrier: Carrier) -> Recorder {
        let template = Template::parse(template).expect("a good template");
        let service = Echo::new("echo", template, exit.map(str::to_owned));
        assert_eq!(service.route(), "echo");
        Recorder::open(&service, carrier)
    }

    #[test]
    fn text_is_answered_with_text_and_bytes_with_bytes() {
        let mut session = echo("{message}", None, Carrier::WebSocket);
        assert_eq!(session.text("hi"), [Recorded::text("hi")]);
        assert_eq!(session.bytes(&[0, 255]), [Recorded::bytes(&[0, 255])]);
        assert_eq!(session.text(""), [Recorded::text("")]);
    }

    #[test]
    fn the_template_is_filled_for_each_message() {
        let mut session = echo("{listener} {peer} {request_id}: {message}", None, Carrier::Lines);
        let first = "main 127.0.0.1:4242 000000000000002a-1: hi";
        assert_eq!(session.text("hi"), [Recorded::text(first)]);
        let second = b"main 127.0.0.1:4242 000000000000002a-2: \xff";
        assert_eq!(session.bytes(b"\xff"), [Recorded::bytes(second)]);
    }

    #[test]
    fn the_longest_given_request_id_fits() {
        let id = "x".repeat(RequestId::GIVEN_BYTES_MAX);
        let given = RequestId::given(id.as_bytes()).expect("well formed");
        let mut session = echo("{request_id}", None, Carrier::Http);
        let message = Message { payload: b"hi", kind: MessageKind::Text };
        assert_eq!(session.message(message, &given), [Recorded::text(&id)]);
    }

    #[test]
    fn the_exit_word_closes_without_a_reply() {
        let mut session = echo("{message}", Some("exit"), Carrier::Lines);
        assert_eq!(session.text("exit "), [Recorded::text("exit ")]);
        assert_eq!(session.text("Exit"), [Recorded::text("Exit")]);
        assert_eq!(session.text("exit"), [Recorded::Close(CloseReason::Exit)]);
    }

    #[test]
    fn the_exit_word_may_come_as_bytes() {
        let mut session = echo("{message}", Some("exit"), Carrier::Length);
        assert_eq!(session.bytes(b"exit"), [Recorded::Close(CloseReason::Exit)]);
    }

    #[test]
    fn an_http_request_is_echoed_whatever_it_says() {
        let mut session = echo("{message}", Some("exit"), Carrier::Http);
        assert_eq!(session.text("exit"), [Recorded::text("exit")]);
    }

    #[test]
    fn a_connection_holds_one_pointer() {
        assert_eq!(size_of::<EchoSession>(), size_of::<usize>());
    }
}
