//! Somebody in the chat: says now and then how things are, and answers who asks for a sensor or a
//! symbol by its name. It answers people and not itself, and no more often than once a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::device::Device;
use super::quotes::Quotes;
use super::sensors::Sensors;
use super::{Counts, Metronome};
use crate::clock;

const ROOM: &str = "chat:lobby";
const NAME: &str = "gauge";
const GREETING: &str =
    "The feed is up. Ask me for boiler, turbine, pump or intake, or for a symbol.";
const WORD_INTERVAL: Duration = Duration::from_secs(30);
const ANSWER_INTERVAL: Duration = Duration::from_secs(1);
/// Words of a message that are looked at.
const WORDS_MAX: usize = 50;
/// Characters of a name that are said again.
const NAME_CHARACTERS_MAX: usize = 24;

/// The one who talks.
pub(super) struct Bot {
    device: Device,
    word: Metronome,
    has_greeted: bool,
    /// From when on it may answer again.
    quiet_until: Instant,
}

impl Bot {
    /// Somebody who comes in with the first turn.
    pub(super) fn new(address: SocketAddr, now: Instant) -> Self {
        Self {
            device: Device::new("chat", address, Some(ROOM), now),
            word: Metronome::new(WORD_INTERVAL, now),
            has_greeted: false,
            quiet_until: now,
        }
    }

    /// Hears and says what there is.
    pub(super) fn turn(&mut self, now: Instant, sensors: &Sensors, quotes: &Quotes) {
        let mut asked = None;
        self.device.turn(now, |message| {
            // Of several at once the last is answered.
            asked = answer(message, sensors, quotes).or(asked.take());
        });
        match asked {
            Some(text) if now >= self.quiet_until => {
                self.quiet_until = now + ANSWER_INTERVAL;
                self.say(&text);
            }
            Some(_) | None => {}
        }
        if !self.has_greeted {
            self.has_greeted = self.say(GREETING);
        } else if self.word.is_due(now) {
            self.say(&report(sensors));
        }
    }

    /// Waits for what it is owed, and goes.
    pub(super) fn finish(&mut self, deadline: Instant) {
        self.device.finish(deadline);
    }

    /// What came of what it has said.
    pub(super) fn counts(&self) -> Counts {
        self.device.counts()
    }

    fn say(&mut self, text: &str) -> bool {
        let message = json!({"name": NAME, "text": text, "at": clock::unix_millis()});
        self.device.publish(ROOM, &message)
    }
}

fn report(sensors: &Sensors) -> String {
    let readings = Sensors::names().filter_map(|name| Some((name, sensors.reading(name)?)));
    let readings: Vec<String> =
        readings.map(|(name, value)| format!("{name} {value:.1} °C")).collect();
    readings.join(", ")
}

/// What is said to a message, if it is of somebody else and asks for something.
fn answer(message: &Value, sensors: &Sensors, quotes: &Quotes) -> Option<String> {
    let (name, text) = (message["name"].as_str()?, message["text"].as_str()?);
    if name == NAME {
        return None;
    }
    let name: String = name.chars().take(NAME_CHARACTERS_MAX).collect();
    let words = text.split(|c: char| !c.is_alphanumeric()).take(WORDS_MAX);
    let mut words = words.map(str::to_lowercase);
    words.find_map(|word| match (sensors.reading(&word), quotes.price(&word)) {
        (Some(value), _) => Some(format!("{name}: the {word} is at {value:.1} °C")),
        (None, Some(price)) => Some(format!("{name}: {} is at {price:.2}", word.to_uppercase())),
        (None, None) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_sensor_or_a_symbol_is_answered_and_nobody_else() {
        let (address, now) = (SocketAddr::from(([127, 0, 0, 1], 9)), clock::now());
        let sensors = Sensors::new(address, 5, now);
        let quotes = Quotes::new("localhost", address, None, 5, now);
        let check = |message: Value, expected: Option<&str>| {
            assert_eq!(answer(&message, &sensors, &quotes).as_deref(), expected, "{message}");
        };
        let ask = |text: &str| json!({"name": "ann", "text": text});
        check(ask("how is the Boiler?"), Some("ann: the boiler is at 82.0 °C"));
        check(ask("acme"), Some("ann: ACME is at 142.10"));
        check(ask("hello"), None);
        check(json!({"name": NAME, "text": "boiler 82.0 °C"}), None);
        check(json!({"name": 7, "text": "boiler"}), None);
        check(json!("boiler"), None);
    }
}
