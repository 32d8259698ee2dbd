//! One event on its way to subscribers: its push in the forms that they want, each encoded when the
//! first of them is told, and shared by all others.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use weir_core::budget::SharedFrames;
use weir_core::site::SiteWire;

use super::plain::Plain;
use crate::broker::{ClientInfo, Event, Publication};
use crate::namespace::KeyOf;
use crate::protocol::push::{self, Join, Leave, Push};
use crate::protocol::{EncodeError, Form, Map, Payload, SharedPush, varint};

/// How a subscriber is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// In the client protocol.
    Protocol(Form),
    /// As plain messages. Of publications only: it has no words for who comes and goes.
    Plain(Plain),
}

/// An event with the bytes that were made of it.
pub(super) struct Framed {
    pub(super) number: u64,
    pub(super) event: Event,
    push: SharedPush,
    /// As many as listeners differ in.
    plain: Vec<(Plain, Bytes)>,
    /// Once it was asked for.
    key: Option<u64>,
    frames: SharedFrames,
}

impl Framed {
    /// `frames` counts its bytes.
    pub(super) fn new(number: u64, event: Event, frames: SharedFrames) -> Self {
        let push = SharedPush::counted(frames.clone());
        Self { number, event, push, plain: Vec::new(), key: None, frames }
    }

    /// Its key as a number; one that has none, or is no publication, has one of its own.
    pub(super) fn key(&mut self, of: &KeyOf, numbers: &RandomState) -> u64 {
        *self.key.get_or_insert_with(|| match &self.event {
            Event::Publication(publication) => match of.find(publication) {
                Some(key) => numbers.hash_one((0, key)),
                None => numbers.hash_one((1, self.number)),
            },
            Event::Join(_) | Event::Leave(_) | Event::Reset(_) => {
                numbers.hash_one((1, self.number))
            }
        })
    }

    /// The bytes in this dialect.
    pub(super) fn frame(&mut self, dialect: Dialect, channel: &str) -> Result<&Bytes, EncodeError> {
        let event = &self.event;
        match dialect {
            Dialect::Protocol(form) => self.push.form(form, || push_of(channel, event)),
            Dialect::Plain(plain) => Ok(self.plain(plain, channel)),
        }
    }

    fn plain(&mut self, plain: Plain, channel: &str) -> &Bytes {
        let at = self.plain.iter().position(|(made, _)| *made == plain).unwrap_or_else(|| {
            let frame = match &self.event {
                Event::Publication(publication) => {
                    self.frames.frame(plain.frame(channel, publication).into())
                }
                // Never told.
                Event::Join(_) | Event::Leave(_) | Event::Reset(_) => Bytes::new(),
            };
            self.plain.push((plain, frame));
            self.plain.len() - 1
        });
        &self.plain[at].1
    }
}

fn push_of<'a>(channel: &'a str, event: &'a Event) -> Push<'a> {
    let event = match event {
        Event::Publication(publication) => push::Event::Publication(wire_publication(publication)),
        Event::Join(info) => push::Event::Join(Join { info: wire_info(info) }),
        Event::Leave(info) => push::Event::Leave(Leave { info: wire_info(info) }),
        // Never told: it ends positions.
        Event::Reset(_) => push::Event::Nothing,
    };
    Push { id: 0, channel: channel.into(), event }
}

/// A reply in Protobuf as a wire takes it: one that has lengths of its own puts its own in front.
pub(crate) fn without_length(wire: SiteWire, reply: &[u8]) -> &[u8] {
    match (wire, varint::read(reply)) {
        (SiteWire::Length { .. }, Ok(Some((_, taken)))) => &reply[taken..],
        _ => reply,
    }
}

/// A publication as clients read it.
pub(crate) fn wire_publication(publication: &Publication) -> push::Publication<'_> {
    // The first of a stream says which stream it is (protocol, section 1.7).
    let first = publication.position.filter(|position| position.offset == 1);
    let tags = publication.tags.iter().flat_map(|tags| tags.iter());
    push::Publication {
        data: Payload::new(&publication.data),
        info: publication.info.as_deref().map(wire_info),
        offset: publication.offset(),
        tags: Map(tags.map(|(name, value)| ((&**name).into(), (&**value).into())).collect()),
        epoch: first.map(|position| position.epoch.to_string()).unwrap_or_default().into(),
        ..push::Publication::default()
    }
}

/// Somebody as clients read it.
pub(crate) fn wire_info(info: &ClientInfo) -> push::ClientInfo<'_> {
    push::ClientInfo {
        user: (&*info.user).into(),
        client: (&*info.client).into(),
        conn_info: Payload::new(info.conn_info.as_deref().unwrap_or_default()),
        chan_info: Payload::new(info.chan_info.as_deref().unwrap_or_default()),
    }
}
