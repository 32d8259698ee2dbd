//! Emulation: a client whose stream of replies is a response of HTTP or SSE sends its commands by requests of
//! their own. Which session they are for is looked up elsewhere.

use super::field::Reading;
use super::message::messages;
use super::{DecodeError, Encoding, Quoted, Text, json, protobuf};

messages! {
    /// The body of one request.
    EmulationRequest<'a> {
        /// The node that has the session: what its connect result said.
        1 node: Text<'a>;
        /// The session there, likewise.
        2 session: Text<'a>;
        /// A frame of commands, as [`super::frame::split`] takes it.
        3 data: Quoted<'a>;
    }
}

impl<'a> EmulationRequest<'a> {
    /// Reads a body, which is one message: JSON, or Protobuf without a length before it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; the answer to it is HTTP's 400.
    pub fn decode(encoding: Encoding, body: &'a [u8]) -> Result<Self, DecodeError> {
        let reading = Reading::new("emulation", 0);
        match encoding {
            Encoding::Json => json::read(body, &reading),
            Encoding::Protobuf => protobuf::read_message(body, &reading),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(encoding: Encoding, body: &[u8], expected: Result<(&str, &str, &[u8]), &str>) {
        let read = EmulationRequest::decode(encoding, body);
        let read = read.map(|read| (read.node, read.session, read.data));
        let expected = expected
            .map(|(node, session, data)| (node.into(), session.into(), data.into()))
            .map_err(str::to_owned);
        assert_eq!(read.map_err(|error| error.to_string()), expected);
    }

    #[test]
    fn commands_stand_in_a_string_of_json() {
        let check = |body: &str, expected| check(Encoding::Json, body.as_bytes(), expected);
        check(
            r#"{"session":"s","node":"n","data":"{\"id\":1,\"rpc\":{}}\n{}"}"#,
            Ok(("n", "s", b"{\"id\":1,\"rpc\":{}}\n{}")),
        );
        check("{}", Ok(("", "", b"")));
        check(r#"{"data":{}}"#, Err("data: not of its type"));
        check(r#"{"data":"{}""#, Err("emulation: not JSON near byte 12"));
        check("", Err("emulation: not JSON near byte 0"));
    }

    #[test]
    fn commands_are_bytes_of_protobuf() {
        let check = |body: &[u8], expected| check(Encoding::Protobuf, body, expected);
        check(b"\x0a\x01n\x12\x01s\x1a\x02\x01\xff", Ok(("n", "s", b"\x01\xff")));
        check(b"", Ok(("", "", b"")));
        check(b"\x1a\x03\x00", Err("emulation: not Protobuf, a length goes beyond the end"));
        check(b"\x18\x01", Err("data: not of its type"));
    }
}
