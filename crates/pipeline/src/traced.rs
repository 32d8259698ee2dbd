//! A route whose messages carry a trace context: where it stands in them, and how it is taken out.
//!
//! A text in that place which is no context is no reason to refuse a message, nor to change it.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use weir_core::door::Doorkeeper;
use weir_core::service::{Document, Opening, Service, Session};
use weir_core::trace::{Found, TraceContext};

/// Where messages of a route carry a `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceCarrier {
    /// In a text field of a JSON object. The message is passed on as it is.
    Field(String),
    /// Behind this prefix at the begin, up to a space. Prefix, context and space are taken off.
    Prefix(String),
}

/// A service with a look for a trace context before it.
pub struct Traced {
    carrier: TraceCarrier,
    inner: Arc<dyn Service>,
}

impl Traced {
    /// `inner`, whose messages carry a context there.
    pub fn new(carrier: TraceCarrier, inner: Arc<dyn Service>) -> Self {
        Self { carrier, inner }
    }
}

impl Service for Traced {
    fn route(&self) -> &str {
        self.inner.route()
    }

    fn doorkeeper(&self) -> Option<&dyn Doorkeeper> {
        self.inner.doorkeeper()
    }

    fn headers(&self) -> &[HeaderName] {
        self.inner.headers()
    }

    fn heartbeats(&self) -> bool {
        self.inner.heartbeats()
    }

    fn subprotocols(&self) -> &[&'static str] {
        self.inner.subprotocols()
    }

    fn content_type(&self) -> Option<&'static str> {
        self.inner.content_type()
    }

    fn document(&self, path: &str) -> Option<Document> {
        self.inner.document(path)
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        self.inner.open(opening)
    }

    fn carries_trace(&self) -> bool {
        true
    }

    fn trace<'m>(&self, message: &'m [u8]) -> (Found, &'m [u8]) {
        self.carrier.find(message)
    }
}

impl TraceCarrier {
    /// Looks for a context in `message`, and gives the message without what is taken off.
    pub fn find<'m>(&self, message: &'m [u8]) -> (Found, &'m [u8]) {
        match self {
            Self::Field(name) => (in_field(name, message), message),
            Self::Prefix(prefix) => behind_prefix(prefix, message),
        }
    }
}

fn behind_prefix<'m>(prefix: &str, message: &'m [u8]) -> (Found, &'m [u8]) {
    let Some(rest) = message.strip_prefix(prefix.as_bytes()) else {
        return (Found::Nothing, message);
    };
    let window = &rest[..rest.len().min(TraceContext::TEXT_BYTES_MAX + 1)];
    let end = window.iter().position(|byte| *byte == b' ').unwrap_or(window.len());
    match Found::parse(&rest[..end]) {
        found @ Found::Context(_) => (found, rest[end..].strip_prefix(b" ").unwrap_or_default()),
        // The message is left as it came: nobody knows what it means.
        found @ (Found::Nothing | Found::Malformed) => (found, message),
    }
}

fn in_field(name: &str, message: &[u8]) -> Found {
    if message.trim_ascii_start().first() != Some(&b'{') {
        return Found::Nothing;
    }
    let mut found = Found::Nothing;
    let mut json = serde_json::Deserializer::from_slice(message);
    // What follows the field is not looked at, so an error may mean that it was found.
    drop(Look { name, found: &mut found }.deserialize(&mut json));
    found
}

/// Reads an object up to the field that is looked for.
struct Look<'a> {
    name: &'a str,
    found: &'a mut Found,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(is_it) = map.next_key_seed(Is(self.name))? {
            if is_it {
                *self.found = match map.next_value::<Text>() {
                    Ok(Text(found)) => found,
                    Err(_) => Found::Malformed,
                };
                return Err(A::Error::custom("found"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Whether a key is this one.
struct Is<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

/// A text that is to be a context.
struct Text(Found);

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a traceparent")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Found::parse(text.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn check(carrier: &TraceCarrier, message: &str, expected: &str, rest: &str) {
        let (found, left) = carrier.find(message.as_bytes());
        let kind = match found {
            Found::Nothing => "nothing",
            Found::Context(context) => {
                assert_eq!(context.to_string(), PARENT);
                "context"
            }
            Found::Malformed => "malformed",
        };
        assert_eq!((kind, std::str::from_utf8(left)), (expected, Ok(rest)), "{message}");
    }

    #[test]
    fn a_prefix_is_taken_off_with_its_context_and_its_space() {
        let carrier = TraceCarrier::Prefix("traceparent=".to_owned());
        check(&carrier, &format!("traceparent={PARENT} an order"), "context", "an order");
        check(&carrier, &format!("traceparent={PARENT}"), "context", "");
        check(&carrier, &format!("traceparent={PARENT}  x"), "context", " x");
        check(&carrier, "an order", "nothing", "an order");
        check(&carrier, "traceparent=x an order", "malformed", "traceparent=x an order");
        check(&carrier, "traceparent=", "malformed", "traceparent=");
        let long = format!("traceparent={} x", "0".repeat(5000));
        check(&carrier, &long, "malformed", &long);
    }

    #[test]
    fn a_field_is_read_and_the_message_stays_as_it_is() {
        let carrier = TraceCarrier::Field("traceparent".to_owned());
        let same = |message: &str, expected| check(&carrier, message, expected, message);
        same(&format!(r#"{{"traceparent":"{PARENT}","n":1}}"#), "context");
        same(&format!(r#" {{"n":[{{"traceparent":1}}],"traceparent":"{PARENT}"}}"#), "context");
        same(&format!(r#"{{"trace\u0070arent":"{PARENT}"}}"#), "context");
        same(&format!(r#"{{"traceparent":"{PARENT}" and what follows is no JSON"#), "context");
        same(r#"{"traceparent":"nonsense"}"#, "malformed");
        same(r#"{"traceparent":17}"#, "malformed");
        same(r#"{"traceparent":null}"#, "malformed");
        same(&format!(r#"{{"inner":{{"traceparent":"{PARENT}"}}}}"#), "nothing");
        same(r#"{"n":1}"#, "nothing");
        same("no object", "nothing");
        same(r#"["traceparent"]"#, "nothing");
        same("{", "nothing");
        same("", "nothing");
    }
}
