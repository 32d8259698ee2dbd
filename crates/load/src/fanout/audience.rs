//! The connections of one load: subscribers first, publishers behind them. Here they are told what to
//! say and are heard; what is right and what is missing is in the ledger.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Numbers;
use super::ledger::Ledger;
use super::protocol::{Meant, Protocol, Speech};
use crate::fleet::{End, Fleet, Load};

/// Everybody.
pub(super) struct Audience {
    numbers: Numbers,
    speech: Speech,
    /// What was published and came.
    pub(super) ledger: Ledger,
    presence: Presence,
}

/// Who is there.
struct Presence {
    ready: Vec<bool>,
    count: usize,
    closing: bool,
    lost: BTreeMap<String, u64>,
    complaint: Option<String>,
}

impl Audience {
    /// Nobody is connected yet.
    pub(super) fn new(protocol: Protocol, numbers: Numbers) -> Self {
        let connections = numbers.subscribers + numbers.publishers;
        let presence = Presence {
            ready: vec![false; connections],
            count: 0,
            closing: false,
            lost: BTreeMap::new(),
            complaint: None,
        };
        let (speech, ledger) = (Speech::new(protocol, connections), Ledger::new(numbers));
        Self { numbers, speech, ledger, presence }
    }

    /// Connections that have their subscription, or may publish.
    pub(super) fn ready_count(&self) -> usize {
        self.presence.count
    }

    /// The server's first complaint.
    pub(super) fn complaint(&self) -> Option<&str> {
        self.presence.complaint.as_deref()
    }

    /// Connections that ended before they were asked to, by kind.
    pub(super) fn lost(&self) -> &BTreeMap<String, u64> {
        &self.presence.lost
    }

    /// From now on connections end because they are asked to.
    pub(super) fn start_closing(&mut self) {
        self.presence.closing = true;
    }

    /// Publishes once for each of these channels, as of the time beside it. The publishers share the
    /// channels, and each sends its publications in one write.
    pub(super) fn publish(
        &mut self,
        fleet: &mut Fleet,
        due: impl IntoIterator<Item = (u32, Instant)>,
    ) {
        let mut batches = vec![Vec::new(); self.numbers.publishers];
        for (channel, at) in due {
            let (number, payload) = self.ledger.publish(channel, at);
            let batch = &mut batches[channel as usize % self.numbers.publishers];
            self.speech.publish(channel, number, payload, batch);
        }
        for (publisher, batch) in batches.iter().enumerate().filter(|(_, it)| !it.is_empty()) {
            let index = self.numbers.subscribers + publisher;
            fleet.send(index, self, |out| out.extend_from_slice(batch));
        }
    }

    fn subscribes(&self, index: usize) -> bool {
        index < self.numbers.subscribers
    }
}

impl Presence {
    fn get_ready(&mut self, index: usize) {
        if !std::mem::replace(&mut self.ready[index], true) {
            self.count += 1;
        }
    }

    fn complain(&mut self, complaint: &[u8]) {
        let text = String::from_utf8_lossy(complaint);
        self.complaint.get_or_insert_with(|| text.chars().take(200).collect());
    }
}

impl Load for Audience {
    fn first(&mut self, index: usize, out: &mut Vec<u8>) {
        let channel = self.subscribes(index).then(|| self.ledger.channel_of(index));
        self.speech.begin(channel, index as u32, out);
        if self.speech.is_ready_when_open() {
            self.presence.get_ready(index);
        }
    }

    fn on_message(&mut self, index: usize, frame: &[u8], now: Instant, out: &mut Vec<u8>) {
        let subscribes = self.subscribes(index);
        let Self { speech, ledger, presence, .. } = self;
        speech.hear(index, frame, out, |meant| match meant {
            Meant::Delivery(payload) if subscribes => ledger.deliver(index, payload, now),
            Meant::Done if subscribes => {}
            Meant::Subscribed | Meant::Done => presence.get_ready(index),
            // Some servers send a publisher a word on each publication.
            Meant::Delivery(_) => {}
            Meant::Refused(complaint) => presence.complain(complaint),
        });
    }

    fn on_end(&mut self, index: usize, end: End) {
        if self.presence.closing {
            return;
        }
        *self.presence.lost.entry(end.label()).or_default() += 1;
        if self.subscribes(index) {
            self.ledger.leave(index);
        }
    }
}
