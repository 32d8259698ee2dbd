//! Recovery is exact: subscribers that are cut and mended at random, over a broker that does what it
//! should and over one that loses, doubles, delays and reorders on purpose. Each subscriber has in the end
//! all that its stream has, in order and once, or was told that it has not.

use std::sync::Arc;

use serde_json::Value;
use weir_channels::broker::faulty::{Faults, Faulty};
use weir_channels::broker::{Answer, Broker, Limits, Memory, Range};
use weir_channels::namespace::{ChannelOptions, SlowConsumers, SlowPolicy};
use weir_core::limits::Limits as ConnectionLimits;

use crate::support::{Client, World, history, open};

const CHANNELS: u64 = 3;
const LISTENERS: usize = 24;
const STEPS: usize = 400;

/// A subscriber over many connections, as an SDK is.
struct Listener {
    channel: String,
    client: Option<Client>,
    connected: bool,
    epoch: String,
    /// The last offset that it has; `None` before it was subscribed for the first time.
    offset: Option<u64>,
    /// Waits for the reply to a subscribe.
    asked: bool,
    id: u64,
    /// Told that it has not everything.
    unrecovered: usize,
    recovered: usize,
    got: usize,
    /// Told that its subscription has a hole, or its connection an end.
    cut: usize,
    /// Bytes that its network holds.
    network: usize,
}

impl Listener {
    fn new(channel: String, network: usize) -> Self {
        Self {
            channel,
            network,
            cut: 0,
            client: None,
            connected: false,
            epoch: String::new(),
            offset: None,
            asked: false,
            id: 1,
            unrecovered: 0,
            recovered: 0,
            got: 0,
        }
    }

    /// Connects if it is not connected, subscribes if it is not subscribed.
    fn mend(&mut self, world: &mut World) {
        if self.client.is_none() {
            let mut client = world.connection(self.network);
            client.say(world, r#"{"id":1,"connect":{}}"#);
            self.client = Some(client);
            (self.connected, self.asked) = (true, false);
            self.subscribe(world);
        }
    }

    fn subscribe(&mut self, world: &mut World) {
        self.id += 1;
        self.asked = true;
        let (id, channel) = (self.id, &self.channel);
        let recover = match self.offset {
            Some(offset) => {
                format!(r#","recover":true,"offset":{offset},"epoch":"{}""#, self.epoch)
            }
            None => String::new(),
        };
        let line = format!(
            r#"{{"id":{id},"subscribe":{{"channel":"{channel}","recoverable":true{recover}}}}}"#
        );
        if let Some(client) = &mut self.client {
            client.say(world, &line);
        }
    }

    fn cut(&mut self) {
        self.client = None;
        self.connected = false;
    }

    /// Takes in what has come.
    fn hear(&mut self, world: &mut World) {
        let Some(client) = &mut self.client else { return };
        let said = client.heard();
        let ended = client.peer.at_end() || client.peer.is_reset();
        let mut again = false;
        for said in said {
            if said["id"] == self.id {
                again |= self.subscribed(&said);
            }
            let push = &said["push"];
            if push["pub"].is_object() {
                self.take(&push["pub"]);
            }
            if push["unsubscribe"]["code"] == 2500 {
                self.cut += 1;
                again = true;
            }
        }
        if ended {
            self.cut += 1;
            self.cut();
        } else if again {
            self.subscribe(world);
        }
    }

    /// The reply to a subscribe; true when it is to be asked again.
    fn subscribed(&mut self, said: &Value) -> bool {
        self.asked = false;
        if said["error"].is_object() {
            assert_eq!(said["error"]["temporary"], true, "{said}");
            return true;
        }
        let result = &said["subscribe"];
        let offset = result["offset"].as_u64().unwrap_or_default();
        self.epoch = result["epoch"].as_str().expect("a position").to_owned();
        if result["recovered"] == true {
            assert_eq!(Some(offset), self.offset);
            self.recovered += 1;
        } else {
            if result["was_recovering"] == true {
                self.unrecovered += 1;
            }
            self.offset = Some(offset);
        }
        for publication in result["publications"].as_array().into_iter().flatten() {
            self.take(publication);
        }
        false
    }

    /// The next publication: nothing may be lost, doubled or in another order.
    fn take(&mut self, publication: &Value) {
        let offset = publication["offset"].as_u64().expect("a place in the stream");
        let last = self.offset.expect("subscribed before it is told");
        assert_eq!(offset, last + 1, "{}", self.channel);
        self.offset = Some(offset);
        self.got += 1;
    }
}

/// Numbers that look random, from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// How it went, over all subscribers.
#[derive(Debug, Default)]
struct Outcome {
    got: usize,
    recovered: usize,
    unrecovered: usize,
    cut: usize,
    /// How often somebody did not keep up and read from the history.
    caught_up: f64,
}

/// A network that holds all, and one that holds a few publications.
const WIDE: usize = 1 << 16;
const NARROW: usize = 500;

fn run(broker: Arc<Faulty<Memory>>, faults: Faults, kept: usize, seed: u64) -> Outcome {
    run_over(broker, faults, kept, seed, (WIDE, SlowPolicy::Disconnect))
}

fn run_over(
    broker: Arc<Faulty<Memory>>,
    faults: Faults,
    kept: usize,
    seed: u64,
    (network, policy): (usize, SlowPolicy),
) -> Outcome {
    let mut dice = Dice(seed);
    let slow = SlowConsumers { policy, bytes_max: 600 };
    let options = ChannelOptions { history: history(kept), allow_recovery: true, slow, ..open() };
    // A small outbox: some are cut because they are slow.
    let limits = ConnectionLimits { outbox_bytes_max: 8 << 10, ..ConnectionLimits::default() };
    let mut world = World::on(Arc::clone(&broker) as Arc<dyn Broker>, options, limits, 2);
    let name = |n: u64| format!("c{n}");
    let mut listeners: Vec<_> =
        (0..LISTENERS).map(|n| Listener::new(name(n as u64 % CHANNELS), network)).collect();
    let mut talker = world.client();
    broker.set(faults);
    let mut id = 1;
    let mut publish = |world: &mut World, talker: &mut Client, channel: u64| {
        id += 1;
        let line = format!(r#"{{"id":{id},"publish":{{"channel":"c{channel}","data":{id}}}}}"#);
        talker.peer.send(line.as_bytes());
        talker.peer.send(b"\n");
        // One turn only: what follows comes in between.
        world.engine.turn(world.now).expect("pipes do not fail");
    };
    for _ in 0..STEPS {
        let who = dice.roll(LISTENERS as u64) as usize;
        match dice.roll(10) {
            0..=4 => publish(&mut world, &mut talker, dice.roll(CHANNELS)),
            5 => listeners[who].cut(),
            6 | 7 => listeners[who].mend(&mut world),
            8 => listeners[who].hear(&mut world),
            _ => world.settle(),
        }
        talker.heard();
    }
    broker.set(Faults::default());
    for _ in 0..8 {
        for listener in &mut listeners {
            listener.mend(&mut world);
        }
        for channel in 0..CHANNELS {
            publish(&mut world, &mut talker, channel);
        }
        for _ in 0..4 * WIDE.div_ceil(network).min(12) {
            world.settle();
            for listener in &mut listeners {
                listener.hear(&mut world);
            }
        }
    }
    check(&broker, &world, &listeners, seed)
}

/// Everybody is at the top of its stream.
fn check(broker: &Faulty<Memory>, world: &World, listeners: &[Listener], seed: u64) -> Outcome {
    let caught_up = world.metric_with("weir_channels_slow_consumers_total", "caught_up");
    let mut outcome = Outcome { caught_up, ..Outcome::default() };
    for listener in listeners {
        let (range, ttl) = (Range::default(), std::time::Duration::from_secs(600));
        let page = broker.inner().history(&listener.channel, range, ttl, world.now);
        let Answer::Now(Ok(page)) = page else { panic!("the memory broker answers at once") };
        let top = Some(page.position.offset);
        assert_eq!(listener.offset, top, "seed {seed}: {} has lost its end", listener.channel);
        assert_eq!(listener.epoch, page.position.epoch.to_string(), "seed {seed}");
        outcome.got += listener.got;
        outcome.recovered += listener.recovered;
        outcome.unrecovered += listener.unrecovered;
        outcome.cut += listener.cut;
    }
    outcome
}

fn memory(seed: u64) -> Arc<Faulty<Memory>> {
    Arc::new(Faulty::new(Memory::new(Limits::default(), seed), Faults::default(), seed))
}

#[test]
fn with_a_history_that_suffices_every_cut_is_mended_and_nothing_is_lost_or_doubled() {
    let mut sum = Outcome::default();
    for seed in 0..100 {
        let outcome = run(memory(seed), Faults::default(), 1000, seed);
        assert_eq!(outcome.unrecovered, 0, "seed {seed}");
        sum.got += outcome.got;
        sum.recovered += outcome.recovered;
    }
    assert!(sum.recovered > 500 && sum.got > 50_000, "{sum:?}");
}

#[test]
fn with_a_history_that_is_too_short_who_has_missed_something_is_told_so() {
    let mut sum = Outcome::default();
    for seed in 0..100 {
        let outcome = run(memory(seed), Faults::default(), 5, seed);
        sum.recovered += outcome.recovered;
        sum.unrecovered += outcome.unrecovered;
    }
    assert!(sum.recovered > 20 && sum.unrecovered > 200, "{sum:?}");
}

#[test]
fn who_is_slow_catches_up_without_a_word_and_nothing_is_lost_or_doubled() {
    let mut sum = Outcome::default();
    for seed in 0..100 {
        let slow = (NARROW, SlowPolicy::CatchUp);
        let outcome = run_over(memory(seed), Faults::default(), 1000, seed, slow);
        assert_eq!((outcome.unrecovered, outcome.cut), (0, 0), "seed {seed}");
        sum.got += outcome.got;
        sum.caught_up += outcome.caught_up;
    }
    assert!(sum.caught_up > 500.0 && sum.got > 50_000, "{sum:?}");
}

#[test]
fn who_is_slow_over_a_broker_that_fails_has_everything_in_the_end() {
    let faults =
        Faults { lose: 20, double: 20, reorder: 20, hold: 10, late: 6, ignore: 30, silent: 30 };
    let mut sum = Outcome::default();
    for seed in 0..60 {
        let slow = (NARROW, SlowPolicy::CatchUp);
        let outcome = run_over(memory(seed), faults, 1000, seed, slow);
        assert_eq!(outcome.unrecovered, 0, "seed {seed}");
        sum.caught_up += outcome.caught_up;
    }
    assert!(sum.caught_up > 200.0, "{sum:?}");
}

#[test]
fn outboxes_that_overflow_are_mended_like_any_other_cut() {
    let mut sum = Outcome::default();
    for seed in 0..100 {
        let slow = (NARROW, SlowPolicy::Disconnect);
        let outcome = run_over(memory(seed), Faults::default(), 1000, seed, slow);
        assert_eq!(outcome.unrecovered, 0, "seed {seed}");
        sum.cut += outcome.cut;
        sum.recovered += outcome.recovered;
    }
    assert!(sum.cut > 20 && sum.recovered > 500, "{sum:?}");
}

#[test]
fn over_a_broker_that_fails_everybody_has_everything_in_the_end() {
    let faults =
        Faults { lose: 20, double: 20, reorder: 20, hold: 10, late: 6, ignore: 30, silent: 30 };
    let mut sum = Outcome::default();
    for seed in 0..500 {
        let outcome = run(memory(seed), faults, 1000, seed);
        assert_eq!(outcome.unrecovered, 0, "seed {seed}");
        sum.got += outcome.got;
        sum.recovered += outcome.recovered;
    }
    assert!(sum.recovered > 5000, "{sum:?}");
}
