//! Templates of channels' names and of replies: text with placeholders in braces, parsed once. What a
//! value may be is said in `segment`; where values of a message come from, in `fields`.

use super::fields::{FIELDS_MAX, FieldPath};

/// The placeholders of a channel's name, in which a field of the message stands for all of them.
pub const CHANNEL_PLACEHOLDERS: [&str; 5] =
    ["listener", "peer.ip", "principal", "client", "json.FIELD"];

/// The placeholders of a reply.
pub const REPLY_PLACEHOLDERS: [&str; 4] = ["channel", "offset", "epoch", "request_id"];

/// What a field of the message begins with.
const FIELD: &str = "json.";

/// What is wrong with the text of a template. Offsets are in bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no text.
    #[error("is empty")]
    Empty,
    /// A placeholder that is not known.
    #[error("unknown placeholder {{{name}}}")]
    Unknown {
        /// What stands between the braces.
        name: String,
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
    /// A field without a name, or with an empty step.
    #[error("{{{name}}} names no field; write {{json.FIELD}}, or {{json.OUTER.FIELD}}")]
    Field {
        /// What stands between the braces.
        name: String,
    },
    /// More fields than one look into a message finds.
    #[error("more than {FIELDS_MAX} fields of a message")]
    ManyFields,
    /// Nobody could say where the one value ends and the other begins.
    #[error("{{{first}}} and {{{second}}} need text between them")]
    Adjacent {
        /// The first of two.
        first: String,
        /// What follows it.
        second: String,
    },
    /// Whoever fills it in would choose the namespace.
    #[error("the namespace before \":\" must be written out, without placeholders")]
    Namespace,
    /// A line end, or another character that nobody sees.
    #[error("has a control character")]
    Control,
}

/// A piece of text, or what stands between braces.
enum Piece<'t> {
    Text(&'t str),
    Placeholder(&'t str),
}

/// Takes a text apart, and notes what is wrong with its braces.
fn pieces<'t>(text: &'t str, faults: &mut Vec<TemplateError>) -> Vec<Piece<'t>> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    while let Some(offset) = text[at..].find(['{', '}']) {
        pieces.push(Piece::Text(&text[at..at + offset]));
        at += offset;
        let rest = &text[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            pieces.push(Piece::Text(&rest[..1]));
            at += 2;
        } else if rest.starts_with('}') {
            faults.push(TemplateError::Unopened { at });
            at += 1;
        } else if let Some(close) = rest.find('}') {
            pieces.push(Piece::Placeholder(&rest[1..close]));
            at += close + 1;
        } else {
            faults.push(TemplateError::Unclosed { at });
            return pieces;
        }
    }
    pieces.push(Piece::Text(&text[at..]));
    pieces
}

/// Where a value of a channel's name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The listener's name.
    Listener,
    /// The peer's address; that of IPv6 with `-` for `:`.
    PeerIp,
    /// Who the connection speaks for.
    Principal,
    /// The id that subscribers know the connection by.
    Client,
    /// A field of the message: its place among the template's.
    Field(usize),
}

impl Source {
    /// Whether somebody out there chooses the value freely.
    const fn is_chosen(self) -> bool {
        matches!(self, Self::Principal | Self::Field(_))
    }
}

/// A part of a channel's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Text as it stands.
    Text(Box<str>),
    /// A value.
    Value {
        /// Where it comes from.
        source: Source,
        /// Characters that it may not have here, beside those that no segment has.
        stops: Box<str>,
    },
}

/// The name of a channel with placeholders, such as `sensors:{listener}.{json.device}`. `{{` and `}}`
/// are literal braces. Its namespace is written out: nobody who fills it in can leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelTemplate {
    text: Box<str>,
    pub(super) parts: Vec<Part>,
    pub(super) fields: Vec<FieldPath>,
}

impl ChannelTemplate {
    /// Parses a template; the placeholders are [`CHANNEL_PLACEHOLDERS`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<TemplateError>> {
        let mut faults = Vec::new();
        let mut template = Self { text: text.into(), parts: Vec::new(), fields: Vec::new() };
        for piece in pieces(text, &mut faults) {
            match piece {
                Piece::Text(text) => template.push_text(text),
                Piece::Placeholder(name) => match template.source(name) {
                    Ok(source) => {
                        template.parts.push(Part::Value { source, stops: "".into() });
                    }
                    Err(fault) => faults.push(fault),
                },
            }
        }
        if faults.is_empty() {
            template.check(&mut faults);
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        template.set_stops();
        Ok(template)
    }

    /// Texts side by side are one.
    fn push_text(&mut self, text: &str) {
        if let Some(Part::Text(last)) = self.parts.last_mut() {
            *last = [last, text].concat().into();
        } else if !text.is_empty() {
            self.parts.push(Part::Text(text.into()));
        }
    }

    fn source(&mut self, name: &str) -> Result<Source, TemplateError> {
        Ok(match name {
            "listener" => Source::Listener,
            "peer.ip" => Source::PeerIp,
            "principal" => Source::Principal,
            "client" => Source::Client,
            name if name.starts_with(FIELD) || name == "json" => {
                let path = name.strip_prefix(FIELD).and_then(FieldPath::parse);
                let path = path.ok_or_else(|| TemplateError::Field { name: name.to_owned() })?;
                let known = self.fields.iter().position(|field| *field == path);
                Source::Field(known.unwrap_or_else(|| {
                    self.fields.push(path);
                    self.fields.len() - 1
                }))
            }
            name => return Err(TemplateError::Unknown { name: name.to_owned() }),
        })
    }

    fn check(&self, faults: &mut Vec<TemplateError>) {
        if self.parts.is_empty() {
            faults.push(TemplateError::Empty);
        }
        if self.fields.len() > FIELDS_MAX {
            faults.push(TemplateError::ManyFields);
        }
        for pair in self.parts.windows(2) {
            if let [Part::Value { source: first, .. }, Part::Value { source: second, .. }] = pair {
                let (first, second) = (self.name(*first), self.name(*second));
                faults.push(TemplateError::Adjacent { first, second });
            }
        }
        if self.parts.iter().any(|part| matches!(part, Part::Text(text) if has_control(text))) {
            faults.push(TemplateError::Control);
        }
        let mut texts = self.parts.iter().enumerate();
        let ends = texts.find(|(_, part)| matches!(part, Part::Text(text) if text.contains(':')));
        if ends.is_some_and(|(at, _)| at > 0) {
            faults.push(TemplateError::Namespace);
        }
    }

    /// A value that others follow must not have what ends it, so that no two sets of values make the same
    /// name; behind `#` one value is one user.
    fn set_stops(&mut self) {
        let mut behind_hash = false;
        for at in 0..self.parts.len() {
            let (this, rest) = self.parts[at..].split_first_mut().expect("it is in the range");
            match this {
                Part::Text(text) => behind_hash |= text.contains('#'),
                Part::Value { stops, .. } => {
                    let mut rest = rest.iter();
                    let end = match rest.next() {
                        Some(Part::Text(text)) => text.chars().next(),
                        Some(Part::Value { .. }) | None => None,
                    };
                    let others = |part: &Part| matches!(part, Part::Value { source, .. } if source.is_chosen());
                    let end = end.filter(|_| rest.any(others));
                    *stops = end.into_iter().chain(behind_hash.then_some(',')).collect();
                }
            }
        }
    }

    /// What stands between the braces of a value.
    pub(super) fn name(&self, source: Source) -> String {
        match source {
            Source::Listener => "listener".to_owned(),
            Source::PeerIp => "peer.ip".to_owned(),
            Source::Principal => "principal".to_owned(),
            Source::Client => "client".to_owned(),
            Source::Field(at) => self.fields[at].to_string(),
        }
    }

    /// The namespace of every channel that it can name; empty for those without one.
    pub fn namespace(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => {
                let text = text.strip_prefix('$').unwrap_or(text);
                text.split_once(':').map_or("", |(namespace, _)| namespace)
            }
            Some(Part::Value { .. }) | None => "",
        }
    }

    /// The first field of a message that it needs, as the template writes it: `json.device`.
    pub fn first_field(&self) -> Option<String> {
        self.fields.first().map(ToString::to_string)
    }

    /// Whether it needs to know who the connection speaks for.
    pub fn names_principal(&self) -> bool {
        self.has(Source::Principal)
    }

    fn has(&self, wanted: Source) -> bool {
        let is_it = |part: &Part| matches!(part, Part::Value { source, .. } if *source == wanted);
        self.parts.iter().any(is_it)
    }
}

/// The text that it was made of.
impl std::fmt::Display for ChannelTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// The reply to a message that was published, such as `ok {offset}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTemplate {
    text: Box<str>,
    parts: Vec<ReplyPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ReplyPart {
    Text(Box<str>),
    Channel,
    Offset,
    Epoch,
    RequestId,
}

/// What a reply can tell.
#[derive(Clone, Copy)]
pub(super) struct ReplyValues<'a> {
    pub(super) channel: &'a str,
    /// The place of the publication; 0 and an empty text in a channel without a history.
    pub(super) offset: u64,
    pub(super) epoch: &'a dyn std::fmt::Display,
    pub(super) request_id: &'a dyn std::fmt::Display,
}

impl ReplyTemplate {
    /// Parses a template; the placeholders are [`REPLY_PLACEHOLDERS`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<TemplateError>> {
        let mut faults = Vec::new();
        if text.is_empty() {
            faults.push(TemplateError::Empty);
        }
        let mut parts = Vec::new();
        for piece in pieces(text, &mut faults) {
            parts.push(match piece {
                Piece::Text(text) => ReplyPart::Text(text.into()),
                Piece::Placeholder("channel") => ReplyPart::Channel,
                Piece::Placeholder("offset") => ReplyPart::Offset,
                Piece::Placeholder("epoch") => ReplyPart::Epoch,
                Piece::Placeholder("request_id") => ReplyPart::RequestId,
                Piece::Placeholder(name) => {
                    faults.push(TemplateError::Unknown { name: name.to_owned() });
                    continue;
                }
            });
        }
        if faults.is_empty() { Ok(Self { text: text.into(), parts }) } else { Err(faults) }
    }

    /// The reply with its values.
    pub(super) fn render(&self, values: ReplyValues<'_>) -> String {
        use std::fmt::Write as _;
        let mut reply = String::with_capacity(self.text.len() + values.channel.len());
        for part in &self.parts {
            match part {
                ReplyPart::Text(text) => reply.push_str(text),
                ReplyPart::Channel => reply.push_str(values.channel),
                ReplyPart::Offset => write!(reply, "{}", values.offset).expect(INFALLIBLE),
                ReplyPart::Epoch => write!(reply, "{}", values.epoch).expect(INFALLIBLE),
                ReplyPart::RequestId => write!(reply, "{}", values.request_id).expect(INFALLIBLE),
            }
        }
        reply
    }
}

const INFALLIBLE: &str = "writing to a string does not fail";

/// The text that it was made of.
impl std::fmt::Display for ReplyTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_faults(text: &str, expected: &[&str]) {
        let faults = ChannelTemplate::parse(text).expect_err("it is none");
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, expected, "{text}");
    }

    #[test]
    fn everything_that_is_wrong_with_a_template_is_told_at_once() {
        check_faults("", &["is empty"]);
        check_faults(
            "a:{jsn.device}.{peer}}.{json.x",
            &[
                "`}` at byte 21 has no `{`; write `}}` for a brace",
                "`{` at byte 23 has no `}`; write `{{` for a brace",
                "unknown placeholder {jsn.device}",
                "unknown placeholder {peer}",
            ],
        );
        for name in ["json", "json.", "json.a..b", "json..a"] {
            let text = "names no field; write {json.FIELD}, or {json.OUTER.FIELD}";
            check_faults(&format!("a:{{{name}}}"), &[&format!("{{{name}}} {text}")]);
        }
        check_faults("a:\n{listener}", &["has a control character"]);
        let many: String = (0..=FIELDS_MAX).map(|n| format!(".{{json.f{n}}}")).collect();
        check_faults(&many, &["more than 8 fields of a message"]);
    }

    #[test]
    fn a_namespace_is_written_out_or_there_is_none() {
        let text = "the namespace before \":\" must be written out, without placeholders";
        for free in
            ["{json.kind}:x", "{listener}:x", "a{json.kind}:x", "${principal}:x", "{json.a}b:"]
        {
            check_faults(free, &[text]);
        }
        for (template, namespace) in [
            ("sensors:{json.device}", "sensors"),
            ("$sensors:{json.device}", "sensors"),
            ("sensors:{json.a}:{json.b}", "sensors"),
            ("sensors", ""),
            ("{json.device}", ""),
            ("news-{json.device}", ""),
        ] {
            let parsed = ChannelTemplate::parse(template).expect("a template");
            assert_eq!(parsed.namespace(), namespace, "{template}");
            assert_eq!(parsed.to_string(), template);
        }
    }

    #[test]
    fn values_need_text_between_them() {
        check_faults("a:{json.x}{listener}", &["{json.x} and {listener} need text between them"]);
        assert!(ChannelTemplate::parse("a:{json.x}-{listener}").is_ok());
    }

    /// The characters that each value of a template may not have beside the usual ones.
    fn stops(text: &str) -> Vec<String> {
        let template = ChannelTemplate::parse(text).expect("a template");
        let stops = |part: &Part| match part {
            Part::Value { stops, .. } => Some(stops.to_string()),
            Part::Text(_) => None,
        };
        template.parts.iter().filter_map(stops).collect()
    }

    #[test]
    fn a_value_cannot_reach_into_the_next_one() {
        assert_eq!(stops("a:{json.site}.{json.device}"), [".", ""]);
        assert_eq!(stops("a:{json.site}--{json.device}-x"), ["-", ""]);
        assert_eq!(stops("a:{json.site}.x.{listener}"), ["", ""]);
        assert_eq!(stops("a:{principal}/{json.x}"), ["/", ""]);
        assert_eq!(stops("a:{json.x}#{json.to}"), ["#", ","]);
    }

    #[test]
    fn a_field_that_stands_twice_is_looked_for_once() {
        let template = ChannelTemplate::parse("a:{json.x}.{json.y}.{json.x}").expect("a template");
        assert_eq!(template.fields.len(), 2);
        assert_eq!(template.first_field().as_deref(), Some("json.x"));
        assert!(!template.names_principal());
    }

    #[test]
    fn braces_are_written_twice() {
        let template = ChannelTemplate::parse("a:{{x}}").expect("a template");
        assert_eq!(template.parts, [Part::Text("a:{x}".into())]);
    }

    #[test]
    fn a_reply_tells_what_became_of_the_message() {
        let template = ReplyTemplate::parse("{{{channel}}} {offset}@{epoch} {request_id}!");
        let values = ReplyValues { channel: "a:b", offset: 7, epoch: &"e", request_id: &"r" };
        assert_eq!(template.expect("a template").render(values), "{a:b} 7@e r!");
        let faults = ReplyTemplate::parse("{ofset}").expect_err("no placeholder");
        assert_eq!(faults, [TemplateError::Unknown { name: "ofset".to_owned() }]);
        assert_eq!(ReplyTemplate::parse(""), Err(vec![TemplateError::Empty]));
    }
}
