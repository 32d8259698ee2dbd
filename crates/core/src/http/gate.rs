//! The strict framing of requests, in front of hyper: where each begins and ends, within limits.
//! Pure: bytes in, verdicts out; it holds no buffer, and nothing behind a refused request passes.

use super::head::{self, Follows};
pub use super::refusal::Refusal;

/// Digits of a chunk size: what 64 bits hold.
const CHUNK_DIGITS_MAX: usize = 16;
/// Bytes of chunk extensions in one body. Nobody sends them, RFC 9112 wants them ignored.
const EXTENSION_BYTES_MAX: usize = 1024;
/// Bytes of trailers, which are dropped anyway.
const TRAILER_BYTES_MAX: usize = 4096;

/// What a request may measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// Bytes of the head, its empty line included.
    pub header_bytes_max: usize,
    /// Fields of the head.
    pub headers_max: usize,
    /// Bytes of the body, without its framing.
    pub body_bytes_max: usize,
}

/// What the gate says of the bytes it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing whole yet: offer the same bytes again when there are more.
    More,
    /// These bytes mean nothing: drop them.
    Skip {
        /// Counted from the start of the slice.
        taken: usize,
    },
    /// A good head.
    Head {
        /// Counted from the start of the slice.
        taken: usize,
        /// Whether a body follows.
        body: bool,
        /// Whether it offers to speak WebSocket: what follows is withheld until
        /// [`Gate::declined`], or for ever.
        upgrade: bool,
    },
    /// A part of the body, framing included.
    Body {
        /// Counted from the start of the slice.
        taken: usize,
        /// Whether the request ends with it.
        last: bool,
    },
    /// The bytes wait for the verdict on an upgrade.
    Withheld,
    /// No byte passes from here on.
    Refused(Refusal),
}

/// What the gate waits for when it says [`Step::More`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A head, or its rest.
    Head,
    /// The rest of a body.
    Body,
}

/// Finds where requests begin and end. Offered any bytes in any pieces it says the same.
#[derive(Debug)]
pub struct Gate {
    limits: GateLimits,
    state: State,
    /// Bytes of the unfinished line or section that were looked at before.
    looked: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a head; one empty line may come first (RFC 9112, section 2.2).
    Start,
    Head,
    Length {
        left: usize,
    },
    ChunkSize(Room),
    ChunkData {
        left: u64,
        room: Room,
    },
    ChunkEnd(Room),
    Trailers,
    Upgrade,
    Refused(Refusal),
}

/// What a chunked body may still bring.
#[derive(Clone, Copy, Debug)]
struct Room {
    body: usize,
    extensions: usize,
}

impl Gate {
    /// A gate at the first byte of a connection.
    pub fn new(limits: GateLimits) -> Self {
        Self { limits, state: State::Start, looked: 0 }
    }

    /// What to do with `bytes`, which start at the first byte that has not passed.
    pub fn step(&mut self, bytes: &[u8]) -> Step {
        let step = match self.state {
            State::Refused(refusal) => return Step::Refused(refusal),
            State::Upgrade => return Step::Withheld,
            State::Start => self.start(bytes),
            State::Head => self.head(bytes),
            State::Length { left } => Ok(self.length(bytes, left)),
            State::ChunkSize(room) => self.chunk_size(bytes, room),
            State::ChunkData { left, room } => Ok(self.chunk_data(bytes, left, room)),
            State::ChunkEnd(room) => self.chunk_end(bytes, room),
            State::Trailers => self.trailers(bytes),
        };
        step.unwrap_or_else(|refusal| {
            self.state = State::Refused(refusal);
            Step::Refused(refusal)
        })
    }

    /// The upgrade was not taken: what was withheld is the next request.
    pub fn declined(&mut self) {
        if matches!(self.state, State::Upgrade) {
            self.go(State::Start);
        }
    }

    /// What it waits for.
    pub fn part(&self) -> Part {
        match self.state {
            State::Start | State::Head | State::Upgrade | State::Refused(_) => Part::Head,
            State::Length { .. }
            | State::ChunkSize(_)
            | State::ChunkData { .. }
            | State::ChunkEnd(_)
            | State::Trailers => Part::Body,
        }
    }

    fn go(&mut self, state: State) {
        self.state = state;
        self.looked = 0;
    }

    fn start(&mut self, bytes: &[u8]) -> Result<Step, Refusal> {
        match bytes {
            [] | [b'\r'] => Ok(Step::More),
            [b'\r', b'\n', ..] => {
                self.go(State::Head);
                Ok(Step::Skip { taken: 2 })
            }
            _ => {
                self.go(State::Head);
                self.head(bytes)
            }
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Step, Refusal> {
        // What is no HTTP at all (a TLS hello, a line of something else) is told so at once.
        if bytes.first().is_some_and(|first| !first.is_ascii_alphabetic()) {
            return Err(Refusal::Malformed("request line"));
        }
        let max = self.limits.header_bytes_max;
        let too_big = Refusal::HeadTooBig { max };
        let Some(taken) = self.section_end(bytes, max, too_big)? else {
            return Ok(Step::More);
        };
        let follows = head::check(&bytes[..taken], &self.limits)?;
        self.go(match follows {
            Follows::Nothing => State::Start,
            Follows::Length(left) => State::Length { left },
            Follows::Chunked => State::ChunkSize(Room {
                body: self.limits.body_bytes_max,
                extensions: EXTENSION_BYTES_MAX,
            }),
            Follows::Upgrade => State::Upgrade,
        });
        Ok(Step::Head {
            taken,
            body: matches!(follows, Follows::Length(_) | Follows::Chunked),
            upgrade: follows == Follows::Upgrade,
        })
    }

    /// The end of a section of lines: behind its first empty line, within `max` bytes.
    fn section_end(
        &mut self,
        bytes: &[u8],
        max: usize,
        too_big: Refusal,
    ) -> Result<Option<usize>, Refusal> {
        let end = bytes.len().min(max);
        for at in memchr::memchr_iter(b'\n', &bytes[self.looked..end]) {
            let at = self.looked + at;
            match &bytes[..at] {
                [b'\r'] | [.., b'\n', b'\r'] => return Ok(Some(at + 1)),
                [.., b'\r'] => {}
                _ => return Err(Refusal::Malformed("LF without CR")),
            }
        }
        self.looked = end;
        if bytes.len() >= max { Err(too_big) } else { Ok(None) }
    }

    fn length(&mut self, bytes: &[u8], left: usize) -> Step {
        let taken = left.min(bytes.len());
        match (taken, left - taken) {
            (0, _) => Step::More,
            (taken, 0) => {
                self.go(State::Start);
                Step::Body { taken, last: true }
            }
            (taken, left) => {
                self.state = State::Length { left };
                Step::Body { taken, last: false }
            }
        }
    }

    /// `1*HEXDIG [ ";" extension ] CRLF`, without the white space that RFC 9112 calls bad.
    fn chunk_size(&mut self, bytes: &[u8], room: Room) -> Result<Step, Refusal> {
        let malformed = Refusal::Malformed("chunk size");
        let max = CHUNK_DIGITS_MAX + room.extensions + 2;
        let end = bytes.len().min(max);
        let Some(at) = memchr::memchr(b'\n', &bytes[self.looked..end]) else {
            self.looked = end;
            return if bytes.len() >= max { Err(malformed) } else { Ok(Step::More) };
        };
        let taken = self.looked + at + 1;
        let line = bytes[..taken].strip_suffix(b"\r\n").ok_or(malformed)?;
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at(digits);
        let is_text = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
        if !(extension.is_empty() || extension[0] == b';') || !extension.iter().all(is_text) {
            return Err(malformed);
        }
        let size = match digits.len() {
            1..=CHUNK_DIGITS_MAX => hex(digits),
            _ => return Err(malformed),
        };
        let Some(extensions) = room.extensions.checked_sub(extension.len()) else {
            return Err(malformed);
        };
        let Some(body) = usize::try_from(size).ok().and_then(|size| room.body.checked_sub(size))
        else {
            return Err(Refusal::BodyTooBig { max: self.limits.body_bytes_max });
        };
        self.go(match size {
            0 => State::Trailers,
            left => State::ChunkData { left, room: Room { body, extensions } },
        });
        Ok(Step::Body { taken, last: false })
    }

    fn chunk_data(&mut self, bytes: &[u8], left: u64, room: Room) -> Step {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        if taken == 0 {
            return Step::More;
        }
        self.state = match left - taken as u64 {
            0 => State::ChunkEnd(room),
            left => State::ChunkData { left, room },
        };
        Step::Body { taken, last: false }
    }

    fn chunk_end(&mut self, bytes: &[u8], room: Room) -> Result<Step, Refusal> {
        match bytes {
            [] | [b'\r'] => Ok(Step::More),
            [b'\r', b'\n', ..] => {
                self.go(State::ChunkSize(room));
                Ok(Step::Body { taken: 2, last: false })
            }
            _ => Err(Refusal::Malformed("chunk is longer than its size")),
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<Step, Refusal> {
        let max = self.limits.header_bytes_max.min(TRAILER_BYTES_MAX);
        let too_big = Refusal::HeadTooBig { max };
        let Some(taken) = self.section_end(bytes, max, too_big)? else {
            return Ok(Step::More);
        };
        head::check_trailers(&bytes[..taken], &self.limits)?;
        self.go(State::Start);
        Ok(Step::Body { taken, last: true })
    }
}

/// At most 16 hexadecimal digits as a number.
fn hex(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |size, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            _ => (digit | 0x20) - b'a' + 10,
        };
        (size << 4) | u64::from(digit)
    })
}

#[cfg(test)]
mod tests;
