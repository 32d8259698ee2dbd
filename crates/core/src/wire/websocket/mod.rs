//! WebSocket frames, server side (RFC 6455): what a client sends becomes messages and control
//! frames, each rule of the wire checked. Nothing here answers: pongs and closes are the caller's.

mod close;
pub mod encode;
mod frame;
mod handshake;
mod mask;

pub use handshake::{accept_key, check_key};

use std::ops::Range;

use self::encode::Opcode;
use self::frame::{Header, Parsed};
use super::utf8;
use super::{FrameError, Step};
use crate::service::MessageKind;

/// How frames are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most bytes a message may have, its fragments together.
    pub message_bytes_max: usize,
}

/// Finds messages in the frames of a client. Idle it holds no heap.
///
/// The payload of a frame is unmasked in place as it arrives, so the bytes it is offered again
/// must be the bytes it was offered before. Text is checked as it arrives too: the first byte that
/// cannot be right is refused even in the middle of a frame.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    /// The message whose last fragment has not come, or one waiting to be taken.
    gather: Option<Box<Gather>>,
    /// Bytes of the unfinished frame's payload that are unmasked and checked.
    opened: u32,
    /// The text check of the unfinished message.
    text: utf8::Checker,
}

/// A message in fragments.
#[derive(Debug)]
struct Gather {
    bytes: Vec<u8>,
    kind: MessageKind,
    whole: bool,
}

impl Decoder {
    /// A decoder at the first byte after the handshake.
    pub fn new(options: Options) -> Self {
        // A frame's progress is counted in 32 bits.
        let message_bytes_max = options.message_bytes_max.min(u32::MAX as usize);
        Self { message_bytes_max, gather: None, opened: 0, text: utf8::Checker::default() }
    }

    /// Takes the next frame, or what has arrived of it, from `buf`, which starts at the first byte
    /// not yet taken. After [`Step::Close`] the caller must offer nothing more.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooBig`] once a header tells of it, [`FrameError::InvalidUtf8`] for text or a
    /// close reason, [`FrameError::Protocol`] for every other broken rule. All are final.
    pub fn step(&mut self, buf: &mut [u8]) -> Result<Step, FrameError> {
        let header = match Header::parse(buf)? {
            Parsed::Header(header) => header,
            Parsed::More { need } => return Ok(Step::More { need }),
        };
        match header.opcode {
            Opcode::Text => self.first(&header, MessageKind::Text, buf),
            Opcode::Binary => self.first(&header, MessageKind::Binary, buf),
            Opcode::Continuation => self.next(&header, buf),
            Opcode::Close | Opcode::Ping | Opcode::Pong => control(&header, buf),
        }
    }

    /// Takes the message that [`Step::Gathered`] told of. It is dropped when the next step comes
    /// first; without one this is empty.
    pub fn take_gathered(&mut self) -> Vec<u8> {
        match self.gather.take_if(|gather| gather.whole) {
            Some(gather) => gather.bytes,
            None => Vec::new(),
        }
    }

    /// Whether the last fragment of a message is still to come, though no bytes may be left over.
    pub fn is_gathering(&self) -> bool {
        self.gather.as_ref().is_some_and(|gather| !gather.whole)
    }

    /// A frame that begins a message, and mostly is all of it. Inlined with what it calls, so that
    /// a whole message keeps its header in registers: 12 ns instead of 20.
    #[inline(always)]
    fn first(
        &mut self,
        header: &Header,
        kind: MessageKind,
        buf: &mut [u8],
    ) -> Result<Step, FrameError> {
        if self.is_gathering() {
            return Err(FrameError::Protocol("new message inside a fragmented one"));
        }
        self.gather = None;
        self.within_cap(0, header)?;
        let Some(payload) = self.open(header, kind, buf)? else {
            return Ok(Step::More { need: header.end() });
        };
        let taken = payload.end;
        if header.fin {
            return Ok(Step::Message { payload, taken, kind });
        }
        let bytes = buf[payload].to_vec();
        self.gather = Some(Box::new(Gather { bytes, kind, whole: false }));
        Ok(Step::Skip { taken })
    }

    /// A frame that goes on with a message.
    #[inline(never)]
    fn next(&mut self, header: &Header, buf: &mut [u8]) -> Result<Step, FrameError> {
        let Some((kind, gathered)) = self
            .gather
            .as_ref()
            .filter(|gather| !gather.whole)
            .map(|gather| (gather.kind, gather.bytes.len()))
        else {
            return Err(FrameError::Protocol("continuation without a message"));
        };
        self.within_cap(gathered, header)?;
        let Some(payload) = self.open(header, kind, buf)? else {
            return Ok(Step::More { need: header.end() });
        };
        let taken = payload.end;
        let max = self.message_bytes_max;
        if let Some(gather) = &mut self.gather {
            gather.append(&buf[payload], max);
            gather.whole = header.fin;
        }
        Ok(if header.fin { Step::Gathered { taken, kind } } else { Step::Skip { taken } })
    }

    /// Unmasks and checks what has newly arrived of a data frame; the payload's place once all of
    /// it has.
    #[inline(always)]
    fn open(
        &mut self,
        header: &Header,
        kind: MessageKind,
        buf: &mut [u8],
    ) -> Result<Option<Range<usize>>, FrameError> {
        let end = header.end();
        let arrived = end.min(buf.len());
        let from = arrived.min(header.size + self.opened as usize);
        let fresh = &mut buf[from..arrived];
        mask::apply(fresh, header.mask, from - header.size);
        let whole = arrived == end;
        if kind == MessageKind::Text {
            self.check_text(fresh, header, whole)?;
        }
        self.opened = if whole { 0 } else { (arrived - header.size) as u32 };
        Ok(whole.then_some(header.size..end))
    }

    #[inline(always)]
    fn check_text(&mut self, fresh: &[u8], header: &Header, whole: bool) -> Result<(), FrameError> {
        if whole && header.fin && self.opened == 0 && self.gather.is_none() {
            return utf8::check(fresh);
        }
        self.text.push(fresh)?;
        if whole && header.fin { self.text.finish() } else { Ok(()) }
    }

    #[inline]
    fn within_cap(&self, gathered: usize, header: &Header) -> Result<(), FrameError> {
        // Cannot overflow: what is gathered is within 32 bits, a length within 63.
        let size = gathered as u64 + header.len;
        if size > self.message_bytes_max as u64 {
            return Err(FrameError::TooBig { size, max: self.message_bytes_max });
        }
        Ok(())
    }
}

impl Gather {
    /// Appends a fragment. Doubles the room like a `Vec`, but never past the cap.
    fn append(&mut self, fragment: &[u8], max: usize) {
        let len = self.bytes.len() + fragment.len();
        if len > self.bytes.capacity() {
            let room = len.max(self.bytes.capacity().saturating_mul(2).min(max));
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(fragment);
    }
}

/// A control frame, which is short and acts only when whole. It may stand between fragments.
#[inline(never)]
fn control(header: &Header, buf: &mut [u8]) -> Result<Step, FrameError> {
    let (payload, taken) = (header.size..header.end(), header.end());
    let Some(bytes) = buf.get_mut(payload.clone()) else {
        return Ok(Step::More { need: taken });
    };
    mask::apply(bytes, header.mask, 0);
    Ok(match header.opcode {
        Opcode::Ping => Step::Ping { payload, taken },
        Opcode::Pong => Step::Pong { payload, taken },
        Opcode::Close | Opcode::Continuation | Opcode::Text | Opcode::Binary => {
            Step::Close { code: close::parse(bytes)?, taken }
        }
    })
}

#[cfg(test)]
mod tests;
