//! The client protocol of weir's channels in JSON, as much of it as the generator speaks: commands
//! to bytes, and replies and pushes back. It is written apart from weir's own, and counts nothing.

use memchr::memmem::{Finder, find};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::wire::Wire;

/// Where weir and its like serve the protocol on WebSocket.
pub(crate) const PATH: &str = "/connection/websocket";
/// The same on Server-Sent Events, and where what a client says beside them is posted.
pub(crate) const SSE_PATH: &str = "/connection/sse";
pub(crate) const EMULATION_PATH: &str = "/emulation";
/// The pong, and the ping that it answers.
pub(crate) const EMPTY: &[u8] = b"{}";

/// The ids of the two commands a connection begins with; those of publications come after them.
const CONNECT: u32 = 1;
const SUBSCRIBE: u32 = 2;
const PUBLISH_FROM: u32 = 3;

/// One thing a server has said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// The ping; it wants [`EMPTY`] back.
    Ping,
    /// A publication: its data, as the JSON it was.
    Publication(&'a [u8]),
    /// The subscription is made.
    Subscribed,
    /// A stream is connected: commands beside it name its session and its node.
    Streams {
        /// The stream.
        session: &'a str,
        /// The server.
        node: &'a str,
    },
    /// A command was carried out that needs nothing further.
    Done,
    /// A command was refused, or this is no reply; the whole of it.
    Refused(&'a [u8]),
}

/// Appends the frame a connection begins with: connect, and the subscription to `channel` behind
/// it, as the JavaScript SDK sends them.
pub(crate) fn begin(channel: Option<&str>, mask: u32, out: &mut Vec<u8>) {
    Wire::Ws.encode(beginning(channel).as_bytes(), mask, out);
}

/// Appends the request of a stream of events at `path` that says the same.
pub(crate) fn begin_events(path: &str, host: &str, channel: &str, out: &mut Vec<u8>) {
    let head = format!("GET {path}?cf_connect=");
    out.extend_from_slice(head.as_bytes());
    for byte in beginning(Some(channel)).bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte),
            other => out.extend_from_slice(format!("%{other:02X}").as_bytes()),
        }
    }
    let rest = format!(" HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n");
    out.extend_from_slice(rest.as_bytes());
}

/// The request that posts a pong beside a stream.
pub(crate) fn post_pong(host: &str, session: &str, node: &str) -> String {
    let body = serde_json::json!({"session": session, "node": node, "data": "{}"}).to_string();
    format!(
        "POST {EMULATION_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn beginning(channel: Option<&str>) -> String {
    let mut commands = format!("{{\"id\":{CONNECT},\"connect\":{{\"name\":\"weir-load\"}}}}");
    if let Some(channel) = channel {
        commands +=
            &format!("\n{{\"id\":{SUBSCRIBE},\"subscribe\":{{\"channel\":\"{channel}\"}}}}");
    }
    commands
}

/// Appends a publication; `data` is JSON, `number` any that is not in use.
pub(crate) fn publish(number: u32, channel: &str, data: &[u8], out: &mut Vec<u8>) {
    let id = number.wrapping_add(PUBLISH_FROM).max(PUBLISH_FROM);
    let head = format!("{{\"id\":{id},\"publish\":{{\"channel\":\"{channel}\",\"data\":");
    Wire::Ws.encode(&[head.as_bytes(), data, b"}}"].concat(), id, out);
}

/// Takes the frames of servers apart.
pub(crate) struct Listener {
    data: Finder<'static>,
}

impl Listener {
    /// A listener; it has no state of a connection.
    pub(crate) fn new() -> Self {
        Self { data: Finder::new(b"\"data\":\"") }
    }

    /// Everything that a frame or an event says, in order.
    pub(crate) fn hear<'a>(&'a self, frame: &'a [u8]) -> impl Iterator<Item = Said<'a>> {
        // Each line of an event has the name of its field before it.
        let text = |line: &'a [u8]| line.strip_prefix(b"data: ").unwrap_or(line);
        let lines = frame.split(|&byte| byte == b'\n').map(text);
        lines.filter(|line| !line.is_empty()).map(|line| {
            if line.starts_with(b"{\"push\":") && find(line, b"\"pub\":").is_some() {
                // Publications here are strings without escapes: they end with the next quote.
                let data = self.data.find(line).map(|at| at + self.data.needle().len());
                let end = data.and_then(|from| Some(from + memchr::memchr(b'"', &line[from..])?));
                data.zip(end).map_or(Said::Refused(line), |(from, end)| {
                    Said::Publication(&line[from - 1..=end])
                })
            } else if line == EMPTY {
                Said::Ping
            } else {
                reply(line)
            }
        })
    }
}

/// As much of a reply as says which it is.
#[derive(Deserialize)]
struct Reply<'a> {
    id: u32,
    error: Option<IgnoredAny>,
    #[serde(borrow)]
    connect: Option<Connected<'a>>,
    subscribe: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Connected<'a> {
    session: Option<&'a str>,
    node: Option<&'a str>,
}

fn reply(line: &[u8]) -> Said<'_> {
    match serde_json::from_slice(line) {
        Ok(Reply { error: None, subscribe: Some(_), id: SUBSCRIBE, .. }) => Said::Subscribed,
        Ok(Reply {
            error: None,
            connect: Some(Connected { session: Some(session), node: Some(node) }),
            ..
        }) => Said::Streams { session, node },
        Ok(Reply { error: None, subscribe: None, .. }) => Said::Done,
        _ => Said::Refused(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frame: &str, said: &[Said<'_>]) {
        assert_eq!(Listener::new().hear(frame.as_bytes()).collect::<Vec<_>>(), said, "{frame}");
    }

    #[test]
    fn every_line_of_a_frame_is_heard() {
        check(
            "{\"id\":1,\"connect\":{\"client\":\"x\",\"ping\":25,\"pong\":true}}\n\
             {\"id\":2,\"subscribe\":{}}\n{}\n",
            &[Said::Done, Said::Subscribed, Said::Ping],
        );
    }

    #[test]
    fn a_stream_says_how_it_is_called() {
        check(
            "data: {\"id\":1,\"connect\":{\"client\":\"x\",\"session\":\"s\",\"node\":\"n\"}}\n\
             data: {\"id\":2,\"subscribe\":{}}",
            &[Said::Streams { session: "s", node: "n" }, Said::Subscribed],
        );
        let mut out = Vec::new();
        begin_events("/events", "h", "c1", &mut out);
        assert!(out.starts_with(b"GET /events?cf_connect=%7B%22id%22%3A1%2C"), "{out:?}");
    }

    #[test]
    fn the_data_of_a_publication_is_told_from_what_stands_around_it() {
        let publication = [Said::Publication(b"\"abc\"")];
        check(r#"{"push":{"channel":"c","pub":{"data":"abc","info":{"user":""}}}}"#, &publication);
        check(r#"{"push":{"channel":"c","pub":{"offset":1,"data":"abc"}}}"#, &publication);
        check(r#"{"id":7,"publish":{}}"#, &[Said::Done]);
    }

    #[test]
    fn what_is_refused_is_told_whole() {
        let lines = [
            r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#,
            r#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"x"}}}"#,
            r#"{"push":{"channel":"c","pub":{"data":{"no":"string"}}}}"#,
            "not json",
        ];
        for line in lines {
            check(line, &[Said::Refused(line.as_bytes())]);
        }
    }

    #[test]
    fn commands_are_the_protocols() {
        // A mask of zero leaves the payload as it is, behind a head of 6 bytes, or 8.
        let mut out = Vec::new();
        begin(Some("c1"), 0, &mut out);
        let begun = "{\"id\":1,\"connect\":{\"name\":\"weir-load\"}}\n\
                     {\"id\":2,\"subscribe\":{\"channel\":\"c1\"}}";
        assert_eq!(&out[out.len() - begun.len()..], begun.as_bytes());
    }
}
