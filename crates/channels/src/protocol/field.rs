//! What a row of a message's table can hold, and how each kind of it is written and read in both
//! encodings. Nothing here knows a message by name.

use std::cell::Cell;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::json::{self, ElementSeed};
use super::protobuf::{self, Wire};
use super::scalar::Text;
use super::{DecodeError, EncodeError};

/// Deepest nesting of messages in a command.
const DEPTH_MAX: u32 = 32;

/// A message: its rows.
pub(super) trait Message<'a>: Default {
    /// Appends the fields of the JSON object that are not left out.
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
    /// Reads the value of `key`. `false`: the key is unknown and nothing was read.
    fn read_json<A: MapAccess<'a>>(
        &mut self,
        key: &str,
        map: &mut A,
        reading: &Reading,
    ) -> Result<bool, A::Error>;
    /// Bytes that [`Message::write_proto`] appends.
    fn proto_size(&self) -> usize;
    /// Appends the Protobuf fields that are not zero.
    fn write_proto(&self, out: &mut Vec<u8>);
    /// Reads the field of this number; nothing happens when it is unknown.
    fn read_proto(
        &mut self,
        number: u32,
        value: Wire<'a>,
        reading: &Reading,
    ) -> Result<(), DecodeError>;
}

/// What stands in a row.
pub(super) trait Field<'a>: Default {
    /// Whether it is left out.
    fn is_zero(&self) -> bool;
    /// Appends the JSON value of the field that is called `name`.
    fn write_json(&self, name: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError>;
    /// Reads a JSON value; null is the same as nothing.
    fn read_json<D: Deserializer<'a>>(from: D, reading: &Reading) -> Result<Self, D::Error>;
    /// Bytes that [`Field::write_proto`] appends.
    fn proto_size(&self, number: u32) -> usize;
    /// Appends the field behind its tag, unless it is zero.
    fn write_proto(&self, number: u32, out: &mut Vec<u8>);
    /// Reads one occurrence of the field. The last one counts, but for lists, which grow.
    fn read_proto(&mut self, value: Wire<'a>, reading: &Reading) -> Result<(), DecodeError>;
}

/// What lists, maps and optional fields hold. In Protobuf it stands behind its length.
pub(super) trait Element<'a>: Default {
    /// Appends the JSON value.
    fn write_json(&self, name: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError>;
    /// Reads a JSON value.
    fn read_json<D: Deserializer<'a>>(from: D, reading: &Reading) -> Result<Self, D::Error>;
    /// Bytes that [`Element::write_proto`] appends.
    fn proto_size(&self) -> usize;
    /// Appends the bytes that stand behind the length.
    fn write_proto(&self, out: &mut Vec<u8>);
    /// Reads the bytes that stood behind the length.
    fn read_proto(bytes: &'a [u8], reading: &Reading) -> Result<Self, DecodeError>;
}

/// What is known while one command is read: where, how deep, and how much more may come.
pub(super) struct Reading {
    field: Cell<&'static str>,
    depth: Cell<u32>,
    elements: Cell<u32>,
    elements_max: u32,
    /// What stopped a reader of JSON, whose errors cannot say it.
    stopped: Cell<Option<Stop>>,
}

#[derive(Clone, Copy)]
enum Stop {
    TooMany,
    TooDeep,
}

impl Reading {
    pub(super) fn new(of: &'static str, elements_max: u32) -> Self {
        Self {
            field: Cell::new(of),
            depth: Cell::new(0),
            elements: Cell::new(0),
            elements_max,
            stopped: Cell::new(None),
        }
    }

    /// The field that is read now; errors name it.
    #[inline]
    pub(super) fn enter_field(&self, name: &'static str) {
        self.field.set(name);
    }

    pub(super) fn field(&self) -> &'static str {
        self.field.get()
    }

    pub(super) fn wrong_type(&self) -> DecodeError {
        DecodeError::WrongType { field: self.field() }
    }

    pub(super) fn not_protobuf(&self, rule: &'static str) -> DecodeError {
        DecodeError::NotProtobuf { field: self.field(), rule }
    }

    /// One element more.
    pub(super) fn element(&self) -> Result<(), DecodeError> {
        if self.elements.get() == self.elements_max {
            return Err(self.stop(Stop::TooMany));
        }
        self.elements.set(self.elements.get() + 1);
        Ok(())
    }

    /// One message deeper, until [`Reading::leave`].
    pub(super) fn enter(&self) -> Result<(), DecodeError> {
        if self.depth.get() == DEPTH_MAX {
            return Err(self.stop(Stop::TooDeep));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(())
    }

    pub(super) fn leave(&self) {
        self.depth.set(self.depth.get() - 1);
    }

    fn stop(&self, stop: Stop) -> DecodeError {
        self.stopped.set(Some(stop));
        self.stopped_error(stop)
    }

    fn stopped_error(&self, stop: Stop) -> DecodeError {
        match stop {
            Stop::TooMany => DecodeError::TooMany { field: self.field(), max: self.elements_max },
            Stop::TooDeep => DecodeError::TooDeep { field: self.field(), max: DEPTH_MAX },
        }
    }

    /// What a reader of JSON failed of.
    pub(super) fn json_error(&self, error: &serde_json::Error) -> DecodeError {
        if let Some(stop) = self.stopped.get() {
            return self.stopped_error(stop);
        }
        if error.is_data() {
            return self.wrong_type();
        }
        DecodeError::NotJson { field: self.field(), column: error.column() }
    }
}

impl<'a, M: Message<'a>> Element<'a> for M {
    fn write_json(&self, _: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(b'{');
        Message::write_json(self, out)?;
        out.push(b'}');
        Ok(())
    }

    fn read_json<D: Deserializer<'a>>(from: D, reading: &Reading) -> Result<Self, D::Error> {
        json::read_object(from, reading)
    }

    fn proto_size(&self) -> usize {
        Message::proto_size(self)
    }

    fn write_proto(&self, out: &mut Vec<u8>) {
        Message::write_proto(self, out);
    }

    fn read_proto(bytes: &'a [u8], reading: &Reading) -> Result<Self, DecodeError> {
        protobuf::read_message(bytes, reading)
    }
}

/// A message that is always there.
impl<'a, M: Message<'a>> Field<'a> for M {
    fn is_zero(&self) -> bool {
        false
    }

    fn write_json(&self, name: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Element::write_json(self, name, out)
    }

    fn read_json<D: Deserializer<'a>>(from: D, reading: &Reading) -> Result<Self, D::Error> {
        Ok(<Option<M> as Field>::read_json(from, reading)?.unwrap_or_default())
    }

    fn proto_size(&self, number: u32) -> usize {
        protobuf::element_size(number, self)
    }

    fn write_proto(&self, number: u32, out: &mut Vec<u8>) {
        protobuf::write_element(number, self, out);
    }

    fn read_proto(&mut self, value: Wire<'a>, reading: &Reading) -> Result<(), DecodeError> {
        *self = Element::read_proto(value.bytes(reading)?, reading)?;
        Ok(())
    }
}

/// A message that may be there.
impl<'a, E: Element<'a>> Field<'a> for Option<E> {
    fn is_zero(&self) -> bool {
        self.is_none()
    }

    fn write_json(&self, name: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Some(element) => element.write_json(name, out),
            None => json::write(&(), out),
        }
    }

    fn read_json<D: Deserializer<'a>>(from: D, reading: &Reading) -> Result<Self, D::Error> {
        struct Maybe<'r, E>(&'r Reading, PhantomData<E>);
        impl<'a, E: Element<'a>> Visitor<'a> for Maybe<'_, E> {
            type Value = Option<E>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a message")
            }

            fn visit_none<X>(self) -> Result<Self::Value, X> {
                Ok(None)
            }

            fn visit_some<D: Deserializer<'a>>(self, from: D) -> Result<Self::Value, D::Error> {
                E::read_json(from, self.0).map(Some)
            }
        }
        from.deserialize_option(Maybe(reading, PhantomData))
    }

    fn proto_size(&self, number: u32) -> usize {
        self.as_ref().map_or(0, |element| protobuf::element_size(number, element))
    }

    fn write_proto(&self, number: u32, out: &mut Vec<u8>) {
        if let Some(element) = self {
            protobuf::write_element(number, element, out);
        }
    }

    fn read_proto(&mut self, value: Wire<'a>, reading: &Reading) -> Result<(), DecodeError> {
        *self = Some(E::read_proto(value.bytes(reading)?, reading)?);
        Ok(())
    }
}

/// A repeated field.
impl<'a, E: Element<'a>> Field<'a> for Vec<E> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write_json(&self, name: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(b'[');
        for (at, element) in self.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            element.write_json(name, out)?;
        }
        out.push(b']');
        Ok(())
    }

    fn read_json<D: Deserializer<'a>>(from: D, reading: &Reading) -> Result<Self, D::Error> {
        struct List<'r, E>(&'r Reading, PhantomData<E>);
        impl<'a, E: Element<'a>> Visitor<'a> for List<'_, E> {
            type Value = Vec<E>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<X>(self) -> Result<Self::Value, X> {
                Ok(Vec::new())
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let name = self.0.field();
                let mut list = Vec::new();
                while let Some(element) = seq.next_element_seed(ElementSeed::new(self.0))? {
                    self.0.enter_field(name);
                    self.0.element().map_err(A::Error::custom)?;
                    list.push(element);
                }
                Ok(list)
            }
        }
        from.deserialize_any(List(reading, PhantomData))
    }

    fn proto_size(&self, number: u32) -> usize {
        self.iter().map(|element| protobuf::element_size(number, element)).sum()
    }

    fn write_proto(&self, number: u32, out: &mut Vec<u8>) {
        for element in self {
            protobuf::write_element(number, element, out);
        }
    }

    fn read_proto(&mut self, value: Wire<'a>, reading: &Reading) -> Result<(), DecodeError> {
        reading.element()?;
        self.push(E::read_proto(value.bytes(reading)?, reading)?);
        Ok(())
    }
}

/// A map, as the entries that stand on the wire, in their order. A name that comes twice is twice here;
/// the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map<'a, V>(pub Vec<(Text<'a>, V)>);

impl<V> Default for Map<'_, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Map<'_, V> {
    /// The value of the last entry of this name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

impl<'a, V: Element<'a>> Field<'a> for Map<'a, V> {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn write_json(&self, name: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(b'{');
        for (at, (key, value)) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            json::write(key, out)?;
            out.push(b':');
            value.write_json(name, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn read_json<D: Deserializer<'a>>(from: D, reading: &Reading) -> Result<Self, D::Error> {
        struct Entries<'r, V>(&'r Reading, PhantomData<V>);
        impl<'a, V: Element<'a>> Visitor<'a> for Entries<'_, V> {
            type Value = Vec<(Text<'a>, V)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map")
            }

            fn visit_unit<X>(self) -> Result<Self::Value, X> {
                Ok(Vec::new())
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let name = self.0.field();
                let mut entries = Vec::new();
                while let Some(key) = map.next_key_seed(ElementSeed::<Text<'a>>::new(self.0))? {
                    self.0.enter_field(name);
                    self.0.element().map_err(A::Error::custom)?;
                    entries.push((key, map.next_value_seed(ElementSeed::new(self.0))?));
                }
                Ok(entries)
            }
        }
        from.deserialize_any(Entries(reading, PhantomData)).map(Self)
    }

    fn proto_size(&self, number: u32) -> usize {
        let sizes = self
            .0
            .iter()
            .map(|(key, value)| protobuf::behind_length(number, protobuf::entry_size(key, value)));
        sizes.sum()
    }

    fn write_proto(&self, number: u32, out: &mut Vec<u8>) {
        for (key, value) in &self.0 {
            protobuf::write_entry(number, key, value, out);
        }
    }

    fn read_proto(&mut self, value: Wire<'a>, reading: &Reading) -> Result<(), DecodeError> {
        reading.element()?;
        self.0.push(protobuf::read_entry(value.bytes(reading)?, reading)?);
        Ok(())
    }
}
