//! The two forms of a log line: a flat JSON object, and one for people. Pure: a line in, text out.

use std::fmt::Write;

use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::layer::Fields;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"ts":…,"level":…,"target":…,"msg":…,` and the fields, `}`.
    Json,
    /// Time, level, message and `key=value`, with the level in colour if wanted.
    Human {
        /// Whether the reader is a terminal.
        colour: bool,
    },
}

/// Keys that every line has; a field of this name gets an underscore behind it.
const KEYS: [&str; 4] = ["ts", "level", "target", "msg"];

impl Form {
    /// An event as a line, with its line feed; `span` is the trace and span that it belongs to.
    pub(super) fn line(self, event: &Event<'_>, span: Option<(u128, u64)>) -> String {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some((trace_id, span_id)) = span {
            fields.list.push(("trace_id", format!("{trace_id:032x}").into()));
            fields.list.push(("span_id", format!("{span_id:016x}").into()));
        }
        let metadata = event.metadata();
        self.assemble(&timestamp(), *metadata.level(), metadata.target(), &fields)
    }

    /// The line that tells how many lines were dropped before it.
    pub(super) fn dropped(self, lines: u64) -> String {
        let mut fields = Fields { message: format!("dropped {lines} lines"), ..Fields::default() };
        fields.list.push(("dropped", lines.into()));
        self.assemble(&timestamp(), Level::WARN, "weir::log", &fields)
    }

    fn assemble(self, ts: &str, level: Level, target: &str, fields: &Fields) -> String {
        match self {
            Self::Json => json(ts, level, target, fields),
            Self::Human { colour } => human(ts, level, target, fields, colour),
        }
    }
}

fn json(ts: &str, level: Level, target: &str, fields: &Fields) -> String {
    // Text in quotes and with escapes, as JSON writes it.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut line = format!(
        "{{\"ts\":\"{ts}\",\"level\":\"{}\",\"target\":{},\"msg\":{}",
        level.as_str().to_ascii_lowercase(),
        quoted(target),
        quoted(&fields.message),
    );
    for (name, value) in &fields.list {
        let mark = if KEYS.contains(name) { "_" } else { "" };
        write!(line, ",{}:{value}", quoted(&format!("{name}{mark}"))).expect("a String has room");
    }
    line.push_str("}\n");
    line
}

fn human(ts: &str, level: Level, target: &str, fields: &Fields, colour: bool) -> String {
    let mut line = format!("{ts} ");
    match (colour, level) {
        (false, _) => write!(line, "{level:>5}"),
        (true, Level::ERROR) => write!(line, "\x1b[31m{level:>5}\x1b[0m"),
        (true, Level::WARN) => write!(line, "\x1b[33m{level:>5}\x1b[0m"),
        (true, Level::INFO) => write!(line, "\x1b[32m{level:>5}\x1b[0m"),
        (true, _) => write!(line, "\x1b[2m{level:>5}\x1b[0m"),
    }
    .expect("a String has room");
    write!(line, " {target}: {}", fields.message.escape_debug()).expect("a String has room");
    for (name, value) in &fields.list {
        // Text of peers may hold anything; a terminal is shown nothing but what is harmless.
        match value.as_str() {
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) => {
                write!(line, " {name}={text}")
            }
            Some(text) => write!(line, " {name}={text:?}"),
            None => write!(line, " {name}={value}"),
        }
        .expect("a String has room");
    }
    line.push('\n');
    line
}

/// Now, as RFC 3339 in UTC with milliseconds.
fn timestamp() -> String {
    let mut text = String::with_capacity(32);
    // Writes microseconds: "2026-11-21T04:28:00.123456Z". A String takes everything.
    SystemTime.format_time(&mut Writer::new(&mut text)).expect("a String has room");
    text.truncate("2026-11-21T04:28:00.123".len());
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let mut fields = Fields { message: "connection \"closed\"".into(), ..Fields::default() };
        fields.list.push(("peer", "127.0.0.1:4242".into()));
        fields.list.push(("bytes", 17.into()));
        fields.list.push(("level", "odd".into()));
        fields.list.push(("path", "/a b\u{1b}[2J".into()));
        fields
    }

    #[test]
    fn a_line_is_one_flat_json_object() {
        let line = Form::Json.assemble("T", Level::INFO, "weir", &fields());
        let expected = "{\"ts\":\"T\",\"level\":\"info\",\"target\":\"weir\",\
                        \"msg\":\"connection \\\"closed\\\"\",\"peer\":\"127.0.0.1:4242\",\
                        \"bytes\":17,\"level_\":\"odd\",\"path\":\"/a b\\u001b[2J\"}\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn the_human_form_shows_nothing_that_moves_a_terminal() {
        let line = Form::Human { colour: false }.assemble("T", Level::WARN, "weir", &fields());
        let expected = "T  WARN weir: connection \\\"closed\\\" peer=127.0.0.1:4242 bytes=17 \
                        level=odd path=\"/a b\\u{1b}[2J\"\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn time_is_utc_with_milliseconds() {
        let now = timestamp();
        assert_eq!(now.len(), 24, "{now}");
        assert!(now.ends_with('Z') && now.as_bytes()[19] == b'.', "{now}");
    }
}
