//! What a session says in one turn: replies that leave together are one frame where the wire has
//! frames of several.

use weir_core::service::{Actions, MessageKind};
use weir_core::site::SiteWire;

use crate::hub::without_length;
use crate::protocol::frame::Joiner;
use crate::protocol::{EncodeError, Encoding, Reply};

/// Replies in one frame, as many as the protocol's own server puts there.
const REPLIES_MAX: usize = 16;
/// Bytes after which a frame takes no further reply.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Frames of one turn, in order.
pub(super) struct Out {
    wire: SiteWire,
    encoding: Encoding,
    joiner: Joiner,
    frames: Vec<Vec<u8>>,
}

impl Out {
    pub(super) fn new(wire: SiteWire, encoding: Encoding) -> Self {
        // On lines and behind lengths each reply is a message of its own.
        let joined = wire == SiteWire::WebSocket;
        let replies_max = if joined { REPLIES_MAX } else { 1 };
        let joiner = Joiner::new(encoding, replies_max, FRAME_BYTES_MAX);
        Self { wire, encoding, joiner, frames: Vec::new() }
    }

    /// Adds a reply.
    ///
    /// # Errors
    ///
    /// Those of [`Reply::encode`]; nothing is added then.
    pub(super) fn reply(&mut self, reply: &Reply<'_>) -> Result<(), EncodeError> {
        self.frames.extend(self.joiner.push(reply)?);
        Ok(())
    }

    /// Says everything that was added.
    pub(super) fn flush(&mut self, actions: &mut Actions) {
        self.frames.extend(self.joiner.take());
        let (encoding, wire) = (self.encoding, self.wire);
        for frame in self.frames.drain(..) {
            match encoding {
                Encoding::Json => actions.say(MessageKind::Text, &[&frame]),
                Encoding::Protobuf => {
                    actions.say(MessageKind::Binary, &[without_length(wire, &frame)]);
                }
            }
        }
    }
}
