//! Protobuf: tags, lengths and maps, as much of the format as the tables need. Nothing here knows a
//! message.

use super::field::{Element, Message, Reading};
use super::scalar::Text;
use super::{DecodeError, varint};

/// Wire types.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// The value of a field as it stands on the wire.
#[derive(Clone, Copy)]
pub(super) enum Wire<'a> {
    /// A number.
    Varint(u64),
    /// Text, bytes, a message or a map's entry.
    Bytes(&'a [u8]),
    /// A number of a form that no field of ours has.
    Fixed,
}

impl<'a> Wire<'a> {
    pub(super) fn varint(self, reading: &Reading) -> Result<u64, DecodeError> {
        match self {
            Self::Varint(number) => Ok(number),
            Self::Bytes(_) | Self::Fixed => Err(reading.wrong_type()),
        }
    }

    pub(super) fn bytes(self, reading: &Reading) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed => Err(reading.wrong_type()),
        }
    }
}

/// Reads a message that is all of `bytes`. Unknown fields are passed over.
pub(super) fn read_message<'a, M: Message<'a>>(
    bytes: &'a [u8],
    reading: &Reading,
) -> Result<M, DecodeError> {
    reading.enter()?;
    let name = reading.field();
    let (mut message, mut rest) = (M::default(), bytes);
    while !rest.is_empty() {
        let (number, value) = take_field(&mut rest, reading)?;
        message.read_proto(number, value, reading)?;
        reading.enter_field(name);
    }
    reading.leave();
    Ok(message)
}

/// Takes one field, known or not.
fn take_field<'a>(rest: &mut &'a [u8], reading: &Reading) -> Result<(u32, Wire<'a>), DecodeError> {
    let tag = take_varint(rest, reading)?;
    let number = u32::try_from(tag >> 3).unwrap_or(0);
    if number == 0 || number >= 1 << 29 {
        return Err(reading.not_protobuf("a field's number is out of range"));
    }
    let value = match tag as u32 & 7 {
        VARINT => Wire::Varint(take_varint(rest, reading)?),
        LENGTH => {
            let length = take_varint(rest, reading)?;
            Wire::Bytes(take(rest, length, reading)?)
        }
        FIXED64 => take(rest, 8, reading).map(|_| Wire::Fixed)?,
        FIXED32 => take(rest, 4, reading).map(|_| Wire::Fixed)?,
        _ => return Err(reading.not_protobuf("a field is of no known form")),
    };
    Ok((number, value))
}

fn take_varint(rest: &mut &[u8], reading: &Reading) -> Result<u64, DecodeError> {
    match varint::read(rest) {
        Ok(Some((number, taken))) => {
            *rest = &rest[taken..];
            Ok(number)
        }
        Ok(None) => Err(reading.not_protobuf("it ends inside a number")),
        Err(varint::Overlong) => Err(reading.not_protobuf("a number has over 64 bits")),
    }
}

fn take<'a>(rest: &mut &'a [u8], length: u64, reading: &Reading) -> Result<&'a [u8], DecodeError> {
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let Some((bytes, after)) = split else {
        return Err(reading.not_protobuf("a length goes beyond the end"));
    };
    *rest = after;
    Ok(bytes)
}

/// Reads a map's entry: the key is field 1, the value is field 2, and either may be missing.
pub(super) fn read_entry<'a, V: Element<'a>>(
    bytes: &'a [u8],
    reading: &Reading,
) -> Result<(Text<'a>, V), DecodeError> {
    let name = reading.field();
    let (mut key, mut value, mut rest) = (Text::default(), V::default(), bytes);
    while !rest.is_empty() {
        match take_field(&mut rest, reading)? {
            (1, wire) => key = Element::read_proto(wire.bytes(reading)?, reading)?,
            (2, wire) => value = V::read_proto(wire.bytes(reading)?, reading)?,
            _ => {}
        }
        reading.enter_field(name);
    }
    Ok((key, value))
}

/// Bytes of an entry behind its length.
pub(super) fn entry_size<'a, V: Element<'a>>(key: &Text<'a>, value: &V) -> usize {
    element_size(1, key) + element_size(2, value)
}

/// Appends an entry of the map that is field `number`.
pub(super) fn write_entry<'a, V: Element<'a>>(
    number: u32,
    key: &Text<'a>,
    value: &V,
    out: &mut Vec<u8>,
) {
    write_length(number, entry_size(key, value), out);
    write_element(1, key, out);
    write_element(2, value, out);
}

/// Bytes of a tag.
#[inline]
pub(super) const fn tag_size(number: u32) -> usize {
    varint::size((number as u64) << 3)
}

/// Bytes of a field that has `len` bytes behind its tag and length.
#[inline]
pub(super) const fn behind_length(number: u32, len: usize) -> usize {
    tag_size(number) + varint::size(len as u64) + len
}

/// Appends a tag and the length of what is appended next.
#[inline]
pub(super) fn write_length(number: u32, len: usize, out: &mut Vec<u8>) {
    varint::write(u64::from(number << 3 | LENGTH), out);
    varint::write(len as u64, out);
}

/// Appends a number behind its tag.
#[inline]
pub(super) fn write_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    varint::write(u64::from(number << 3 | VARINT), out);
    varint::write(value, out);
}

/// Bytes of an element as field `number`.
pub(super) fn element_size<'a, E: Element<'a>>(number: u32, element: &E) -> usize {
    behind_length(number, element.proto_size())
}

/// Appends an element as field `number`.
pub(super) fn write_element<'a, E: Element<'a>>(number: u32, element: &E, out: &mut Vec<u8>) {
    write_length(number, element.proto_size(), out);
    element.write_proto(out);
}
