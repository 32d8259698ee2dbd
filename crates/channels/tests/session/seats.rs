//! The bound on the subscribers of one channel: whoever would be one too many is told so, over all
//! workers and whoever subscribes it, and each place is given back once.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use weir_channels::broker::faulty::{Faults, Faulty};
use weir_channels::broker::{Answer, Broker, Limits, Memory};
use weir_channels::namespace::{ChannelOptions, ChannelRules, Namespaces, Overrides};
use weir_channels::{ChannelMetrics, ClientOptions, Policy};
use weir_core::limits::Limits as ConnectionLimits;

use crate::support::{Client, World, history, open, subscribe_by_server};

fn bounded(max: usize) -> ChannelOptions {
    ChannelOptions { subscribers_max: Some(max), ..open() }
}

fn world(options: ChannelOptions, workers: usize) -> World {
    World::with(options, ConnectionLimits::default(), workers)
}

fn subscribe(client: &mut Client, world: &mut World) -> Value {
    client.ask(world, r#""subscribe":{"channel":"news"}"#)
}

#[test]
fn a_subscriber_too_many_is_told_the_limit_and_has_a_place_when_another_goes() {
    let mut world = world(bounded(2), 2);
    let mut clients: Vec<_> = (0..4).map(|_| world.client()).collect();
    for client in &mut clients[..2] {
        assert!(subscribe(client, &mut world)["subscribe"].is_object());
    }
    let full = json!({
        "code": 106,
        "message": "limit exceeded: a channel has at most subscribers_max = 2 subscribers",
    });
    for client in &mut clients[2..] {
        assert_eq!(subscribe(client, &mut world)["error"], full);
    }
    assert_eq!(world.metric_with("weir_channels_errors_total", "limit_exceeded"), 2.0);
    let again = subscribe(&mut clients[0], &mut world);
    assert_eq!(again["error"]["code"], 105, "who is there already is told that: {again}");
    let other = clients[2].ask(&mut world, r#""subscribe":{"channel":"chat"}"#);
    assert!(other["subscribe"].is_object(), "another channel has its own places: {other}");

    clients[0].ask(&mut world, r#""unsubscribe":{"channel":"news"}"#);
    assert!(subscribe(&mut clients[2], &mut world)["subscribe"].is_object());
    assert_eq!(subscribe(&mut clients[0], &mut world)["error"]["code"], 106);
    drop(clients.remove(1));
    world.settle();
    assert!(subscribe(&mut clients[0], &mut world)["subscribe"].is_object(), "one has gone");
}

#[test]
fn a_server_s_own_subscription_needs_a_place_too() {
    let mut world = world(bounded(1), 1);
    let mut first = world.client();
    assert!(subscribe(&mut first, &mut world)["subscribe"].is_object());
    let mut second = world.connection(1 << 20);
    let connected = second.ask(&mut world, r#""connect":{}"#);
    subscribe_by_server(&mut world, &connected, Overrides::default());
    assert!(second.heard().is_empty(), "it is not subscribed");
    assert_eq!(world.metric_with("weir_channels_errors_total", "limit_exceeded"), 1.0);
    drop(first);
    world.settle();
    subscribe_by_server(&mut world, &connected, Overrides::default());
    assert!(second.heard()[0]["push"]["subscribe"].is_object());
}

#[test]
fn a_bound_that_a_reload_brings_counts_those_who_are_there_and_sends_nobody_away() {
    let mut world = world(open(), 1);
    let mut clients: Vec<_> = (0..4).map(|_| world.client()).collect();
    for client in &mut clients[..3] {
        subscribe(client, &mut world);
    }
    let rules = ChannelRules {
        without_namespace: bounded(3),
        allow_anonymous_connect_without_token: true,
        ..ChannelRules::default()
    };
    let metrics = ChannelMetrics::register(&prometheus::Registry::new()).expect("registered once");
    let namespaces = Namespaces::new(rules).expect("good rules");
    world.shared.replace(Policy::new(namespaces, None, ClientOptions::default(), &metrics));
    assert_eq!(subscribe(&mut clients[3], &mut world)["error"]["code"], 106);
    assert_eq!(world.metric("weir_channels_subscriptions"), 3.0);
    clients[1].ask(&mut world, r#""unsubscribe":{"channel":"news"}"#);
    assert!(subscribe(&mut clients[3], &mut world)["subscribe"].is_object());
}

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const MAX: usize = 3;

/// Some clients, and the channels that each is subscribed to as it was told.
struct Crowd {
    world: World,
    broker: Arc<Faulty<Memory>>,
    members: Vec<(Client, BTreeSet<&'static str>)>,
    refused: usize,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        let faults = Faults { late: 3, ignore: 11, ..Faults::default() };
        let broker = Arc::new(Faulty::new(Memory::new(Limits::default(), seed), faults, seed));
        let kept = ChannelOptions { history: history(10), allow_recovery: true, ..bounded(MAX) };
        let options = ChannelOptions { presence: true, join_leave: true, ..kept };
        let dynamic = Arc::clone(&broker) as Arc<dyn Broker>;
        let world = World::on(dynamic, options, ConnectionLimits::default(), 2);
        Self { world, broker, members: Vec::new(), refused: 0 }
    }

    fn subscribers(&self, channel: &str) -> usize {
        self.members.iter().filter(|(_, channels)| channels.contains(channel)).count()
    }

    /// Takes note of the subscriptions that have ended since.
    fn listen(&mut self) {
        for (client, channels) in &mut self.members {
            for said in client.heard() {
                if said["push"]["unsubscribe"].is_object() {
                    let channel = said["push"]["channel"].as_str().expect("a name");
                    channels.remove(channel);
                }
            }
        }
    }

    /// One client subscribes, also where its position is of no stream and it wants an error then.
    fn subscribe(&mut self, at: usize, channel: &'static str, lost: bool) {
        let (there, is_in) = (self.subscribers(channel), self.members[at].1.contains(channel));
        let mode = match lost {
            true => r#""recoverable":true,"recover":true,"offset":9,"epoch":"other","flag":2"#,
            false => r#""positioned":true"#,
        };
        let request = format!(r#""subscribe":{{"channel":"{channel}",{mode}}}"#);
        let reply = self.members[at].0.ask(&mut self.world, &request);
        match reply["error"]["code"].as_u64() {
            None => {
                assert!(!is_in && there < MAX, "one too many came in: {reply}");
                self.members[at].1.insert(channel);
            }
            Some(105) => assert!(is_in, "{reply}"),
            Some(106) => {
                assert!(!is_in && there == MAX, "{there} are there: {reply}");
                self.refused += 1;
            }
            // The position is of another stream, or the broker was silent.
            Some(112 | 100) => {}
            Some(_) => panic!("{reply}"),
        }
    }

    fn step(&mut self, draw: &mut Draw) {
        if self.members.len() < 6 {
            let client = self.world.client();
            self.members.push((client, BTreeSet::new()));
        }
        let at = draw.below(self.members.len() as u64) as usize;
        let channel = CHANNELS[draw.below(3) as usize];
        match draw.below(12) {
            0..6 => self.subscribe(at, channel, false),
            6 => self.subscribe(at, channel, true),
            7 | 8 => {
                let request = format!(r#""unsubscribe":{{"channel":"{channel}"}}"#);
                self.members[at].0.ask(&mut self.world, &request);
                self.members[at].1.remove(channel);
            }
            9 => {
                // It goes with a command on its way.
                let (client, _) = self.members.swap_remove(at);
                let line = format!("{{\"id\":99,\"subscribe\":{{\"channel\":\"{channel}\"}}}}\n");
                client.peer.send(line.as_bytes());
                drop(client);
                self.world.settle();
            }
            // Whoever has a position there is told 2500.
            _ => match self.broker.inner().remove_history(channel, self.world.now) {
                Answer::Now(removed) => removed.expect("nothing refuses that"),
                Answer::Later(_) => unreachable!("the inner broker answers at once"),
            },
        }
        self.world.settle();
        self.listen();
    }
}

#[test]
fn whatever_happens_no_place_is_taken_twice_and_none_is_left_behind() {
    let mut refused = 0;
    for seed in 0..40 {
        let (mut crowd, mut draw) = (Crowd::new(seed), Draw(seed));
        for _ in 0..60 {
            crowd.step(&mut draw);
            let told: usize = CHANNELS.iter().map(|channel| crowd.subscribers(channel)).sum();
            let counted = crowd.world.metric("weir_channels_subscriptions");
            assert_eq!(counted, told as f64, "seed {seed}");
            let taken = CHANNELS.iter().filter(|channel| crowd.subscribers(channel) > 0).count();
            assert_eq!(crowd.world.shared.channels_with_subscribers(), taken, "seed {seed}");
        }
        crowd.members.clear();
        crowd.world.settle();
        assert_eq!(crowd.world.shared.channels_with_subscribers(), 0, "seed {seed}");
        refused += crowd.refused;
    }
    assert!(refused > 40, "{refused} were one too many: the bound was hardly reached");
}
