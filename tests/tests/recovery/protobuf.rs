//! The part of the protocol's Protobuf that subscribers need, written down once more by field number
//! (<https://github.com/centrifugal/protocol>): commands from JSON values, and replies to them.

use serde_json::{Map, Value};

/// A field: its number, its name in JSON, and what it is.
type Field = (u64, &'static str, Of);

#[derive(Clone, Copy)]
enum Of {
    Number,
    Truth,
    Text,
    /// A payload, which is JSON here.
    Json,
    One(&'static [Field]),
    Many(&'static [Field]),
}

const COMMAND: &[Field] =
    &[(1, "id", Of::Number), (4, "connect", Of::One(&[])), (5, "subscribe", Of::One(SUBSCRIBE))];
const SUBSCRIBE: &[Field] = &[
    (1, "channel", Of::Text),
    (3, "recover", Of::Truth),
    (6, "epoch", Of::Text),
    (7, "offset", Of::Number),
];

const REPLY: &[Field] = &[
    (1, "id", Of::Number),
    (2, "error", Of::One(CODE)),
    (4, "push", Of::One(PUSH)),
    (5, "connect", Of::One(&[])),
    (6, "subscribe", Of::One(SUBSCRIBED)),
];
const PUSH: &[Field] = &[
    (2, "channel", Of::Text),
    (4, "pub", Of::One(PUBLICATION)),
    (8, "unsubscribe", Of::One(UNSUBSCRIBED)),
    (11, "disconnect", Of::One(CODE)),
];
const PUBLICATION: &[Field] =
    &[(4, "data", Of::Json), (6, "offset", Of::Number), (14, "epoch", Of::Text)];
const SUBSCRIBED: &[Field] = &[
    (6, "epoch", Of::Text),
    (7, "publications", Of::Many(PUBLICATION)),
    (8, "recovered", Of::Truth),
    (9, "offset", Of::Number),
    (12, "was_recovering", Of::Truth),
];
const UNSUBSCRIBED: &[Field] = &[(2, "code", Of::Number)];
const CODE: &[Field] = &[(1, "code", Of::Number)];

/// A command behind its length.
pub(crate) fn command(value: &Value) -> Vec<u8> {
    let message = encode(COMMAND, value);
    let mut bytes = varint(message.len() as u64);
    bytes.extend(message);
    bytes
}

/// The replies of a frame, each behind its length.
///
/// # Panics
///
/// When they are not Protobuf.
pub(crate) fn replies(mut frame: &[u8]) -> Vec<Value> {
    let mut replies = Vec::new();
    while !frame.is_empty() {
        replies.push(decode(REPLY, take(&mut frame)));
    }
    replies
}

fn encode(fields: &[Field], value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, name, of) in fields {
        let Some(value) = value.get(name) else { continue };
        let payload = match of {
            Of::Number | Of::Truth => {
                let n = value.as_u64().unwrap_or_else(|| u64::from(value == &Value::Bool(true)));
                bytes.extend(varint(number << 3));
                bytes.extend(varint(n));
                continue;
            }
            Of::Text => value.as_str().expect("a text").as_bytes().to_owned(),
            Of::One(fields) => encode(fields, value),
            Of::Json | Of::Many(_) => unreachable!("no command has {name}"),
        };
        bytes.extend(varint(number << 3 | 2));
        bytes.extend(varint(payload.len() as u64));
        bytes.extend(payload);
    }
    bytes
}

fn decode(fields: &[Field], mut message: &[u8]) -> Value {
    let mut value = Map::new();
    while !message.is_empty() {
        let key = number(&mut message);
        let known = fields.iter().find(|(number, ..)| *number == key >> 3);
        match (key & 7, known) {
            (0, known) => {
                let n = number(&mut message);
                if let Some((_, name, of)) = known {
                    let truth = matches!(of, Of::Truth);
                    value
                        .insert((*name).to_owned(), if truth { (n == 1).into() } else { n.into() });
                }
            }
            (2, None) => drop(take(&mut message)),
            (2, Some((_, name, of))) => {
                let bytes = take(&mut message);
                let read = match of {
                    Of::Text => String::from_utf8(bytes.to_owned()).expect("UTF-8").into(),
                    Of::Json => serde_json::from_slice(bytes).expect("JSON"),
                    Of::One(fields) | Of::Many(fields) => decode(fields, bytes),
                    Of::Number | Of::Truth => panic!("{name} has a length"),
                };
                if let Of::Many(_) = of {
                    let list = value.entry(*name).or_insert_with(|| Value::Array(Vec::new()));
                    list.as_array_mut().expect("a list").push(read);
                } else {
                    value.insert((*name).to_owned(), read);
                }
            }
            (kind, _) => panic!("wire type {kind}"),
        }
    }
    Value::Object(value)
}

/// Takes what stands behind its length.
fn take<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::try_from(number(bytes)).expect("a length");
    let (taken, rest) = bytes.split_at_checked(length).expect("as long as it says");
    *bytes = rest;
    taken
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut n = 0;
    for at in 0..10 {
        let (byte, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return n;
        }
    }
    panic!("a number of more than ten bytes");
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}
