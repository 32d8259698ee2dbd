//! What becomes of a subscriber that reads more slowly than is published: plain values, and the key of a
//! publication. What waits in an outbox is not known here.

use std::fmt;
use std::sync::Arc;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::broker::Publication;

/// Room for waiting publications under a policy, unless a namespace says otherwise: so little that a
/// modem's second or two of it are not yet old.
pub const SLOW_CONSUMER_BYTES_MAX: usize = 64 * 1024;

/// How the subscribers of a namespace are treated when they do not keep up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowConsumers {
    /// What is done (`slow_consumer`, `slow_consumer_key`).
    pub policy: SlowPolicy,
    /// Bytes in an outbox from which on it is done (`slow_consumer_bytes_max`). Of no effect for
    /// [`SlowPolicy::Disconnect`], which has the whole outbox.
    pub bytes_max: usize,
}

impl Default for SlowConsumers {
    fn default() -> Self {
        Self { policy: SlowPolicy::default(), bytes_max: SLOW_CONSUMER_BYTES_MAX }
    }
}

/// What is done when a publication finds no room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SlowPolicy {
    /// The connection is ended with 3008.
    #[default]
    Disconnect,
    /// The oldest publications of the channel that wait are dropped.
    DropOldest,
    /// Those of the channel are dropped that a newer one of the same key has followed. Where the newest
    /// of each key take most of the room, the connection is ended.
    LatestByKey(KeyOf),
    /// It is not queued: the subscriber reads it from the history when its outbox is empty. Where the
    /// history is too short then, the subscription ends with 2500.
    CatchUp,
}

impl SlowPolicy {
    /// Whether publications are dropped without a word. A subscriber has no position then.
    pub const fn is_lossy(&self) -> bool {
        matches!(self, Self::DropOldest | Self::LatestByKey(_))
    }
}

/// Where the key of a publication stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// In the tag of this name, which backends give.
    Tag(Arc<str>),
    /// In the field of this name of a JSON object, compared as it is written there.
    Json(Arc<str>),
}

impl KeyOf {
    /// The place that is written so: `tag:NAME` or `json:NAME`.
    pub fn parse(text: &str) -> Option<Self> {
        let (place, name) = text.split_once(':').filter(|(_, name)| !name.is_empty())?;
        match place {
            "tag" => Some(Self::Tag(name.into())),
            "json" => Some(Self::Json(name.into())),
            _ => None,
        }
    }

    /// The key of a publication; `None`: it has none.
    pub fn find<'p>(&self, publication: &'p Publication) -> Option<&'p str> {
        match self {
            Self::Tag(name) => {
                let mut tags = publication.tags.iter().flat_map(|tags| tags.iter());
                tags.find(|(tag, _)| **tag == **name).map(|(_, value)| &**value)
            }
            Self::Json(name) => {
                let mut json = serde_json::Deserializer::from_slice(&publication.data);
                json.deserialize_map(Seek(name)).ok().flatten().map(RawValue::get)
            }
        }
    }
}

impl fmt::Display for KeyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(name) => write!(f, "tag:{name}"),
            Self::Json(name) => write!(f, "json:{name}"),
        }
    }
}

/// Looks for the field of this name in an object.
struct Seek<'n>(&'n str);

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key_of: &str, data: &str, expected: Option<&str>) {
        let tag = |name: &str, value: &str| (name.into(), value.into());
        let publication = Publication::new(data.as_bytes(), 0, weir_core::clock::now())
            .tagged([tag("symbol", "AAPL"), tag("venue", "X")].into());
        let key_of = KeyOf::parse(key_of).expect("a place");
        assert_eq!(key_of.find(&publication), expected, "{key_of} in {data}");
    }

    #[test]
    fn a_key_is_a_tag_or_a_field_of_the_payload() {
        check("tag:symbol", "1", Some("AAPL"));
        check("tag:price", "1", None);
        check("json:s", r#"{"price": 1.5, "s": "AAPL", "deep": {"s": 1}}"#, Some(r#""AAPL""#));
        check("json:s", r#"{"s": 7, "s": [1, 2]}"#, Some("[1, 2]"));
        check("json:s", r#"{"\u0073": null}"#, Some("null"));
        check("json:s", r#"{"price": 1}"#, None);
        for no_object in ["[]", "1", "", "{\"s\"", "{\"s\": }"] {
            check("json:s", no_object, None);
        }
    }

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for text in ["tag:symbol", "json:a:b"] {
            assert_eq!(KeyOf::parse(text).map(|key| key.to_string()).as_deref(), Some(text));
        }
        for bad in ["", "tag", "tag:", "symbol", "header:x"] {
            assert_eq!(KeyOf::parse(bad), None, "{bad}");
        }
    }
}
