//! Publications over the server API of channels: HTTP/1.1 on one connection, a request at a time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Counts;
use super::link::Link;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A backend that publishes.
pub(super) struct Backend {
    link: Link,
    /// Everything of a request's head but the length of its body.
    head: String,
    /// When the request that is under way is given up.
    waiting: Option<Instant>,
    counts: Counts,
}

impl Backend {
    /// A backend of the server at `address`, which is called `host`.
    pub(super) fn new(host: &str, address: SocketAddr, key: Option<&str>, now: Instant) -> Self {
        let key = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
        let head = format!(
            "POST /api/publish HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{key}"
        );
        let link = Link::new("quotes".to_owned(), address, now);
        Self { link, head, waiting: None, counts: Counts::default() }
    }

    /// What came of what it has published.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the last request has no answer yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Sends a publication, unless it is not connected or waits for an answer.
    pub(super) fn publish(&mut self, channel: &str, data: &Value, now: Instant) -> bool {
        if !self.link.is_open() || self.is_waiting() {
            return false;
        }
        let body = json!({"channel": channel, "data": data}).to_string();
        let head = format!("{}Content-Length: {}\r\n\r\n", self.head, body.len());
        self.link.send(head.as_bytes());
        self.link.send(body.as_bytes());
        self.waiting = Some(now + ANSWER_TIMEOUT);
        self.counts.sent += 1;
        true
    }

    /// Does what can be done.
    pub(super) fn turn(&mut self, now: Instant) {
        if self.link.connect(now) {
            self.counts.connections += 1;
            self.waiting = None;
        }
        let received = self.link.exchange(now);
        match answer(received) {
            Some((size, verdict)) => {
                received.drain(..size);
                self.waiting = None;
                match verdict {
                    Ok(()) => self.counts.acknowledged += 1,
                    Err(why) => {
                        self.counts.refused += 1;
                        eprintln!("a publication was refused: {why}");
                    }
                }
            }
            None if self.waiting.is_some_and(|deadline| now >= deadline) => {
                self.waiting = None;
                self.link.lose(now, "no answer");
            }
            None => {}
        }
    }

    /// Waits for the last answer, and ends.
    pub(super) fn finish(&mut self, deadline: Instant) {
        while self.is_waiting() && self.link.is_open() && crate::clock::now() < deadline {
            self.turn(crate::clock::now());
            std::thread::sleep(super::TURN);
        }
        self.link.finish(deadline);
    }
}

/// The first response in these bytes: its size and what it says. `None` while it is not whole.
fn answer(bytes: &[u8]) -> Option<(usize, Result<(), String>)> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let body = bytes.get(end..end + length.unwrap_or(0))?;
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let verdict = match head.split(' ').nth(1) {
        Some("200") if said["error"].is_null() => Ok(()),
        status => Err(format!("{} {}", status.unwrap_or_default(), said["error"])),
    };
    Some((end + body.len(), verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        let good = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"result\":{}}";
        assert_eq!(answer(good), Some((good.len(), Ok(()))));
        assert_eq!(answer(&good[..good.len() - 1]), None);
        assert_eq!(answer(&good[..20]), None);
        let two = [&good[..], b"HTTP/1.1 2"].concat();
        assert_eq!(answer(&two).unwrap().0, good.len());
    }

    #[test]
    fn an_answer_that_is_an_error_says_so() {
        let error = b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"error\":{\"code\":102}}";
        assert_eq!(answer(error).unwrap().1, Err(r#"200 {"code":102}"#.to_owned()));
        let refused = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(answer(refused).unwrap().1, Err("401 null".to_owned()));
    }
}
