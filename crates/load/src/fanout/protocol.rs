//! What subscribers and publishers say to each kind of server, and what its frames mean to them.
//! What becomes of a delivery is decided by the audience.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::nats;
use crate::channels::{self, Listener, Said};
use crate::wire::Wire;

/// How subscriptions and publications are spoken of, all on WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// The client protocol of weir and Centrifugo, in JSON.
    Channels,
    /// Every message of a publisher is sent to everybody who is connected, on one channel.
    Plain,
    /// The client protocol of NATS.
    Nats,
}

/// What a frame means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant<'a> {
    /// A subscriber has its subscription.
    Subscribed,
    /// A command was carried out.
    Done,
    /// A publication's payload.
    Delivery(&'a [u8]),
    /// The server refused something, or makes no sense.
    Refused(&'a [u8]),
}

/// A protocol spoken on many connections.
pub(super) struct Speech {
    protocol: Protocol,
    listener: Listener,
    /// For each connection, the start of a message that is not whole yet; for NATS only.
    kept: Vec<Vec<u8>>,
}

impl Speech {
    /// A protocol on so many connections.
    pub(super) fn new(protocol: Protocol, connections: usize) -> Self {
        let kept = if protocol == Protocol::Nats { vec![Vec::new(); connections] } else { vec![] };
        Self { protocol, listener: Listener::new(), kept }
    }

    /// Whether a connection is of use as soon as it is open.
    pub(super) fn is_ready_when_open(&self) -> bool {
        self.protocol == Protocol::Plain
    }

    /// Appends what a subscriber of `channel`, or a publisher, begins with.
    pub(super) fn begin(&self, channel: Option<u32>, mask: u32, out: &mut Vec<u8>) {
        let name = channel.map(name);
        match self.protocol {
            Protocol::Channels => channels::begin(name.as_deref(), mask, out),
            Protocol::Plain => {}
            Protocol::Nats => nats::begin(name.as_deref(), mask, out),
        }
    }

    /// Appends a publication; `number` tells it from others that are under way.
    pub(super) fn publish(&self, channel: u32, number: u32, payload: &[u8], out: &mut Vec<u8>) {
        // Any key does that is not always the same one.
        let mask = number.wrapping_mul(0x9E37_79B9);
        match self.protocol {
            Protocol::Channels => channels::publish(number, &name(channel), payload, out),
            Protocol::Plain => Wire::Ws.encode(payload, mask, out),
            Protocol::Nats => nats::publish(&name(channel), payload, mask, out),
        }
    }

    /// Tells what a frame means, and appends the answers that it wants.
    pub(super) fn hear(
        &mut self,
        index: usize,
        frame: &[u8],
        out: &mut Vec<u8>,
        mut tell: impl FnMut(Meant<'_>),
    ) {
        let mask = index as u32;
        match self.protocol {
            Protocol::Plain => tell(Meant::Delivery(frame)),
            Protocol::Channels => {
                for said in self.listener.hear(frame) {
                    match said {
                        Said::Ping => Wire::Ws.encode(channels::EMPTY, mask, out),
                        Said::Publication(data) => tell(Meant::Delivery(data)),
                        Said::Subscribed => tell(Meant::Subscribed),
                        Said::Done | Said::Streams { .. } => tell(Meant::Done),
                        Said::Refused(line) => tell(Meant::Refused(line)),
                    }
                }
            }
            Protocol::Nats => nats::hear(&mut self.kept[index], frame, |said| match said {
                nats::Said::Ping => Wire::Ws.encode(nats::PONG, mask, out),
                nats::Said::Pong => tell(Meant::Subscribed),
                nats::Said::Message(payload) => tell(Meant::Delivery(payload)),
                nats::Said::Error(line) => tell(Meant::Refused(line)),
            }),
        }
    }
}

fn name(channel: u32) -> String {
    format!("c{channel}")
}
