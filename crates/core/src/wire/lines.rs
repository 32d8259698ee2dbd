//! Lines: a message is what stands before an LF, or a CRLF. Nothing here knows what a line means.

use std::ops::Range;

use memchr::{memchr, memchr2, memrchr};

use super::utf8;
use super::{FrameError, Step};
use crate::service::MessageKind;

/// What becomes of a line with nothing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyLines {
    /// It is no message: senders use it as a heartbeat.
    Skip,
    /// It is an empty message.
    Deliver,
}

/// What becomes of bytes without a line ending when the peer ends its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnfinishedLine {
    /// They may be half a message, so they are none.
    Drop,
    /// They are the last message.
    Deliver,
}

/// How lines are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether lines are text, checked to be UTF-8, or bytes.
    pub text: bool,
    /// Empty lines.
    pub empty: EmptyLines,
    /// The last line of a stream that does not end with a line ending.
    pub unfinished: UnfinishedLine,
}

/// Finds lines in a stream.
#[derive(Clone, Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    /// Bytes of the unfinished line known to hold no LF, so that a line that comes a byte at a
    /// time is searched once and not once a byte.
    scanned: u32,
    /// Bytes from the start of the buffer that are known to be UTF-8: the lines of one read are
    /// checked together, at a fraction of the cost of one check each.
    checked: u32,
    /// No line up to `checked` has a CR, so that a reply may repeat it unsearched.
    plain: bool,
    options: Options,
}

impl Decoder {
    /// A decoder for lines of at most `message_bytes_max` bytes, line ending not counted.
    pub fn new(options: Options, message_bytes_max: usize) -> Self {
        Self { message_bytes_max, scanned: 0, checked: 0, plain: false, options }
    }

    /// Finds the next line in `buf`, which starts at the first byte not yet taken. A lone CR is
    /// part of its line.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooBig`] as soon as the line is known to be over the cap, ended or not;
    /// [`FrameError::InvalidUtf8`] when lines are text and this one is not. Both are final.
    #[inline]
    pub fn step(&mut self, buf: &mut [u8]) -> Result<Step, FrameError> {
        if self.options.empty == EmptyLines::Skip {
            let taken = blank_prefix(buf);
            if taken > 0 {
                self.take(taken);
                return Ok(Step::Skip { taken });
            }
        }
        let scanned = buf.len().min(self.scanned as usize);
        let Some(found) = memchr(b'\n', &buf[scanned..]) else {
            self.within_cap(without_cr(buf))?;
            self.scanned = u32::try_from(buf.len()).unwrap_or(u32::MAX);
            return Ok(Step::More { need: 0 });
        };
        let end = scanned + found;
        let payload = without_cr(&buf[..end]);
        self.within_cap(payload)?;
        let payload = 0..payload.len();
        if end > self.checked as usize {
            self.check(buf, end)?;
        }
        self.take(end + 1);
        Ok(Step::Message { payload, taken: end + 1, kind: self.kind() })
    }

    /// Whether the message of the last step is known to hold neither LF nor CR.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Checks the line that ends at `end`, and with it every whole line behind it.
    fn check(&mut self, buf: &[u8], end: usize) -> Result<(), FrameError> {
        let lines = &buf[..memrchr(b'\n', buf).map_or(end, |last| last + 1)];
        self.plain = memchr(b'\r', lines).is_none();
        let valid = if self.options.text {
            simdutf8::compat::from_utf8(lines).map_or_else(|error| error.valid_up_to(), str::len)
        } else {
            lines.len()
        };
        self.checked = u32::try_from(valid).unwrap_or(u32::MAX);
        if valid < end { Err(FrameError::InvalidUtf8) } else { Ok(()) }
    }

    /// The next buffer starts `taken` bytes further on.
    fn take(&mut self, taken: usize) {
        self.scanned = 0;
        self.checked = self.checked.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
    }

    fn kind(&self) -> MessageKind {
        if self.options.text { MessageKind::Text } else { MessageKind::Binary }
    }

    /// Judges what is left when the peer has ended its side: the payload's place in `rest`, when
    /// an unfinished line is to be delivered and there is one.
    ///
    /// # Errors
    ///
    /// As [`Decoder::step`].
    pub fn finish(
        &mut self,
        rest: &[u8],
    ) -> Result<Option<(Range<usize>, MessageKind)>, FrameError> {
        self.take(rest.len());
        self.plain = false;
        if self.options.unfinished == UnfinishedLine::Drop || rest.is_empty() {
            return Ok(None);
        }
        let payload = without_cr(rest);
        self.within_cap(payload)?;
        if payload.is_empty() && self.options.empty == EmptyLines::Skip {
            return Ok(None);
        }
        if self.options.text {
            utf8::check(payload)?;
        }
        Ok(Some((0..payload.len(), self.kind())))
    }

    fn within_cap(&self, payload: &[u8]) -> Result<(), FrameError> {
        if payload.len() > self.message_bytes_max {
            let size = payload.len() as u64;
            return Err(FrameError::TooBig { size, max: self.message_bytes_max });
        }
        Ok(())
    }
}

/// The line without the CR of a CRLF whose LF is cut off, or may yet come.
fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How many bytes of empty lines `buf` starts with: a flood of them is one step.
fn blank_prefix(buf: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match &buf[at..] {
            [b'\n', ..] => at += 1,
            [b'\r', b'\n', ..] => at += 2,
            _ => return at,
        }
    }
}

/// Appends `payload` as one line, ended by LF. An LF or CR inside would make it two lines to the
/// reader, so each is written as a space; the length stays.
pub fn encode(payload: &[u8], out: &mut Vec<u8>) {
    encode_parts(&[payload], Plain::default(), out);
}

/// Bytes in memory that are known to hold neither LF nor CR: the message that is being answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain {
    at: usize,
    len: usize,
}

impl Plain {
    /// These bytes, as long as they are borrowed.
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        Self { at: bytes.as_ptr().addr(), len: bytes.len() }
    }

    /// Whether `part` is these bytes, not only their like.
    #[inline]
    fn is(self, part: &[u8]) -> bool {
        (self.at, self.len) == (part.as_ptr().addr(), part.len())
    }
}

/// Appends `parts`, joined, as one line: see [`encode`]. The part that is `plain` is not searched.
#[inline]
pub fn encode_parts(parts: &[&[u8]], plain: Plain, out: &mut Vec<u8>) {
    for part in parts {
        out.reserve(part.len() + 1);
        if plain.is(part) {
            out.extend_from_slice(part);
            continue;
        }
        // The part is searched, not its copy: reading what was just written would stall.
        let mut rest = *part;
        while let Some(found) = memchr2(b'\n', b'\r', rest) {
            out.extend_from_slice(&rest[..found]);
            out.push(b' ');
            rest = &rest[found + 1..];
        }
        out.extend_from_slice(rest);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Options =
        Options { text: true, empty: EmptyLines::Skip, unfinished: UnfinishedLine::Drop };
    const MAX: usize = 8;

    /// Decodes the whole input; what is unfinished goes to `finish`.
    fn decode(options: Options, input: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut decoder = Decoder::new(options, MAX);
        let (mut input, mut at, mut messages) = (input.to_vec(), 0, Vec::new());
        loop {
            match decoder.step(&mut input[at..])? {
                Step::Message { payload, taken, .. } => {
                    messages.push(input[at..][payload].to_vec());
                    at += taken;
                }
                Step::Skip { taken } => at += taken,
                Step::More { .. } => break,
                other @ (Step::Gathered { .. }
                | Step::Ping { .. }
                | Step::Pong { .. }
                | Step::Close { .. }) => panic!("not a step of lines: {other:?}"),
            }
        }
        messages
            .extend(decoder.finish(&input[at..])?.map(|(range, _)| input[at..][range].to_vec()));
        Ok(messages)
    }

    #[track_caller]
    fn check(options: Options, input: &[u8], expected: &[&[u8]]) {
        let messages = decode(options, input).expect("the input is valid");
        assert_eq!(messages, expected);
    }

    #[track_caller]
    fn refused(options: Options, input: &[u8], expected: FrameError) {
        assert_eq!(decode(options, input), Err(expected));
    }

    #[test]
    fn lines_end_with_lf_or_crlf_and_a_lone_cr_is_data() {
        check(TEXT, b"one\ntwo\r\nth\rree\n", &[b"one", b"two", b"th\rree"]);
        check(TEXT, b"a\r\r\n", &[b"a\r"]);
        check(TEXT, "żółw\n".as_bytes(), &["żółw".as_bytes()]);
    }

    #[test]
    fn empty_lines_are_skipped_or_delivered() {
        check(TEXT, b"\n\r\n\na\n\n", &[b"a"]);
        let deliver = Options { empty: EmptyLines::Deliver, ..TEXT };
        check(deliver, b"\n\r\na\n", &[b"", b"", b"a"]);
    }

    #[test]
    fn an_unfinished_line_is_dropped_or_delivered() {
        check(TEXT, b"a\nb", &[b"a"]);
        let deliver = Options { unfinished: UnfinishedLine::Deliver, ..TEXT };
        check(deliver, b"a\nb", &[b"a", b"b"]);
        check(deliver, b"a\nb\r", &[b"a", b"b"]);
        check(deliver, b"a\n", &[b"a"]);
        check(deliver, b"a\n\r", &[b"a"]);
        refused(deliver, b"a\n\xff", FrameError::InvalidUtf8);
    }

    #[test]
    fn the_cap_counts_the_payload_without_its_ending() {
        check(TEXT, b"12345678\n", &[b"12345678"]);
        check(TEXT, b"12345678\r\n", &[b"12345678"]);
        check(TEXT, b"12345678\r", &[]);
        refused(TEXT, b"123456789\n", FrameError::TooBig { size: 9, max: MAX });
        refused(TEXT, b"123456789", FrameError::TooBig { size: 9, max: MAX });
        refused(TEXT, b"12345678\rx", FrameError::TooBig { size: 10, max: MAX });
    }

    #[test]
    fn text_is_checked_and_bytes_are_not() {
        refused(TEXT, b"a\xc3\n", FrameError::InvalidUtf8);
        check(Options { text: false, ..TEXT }, b"a\xc3\n", &[b"a\xc3"]);
    }

    #[test]
    fn a_line_that_comes_a_byte_at_a_time_is_searched_once() {
        let mut decoder = Decoder::new(TEXT, MAX);
        let mut input = *b"1234567\n";
        for len in 0..input.len() {
            assert_eq!(decoder.step(&mut input[..len]), Ok(Step::More { need: 0 }));
            assert_eq!(decoder.scanned as usize, len);
        }
        assert!(matches!(decoder.step(&mut input), Ok(Step::Message { taken: 8, .. })));
        assert_eq!(decoder.scanned, 0);
    }

    #[test]
    fn a_payload_with_line_endings_is_written_as_one_line() {
        let mut out = b"before\n".to_vec();
        encode(b"a\r\nb\nc", &mut out);
        assert_eq!(out, b"before\na  b c\n");
    }

    #[test]
    fn a_message_is_plain_only_when_no_line_of_its_read_has_a_cr() {
        let options = Options { unfinished: UnfinishedLine::Deliver, ..TEXT };
        let step = |decoder: &mut Decoder, input: &[u8]| {
            assert!(matches!(decoder.step(&mut input.to_vec()), Ok(Step::Message { .. })));
            decoder.is_plain()
        };
        let mut decoder = Decoder::new(options, MAX);
        assert!(step(&mut decoder, b"ab\nc\n"));
        assert!(step(&mut decoder, b"c\n"));
        assert!(!step(&mut decoder, b"d\ne\rf\n"));
        assert!(!step(&mut decoder, b"e\rf\n"));
        assert!(step(&mut decoder, b"g\nh\ri"));
        assert!(matches!(decoder.finish(b"h\ri"), Ok(Some((range, _))) if range == (0..3)));
        assert!(!decoder.is_plain());
    }

    #[test]
    fn a_part_that_only_looks_like_the_plain_one_is_searched() {
        let (plain, other) = (b"a\nb".to_vec(), b"a\nb".to_vec());
        let mut out = Vec::new();
        encode_parts(&[&other, &plain], Plain::new(&plain), &mut out);
        assert_eq!(out, b"a ba\nb\n", "whoever says plain is believed, and no other part");
    }

    #[test]
    fn an_idle_decoder_is_small() {
        assert!(size_of::<Decoder>() <= 24);
    }
}
