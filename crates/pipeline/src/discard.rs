//! The discard route: takes every message and answers none. It holds nothing.

use std::time::Instant;

use weir_core::context::RequestId;
use weir_core::service::{Actions, Answer, Message, Opening, Service, Session, Ticket};

/// Takes every message and answers none, as a syslog receiver does.
pub struct Discard {
    route: String,
}

impl Discard {
    /// A discard with this route name.
    pub fn new(route: impl Into<String>) -> Self {
        Self { route: route.into() }
    }
}

impl Service for Discard {
    fn route(&self) -> &str {
        &self.route
    }

    fn open(&self, _opening: &Opening<'_>) -> Box<dyn Session> {
        Box::new(DiscardSession)
    }
}

/// Has no size, so a box of it is not an allocation.
struct DiscardSession;

impl Session for DiscardSession {
    fn on_message(&mut self, _: Message<'_>, _: &RequestId, _: Instant, _: &mut Actions) {}

    /// Never told: a discard asks for nothing.
    fn on_answer(&mut self, _: Ticket, _: Answer, _: &RequestId, _: Instant, _: &mut Actions) {}
}

#[cfg(test)]
mod tests {
    use weir_core::service::Carrier;

    use super::*;
    use crate::recorder::Recorder;

    #[test]
    fn every_message_is_taken_and_none_is_answered() {
        let service = Discard::new("syslog");
        assert_eq!(service.route(), "syslog");
        for carrier in [Carrier::Lines, Carrier::Length, Carrier::WebSocket, Carrier::Http] {
            let mut session = Recorder::open(&service, carrier);
            assert_eq!(session.text("<13>hi"), []);
            assert_eq!(session.bytes(b"\0"), []);
        }
    }
}
