//! JSON: what the tables need of serde_json, and nothing that knows a message.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::field::{Element, Field, Message, Reading};
use super::scalar::Text;
use super::{DecodeError, EncodeError};

/// Reads one message that is all of `bytes`, but for white space.
pub(super) fn read<'a, M: Message<'a>>(
    bytes: &'a [u8],
    reading: &Reading,
) -> Result<M, DecodeError> {
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let message = <M as Element>::read_json(&mut from, reading);
    let message = message.and_then(|message| from.end().map(|()| message));
    message.map_err(|error| reading.json_error(&error))
}

/// Appends a simple value.
pub(super) fn write<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    serde_json::to_writer(out, value)
        .expect("memory takes every byte, and the keys of maps are text");
    Ok(())
}

/// Appends `"name":`, and a comma before it unless it is the first of its object.
#[inline]
pub(super) fn write_key(name: &'static str, out: &mut Vec<u8>) {
    let quote: &[u8] = if out.last() == Some(&b'{') { b"\"" } else { b",\"" };
    out.extend_from_slice(quote);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Reads an object into a message. Unknown keys are passed over; of a key that comes twice the last
/// counts.
pub(super) fn read_object<'a, M: Message<'a>, D: Deserializer<'a>>(
    from: D,
    reading: &Reading,
) -> Result<M, D::Error> {
    struct Object<'r, M>(&'r Reading, PhantomData<M>);
    impl<'a, M: Message<'a>> Visitor<'a> for Object<'_, M> {
        type Value = M;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<M, A::Error> {
            self.0.enter().map_err(A::Error::custom)?;
            let name = self.0.field();
            let mut message = M::default();
            while let Some(key) = map.next_key_seed(ElementSeed::<Text<'a>>::new(self.0))? {
                if !message.read_json(&key, &mut map, self.0)? {
                    map.next_value::<IgnoredAny>()?;
                }
                self.0.enter_field(name);
            }
            self.0.leave();
            Ok(message)
        }
    }
    from.deserialize_any(Object(reading, PhantomData))
}

/// Reads the value of the key that was read last.
pub(super) fn value<'a, F: Field<'a>, A: MapAccess<'a>>(
    name: &'static str,
    map: &mut A,
    reading: &Reading,
) -> Result<F, A::Error> {
    reading.enter_field(name);
    map.next_value_seed(FieldSeed(reading, PhantomData))
}

struct FieldSeed<'r, F>(&'r Reading, PhantomData<F>);

impl<'a, F: Field<'a>> DeserializeSeed<'a> for FieldSeed<'_, F> {
    type Value = F;

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<F, D::Error> {
        F::read_json(from, self.0)
    }
}

/// An element that is read with what is known about the command.
pub(super) struct ElementSeed<'r, E>(&'r Reading, PhantomData<E>);

impl<'r, E> ElementSeed<'r, E> {
    pub(super) fn new(reading: &'r Reading) -> Self {
        Self(reading, PhantomData)
    }
}

impl<'a, E: Element<'a>> DeserializeSeed<'a> for ElementSeed<'_, E> {
    type Value = E;

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<E, D::Error> {
        E::read_json(from, self.0)
    }
}
