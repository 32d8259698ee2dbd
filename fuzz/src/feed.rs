//! The caller of a decoder: reads a stream in pieces and offers what was not taken again, longer.
//! It holds every answer to the contract of [`Step`].

use std::ops::Range;

use weir_core::service::MessageKind;
use weir_core::wire::{FrameError, Step, length, lines, websocket};

/// What came out of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, whole or gathered.
    Message(MessageKind, Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close; the last event.
    Close(Option<u16>),
    /// A broken rule; the last event.
    Refused(&'static str),
}

/// How a stream is cut into reads.
#[derive(Clone, Copy, Debug)]
pub enum Reads {
    /// It arrives at once.
    Whole,
    /// It arrives in pieces drawn from this seed; 0 is a byte at a time.
    Cut(u8),
}

/// A decoder of any wire.
pub trait Decode {
    /// One step.
    fn step(&mut self, buf: &mut [u8]) -> Result<Step, FrameError>;

    /// The message that was gathered.
    fn gathered(&mut self) -> Vec<u8> {
        panic!("this wire has no fragments")
    }

    /// The end of the stream.
    fn finish(&mut self, _rest: &[u8]) -> Result<Option<(Range<usize>, MessageKind)>, FrameError> {
        Ok(None)
    }
}

impl Decode for lines::Decoder {
    fn step(&mut self, buf: &mut [u8]) -> Result<Step, FrameError> {
        self.step(buf)
    }

    fn finish(&mut self, rest: &[u8]) -> Result<Option<(Range<usize>, MessageKind)>, FrameError> {
        self.finish(rest)
    }
}

impl Decode for length::Decoder {
    fn step(&mut self, buf: &mut [u8]) -> Result<Step, FrameError> {
        self.step(buf)
    }
}

impl Decode for websocket::Decoder {
    fn step(&mut self, buf: &mut [u8]) -> Result<Step, FrameError> {
        self.step(buf)
    }

    fn gathered(&mut self) -> Vec<u8> {
        self.take_gathered()
    }
}

/// Feeds a whole stream and its end, and gives what came out.
///
/// # Panics
///
/// When the decoder breaks its contract.
pub fn feed(decoder: &mut impl Decode, stream: &[u8], reads: Reads) -> Vec<Event> {
    let mut stream = stream.to_vec();
    let (mut at, mut arrived, mut events) = (0, 0, Vec::new());
    let mut cuts = Cuts::new(reads);
    loop {
        match drain(decoder, &mut stream[at..arrived], &mut events) {
            Some(taken) => at += taken,
            None => return events,
        }
        if arrived == stream.len() {
            break;
        }
        arrived = stream.len().min(arrived.saturating_add(cuts.next()));
    }
    match decoder.finish(&stream[at..]) {
        Ok(Some((payload, kind))) => {
            events.push(Event::Message(kind, stream[at..][payload].to_vec()));
        }
        Ok(None) => {}
        Err(error) => events.push(Event::Refused(super::refusal(&error))),
    }
    events
}

/// Takes every step there is in what has arrived. Gives the bytes taken, or `None` at the end.
fn drain(decoder: &mut impl Decode, buf: &mut [u8], events: &mut Vec<Event>) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = &mut buf[at..];
        let step = match decoder.step(rest) {
            Ok(step) => step,
            Err(error) => {
                events.push(Event::Refused(super::refusal(&error)));
                return None;
            }
        };
        let copy = |payload: Range<usize>, taken: usize| {
            assert!(payload.end <= taken, "the payload is among what is taken");
            rest[payload].to_vec()
        };
        let (event, taken) = match step {
            Step::More { need } => {
                assert!(need == 0 || need > rest.len(), "what is needed is not there yet");
                return Some(at);
            }
            Step::Skip { taken } => (None, taken),
            Step::Message { payload, taken, kind } => {
                (Some(Event::Message(kind, copy(payload, taken))), taken)
            }
            Step::Gathered { taken, kind } => {
                (Some(Event::Message(kind, decoder.gathered())), taken)
            }
            Step::Ping { payload, taken } => (Some(Event::Ping(copy(payload, taken))), taken),
            Step::Pong { payload, taken } => (Some(Event::Pong(copy(payload, taken))), taken),
            Step::Close { code, .. } => {
                events.push(Event::Close(code));
                return None;
            }
        };
        assert!(taken > 0 && taken <= rest.len(), "a step takes something that is there");
        events.extend(event);
        at += taken;
    }
}

/// Draws the lengths of reads.
struct Cuts {
    reads: Reads,
    state: u32,
}

impl Cuts {
    fn new(reads: Reads) -> Self {
        let state = match reads {
            Reads::Whole => 0,
            Reads::Cut(seed) => u32::from(seed).wrapping_mul(0x9e37_79b9),
        };
        Self { reads, state }
    }

    fn next(&mut self) -> usize {
        match self.reads {
            Reads::Whole => usize::MAX,
            Reads::Cut(0) => 1,
            Reads::Cut(_) => {
                // xorshift; mostly short reads, some of hundreds of bytes.
                self.state ^= self.state << 13;
                self.state ^= self.state >> 17;
                self.state ^= self.state << 5;
                let width = self.state >> 16 & 7;
                1 + (self.state & ((1 << width) - 1)) as usize * (1 + (self.state >> 28) as usize)
            }
        }
    }
}
