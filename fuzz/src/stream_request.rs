//! What comes by HTTP beside and before a stream: the query of a GET whose `cf_connect` has the first
//! commands, and the body of a POST with further ones, in both encodings. Judged by readers of a few plain
//! lines and by writing what was read anew. weir-channels' tests include this file too.

use serde_json::{Value, json};
use weir_channels::protocol::emulation::EmulationRequest;
use weir_channels::protocol::{Encoding, Limits, frame};
use weir_core::http::query;

const FIELD: &str = "cf_connect";
const LIMITS: Limits = Limits { command_bytes_max: 256, elements_max: 16 };

/// A byte that chooses; then a query, a body, or the parts of a request as a client would write it.
pub fn stream_request(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    match choice % 4 {
        0 => read_query(data),
        1 => read_json(data),
        2 => read_protobuf(data),
        _ => written(*choice, data),
    }
}

/// Any query has the value that a reader of a few lines finds, and never a longer one.
fn read_query(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let value = query::value(text, FIELD);
    assert_eq!(value, field(text));
    let Some(value) = value else { return };
    assert!(value.len() + FIELD.len() <= text.len());
    take(Encoding::Json, &value);
}

/// The first field of the name, a byte at a time.
fn field(text: &str) -> Option<Vec<u8>> {
    let field = text.split('&').find(|field| field.split('=').next() == Some(FIELD))?;
    let bytes = field.get(FIELD.len() + 1..).unwrap_or_default().as_bytes();
    let (mut value, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let escaped = digits.and_then(|two| std::str::from_utf8(two).ok());
        match (bytes[at], escaped) {
            (b'%', Some(digits)) => {
                value.push(u8::from_str_radix(digits, 16).expect("hexadecimal digits"));
                at += 2;
            }
            (b'+', _) => value.push(b' '),
            (byte, _) => value.push(byte),
        }
        at += 1;
    }
    Some(value)
}

/// A body that is taken is an object of JSON, and without what stands there twice it says the same as to
/// another reader.
fn read_json(body: &[u8]) {
    let Ok(request) = EmulationRequest::decode(Encoding::Json, body) else { return };
    take(Encoding::Json, &request.data);
    // In a field that nobody knows a text may be none of Unicode, and a number beyond all types.
    let Ok(known) = serde_json::from_slice::<Value>(body) else { return };
    assert!(known.is_object());
    let again = known.to_string();
    let Ok(request) = EmulationRequest::decode(Encoding::Json, again.as_bytes()) else {
        panic!("taken with fields twice, and not without: {again}");
    };
    let text = |name: &str| known[name].as_str().unwrap_or_default();
    let read = [request.node.as_bytes(), request.session.as_bytes(), &request.data];
    assert_eq!(read, ["node", "session", "data"].map(|name| text(name).as_bytes()));
}

/// A body that is taken says the same when it is written anew.
fn read_protobuf(body: &[u8]) {
    let Ok(request) = EmulationRequest::decode(Encoding::Protobuf, body) else { return };
    let len = request.node.len() + request.session.len() + request.data.len();
    assert!(len <= body.len());
    take(Encoding::Protobuf, &request.data);
    let again = protobuf(&request.node, &request.session, &request.data);
    assert_eq!(EmulationRequest::decode(Encoding::Protobuf, &again).as_ref(), Ok(&request));
}

/// What a client writes is what is read: in a query with every way to escape, and in both kinds of body.
fn written(choice: u8, data: &[u8]) {
    let parts: Vec<_> = data.splitn(3, |byte| *byte == b'|').map(String::from_utf8_lossy).collect();
    let [node, session, commands] = &parts[..] else { return };
    let query = format!("x={node}{FIELD}&{FIELD}={}&{FIELD}=2", escaped(choice, commands));
    if !node.contains(['&', '=']) {
        assert_eq!(query::value(&query, FIELD).as_deref(), Some(commands.as_bytes()));
    }
    let body = json!({"session": session, "node": node, "data": commands}).to_string();
    let json = EmulationRequest::decode(Encoding::Json, body.as_bytes()).expect("a body");
    let body = protobuf(node, session, commands.as_bytes());
    let protobuf = EmulationRequest::decode(Encoding::Protobuf, &body).expect("a body");
    for request in [json, protobuf] {
        assert_eq!((&*request.node, &*request.session), (&**node, &**session));
        assert_eq!(&*request.data, commands.as_bytes());
    }
}

/// Letters and digits as they are, the rest escaped in one of the ways that readers must take.
fn escaped(choice: u8, text: &str) -> String {
    let byte = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' if choice & 4 == 0 => char::from(*byte).to_string(),
        b' ' if choice & 8 == 0 => "+".to_owned(),
        byte if choice & 16 == 0 => format!("%{byte:02X}"),
        byte => format!("%{byte:02x}"),
    };
    text.as_bytes().iter().map(byte).collect()
}

/// A body in Protobuf.
fn protobuf(node: &str, session: &str, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (number, bytes) in [(1, node.as_bytes()), (2, session.as_bytes()), (3, data)] {
        body.push(number << 3 | 2);
        let mut len = bytes.len();
        while len >= 0x80 {
            body.push(len as u8 | 0x80);
            len >>= 7;
        }
        body.push(len as u8);
        body.extend_from_slice(bytes);
    }
    body
}

/// The commands of a request are read as those of a frame are: none of them is empty, so that there are
/// no more than bytes.
fn take(encoding: Encoding, data: &[u8]) {
    let commands = frame::commands(encoding, data, &LIMITS);
    assert!(commands.take_while(Result::is_ok).count() <= data.len());
}
