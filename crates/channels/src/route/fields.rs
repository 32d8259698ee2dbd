//! Fields of a message in JSON, found in one pass that reads nothing else of it. What their values may
//! be is said in `segment`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Most fields of one template: a bit each.
pub(super) const FIELDS_MAX: usize = 8;

/// The way to a field through nested objects: `device`, or `meta.device`. A name with a dot inside
/// has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldPath(Vec<Box<str>>);

impl FieldPath {
    /// The way that is written so. `None`: a step is empty.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let steps: Vec<Box<str>> = text.split('.').map(Into::into).collect();
        steps.iter().all(|step| !step.is_empty()).then_some(Self(steps))
    }
}

/// As a template writes it: `json.meta.device`.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("json")?;
        self.0.iter().try_for_each(|step| write!(f, ".{step}"))
    }
}

/// What was found of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Found<'m> {
    /// It is not there.
    #[default]
    Nothing,
    /// Text.
    Text(Cow<'m, str>),
    /// A whole number.
    Whole(i128),
    /// Something else.
    Other,
    /// It stands there more than once: nobody can say which one others read.
    Twice,
}

/// What was found, field by field.
pub(super) type Values<'m> = [Found<'m>; FIELDS_MAX];

/// Why a message has no fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoFields {
    /// It is not JSON.
    NotJson,
    /// It is JSON and no object.
    NotAnObject,
}

/// Finds the fields in a message, which is known to be JSON to its end when this succeeds.
pub(super) fn find<'m>(paths: &[FieldPath], message: &'m [u8]) -> Result<Values<'m>, NoFields> {
    debug_assert!(paths.len() <= FIELDS_MAX);
    let mut values = Values::default();
    let wanted = u8::MAX.checked_shr((FIELDS_MAX - paths.len()) as u32).unwrap_or_default();
    let mut json = serde_json::Deserializer::from_slice(message);
    let look = Look { paths, wanted, depth: 0, values: &mut values };
    look.deserialize(&mut json).map_err(|_error| NoFields::NotJson)?;
    json.end().map_err(|_error| NoFields::NotJson)?;
    match message.trim_ascii_start().first() {
        Some(b'{') => Ok(values),
        Some(_) | None => Err(NoFields::NotAnObject),
    }
}

/// A value on the way to some of the fields.
struct Look<'l, 'm> {
    paths: &'l [FieldPath],
    /// The fields whose way leads here, a bit each.
    wanted: u8,
    /// The steps up to here.
    depth: usize,
    values: &'l mut Values<'m>,
}

impl<'m> Look<'_, 'm> {
    /// The fields that are wanted here.
    fn each(&self) -> impl Iterator<Item = usize> + use<> {
        let wanted = self.wanted;
        (0..FIELDS_MAX).filter(move |at| wanted & (1 << at) != 0)
    }

    /// The value is this, for the fields that end here; the others lead through no object.
    fn is(mut self, value: &Found<'m>) {
        for at in self.each() {
            let ends = self.paths[at].0.len() == self.depth;
            let found = if ends { value.clone() } else { Found::Other };
            self.note(at, found);
        }
    }

    fn note(&mut self, at: usize, found: Found<'m>) {
        let value = &mut self.values[at];
        *value = if *value == Found::Nothing { found } else { Found::Twice };
    }
}

impl<'m> DeserializeSeed<'m> for Look<'_, 'm> {
    type Value = ();

    fn deserialize<D: Deserializer<'m>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'m> Visitor<'m> for Look<'_, 'm> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'m>>(mut self, mut map: A) -> Result<(), A::Error> {
        for at in self.each() {
            if self.paths[at].0.len() == self.depth {
                self.note(at, Found::Other);
                self.wanted &= !(1 << at);
            }
        }
        let (paths, depth, all) = (self.paths, self.depth, self.wanted);
        let mut seen = 0_u8;
        while let Some(wanted) = map.next_key_seed(Step { paths, depth, wanted: all })? {
            if wanted == 0 {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            // A way that leads here a second time is none.
            let again = wanted & seen;
            seen |= wanted;
            map.next_value_seed(Look { paths, wanted, depth: depth + 1, values: self.values })?;
            for at in (0..FIELDS_MAX).filter(|at| again & (1 << at) != 0) {
                self.values[at] = Found::Twice;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'m>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.is(&Found::Other);
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'m str) -> Result<(), E> {
        self.is(&Found::Text(Cow::Borrowed(text)));
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.is(&Found::Text(Cow::Owned(text.to_owned())));
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.is(&Found::Whole(number.into()));
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.is(&Found::Whole(number.into()));
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.is(&Found::Other);
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.is(&Found::Other);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.is(&Found::Other);
        Ok(())
    }
}

/// The name of a field of an object: which of the wanted ones lead through it.
struct Step<'l> {
    paths: &'l [FieldPath],
    depth: usize,
    wanted: u8,
}

impl<'m> DeserializeSeed<'m> for Step<'_> {
    type Value = u8;

    fn deserialize<D: Deserializer<'m>>(self, from: D) -> Result<u8, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Step<'_> {
    type Value = u8;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<u8, E> {
        let leads = |at: &usize| *self.paths[*at].0[self.depth] == *name;
        let wanted = (0..self.paths.len()).filter(|at| self.wanted & (1 << at) != 0).filter(leads);
        Ok(wanted.fold(0, |mask, at| mask | 1 << at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(names: &[&str]) -> Vec<FieldPath> {
        names.iter().map(|name| FieldPath::parse(name).expect("a path")).collect()
    }

    #[track_caller]
    fn check(names: &[&str], message: &str, expected: &[Found<'_>]) {
        let values = find(&paths(names), message.as_bytes()).expect("an object");
        assert_eq!(&values[..names.len()], expected, "{message}");
        assert!(values[names.len()..].iter().all(|value| *value == Found::Nothing));
    }

    fn text(text: &str) -> Found<'_> {
        Found::Text(text.into())
    }

    #[test]
    fn fields_are_text_or_whole_numbers_wherever_they_stand() {
        let message =
            r#"{"n":-7,"device":"pump","deep":{"a":{"b":"x"},"n":1e3},"z":[1,{"device":2}]}"#;
        check(&["device"], message, &[text("pump")]);
        check(&["deep.a.b", "n"], message, &[text("x"), Found::Whole(-7)]);
        check(&["deep.n", "deep.a", "z"], message, &[Found::Other, Found::Other, Found::Other]);
        check(&["n.x", "z.device", "no"], message, &[Found::Other, Found::Other, Found::Nothing]);
        check(&["a"], r#"{"\u0061":"\u0061\n"}"#, &[text("a\n")]);
        check(&["a"], r#"{"a":18446744073709551615}"#, &[Found::Whole(u64::MAX.into())]);
        check(&["a"], r#"{"a":18446744073709551616}"#, &[Found::Other]);
        check(&["a"], r#"{"a":null}"#, &[Found::Other]);
        check(&["a", "b"], r#" {"a":true,"b":1.5} "#, &[Found::Other, Found::Other]);
        check(&[], "{}", &[]);
    }

    #[test]
    fn all_fields_of_a_template_are_found_in_one_look() {
        let names: Vec<String> = (0..FIELDS_MAX).map(|n| format!("f{n}")).collect();
        let fields: Vec<String> =
            names.iter().map(|name| format!("\"{name}\":\"{name}\"")).collect();
        let message = format!("{{{}}}", fields.join(","));
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let expected: Vec<Found<'_>> = names.iter().map(|name| text(name)).collect();
        check(&names, &message, &expected);
    }

    #[test]
    fn a_field_that_stands_twice_has_no_value() {
        check(&["a"], r#"{"a":"x","a":"x"}"#, &[Found::Twice]);
        check(&["a"], r#"{"a":"x","a":null,"a":1}"#, &[Found::Twice]);
        check(&["a.b"], r#"{"a":{"b":"x"},"a":{"b":"x"}}"#, &[Found::Twice]);
        check(&["a.b"], r#"{"a":{"b":"x"},"a":{}}"#, &[Found::Twice]);
        check(&["a.b"], r#"{"a":{},"a":{"b":"x"}}"#, &[Found::Twice]);
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for (message, error) in [
            ("", NoFields::NotJson),
            ("pump", NoFields::NotJson),
            (r#"{"a":"x""#, NoFields::NotJson),
            (r#"{"a":"x"} {}"#, NoFields::NotJson),
            (r#"{"a":"x",}"#, NoFields::NotJson),
            ("[1]", NoFields::NotAnObject),
            (r#""a""#, NoFields::NotAnObject),
            ("27.5", NoFields::NotAnObject),
            ("null", NoFields::NotAnObject),
        ] {
            assert_eq!(find(&paths(&["a"]), message.as_bytes()), Err(error), "{message}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_through(message in proptest::collection::vec(any::<u8>(), 0..64)) {
            let known = serde_json::from_slice::<serde_json::Value>(&message);
            let found = find(&paths(&["a", "b.c"]), &message);
            if let Ok(known) = known {
                prop_assert_eq!(found.is_ok(), known.is_object());
            }
        }

        #[test]
        fn a_field_is_what_another_parser_finds(value in "\\PC{0,12}", at in 0_usize..3) {
            let mut object = serde_json::Map::new();
            for n in 0..3 {
                let key = if n == at { "device".to_owned() } else { format!("{value}{n}") };
                object.insert(key, value.clone().into());
            }
            let message = serde_json::Value::from(object).to_string();
            let values = find(&paths(&["device"]), message.as_bytes()).expect("an object");
            prop_assert_eq!(&values[0], &text(&value));
        }
    }
}
