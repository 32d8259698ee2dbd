//! From a template to the name of a channel: what stays the same for a connection is put in when it
//! opens, the fields of a message when it comes.

use std::net::IpAddr;
use std::sync::Arc;

use weir_core::service::Opening;

use super::fields::{self, Found, NoFields};
use super::refusal::Refusal;
use super::segment;
use super::template::{ChannelTemplate, Part, Source};
use crate::hub::Uid;

/// What a connection puts into templates.
pub(super) struct Bearer<'a> {
    listener: &'a str,
    peer: IpAddr,
    principal: &'a str,
    client: Uid,
}

impl<'a> Bearer<'a> {
    pub(super) fn of(opening: &'a Opening<'_>, client: Uid) -> Self {
        let principal = opening.principal.map_or("", |principal| &*principal.name);
        Self { listener: opening.listener, peer: opening.peer.ip(), principal, client }
    }

    /// The value of a placeholder; `None`: a message has it.
    fn value(&self, source: Source) -> Option<String> {
        Some(match source {
            Source::Listener => self.listener.to_owned(),
            // A colon would end the namespace.
            Source::PeerIp => self.peer.to_canonical().to_string().replace(':', "-"),
            Source::Principal => self.principal.to_owned(),
            Source::Client => self.client.to_string(),
            Source::Field(_) => return None,
        })
    }
}

/// A template with what stays the same for a connection.
pub(super) struct Bound {
    template: Arc<ChannelTemplate>,
    /// Its parts with these values in them; `None`: it has no such values. Or what no name can be made
    /// of.
    own: Option<Result<Box<[Part]>, Refusal>>,
}

impl Bound {
    pub(super) fn new(template: &Arc<ChannelTemplate>, bearer: &Bearer<'_>) -> Self {
        let is_own = |part: &Part| matches!(part, Part::Value { source, .. } if !matches!(source, Source::Field(_)));
        let own = template.parts.iter().any(is_own).then(|| bind(template, bearer));
        Self { template: Arc::clone(template), own }
    }

    /// Whether messages choose the channel.
    pub(super) fn is_chosen(&self) -> bool {
        !self.template.fields.is_empty()
    }

    fn parts(&self) -> Result<&[Part], Refusal> {
        match &self.own {
            None => Ok(&self.template.parts),
            Some(Ok(parts)) => Ok(parts),
            Some(Err(refusal)) => Err(refusal.clone()),
        }
    }

    /// The name for a message, and whether the message is known to be JSON.
    ///
    /// # Errors
    ///
    /// The first value that cannot be in a name.
    pub(super) fn name(&self, message: &[u8]) -> Result<(String, bool), Refusal> {
        let parts = self.parts()?;
        let paths = &self.template.fields;
        let values = match paths.first() {
            None => fields::Values::default(),
            Some(first) => fields::find(paths, message).map_err(|error| match error {
                NoFields::NotJson | NoFields::NotAnObject => {
                    Refusal::NotAnObject { field: first.to_string() }
                }
            })?,
        };
        let mut name = String::new();
        for part in parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Value { source, stops } => {
                    let named = || self.template.name(*source);
                    let value = match source {
                        Source::Field(at) => field(&values[*at], named)?,
                        // Put in when the connection was opened.
                        Source::Listener | Source::PeerIp | Source::Principal | Source::Client => {
                            continue;
                        }
                    };
                    push(&value, stops, named, &mut name)?;
                }
            }
        }
        Ok((name, !paths.is_empty()))
    }
}

/// Puts in what stays the same.
fn bind(template: &ChannelTemplate, bearer: &Bearer<'_>) -> Result<Box<[Part]>, Refusal> {
    let mut parts = Vec::new();
    let mut text = String::new();
    for part in &template.parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Value { source, stops } => match bearer.value(*source) {
                Some(value) => push(&value, stops, || template.name(*source), &mut text)?,
                None => {
                    parts.push(Part::Text(std::mem::take(&mut text).into()));
                    parts.push(part.clone());
                }
            },
        }
    }
    parts.push(Part::Text(text.into()));
    Ok(parts.into())
}

/// Adds a value that is one segment.
fn push(
    value: &str,
    stops: &str,
    name: impl FnOnce() -> String,
    into: &mut String,
) -> Result<(), Refusal> {
    segment::check(value, stops).map_err(|error| Refusal::Segment { name: name(), error })?;
    into.push_str(value);
    Ok(())
}

/// The text of a field.
fn field<'v>(
    found: &'v Found<'_>,
    name: impl FnOnce() -> String,
) -> Result<std::borrow::Cow<'v, str>, Refusal> {
    match found {
        Found::Text(text) => Ok((&**text).into()),
        Found::Whole(number) => Ok(number.to_string().into()),
        Found::Nothing => Err(Refusal::Missing { field: name() }),
        Found::Other => Err(Refusal::Kind { field: name() }),
        Found::Twice => Err(Refusal::Twice { field: name() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use weir_core::context::ConnId;

    use super::*;
    use crate::namespace::{ChannelOptions, ChannelRules, Namespaces};

    fn bearer<'a>(peer: &str, principal: &'a str) -> Bearer<'a> {
        let peer = peer.parse().expect("an address");
        let client = Uid::new(ConnId::from_raw(42), 7);
        Bearer { listener: "lines", peer, principal, client }
    }

    fn name(template: &str, bearer: &Bearer<'_>, message: &str) -> Result<String, String> {
        let template = Arc::new(ChannelTemplate::parse(template).expect("a template"));
        let made = Bound::new(&template, bearer).name(message.as_bytes());
        made.map(|(name, _)| name).map_err(|refusal| refusal.to_string())
    }

    #[track_caller]
    fn check(template: &str, message: &str, expected: Result<&str, &str>) {
        let made = name(template, &bearer("127.0.0.1", "meter-7"), message);
        assert_eq!(made.as_deref().map_err(|error| &**error), expected, "{template}");
    }

    #[test]
    fn a_name_is_made_of_the_listener_the_peer_the_principal_and_the_message() {
        let message = r#"{"device":"pump","site":{"id":7}}"#;
        check("sensors:{json.device}", message, Ok("sensors:pump"));
        check("sensors:{json.site.id}.{json.device}", message, Ok("sensors:7.pump"));
        check("sensors:{listener}.{json.device}", message, Ok("sensors:lines.pump"));
        check("by:{peer.ip}/{principal}", "anything", Ok("by:127.0.0.1/meter-7"));
        let client = Uid::new(ConnId::from_raw(42), 7);
        check("to:{client}", "", Ok(&format!("to:{client}")));
        check("news", "27.5", Ok("news"));
        check("{json.device}", message, Ok("pump"));
    }

    #[test]
    fn an_address_of_ipv6_has_no_colons_there() {
        let six = bearer("2001:db8::1", "");
        assert_eq!(name("by:{peer.ip}", &six, ""), Ok("by:2001-db8--1".to_owned()));
        let mapped = bearer("::ffff:10.0.0.1", "");
        assert_eq!(name("by:{peer.ip}", &mapped, ""), Ok("by:10.0.0.1".to_owned()));
    }

    #[test]
    fn a_value_that_is_no_segment_is_refused_by_its_name() {
        let of = |value: &str| format!(r#"{{"device":{value}}}"#);
        let template = "sensors:{json.device}";
        check(template, "warm", Err("json.device is missing: the message is not a JSON object"));
        check(template, "[1]", Err("json.device is missing: the message is not a JSON object"));
        check(template, "{}", Err("json.device is missing"));
        check(template, &of("1.5"), Err("json.device is neither text nor a whole number"));
        check(template, &of("\"\""), Err("json.device is empty"));
        check(template, &of(r#""\n""#), Err("json.device has a control character"));
        let twice = r#"{"device":"a","device":"b"}"#;
        check(template, twice, Err("json.device stands in the message twice"));
        let colon = "json.device has ':', which a part of a channel's name cannot have here";
        check(template, &of("\"a:b\""), Err(colon));
        let nobody = bearer("127.0.0.1", "");
        let empty = name("by:{principal}", &nobody, "");
        assert_eq!(empty, Err("principal is empty".to_owned()));
        let spiffe = bearer("127.0.0.1", "spiffe://a/b");
        let colon = "principal has ':', which a part of a channel's name cannot have here";
        assert_eq!(name("by:{principal}", &spiffe, ""), Err(colon.to_owned()));
    }

    proptest! {
        /// Whatever a device says, the name stays in its namespace, is not private and names no users;
        /// and no other values make the same name.
        #[test]
        fn values_never_reach_beyond_their_place(a in "\\PC{0,6}", b in "[.:#$a-c\\x00]{0,6}") {
            let rules = ChannelRules {
                namespaces: vec![("sensors".to_owned(), ChannelOptions::default())],
                ..ChannelRules::default()
            };
            let namespaces = Namespaces::new(rules).expect("good rules");
            let message = serde_json::json!({ "a": a, "b": b }).to_string();
            let made = name("sensors:x.{json.a}.{json.b}", &bearer("127.0.0.1", ""), &message);
            let Ok(made) = made else { return Ok(()) };
            let rest = made.strip_prefix("sensors:x.").expect("it begins as it is written");
            prop_assert_eq!(rest.split_once('.'), Some((&*a, &*b)));
            if let Ok(channel) = namespaces.resolve(&made) {
                prop_assert_eq!(channel.namespace().name(), "sensors");
                prop_assert!(!channel.name().is_private() && !channel.name().names_users());
            }
        }
    }
}
