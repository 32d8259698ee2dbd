//! The simple kinds of fields: numbers, flags, text, and payloads, which are not looked into.

use std::borrow::Cow;

use memchr::memchr2;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::value::RawValue;

use super::field::{Element, Field, Reading};
use super::protobuf::{self, Wire};
use super::{DecodeError, EncodeError, json, varint};

/// Text, borrowed where the wire has it as it is.
pub type Text<'a> = Cow<'a, str>;

/// Bytes of the application. Toward a JSON client they must be JSON, and are embedded as they are.
#[derive(Clone, Copy, Default)]
pub struct Payload<'a> {
    bytes: &'a [u8],
    is_json: bool,
}

impl<'a> Payload<'a> {
    /// Any bytes; looked through when they are written as JSON. None at all is no payload.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, is_json: false }
    }

    /// Bytes that are known to be one JSON value, as those of a command in JSON are: they are not looked
    /// through again.
    pub const fn json(bytes: &'a [u8]) -> Self {
        Self { bytes, is_json: true }
    }

    /// The bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether it is known to be JSON.
    pub const fn is_json(&self) -> bool {
        self.is_json
    }
}

impl PartialEq for Payload<'_> {
    /// The bytes are the value; what is known of them is not.
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Payload<'_> {}

impl std::fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Payload").field(&String::from_utf8_lossy(self.bytes)).finish()
    }
}

impl<'a> Field<'a> for Payload<'a> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write_json(&self, name: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut rest = self.bytes;
        if !self.is_json {
            let value: &RawValue = serde_json::from_slice(self.bytes)
                .map_err(|_not_json| EncodeError::NotJson { field: name })?;
            rest = value.get().as_bytes();
        }
        // A line break in JSON is white space; between lines it would begin the next message.
        out.reserve(rest.len());
        while let Some(found) = memchr2(b'\n', b'\r', rest) {
            out.extend_from_slice(&rest[..found]);
            rest = &rest[found + 1..];
        }
        out.extend_from_slice(rest);
        Ok(())
    }

    fn read_json<D: Deserializer<'a>>(from: D, _: &Reading) -> Result<Self, D::Error> {
        let raw = Option::<&RawValue>::deserialize(from)?;
        Ok(raw.map_or_else(Self::default, |raw| Self::json(raw.get().as_bytes())))
    }

    fn proto_size(&self, number: u32) -> usize {
        if self.is_empty() { 0 } else { protobuf::behind_length(number, self.bytes.len()) }
    }

    fn write_proto(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            protobuf::write_length(number, self.bytes.len(), out);
            out.extend_from_slice(self.bytes);
        }
    }

    fn read_proto(&mut self, value: Wire<'a>, reading: &Reading) -> Result<(), DecodeError> {
        *self = Self::new(value.bytes(reading)?);
        Ok(())
    }
}

impl<'a> Element<'a> for Text<'a> {
    fn write_json(&self, _: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        json::write(self, out)
    }

    fn read_json<D: Deserializer<'a>>(from: D, _: &Reading) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'a> Visitor<'a> for TextVisitor {
            type Value = Text<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<X>(self, text: &'a str) -> Result<Self::Value, X> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<X>(self, text: &str) -> Result<Self::Value, X> {
                Ok(Cow::Owned(text.to_owned()))
            }

            fn visit_unit<X>(self) -> Result<Self::Value, X> {
                Ok(Cow::Borrowed(""))
            }
        }
        from.deserialize_any(TextVisitor)
    }

    fn proto_size(&self) -> usize {
        self.len()
    }

    fn write_proto(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn read_proto(bytes: &'a [u8], reading: &Reading) -> Result<Self, DecodeError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) => Err(DecodeError::NotUtf8 { field: reading.field() }),
        }
    }
}

impl<'a> Field<'a> for Text<'a> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write_json(&self, name: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Element::write_json(self, name, out)
    }

    fn read_json<D: Deserializer<'a>>(from: D, reading: &Reading) -> Result<Self, D::Error> {
        Element::read_json(from, reading)
    }

    fn proto_size(&self, number: u32) -> usize {
        if self.is_empty() { 0 } else { protobuf::element_size(number, self) }
    }

    fn write_proto(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            protobuf::write_element(number, self, out);
        }
    }

    fn read_proto(&mut self, value: Wire<'a>, reading: &Reading) -> Result<(), DecodeError> {
        *self = Element::read_proto(value.bytes(reading)?, reading)?;
        Ok(())
    }
}

/// Bytes that stand in JSON as text, not as a value.
pub type Quoted<'a> = Cow<'a, [u8]>;

impl<'a> Field<'a> for Quoted<'a> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write_json(&self, name: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let text = std::str::from_utf8(self);
        json::write(text.map_err(|_not_text| EncodeError::NotJson { field: name })?, out)
    }

    fn read_json<D: Deserializer<'a>>(from: D, reading: &Reading) -> Result<Self, D::Error> {
        Ok(match <Text<'a> as Element>::read_json(from, reading)? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }

    fn proto_size(&self, number: u32) -> usize {
        Payload::new(self).proto_size(number)
    }

    fn write_proto(&self, number: u32, out: &mut Vec<u8>) {
        Payload::new(self).write_proto(number, out);
    }

    fn read_proto(&mut self, value: Wire<'a>, reading: &Reading) -> Result<(), DecodeError> {
        *self = Cow::Borrowed(value.bytes(reading)?);
        Ok(())
    }
}

/// A number that Protobuf writes in zigzag (`sint64`), so that small negative ones are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Sint(pub i64);

/// How a number or flag becomes a varint. One over its type is cut to its low bits when it is read, as the
/// format has it; in JSON it is refused.
trait Varint {
    fn to_wire(self) -> u64;
    fn from_wire(wire: u64) -> Self;
}

impl Varint for bool {
    fn to_wire(self) -> u64 {
        u64::from(self)
    }

    fn from_wire(wire: u64) -> Self {
        wire != 0
    }
}

impl Varint for u32 {
    fn to_wire(self) -> u64 {
        u64::from(self)
    }

    fn from_wire(wire: u64) -> Self {
        wire as u32
    }
}

impl Varint for u64 {
    fn to_wire(self) -> u64 {
        self
    }

    fn from_wire(wire: u64) -> Self {
        wire
    }
}

impl Varint for i32 {
    fn to_wire(self) -> u64 {
        i64::from(self) as u64
    }

    fn from_wire(wire: u64) -> Self {
        wire as i32
    }
}

impl Varint for i64 {
    fn to_wire(self) -> u64 {
        self as u64
    }

    fn from_wire(wire: u64) -> Self {
        wire as i64
    }
}

impl Varint for Sint {
    fn to_wire(self) -> u64 {
        ((self.0 << 1) ^ (self.0 >> 63)) as u64
    }

    fn from_wire(wire: u64) -> Self {
        Self((wire >> 1) as i64 ^ -((wire & 1) as i64))
    }
}

macro_rules! varints {
    ($($type:ty)+) => {$(
        impl<'a> Field<'a> for $type {
            #[inline]
            fn is_zero(&self) -> bool {
                *self == Self::default()
            }

            fn write_json(&self, _: &'static str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                json::write(self, out)
            }

            fn read_json<D: Deserializer<'a>>(from: D, _: &Reading) -> Result<Self, D::Error> {
                Ok(Option::<Self>::deserialize(from)?.unwrap_or_default())
            }

            fn proto_size(&self, number: u32) -> usize {
                let size = protobuf::tag_size(number) + varint::size(self.to_wire());
                if self.is_zero() { 0 } else { size }
            }

            fn write_proto(&self, number: u32, out: &mut Vec<u8>) {
                if !self.is_zero() {
                    protobuf::write_varint(number, self.to_wire(), out);
                }
            }

            fn read_proto(&mut self, value: Wire<'a>, reading: &Reading) -> Result<(), DecodeError> {
                *self = Self::from_wire(value.varint(reading)?);
                Ok(())
            }
        }
    )+};
}

varints!(bool u32 u64 i32 i64 Sint);
