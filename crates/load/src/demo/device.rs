//! A device that speaks the client protocol of channels over raw TCP: JSON, a command or a reply a
//! line. What it publishes, and what becomes of what it hears, is its owner's.

use std::net::SocketAddr;
use std::time::Instant;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::Counts;
use super::link::Link;
use crate::channels::EMPTY;

/// The ids of the commands that a connection begins with; those of publications come after them.
const CONNECT: u64 = 1;
const SUBSCRIBE: u64 = 2;
const PUBLISH_FROM: u64 = 3;

/// Publications that may wait for their acknowledgement. A server that owes more gets no further one.
const WAITING_MAX: u64 = 16;

/// A client on a connection of its own, perhaps subscribed to a channel.
pub(super) struct Device {
    link: Link,
    channel: Option<&'static str>,
    next: u64,
    waiting: u64,
    counts: Counts,
}

/// A reply or a push, as much of it as is looked at.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    id: u64,
    error: Option<Value>,
    publish: Option<IgnoredAny>,
    push: Option<Push>,
}

#[derive(Deserialize)]
struct Push {
    #[serde(rename = "pub")]
    publication: Option<Publication>,
    disconnect: Option<Value>,
}

#[derive(Deserialize)]
struct Publication {
    data: Value,
}

impl Device {
    /// A device that connects in its first turn, and subscribes to `channel` if there is one.
    pub(super) fn new(
        name: &str,
        address: SocketAddr,
        channel: Option<&'static str>,
        now: Instant,
    ) -> Self {
        let link = Link::new(name.to_owned(), address, now);
        Self { link, channel, next: PUBLISH_FROM, waiting: 0, counts: Counts::default() }
    }

    /// What came of what it has published.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Sends a publication, unless it is not connected or the server owes too many answers.
    pub(super) fn publish(&mut self, channel: &str, data: &Value) -> bool {
        if !self.link.is_open() || self.waiting >= WAITING_MAX {
            return false;
        }
        self.say(&json!({"id": self.next, "publish": {"channel": channel, "data": data}}));
        self.next += 1;
        self.waiting += 1;
        self.counts.sent += 1;
        true
    }

    /// Does what can be done, and tells of each publication that came.
    pub(super) fn turn(&mut self, now: Instant, mut hear: impl FnMut(&Value)) {
        if self.link.connect(now) {
            self.begin();
        }
        let received = self.link.exchange(now);
        let whole = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = received.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if line == EMPTY {
                self.link.send(b"{}\n");
            } else if let Err(why) = self.take(line, &mut hear) {
                self.link.lose(now, &why);
                return;
            }
        }
    }

    /// Waits for the answers that it is owed, and ends.
    pub(super) fn finish(&mut self, deadline: Instant) {
        while self.waiting > 0 && self.link.is_open() && crate::clock::now() < deadline {
            self.turn(crate::clock::now(), |_| {});
            std::thread::sleep(super::TURN);
        }
        self.link.finish(deadline);
    }

    fn begin(&mut self) {
        self.counts.connections += 1;
        self.waiting = 0;
        self.say(&json!({"id": CONNECT, "connect": {"name": "weir-load"}}));
        if let Some(channel) = self.channel {
            self.say(&json!({"id": SUBSCRIBE, "subscribe": {"channel": channel}}));
        }
    }

    fn say(&mut self, command: &Value) {
        self.link.send(format!("{command}\n").as_bytes());
    }

    fn take(&mut self, line: &[u8], hear: &mut impl FnMut(&Value)) -> Result<(), String> {
        let said: Said = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match said {
            Said { push: Some(Push { disconnect: Some(why), .. }), .. } => Err(why.to_string()),
            Said { push: Some(Push { publication: Some(publication), .. }), .. } => {
                hear(&publication.data);
                Ok(())
            }
            Said { id: CONNECT | SUBSCRIBE, error: Some(error), .. } => Err(error.to_string()),
            Said { id: PUBLISH_FROM.., error: Some(error), .. } => {
                self.waiting = self.waiting.saturating_sub(1);
                self.counts.refused += 1;
                eprintln!("a publication was refused: {error}");
                Ok(())
            }
            Said { publish: Some(_), .. } => {
                self.waiting = self.waiting.saturating_sub(1);
                self.counts.acknowledged += 1;
                Ok(())
            }
            Said { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::clock;

    #[test]
    fn a_device_connects_subscribes_publishes_and_answers_pings() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let now = clock::now();
        let mut device = Device::new("test", address, Some("c"), now);
        assert!(!device.publish("c", &json!(1)), "nothing is published before it is connected");
        device.turn(now, |_| {});
        assert!(device.publish("c", &json!({"n": 1})));
        device.turn(now, |_| {});
        let (mut server, _) = listener.accept().unwrap();
        let mut said = BufReader::new(server.try_clone().unwrap()).lines();
        let mut hears = |expected: Value| {
            let line: Value = serde_json::from_str(&said.next().unwrap().unwrap()).unwrap();
            assert_eq!(line, expected);
        };
        hears(json!({"id": 1, "connect": {"name": "weir-load"}}));
        hears(json!({"id": 2, "subscribe": {"channel": "c"}}));
        hears(json!({"id": 3, "publish": {"channel": "c", "data": {"n": 1}}}));
        let answers = "{\"id\":1,\"connect\":{}}\n{}\n{\"push\":{\"channel\":\"c\",\"pub\":\
                       {\"data\":{\"n\":1}}}}\n{\"id\":3,\"publish\":{}}\n{\"id\":";
        server.write_all(answers.as_bytes()).unwrap();
        let mut heard = Vec::new();
        while device.counts().acknowledged == 0 {
            device.turn(now, |data| heard.push(data.clone()));
        }
        assert_eq!(heard, [json!({"n": 1})]);
        device.turn(now, |_| {});
        hears(json!({}));
        let counts = Counts { sent: 1, acknowledged: 1, refused: 0, connections: 1 };
        assert_eq!(device.counts(), counts);
    }
}
