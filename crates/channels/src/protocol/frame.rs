//! Frames: what one WebSocket message, or the body of one request, carries. Several commands may come in one, and
//! several replies leave in one.

use memchr::memchr;

use super::{Command, DecodeError, EncodeError, Encoding, Limits, Reply, varint};

/// Cuts a frame into its commands, each without line ending or length.
///
/// JSON: one object a line. A line ending after the last is passed over; an empty line is an error.
/// Protobuf: each behind its length, which is judged before anything else is done.
pub fn split<'a>(encoding: Encoding, frame: &'a [u8], limits: &Limits) -> Split<'a> {
    let limits = *limits;
    Split { encoding, limits, rest: frame, state: State::Begin }
}

/// See [`split`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Split<'a> {
    encoding: Encoding,
    limits: Limits,
    rest: &'a [u8],
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No command was taken yet.
    Begin,
    /// Some were.
    Going,
    /// An error was told.
    Failed,
}

impl<'a> Iterator for Split<'a> {
    type Item = Result<&'a [u8], DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.state {
            State::Failed => return None,
            State::Going if self.rest.is_empty() => return None,
            State::Begin | State::Going => {}
        }
        let taken = match self.encoding {
            _ if self.rest.is_empty() => Err(DecodeError::EmptyFrame),
            Encoding::Json => self.line(),
            Encoding::Protobuf => self.behind_length(),
        };
        self.state = if taken.is_ok() { State::Going } else { State::Failed };
        Some(taken)
    }
}

impl<'a> Split<'a> {
    fn line(&mut self) -> Result<&'a [u8], DecodeError> {
        let (line, rest) = match memchr(b'\n', self.rest) {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        if line.is_empty() {
            return Err(DecodeError::EmptyLine);
        }
        self.within_limit(line.len() as u64)?;
        Ok(line)
    }

    fn behind_length(&mut self) -> Result<&'a [u8], DecodeError> {
        let (length, taken) = match varint::read(self.rest) {
            Ok(Some(read)) => read,
            Ok(None) => return Err(DecodeError::CutShort),
            Err(varint::Overlong) => {
                let rule = "its length has over 64 bits";
                return Err(DecodeError::NotProtobuf { field: "command", rule });
            }
        };
        let length = self.within_limit(length)?;
        let split = self.rest[taken..].split_at_checked(length);
        let (command, rest) = split.ok_or(DecodeError::CutShort)?;
        self.rest = rest;
        Ok(command)
    }

    fn within_limit(&self, size: u64) -> Result<usize, DecodeError> {
        let max = self.limits.command_bytes_max;
        match usize::try_from(size) {
            Ok(size) if size <= max => Ok(size),
            _ => Err(DecodeError::TooBig { size, max }),
        }
    }
}

/// Reads the commands of a frame, each when it is asked for. Ends after the first error.
pub fn commands<'a>(
    encoding: Encoding,
    frame: &'a [u8],
    limits: &Limits,
) -> impl Iterator<Item = Result<Command<'a>, DecodeError>> + use<'a> {
    let limits = *limits;
    let mut split = split(encoding, frame, &limits);
    std::iter::from_fn(move || {
        let command = split.next()?.and_then(|bytes| Command::decode(encoding, bytes, &limits));
        if command.is_err() {
            split.state = State::Failed;
        }
        Some(command)
    })
}

/// Joins replies into frames of at most so many replies and bytes, in order.
#[derive(Clone, Debug)]
pub struct Joiner {
    encoding: Encoding,
    replies_max: usize,
    frame_bytes_max: usize,
    replies: usize,
    frame: Vec<u8>,
}

impl Joiner {
    /// A joiner whose frames hold at most `replies_max` replies and, unless one alone is longer,
    /// `frame_bytes_max` bytes.
    pub fn new(encoding: Encoding, replies_max: usize, frame_bytes_max: usize) -> Self {
        Self { encoding, replies_max, frame_bytes_max, replies: 0, frame: Vec::new() }
    }

    /// Adds a reply. Gives the frame before it when the two do not fit.
    ///
    /// # Errors
    ///
    /// Those of [`Reply::encode`]; nothing is added then.
    pub fn push(&mut self, reply: &Reply<'_>) -> Result<Option<Vec<u8>>, EncodeError> {
        let before = self.frame.len();
        self.separate();
        let start = self.frame.len();
        if let Err(error) = reply.encode(self.encoding, &mut self.frame) {
            self.frame.truncate(before);
            return Err(error);
        }
        Ok(self.added(before, start))
    }

    /// Adds a reply that is encoded already, as [`Joiner::push`] would.
    pub fn push_encoded(&mut self, reply: &[u8]) -> Option<Vec<u8>> {
        let before = self.frame.len();
        self.separate();
        let start = self.frame.len();
        self.frame.extend_from_slice(reply);
        self.added(before, start)
    }

    /// Takes the frame that is begun.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let replies = std::mem::take(&mut self.replies);
        (replies > 0).then(|| std::mem::take(&mut self.frame))
    }

    fn separate(&mut self) {
        if self.encoding == Encoding::Json && self.replies > 0 {
            self.frame.push(b'\n');
        }
    }

    /// Judges a frame of which `before` bytes were there, and whose last reply begins at `start`.
    fn added(&mut self, before: usize, start: usize) -> Option<Vec<u8>> {
        let fits = self.replies < self.replies_max && self.frame.len() <= self.frame_bytes_max;
        if self.replies == 0 || fits {
            self.replies += 1;
            return None;
        }
        let last = self.frame[start..].to_vec();
        self.frame.truncate(before);
        self.replies = 1;
        Some(std::mem::replace(&mut self.frame, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;
    use crate::protocol::reply::{Body, PublishResult};

    const LIMITS: Limits = Limits { command_bytes_max: 20, elements_max: 4 };

    #[track_caller]
    fn check(encoding: Encoding, frame: &[u8], expected: &[Result<&[u8], DecodeError>]) {
        assert_eq!(split(encoding, frame, &LIMITS).collect::<Vec<_>>(), expected, "{frame:?}");
    }

    #[test]
    fn json_is_cut_at_line_endings_and_the_last_one_is_passed_over() {
        let check = |frame: &str, expected: &[_]| check(Encoding::Json, frame.as_bytes(), expected);
        check("{}", &[Ok(b"{}")]);
        check("{}\n", &[Ok(b"{}")]);
        check("{}\n{ }\r\n", &[Ok(b"{}"), Ok(b"{ }\r")]);
        check("", &[Err(DecodeError::EmptyFrame)]);
        check("\n", &[Err(DecodeError::EmptyLine)]);
        check("\n{}", &[Err(DecodeError::EmptyLine)]);
        check("{}\n\n", &[Ok(b"{}"), Err(DecodeError::EmptyLine)]);
        check("{}\n\n{}", &[Ok(b"{}"), Err(DecodeError::EmptyLine)]);
    }

    #[test]
    fn protobuf_is_cut_at_lengths() {
        let check = |frame: &[u8], expected: &[_]| check(Encoding::Protobuf, frame, expected);
        check(b"\x00", &[Ok(b"")]);
        check(b"\x02ab\x81\x00c\x00", &[Ok(b"ab"), Ok(b"c"), Ok(b"")]);
        check(b"", &[Err(DecodeError::EmptyFrame)]);
        check(b"\x02a", &[Err(DecodeError::CutShort)]);
        check(b"\x01a\x80", &[Ok(b"a"), Err(DecodeError::CutShort)]);
        let rule = "its length has over 64 bits";
        check(&[0xff; 10], &[Err(DecodeError::NotProtobuf { field: "command", rule })]);
    }

    #[test]
    fn a_command_over_the_limit_is_refused_by_the_length_that_it_says() {
        let max = LIMITS.command_bytes_max;
        let too_big = |size| Err(DecodeError::TooBig { size, max });
        check(Encoding::Json, &[b'1'; 20], &[Ok(&[b'1'; 20])]);
        check(Encoding::Json, &[b'1'; 21], &[too_big(21)]);
        check(Encoding::Protobuf, b"\x15", &[too_big(21)]);
        check(Encoding::Protobuf, b"\x14", &[Err(DecodeError::CutShort)]);
        let mut frame = Vec::new();
        varint::write(u64::MAX, &mut frame);
        check(Encoding::Protobuf, &frame, &[too_big(u64::MAX)]);
    }

    #[test]
    fn nothing_is_read_behind_an_error() {
        let mut commands = commands(Encoding::Json, b"{}\nx\n{}", &LIMITS);
        let pong = Command { id: 0, request: Request::Pong };
        assert_eq!(commands.next(), Some(Ok(pong)));
        assert!(commands.next().is_some_and(|command| command.is_err()));
        assert_eq!(commands.next(), None);
    }

    #[test]
    fn replies_are_joined_up_to_the_caps_and_in_order() {
        let reply = |id| Reply { id, body: Body::Publish(PublishResult {}) };
        for (encoding, replies_max, bytes_max, expected) in [
            (
                Encoding::Json,
                2,
                100,
                vec![
                    "{\"id\":1,\"publish\":{}}\n{\"id\":2,\"publish\":{}}",
                    "{\"id\":3,\"publish\":{}}",
                ],
            ),
            (
                Encoding::Json,
                9,
                42,
                vec![
                    "{\"id\":1,\"publish\":{}}",
                    "{\"id\":2,\"publish\":{}}",
                    "{\"id\":3,\"publish\":{}}",
                ],
            ),
            (
                Encoding::Protobuf,
                9,
                10,
                vec!["\x04\x08\x01\x42\x00\x04\x08\x02\x42\x00", "\x04\x08\x03\x42\x00"],
            ),
            (
                Encoding::Protobuf,
                9,
                1,
                vec!["\x04\x08\x01\x42\x00", "\x04\x08\x02\x42\x00", "\x04\x08\x03\x42\x00"],
            ),
        ] {
            let mut frames = [Vec::new(), Vec::new()];
            let mut joiners = [(); 2].map(|()| Joiner::new(encoding, replies_max, bytes_max));
            for id in 1..=3 {
                let mut encoded = Vec::new();
                reply(id).encode(encoding, &mut encoded).expect("it can be written");
                frames[0].extend(joiners[0].push(&reply(id)).expect("it can be written"));
                frames[1].extend(joiners[1].push_encoded(&encoded));
            }
            for (frames, mut joiner) in frames.into_iter().zip(joiners) {
                let frames: Vec<_> = frames.into_iter().chain(joiner.take()).collect();
                assert_eq!(frames, expected.iter().map(|text| text.as_bytes()).collect::<Vec<_>>());
                assert_eq!(joiner.take(), None);
            }
        }
    }
}
