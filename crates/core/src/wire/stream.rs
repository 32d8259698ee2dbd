//! Messages in an HTTP response that does not end: Server-Sent Events, or one message after the
//! other. A message is one chunk; nothing here knows requests, heads or sessions.

use memchr::memchr2;

use super::{FrameError, Step};
use crate::service::MessageKind;

/// Bytes behind a request that are read and dropped: nobody means them, somebody may send them.
const IGNORED_BYTES_MAX: u32 = 64 * 1024;
/// The chunk that ends a body (RFC 9112, section 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// What starts a line of an event's data.
const DATA: &[u8] = b"data: ";

/// Takes bytes, a piece at a time.
type Put<'a> = dyn FnMut(&[u8]) + 'a;

/// What the body of the response is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Server-Sent Events: an event each message, `data: <message>` and a blank line.
    Sse,
    /// Text ends with an LF; bytes stand as they are, and bring their own framing.
    HttpStream,
}

/// How the reader finds the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// By its last chunk.
    Chunked,
    /// By the end of the connection: HTTP/1.0.
    Close,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// What a message looks like.
    pub form: Form,
    /// What stands around it.
    pub framing: Framing,
}

impl Options {
    /// Appends `parts`, joined, as one message.
    ///
    /// Lines of an event's data are one `data:` each (WHATWG HTML, section 9.2.6): CR and CRLF
    /// arrive as LF. Lines inside text of [`Form::HttpStream`] stay lines.
    pub fn encode(self, parts: &[&[u8]], kind: MessageKind, out: &mut Vec<u8>) {
        match (self.form, kind) {
            (Form::Sse, _) => self.chunk(&|put| event(parts, put), out),
            (Form::HttpStream, kind) => {
                let write = |put: &mut Put<'_>| {
                    parts.iter().for_each(|part| put(part));
                    if kind == MessageKind::Text {
                        put(b"\n");
                    }
                };
                self.chunk(&write, out);
            }
        }
    }

    /// Appends what a body starts with: events are preceded by a blank line.
    pub fn begin(self, out: &mut Vec<u8>) {
        if self.form == Form::Sse {
            self.chunk(&|put| put(b"\r\n"), out);
        }
    }

    /// Appends what keeps a quiet stream alive and no reader sees: a comment. False where there is
    /// nothing of that kind.
    pub fn heartbeat(self, out: &mut Vec<u8>) -> bool {
        if self.form == Form::Sse {
            self.chunk(&|put| put(b":\n\n"), out);
        }
        self.form == Form::Sse
    }

    /// Appends the end of the body.
    pub fn end(self, out: &mut Vec<u8>) {
        if self.framing == Framing::Chunked {
            out.extend_from_slice(LAST_CHUNK);
        }
    }

    /// Appends what `write` puts as one chunk. It is asked twice, for the size comes first.
    fn chunk(self, write: &dyn Fn(&mut Put<'_>), out: &mut Vec<u8>) {
        if self.framing == Framing::Close {
            return write(&mut |bytes| out.extend_from_slice(bytes));
        }
        let mut size = 0;
        write(&mut |bytes| size += bytes.len());
        if size == 0 {
            // A chunk of nothing would be the last one.
            return;
        }
        out.reserve(size + 2 * size_of::<usize>() + 4);
        hex(size, out);
        out.extend_from_slice(b"\r\n");
        write(&mut |bytes| out.extend_from_slice(bytes));
        out.extend_from_slice(b"\r\n");
    }
}

/// `parts`, joined, as one event.
fn event(parts: &[&[u8]], put: &mut Put<'_>) {
    put(DATA);
    let mut after_cr = false;
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let mut rest = match part.strip_prefix(b"\n") {
            Some(rest) if after_cr => rest,
            Some(_) | None => part,
        };
        after_cr = false;
        while let Some(at) = memchr2(b'\n', b'\r', rest) {
            put(&rest[..at]);
            put(b"\n");
            put(DATA);
            let is_cr = rest[at] == b'\r';
            rest = &rest[at + 1..];
            after_cr = is_cr && rest.is_empty();
            if is_cr {
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
        }
        put(rest);
    }
    put(b"\n\n");
}

/// Appends a number that is not 0 in hexadecimal, without leading zeros.
fn hex(n: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - n.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(n >> (4 * digit)) & 0xf]);
    }
}

/// The message that the request of a stream brought: the first bytes of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How many bytes.
    pub bytes: u32,
    /// Text or bytes.
    pub kind: MessageKind,
}

/// Takes the message of the request, and drops what comes behind it.
#[derive(Clone, Debug)]
pub struct Decoder {
    request: Option<Request>,
    ignored: u32,
}

impl Decoder {
    /// A decoder that is offered the message of `request` first, whole.
    pub fn new(request: Option<Request>) -> Self {
        Self { request, ignored: 0 }
    }

    /// Takes what is in `buf`, which starts at the first byte not yet taken.
    ///
    /// # Errors
    ///
    /// [`FrameError::Protocol`] when more than 64 KiB came behind the request. It is final.
    pub fn step(&mut self, buf: &mut [u8]) -> Result<Step, FrameError> {
        if let Some(Request { bytes, kind }) = self.request.take() {
            let taken = buf.len().min(bytes as usize);
            return Ok(Step::Message { payload: 0..taken, taken, kind });
        }
        self.ignored = self.ignored.saturating_add(u32::try_from(buf.len()).unwrap_or(u32::MAX));
        if self.ignored > IGNORED_BYTES_MAX {
            return Err(FrameError::Protocol("bytes behind the request of a stream"));
        }
        Ok(Step::Skip { taken: buf.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: MessageKind = MessageKind::Text;

    fn encoded(form: Form, framing: Framing, parts: &[&[u8]], kind: MessageKind) -> String {
        let mut out = Vec::new();
        Options { form, framing }.encode(parts, kind, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn event_is(parts: &[&[u8]], expected: &str) {
        assert_eq!(encoded(Form::Sse, Framing::Close, parts, TEXT), expected, "{parts:?}");
    }

    #[test]
    fn a_message_is_one_event_and_each_of_its_lines_is_data() {
        event_is(&[b"{}"], "data: {}\n\n");
        event_is(&[b""], "data: \n\n");
        event_is(&[], "data: \n\n");
        event_is(&[b"a\nb"], "data: a\ndata: b\n\n");
        event_is(&[b"a\rb\r\nc\n"], "data: a\ndata: b\ndata: c\ndata: \n\n");
        event_is(&[b"a\n\nb"], "data: a\ndata: \ndata: b\n\n");
    }

    #[test]
    fn where_the_parts_of_a_message_end_makes_no_difference() {
        let whole: &[u8] = b"a\r\nb\r\r\n\nc\r";
        let expected = encoded(Form::Sse, Framing::Chunked, &[whole], TEXT);
        for at in 0..=whole.len() {
            let (one, two) = whole.split_at(at);
            let cut = encoded(Form::Sse, Framing::Chunked, &[one, b"", two], TEXT);
            assert_eq!(cut, expected, "{at}");
        }
    }

    #[test]
    fn a_message_of_a_stream_is_a_line_or_bytes_as_they_are() {
        let form = Form::HttpStream;
        assert_eq!(encoded(form, Framing::Close, &[b"{", b"}"], TEXT), "{}\n");
        assert_eq!(encoded(form, Framing::Close, &[b"\0\n"], MessageKind::Binary), "\0\n");
    }

    #[test]
    fn a_message_is_one_chunk_and_never_the_last() {
        let form = Form::HttpStream;
        assert_eq!(encoded(form, Framing::Chunked, &[b"{}"], TEXT), "3\r\n{}\n\r\n");
        assert_eq!(encoded(Form::Sse, Framing::Chunked, &[b"{}"], TEXT), "a\r\ndata: {}\n\n\r\n");
        assert_eq!(encoded(form, Framing::Chunked, &[b""], MessageKind::Binary), "");
        for len in [15, 16, 255, 256, 4095, 4096, 1 << 20] {
            let chunk = encoded(form, Framing::Chunked, &[&vec![b'x'; len - 1]], TEXT);
            let (size, body) = chunk.split_once("\r\n").unwrap();
            assert_eq!((usize::from_str_radix(size, 16), body.len()), (Ok(len), len + 2));
        }
    }

    #[test]
    fn only_events_have_a_beginning_and_a_heartbeat_and_only_chunks_an_end() {
        let told = |form, framing| {
            let (options, mut out) = (Options { form, framing }, Vec::new());
            options.begin(&mut out);
            let beats = options.heartbeat(&mut out);
            options.end(&mut out);
            (beats, String::from_utf8(out).unwrap())
        };
        let chunked = "2\r\n\r\n\r\n3\r\n:\n\n\r\n0\r\n\r\n".to_owned();
        assert_eq!(told(Form::Sse, Framing::Chunked), (true, chunked));
        assert_eq!(told(Form::Sse, Framing::Close), (true, "\r\n:\n\n".to_owned()));
        assert_eq!(told(Form::HttpStream, Framing::Chunked), (false, "0\r\n\r\n".to_owned()));
        assert_eq!(told(Form::HttpStream, Framing::Close), (false, String::new()));
    }

    #[test]
    fn what_comes_behind_the_request_is_dropped_within_a_bound() {
        let request = Request { bytes: 5, kind: TEXT };
        let mut decoder = Decoder::new(Some(request));
        let mut input = *b"hellobehind";
        let message = Step::Message { payload: 0..5, taken: 5, kind: TEXT };
        assert_eq!(decoder.step(&mut input), Ok(message));
        assert_eq!(decoder.step(&mut input[5..]), Ok(Step::Skip { taken: 6 }));
        let mut flood = vec![0; IGNORED_BYTES_MAX as usize - 6];
        assert_eq!(decoder.step(&mut flood), Ok(Step::Skip { taken: flood.len() }));
        assert!(decoder.step(&mut input[..1]).is_err());
    }

    #[test]
    fn a_request_without_a_message_brings_none() {
        let mut decoder = Decoder::new(None);
        assert_eq!(decoder.step(&mut [1, 2]), Ok(Step::Skip { taken: 2 }));
    }
}
