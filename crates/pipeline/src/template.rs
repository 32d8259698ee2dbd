//! Reply templates: text with placeholders, parsed once into parts.
//!
//! A template knows what a placeholder is called, not where its value comes from or goes to.

use std::net::SocketAddr;

/// Text with placeholders, such as `received: {message}`. `{{` and `}}` are literal braces.
///
/// Values are put in as they are: a template in JSON does not escape the message for JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Placeholder(Placeholder),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Message,
    RequestId,
    Listener,
    Peer,
}

impl Placeholder {
    const ALL: [Self; 4] = [Self::Message, Self::RequestId, Self::Listener, Self::Peer];

    const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::RequestId => "request_id",
            Self::Listener => "listener",
            Self::Peer => "peer",
        }
    }
}

/// Why a text is not a template. Offsets are in bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder that is not known.
    #[error("unknown placeholder {{{name}}}, the nearest is {{{nearest}}}")]
    Unknown {
        /// What stands between the braces.
        name: String,
        /// The known name that looks most like it.
        nearest: &'static str,
    },
    /// A `{` without its `}`.
    #[error("`{{` at byte {at} has no `}}`; write `{{{{` for a brace")]
    Unclosed {
        /// Where the brace is.
        at: usize,
    },
    /// A `}` without its `{`.
    #[error("`}}` at byte {at} has no `{{`; write `}}}}` for a brace")]
    Unopened {
        /// Where the brace is.
        at: usize,
    },
    /// More parts than [`Template::PARTS_MAX`].
    #[error("{parts} texts and placeholders are over the {max} of a template")]
    TooLong {
        /// How many it has.
        parts: usize,
        /// How many it may have.
        max: usize,
    },
}

impl Template {
    /// Most texts and placeholders in one template, so that filling one in needs no heap.
    pub const PARTS_MAX: usize = 16;

    /// Parses a template. The placeholders are `{message}`, `{request_id}`, `{listener}` and
    /// `{peer}`.
    ///
    /// # Errors
    ///
    /// The first fault from the left, or `TooLong`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Parts::default();
        let mut at = 0;
        while let Some(offset) = text[at..].find(['{', '}']) {
            parts.text(&text[at..at + offset]);
            at += offset;
            let rest = &text[at..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                parts.text(&rest[..1]);
                at += 2;
            } else if rest.starts_with('}') {
                return Err(TemplateError::Unopened { at });
            } else {
                let close = rest.find('}').ok_or(TemplateError::Unclosed { at })?;
                parts.placeholder(placeholder(&rest[1..close])?);
                at += close + 1;
            }
        }
        parts.text(&text[at..]);
        parts.finish()
    }

    /// Whether the text depends on the connection alone in some part: see [`Template::bind`].
    pub(crate) fn names_connection(&self) -> bool {
        self.parts.iter().any(|part| {
            matches!(part, Part::Placeholder(Placeholder::Listener | Placeholder::Peer))
        })
    }

    /// Whether `{request_id}` is in it, so that others need not format one.
    pub(crate) fn names_request(&self) -> bool {
        self.parts.contains(&Part::Placeholder(Placeholder::RequestId))
    }

    /// Puts in what stays the same for a connection.
    pub(crate) fn bind(&self, listener: &str, peer: SocketAddr) -> Self {
        let mut bound = Parts::default();
        for part in &self.parts {
            match part {
                Part::Literal(text) => bound.text(text),
                Part::Placeholder(Placeholder::Listener) => bound.text(listener),
                Part::Placeholder(Placeholder::Peer) => bound.text(&peer.to_string()),
                Part::Placeholder(other) => bound.placeholder(*other),
            }
        }
        bound.finish().expect("joining texts makes no more parts")
    }

    /// Hands `write` the parts in order with their values. Allocates nothing.
    ///
    /// `{listener}` and `{peer}` are nothing here: [`Template::bind`] has put them in.
    pub(crate) fn fill(&self, message: &[u8], request_id: &[u8], write: impl FnOnce(&[&[u8]])) {
        // Most templates have a few parts: the others pay for a long row of them.
        if self.parts.len() <= 2 {
            self.fill_into(&mut [&[][..]; 2], message, request_id, write);
        } else {
            self.fill_into(&mut [&[][..]; Self::PARTS_MAX], message, request_id, write);
        }
    }

    #[inline]
    fn fill_into<'a>(
        &'a self,
        row: &mut [&'a [u8]],
        message: &'a [u8],
        request_id: &'a [u8],
        write: impl FnOnce(&[&[u8]]),
    ) {
        for (slot, part) in row.iter_mut().zip(&self.parts) {
            *slot = match part {
                Part::Literal(text) => text.as_bytes(),
                Part::Placeholder(Placeholder::Message) => message,
                Part::Placeholder(Placeholder::RequestId) => request_id,
                Part::Placeholder(Placeholder::Listener | Placeholder::Peer) => &[],
            };
        }
        write(&row[..self.parts.len()]);
    }
}

impl Default for Template {
    /// `{message}`: the message as it came.
    fn default() -> Self {
        Self { parts: vec![Part::Placeholder(Placeholder::Message)] }
    }
}

/// Gathers parts; texts side by side become one.
#[derive(Default)]
struct Parts {
    done: Vec<Part>,
    text: String,
}

impl Parts {
    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn placeholder(&mut self, placeholder: Placeholder) {
        self.end_text();
        self.done.push(Part::Placeholder(placeholder));
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            self.done.push(Part::Literal(std::mem::take(&mut self.text).into_boxed_str()));
        }
    }

    fn finish(mut self) -> Result<Template, TemplateError> {
        self.end_text();
        let (parts, max) = (self.done.len(), Template::PARTS_MAX);
        if parts > max {
            return Err(TemplateError::TooLong { parts, max });
        }
        Ok(Template { parts: self.done })
    }
}

fn placeholder(name: &str) -> Result<Placeholder, TemplateError> {
    let known = Placeholder::ALL.into_iter().find(|known| known.name() == name);
    known.ok_or_else(|| TemplateError::Unknown { name: name.to_owned(), nearest: nearest(name) })
}

fn nearest(name: &str) -> &'static str {
    let names = Placeholder::ALL.map(Placeholder::name);
    names.into_iter().min_by_key(|known| edits(name, known)).unwrap_or("message")
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: &str) {
        let template = Template::parse(template).expect("a good template");
        let bound = template.bind("lines", SocketAddr::from(([127, 0, 0, 1], 4242)));
        let mut filled = Vec::new();
        bound.fill(b"hello", b"7-1", |parts| filled = parts.concat());
        assert_eq!(String::from_utf8_lossy(&filled), expected);
    }

    fn check_fault(template: &str, expected: &TemplateError, text: &str) {
        let fault = Template::parse(template).expect_err("a bad template");
        assert_eq!(fault, *expected);
        assert_eq!(fault.to_string(), text);
    }

    #[test]
    fn placeholders_are_replaced_and_the_rest_stays() {
        check("{message}", "hello");
        check("received: {message}", "received: hello");
        check("{request_id} {listener} {peer}", "7-1 lines 127.0.0.1:4242");
        check("{message}{message}!", "hellohello!");
        check("größe: {message} ✓", "größe: hello ✓");
        check("", "");
        check("ok", "ok");
    }

    #[test]
    fn doubled_braces_are_literal() {
        check("{{message}}", "{message}");
        check(r#"{{"got":"{message}"}}"#, r#"{"got":"hello"}"#);
        check("{{{message}}}", "{hello}");
    }

    #[test]
    fn an_unknown_placeholder_is_named_with_the_nearest_known() {
        let unknown = |name: &str, nearest| TemplateError::Unknown { name: name.into(), nearest };
        let text = "unknown placeholder {mesage}, the nearest is {message}";
        check_fault("got {mesage}", &unknown("mesage", "message"), text);
        let text = "unknown placeholder {requestid}, the nearest is {request_id}";
        check_fault("{requestid}", &unknown("requestid", "request_id"), text);
        let text = "unknown placeholder {Peer}, the nearest is {peer}";
        check_fault("{Peer}", &unknown("Peer", "peer"), text);
        let text = "unknown placeholder {}, the nearest is {peer}";
        check_fault("{}", &unknown("", "peer"), text);
    }

    #[test]
    fn a_lone_brace_is_refused_with_its_place() {
        let text = "`{` at byte 3 has no `}`; write `{{` for a brace";
        check_fault("ab {message", &TemplateError::Unclosed { at: 3 }, text);
        let text = "`}` at byte 7 has no `{`; write `}}` for a brace";
        check_fault("message}", &TemplateError::Unopened { at: 7 }, text);
    }

    #[test]
    fn parts_are_bounded_so_that_filling_needs_no_heap() {
        check(&"{message}".repeat(Template::PARTS_MAX), &"hello".repeat(Template::PARTS_MAX));
        let text = "17 texts and placeholders are over the 16 of a template";
        check_fault(
            &"{message}".repeat(17),
            &TemplateError::TooLong { parts: 17, max: Template::PARTS_MAX },
            text,
        );
    }

    #[test]
    fn the_default_gives_the_message_back() {
        assert_eq!(Template::parse("{message}"), Ok(Template::default()));
    }
}
