//! The protocol of NATS on WebSocket, as much of it as subscribers and a publisher speak. A frame may
//! hold several messages, and a message may come in several frames.

use std::ops::ControlFlow;

use memchr::memmem::find;

use crate::wire::Wire;

/// One thing a server has said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// It wants [`PONG`] back.
    Ping,
    /// Everything sent before the last ping was carried out.
    Pong,
    /// A publication's payload.
    Message(&'a [u8]),
    /// What it complains of.
    Error(&'a [u8]),
}

/// The answer to a ping.
pub(super) const PONG: &[u8] = b"PONG\r\n";
/// More than one message with its head; a server that sends more without an end is none.
const KEPT_MAX: usize = 64 * 1024;

/// Appends the frame a connection begins with; its pong says that a subscription is made.
pub(super) fn begin(channel: Option<&str>, mask: u32, out: &mut Vec<u8>) {
    let mut text = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n".to_owned();
    if let Some(channel) = channel {
        text += &format!("SUB {channel} 1\r\n");
    }
    Wire::Ws.encode((text + "PING\r\n").as_bytes(), mask, out);
}

/// Appends a publication.
pub(super) fn publish(channel: &str, payload: &[u8], mask: u32, out: &mut Vec<u8>) {
    let head = format!("PUB {channel} {}\r\n", payload.len());
    Wire::Ws.encode(&[head.as_bytes(), payload, b"\r\n"].concat(), mask, out);
}

/// Tells everything that one more frame of a connection completes; `kept` is what its earlier frames
/// left over.
pub(super) fn hear(kept: &mut Vec<u8>, frame: &[u8], mut tell: impl FnMut(Said<'_>)) {
    let mut whole = std::mem::take(kept);
    let bytes = if whole.is_empty() {
        frame
    } else {
        whole.extend_from_slice(frame);
        &whole
    };
    let mut rest = bytes;
    while let Some(end) = find(rest, b"\r\n") {
        match item(rest, end) {
            ControlFlow::Continue((said, taken)) => {
                said.into_iter().for_each(&mut tell);
                rest = &rest[taken..];
            }
            ControlFlow::Break(()) => break,
        }
    }
    if rest.len() > KEPT_MAX {
        tell(Said::Error(b"a message without an end"));
    } else {
        *kept = rest.to_vec();
    }
}

/// The item whose first line ends at `end`, and how many bytes it has; breaks if it is not whole.
fn item(bytes: &[u8], end: usize) -> ControlFlow<(), (Option<Said<'_>>, usize)> {
    let (line, after) = (&bytes[..end], end + 2);
    if !line.starts_with(b"MSG ") {
        let said = match line {
            b"PING" => Some(Said::Ping),
            b"PONG" => Some(Said::Pong),
            _ if line.starts_with(b"-ERR") => Some(Said::Error(line)),
            // INFO, +OK.
            _ => None,
        };
        return ControlFlow::Continue((said, after));
    }
    let size = line.rsplit(|&byte| byte == b' ').next();
    let size = size.and_then(|size| std::str::from_utf8(size).ok()?.parse::<usize>().ok());
    let Some(size) = size else {
        return ControlFlow::Continue((Some(Said::Error(line)), after));
    };
    match bytes.get(after..after + size + 2) {
        Some(body) => ControlFlow::Continue((Some(Said::Message(&body[..size])), after + size + 2)),
        None => ControlFlow::Break(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b"INFO {}\r\nPONG\r\nMSG c0 1 5\r\na\r\nbc\r\nMSG c0 1 0\r\n\r\nPING\r\n-ERR 'x'\r\n";

    #[test]
    fn whatever_the_frames_the_same_is_heard() {
        let wanted = ["Pong", "Message([97, 13, 10, 98, 99])", "Message([])", "Ping"];
        for size in 1..=STREAM.len() {
            let (mut kept, mut heard) = (Vec::new(), Vec::new());
            for frame in STREAM.chunks(size) {
                hear(&mut kept, frame, |said| heard.push(format!("{said:?}")));
            }
            assert_eq!(heard[..4], wanted, "frames of {size}");
            assert!(heard.len() == 5 && heard[4].starts_with("Error"), "{heard:?}");
            assert!(kept.is_empty());
        }
    }
}
