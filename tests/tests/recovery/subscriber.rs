//! A subscriber that is cut in every way and checks each publication that it is told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::link::{Addresses, Heard, Link, Transport, pong};
use crate::{LONG, LOUD, SHORT, history_size};

/// One subscriber in so many hears [`LOUD`] and stops reading now and then.
const LOUD_ONES: u64 = 20;
/// The longest that it may take to hear the end of each stream.
const BEHIND: Duration = Duration::from_secs(30);

/// What happened, in counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Publications heard while subscribed.
    pub(crate) heard: u64,
    /// Recoveries that gave what was missed.
    pub(crate) recovered: u64,
    /// Publications that came so.
    pub(crate) caught_up: u64,
    /// Recoveries refused because the history was too short for what was missed.
    pub(crate) too_late: u64,
    /// Recoveries refused because the stream had begun anew.
    pub(crate) begun_anew: u64,
    /// Holes that were told to an open subscription (2500).
    pub(crate) holes: u64,
}

impl Outcome {
    /// Both together.
    pub(crate) fn plus(self, other: &Self) -> Self {
        Self {
            heard: self.heard + other.heard,
            recovered: self.recovered + other.recovered,
            caught_up: self.caught_up + other.caught_up,
            too_late: self.too_late + other.too_late,
            begun_anew: self.begun_anew + other.begun_anew,
            holes: self.holes + other.holes,
        }
    }
}

/// How far it is in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    epoch: String,
    offset: u64,
}

#[derive(Debug)]
struct Place {
    channel: String,
    position: Option<Position>,
    /// Between the answer to its subscribe and the end of the subscription.
    live: bool,
}

/// One subscriber.
#[derive(Debug)]
pub(crate) struct Subscriber {
    to: Addresses,
    transport: Transport,
    name: u64,
    chance: Chance,
    ledger: Arc<Ledger>,
    ended: watch::Receiver<bool>,
    places: Vec<Place>,
    /// The place that each subscribe of this connection was for; their ids begin with 2.
    asked: Vec<usize>,
    outcome: Outcome,
}

/// Why a connection is not read any more.
enum Cut {
    /// It is to be cut.
    Now,
    /// weir ended it.
    Ended,
    /// All is heard.
    Done,
}

impl Subscriber {
    /// The one with this number.
    pub(crate) fn new(
        to: Addresses,
        name: u64,
        ledger: Arc<Ledger>,
        ended: watch::Receiver<bool>,
    ) -> Self {
        let mut chance = Chance::new(name + 1_000_000);
        let mut channels = vec![format!("short:{}", chance.below(SHORT))];
        let first = chance.below(LONG);
        channels.extend([first, (first + 1) % LONG].map(|number| format!("long:{number}")));
        if name.is_multiple_of(LOUD_ONES) {
            channels.push(LOUD.to_owned());
        }
        let place = |channel| Place { channel, position: None, live: false };
        let places = channels.into_iter().map(place).collect();
        let (asked, outcome) = (Vec::new(), Outcome::default());
        let transport = Transport::ALL[name as usize % Transport::ALL.len()];
        Self { to, transport, name, chance, ledger, ended, places, asked, outcome }
    }

    /// Comes, hears, is cut and comes back until it has everything. Gives how it came, too.
    ///
    /// # Panics
    ///
    /// When anything is lost, doubled, out of order or wrongly told.
    pub(crate) async fn run(mut self) -> (Transport, Outcome) {
        loop {
            if let Some(link) = self.connect().await {
                match self.hear(link).await {
                    Cut::Done => return (self.transport, self.outcome),
                    Cut::Now | Cut::Ended => {}
                }
            }
            if !*self.ended.borrow() {
                sleep(self.chance.millis(0, 1_500)).await;
            }
            sleep(self.chance.millis(10, 100)).await;
        }
    }

    /// A connection that has asked for everything, unless weir is away.
    async fn connect(&mut self) -> Option<Link> {
        let mut link = Link::connect(self.transport, self.to).await?;
        self.asked.clear();
        let mut commands = vec![json!({"id": 1, "connect": {}})];
        for place in 0..self.places.len() {
            self.places[place].live = false;
            commands.push(self.subscribe(place));
        }
        link.say(&commands).await.then_some(link)
    }

    fn subscribe(&mut self, place: usize) -> Value {
        self.asked.push(place);
        let id = self.asked.len() + 1;
        let Place { channel, position, .. } = &self.places[place];
        let mut request = json!({"channel": channel});
        if let Some(Position { epoch, offset }) = position {
            request["recover"] = json!(true);
            request["epoch"] = json!(epoch);
            request["offset"] = json!(offset);
        }
        json!({"id": id, "subscribe": request})
    }

    async fn hear(&mut self, mut link: Link) -> Cut {
        let give_up = Instant::now() + BEHIND;
        let mut cut = Instant::now() + self.chance.millis(200, 3_000);
        let mut stalls = self.name.is_multiple_of(LOUD_ONES);
        loop {
            let last = *self.ended.borrow();
            if last && self.has_everything() {
                return Cut::Done;
            }
            assert!(!last || Instant::now() < give_up, "behind: {:?}", self.places);
            let until = if last { Instant::now() + Duration::from_millis(200) } else { cut };
            match timeout_at(until, link.hear()).await {
                Err(_) if last => {}
                Err(_) if stalls => {
                    stalls = false;
                    sleep(self.chance.millis(1_500, 3_000)).await;
                    // It reads on: what was sent before the end is heard.
                    cut = Instant::now() + self.chance.millis(1_000, 2_000);
                }
                Err(_) => return Cut::Now,
                Ok(Heard::End) => return Cut::Ended,
                Ok(Heard::Owed(bytes)) => {
                    if !link.send(&bytes).await {
                        return Cut::Ended;
                    }
                }
                Ok(Heard::Message(message)) => {
                    let Some(answer) = self.told(&message) else { return Cut::Ended };
                    if !link.say(answer.as_slice()).await {
                        return Cut::Ended;
                    }
                }
            }
        }
    }

    fn has_everything(&self) -> bool {
        self.places.iter().all(|place| {
            let top = self.ledger.top(&place.channel);
            let top = top.map(|(epoch, offset)| Position { epoch, offset });
            place.live && top.is_some() && place.position == top
        })
    }

    /// What is to be answered, if anything is, or `None` when weir ends the connection.
    fn told(&mut self, message: &Value) -> Option<Option<Value>> {
        if message == &json!({}) {
            return Some(Some(pong()));
        }
        let push = &message["push"];
        if !push["disconnect"].is_null() {
            return None;
        }
        let named = push["channel"].as_str();
        let place = self.places.iter().position(|place| Some(&*place.channel) == named);
        match (&push["pub"], &push["unsubscribe"], &message["subscribe"]) {
            (Value::Null, Value::Null, Value::Null) => {
                let connected = message["id"] == 1 && message["connect"].is_object();
                assert!(connected, "{message}");
                Some(None)
            }
            (Value::Null, Value::Null, answer) => {
                let id = message["id"].as_u64().expect("an id") as usize;
                self.subscribed(self.asked[id - 2], answer);
                Some(None)
            }
            (Value::Null, told, _) => {
                assert_eq!(told["code"], 2500, "{message}");
                self.outcome.holes += 1;
                let place = place.expect("a channel of ours");
                self.places[place].live = false;
                Some(Some(self.subscribe(place)))
            }
            (publication, ..) => {
                let place = place.expect("a channel of ours");
                assert!(self.places[place].live, "not subscribed: {message}");
                self.outcome.heard += 1;
                self.take(place, publication);
                Some(None)
            }
        }
    }

    /// The next publication of a stream, and no other.
    fn take(&mut self, place: usize, publication: &Value) {
        let Place { channel, position, .. } = &mut self.places[place];
        let Position { epoch, offset } = position.as_mut().expect("a position");
        let at = publication["offset"].as_u64();
        assert_eq!(at, Some(*offset + 1), "{channel} after {offset} of {epoch}");
        *offset += 1;
        let id = publication["data"]["id"].as_u64().expect("an id");
        self.ledger.check(channel, epoch, *offset, id);
    }

    /// The answer to a subscribe: with what was missed, or with the truth that it is gone.
    fn subscribed(&mut self, place: usize, answer: &Value) {
        let offset = answer["offset"].as_u64().unwrap_or(0);
        let now = Position { epoch: answer["epoch"].as_str().expect("an epoch").into(), offset };
        let missed = answer["publications"].as_array().map_or(&[][..], Vec::as_slice);
        self.places[place].live = true;
        let Some(before) = self.places[place].position.clone() else {
            assert!(missed.is_empty(), "nobody asked for them: {answer}");
            self.places[place].position = Some(now);
            return;
        };
        let recovered = answer["recovered"].as_bool().unwrap_or(false);
        assert_eq!(answer["was_recovering"], true, "{answer}");
        if recovered {
            self.outcome.recovered += 1;
            self.outcome.caught_up += missed.len() as u64;
            assert_eq!(now, before, "what it asked for: {answer}");
            for publication in missed {
                self.take(place, publication);
            }
            return;
        }
        assert!(missed.is_empty(), "a part of what was missed: {answer}");
        let channel = &self.places[place].channel;
        if before.epoch == now.epoch {
            let kept = history_size(channel);
            let gone = now.offset - before.offset;
            assert!(gone > kept, "{channel}: {gone} of {kept} were missed and not given");
            self.outcome.too_late += 1;
        } else {
            self.outcome.begun_anew += 1;
        }
        self.places[place].position = Some(now);
    }
}
