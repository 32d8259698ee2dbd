//! Routes of plain messages beside clients of the protocol: what a device says is published, what is
//! published is told to it, and it may do what its principal may.

use std::sync::Arc;

use serde_json::{Value, json};
use weir_channels::broker::faulty::{Faults, Faulty};
use weir_channels::broker::{Answer, Broker, Limits, Memory};
use weir_channels::hub::orders::{ForClient, Order, Who};
use weir_channels::namespace::{
    ChannelOptions, ChannelRules, Permission, SlowConsumers, SlowPolicy,
};
use weir_channels::route::{
    ChannelTemplate, DataForm, PublishRoute, ReplyTemplate, RouteMetrics, RouteOptions, Written,
};
use weir_core::door::Principal;
use weir_core::limits::Limits as ConnectionLimits;
use weir_core::service::{Opening, Service, Session};
use weir_core::site::SiteWire;
use weir_core::transport::{PipePeer, Socket, pipe};
use weir_core::wire::length::Prefix;
use weir_core::wire::lines::{EmptyLines, Options, UnfinishedLine};

use crate::support::{Client, World, history, open};

const LINES: SiteWire = SiteWire::Lines(Options {
    text: true,
    empty: EmptyLines::Deliver,
    unfinished: UnfinishedLine::Drop,
});
const FRAMES: SiteWire = SiteWire::Length { prefix: Prefix::U8, text: true };

/// A route whose connections a doorkeeper has let in as this principal.
struct As {
    inner: PublishRoute,
    principal: Option<&'static str>,
}

impl Service for As {
    fn route(&self) -> &str {
        self.inner.route()
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        let principal = self.principal.map(|name| Principal { name: name.into(), expires: None });
        self.inner.open(&Opening { principal: principal.as_ref(), ..opening.clone() })
    }
}

/// What a test's route does and whose connections it has.
#[derive(Clone)]
struct Plan {
    wire: SiteWire,
    options: RouteOptions,
    principal: Option<&'static str>,
}

fn template(text: &str) -> ChannelTemplate {
    ChannelTemplate::parse(text).expect("a template")
}

/// Publishes into `sensors:DEVICE`, answers "ok OFFSET", and is told of `commands:all`.
fn plan() -> Plan {
    let options = RouteOptions {
        channel: Some(template("sensors:{json.device}")),
        data: DataForm::Auto,
        reply: Some(ReplyTemplate::parse("ok {offset}").expect("a template")),
        errors: true,
        channels_max: 3,
        subscribe: vec![template("commands:all")],
        written: Written::Text,
    };
    Plan { wire: LINES, options, principal: None }
}

/// Everybody may do everything in `sensors` and `commands`, users in `private`, nobody in `closed`.
fn rules() -> ChannelRules {
    let named = |name: &str, options: ChannelOptions| (name.to_owned(), options);
    let users = Permission { client: true, ..Permission::default() };
    let private =
        ChannelOptions { subscribe_for_client: true, publish: users, ..ChannelOptions::default() };
    let commands = ChannelOptions { presence: true, join_leave: true, ..open() };
    ChannelRules {
        without_namespace: open(),
        namespaces: vec![
            named("sensors", ChannelOptions { history: history(100), ..open() }),
            named("commands", commands),
            named("private", private),
            named("closed", ChannelOptions::default()),
        ],
        allow_anonymous_connect_without_token: true,
        ..ChannelRules::default()
    }
}

fn world_on(broker: Arc<dyn Broker>, plan: &Plan, limits: ConnectionLimits) -> World {
    world_by(broker, rules(), plan, limits)
}

fn world_by(
    broker: Arc<dyn Broker>,
    rules: ChannelRules,
    plan: &Plan,
    limits: ConnectionLimits,
) -> World {
    World::with_routes(LINES, broker, rules, limits, 1, &|shared, registry| {
        let metrics = RouteMetrics::register(registry).expect("registered once");
        let (shared, options) = (Arc::clone(shared), plan.options.clone());
        let inner = PublishRoute::new("devices".to_owned(), options, shared, &metrics);
        vec![(plan.wire, Arc::new(As { inner, principal: plan.principal }) as Arc<dyn Service>)]
    })
}

fn memory() -> Arc<dyn Broker> {
    Arc::new(Memory::new(Limits::default(), 7))
}

fn world(plan: &Plan) -> World {
    world_on(memory(), plan, ConnectionLimits::default())
}

/// A device's end of its connection.
struct Device {
    peer: PipePeer,
    unread: Vec<u8>,
}

impl Device {
    fn connect(world: &mut World, capacity: usize) -> Self {
        let (socket, peer) = pipe(capacity);
        let address = ([127, 0, 0, 1], 9).into();
        let conn = world.engine.connect(Socket::Plain(socket), 1, address, Vec::new(), world.now);
        conn.expect("it is admitted");
        world.settle();
        Self { peer, unread: Vec::new() }
    }

    fn open(world: &mut World) -> Self {
        Self::connect(world, 1 << 20)
    }

    fn say(&self, world: &mut World, line: &str) {
        self.peer.send(line.as_bytes());
        self.peer.send(b"\n");
        world.settle();
    }

    /// The whole lines that came since.
    fn heard(&mut self) -> Vec<String> {
        loop {
            let bytes = self.peer.receive(1 << 20);
            if bytes.is_empty() {
                break;
            }
            self.unread.extend(bytes);
        }
        let end = self.unread.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.unread.drain(..end).collect();
        let lines = String::from_utf8(lines).expect("text");
        lines.lines().map(str::to_owned).collect()
    }

    /// The answer to a line, without the id of its request.
    fn ask(&mut self, world: &mut World, line: &str) -> String {
        self.say(world, line);
        let heard = self.heard().join("|");
        heard.split(" (request_id=").next().unwrap_or_default().to_owned()
    }
}

fn subscriber(world: &mut World, channel: &str) -> Client {
    let mut client = world.client();
    let reply = client.ask(world, &format!(r#""subscribe":{{"channel":"{channel}"}}"#));
    assert!(reply["subscribe"].is_object(), "{reply}");
    client
}

fn publish(world: &mut World, client: &mut Client, channel: &str, data: &str) {
    let publish = format!(r#""publish":{{"channel":"{channel}","data":{data}}}"#);
    let reply = client.ask(world, &publish);
    assert!(reply["publish"].is_object(), "{reply}");
}

fn refused(world: &World) -> f64 {
    world.metric("weir_channels_route_refused_total")
}

#[test]
fn a_device_and_a_client_talk_to_each_other() {
    let mut world = world(&plan());
    let mut device = Device::open(&mut world);
    let mut client = subscriber(&mut world, "sensors:pump");
    assert_eq!(device.ask(&mut world, r#"{"device":"pump","celsius":71}"#), "ok 1");
    let push = client.heard().remove(0)["push"].take();
    assert_eq!(push["channel"], "sensors:pump");
    assert_eq!(push["pub"]["data"], json!({"device": "pump", "celsius": 71}));
    assert_eq!(push["pub"]["info"]["user"], "");
    assert!(push["pub"]["info"]["client"].is_string(), "{push}");

    publish(&mut world, &mut client, "commands:all", r#""open the \"valve\"""#);
    publish(&mut world, &mut client, "commands:all", r#"{"close":7}"#);
    assert_eq!(device.heard(), ["open the \"valve\"", r#"{"close":7}"#]);
    assert_eq!(refused(&world), 0.0);
}

#[test]
fn a_principal_publishes_and_subscribes_as_a_user_does() {
    let mut open = plan();
    open.options.channel = Some(template("private:{principal}"));
    open.options.subscribe = vec![template("private:{principal}")];
    let mut guarded = open.clone();
    guarded.principal = Some("meter-7");
    let mut known = world(&guarded);
    let mut device = Device::open(&mut known);
    // It is told of what it publishes itself, behind the answer.
    assert_eq!(device.ask(&mut known, "27.5"), "ok 0|27.5");

    let mut stranger = world(&open);
    let mut device = Device::open(&mut stranger);
    assert_eq!(device.heard(), ["error: cannot subscribe: principal is empty"]);
    assert!(device.peer.at_end());
    assert_eq!(refused(&stranger), 1.0);

    open.options.channel = Some(template("private:x"));
    open.options.subscribe.clear();
    let mut stranger = world(&open);
    let mut device = Device::open(&mut stranger);
    let denied = "error: permission denied in channel \"private:x\"";
    assert_eq!(device.ask(&mut stranger, "27.5"), denied);
    let anonymous = stranger.metric("weir_channels_publications_total");
    assert_eq!((anonymous, refused(&stranger)), (0.0, 1.0));
}

#[test]
fn a_permission_of_subscribers_is_that_of_a_device_which_is_subscribed() {
    let mut rules = rules();
    let subscriber = Permission { subscriber: true, anonymous: true, ..Permission::default() };
    let only = ChannelOptions { publish: subscriber, ..open() };
    rules.namespaces.push(("ours".to_owned(), only));
    let mut plan = plan();
    plan.options.channel = Some(template("ours:{json.device}"));
    plan.options.subscribe = vec![template("ours:pump")];
    let mut world = world_by(memory(), rules, &plan, ConnectionLimits::default());
    let mut device = Device::open(&mut world);
    let own = r#"{"device":"pump"}"#;
    assert_eq!(device.ask(&mut world, own), format!("ok 0|{own}"));
    let other = "error: permission denied in channel \"ours:fan\"";
    assert_eq!(device.ask(&mut world, r#"{"device":"fan"}"#), other);
}

#[test]
fn what_is_not_published_is_refused_with_its_reason_and_counted() {
    let mut world = world(&plan());
    let mut device = Device::open(&mut world);
    let mut client = subscriber(&mut world, "sensors:pump");
    for (line, answer) in [
        ("warm", "error: json.device is missing: the message is not a JSON object"),
        ("{}", "error: json.device is missing"),
        (r#"{"device":null}"#, "error: json.device is neither text nor a whole number"),
        (r#"{"device":""}"#, "error: json.device is empty"),
        (
            r#"{"device":"a:b"}"#,
            "error: json.device has ':', which a part of a channel's name cannot have here",
        ),
        (
            r#"{"device":"ż"}"#,
            "error: channel \"sensors:ż\": the channel's name has characters outside of ASCII, and no \
             channel_regex allows them",
        ),
        (r#"{"device":"pump","device":"pump"}"#, "error: json.device stands in the message twice"),
    ] {
        assert_eq!(device.ask(&mut world, line), answer, "{line}");
    }
    assert_eq!(refused(&world), 7.0);
    assert_eq!(client.heard(), Vec::<Value>::new());
    assert_eq!(world.metric("weir_channels_publications_total"), 0.0);
    // It goes on.
    assert_eq!(device.ask(&mut world, r#"{"device":"pump"}"#), "ok 1");
}

#[test]
fn one_connection_publishes_into_a_bounded_number_of_channels() {
    let mut world = world(&plan());
    let mut device = Device::open(&mut world);
    for name in ["a", "b", "c", "a", "c"] {
        let answer = device.ask(&mut world, &format!(r#"{{"device":"{name}"}}"#));
        assert!(answer.starts_with("ok "), "{answer}");
    }
    let over = "error: a connection publishes into at most channels_max = 3 channels";
    assert_eq!(device.ask(&mut world, r#"{"device":"d"}"#), over);
    assert_eq!(device.ask(&mut world, r#"{"device":"a"}"#), "ok 3");
    let mut other = Device::open(&mut world);
    assert_eq!(other.ask(&mut world, r#"{"device":"d"}"#), "ok 1");
}

#[test]
fn a_route_may_say_nothing_and_publish_nothing() {
    let mut quiet = plan();
    quiet.options.errors = false;
    quiet.options.reply = None;
    let mut world = world(&quiet);
    let mut device = Device::open(&mut world);
    let mut client = subscriber(&mut world, "sensors:pump");
    device.say(&mut world, "warm");
    device.say(&mut world, r#"{"device":"pump"}"#);
    assert_eq!((device.heard().len(), client.published().len()), (0, 1));
    assert_eq!(refused(&world), 1.0);

    let mut told = plan();
    told.options.channel = None;
    let mut world = self::world(&told);
    let mut device = Device::open(&mut world);
    assert_eq!(device.ask(&mut world, "warm"), "error: this route publishes nothing");
}

#[test]
fn a_connection_that_is_one_subscriber_too_many_is_told_so_and_ended() {
    let mut rules = rules();
    rules.namespaces.retain(|(name, _)| name != "commands");
    let pair = ChannelOptions { subscribers_max: Some(2), ..open() };
    rules.namespaces.push(("commands".to_owned(), pair));
    let mut world = world_by(memory(), rules, &plan(), ConnectionLimits::default());
    let (first, mut client) = (Device::open(&mut world), subscriber(&mut world, "commands:all"));
    let mut second = Device::open(&mut world);
    let why = "error: cannot subscribe: a channel has at most subscribers_max = 2 subscribers";
    assert_eq!(second.heard(), [why]);
    assert!(second.peer.at_end());
    assert_eq!(world.metric_with("weir_channels_route_refused_total", "limit"), 1.0);
    drop(first);
    world.settle();
    let mut third = Device::open(&mut world);
    publish(&mut world, &mut client, "commands:all", "1");
    assert_eq!(third.heard(), ["1"]);
}

#[test]
fn a_device_beside_them_changes_nothing_for_clients_that_catch_up() {
    let mut rules = rules();
    rules.namespaces.retain(|(name, _)| name != "commands");
    let slow = SlowConsumers { policy: SlowPolicy::CatchUp, bytes_max: 300 };
    let kept = ChannelOptions { slow, history: history(100), ..open() };
    rules.namespaces.push(("commands".to_owned(), kept));
    let mut world = world_by(memory(), rules, &plan(), ConnectionLimits::default());
    let mut slow = world.connection(200);
    slow.ask(&mut world, r#""connect":{}"#);
    slow.ask(&mut world, r#""subscribe":{"channel":"commands:all"}"#);
    let (mut device, mut talker) = (Device::open(&mut world), world.client());
    for n in 0..20 {
        publish(&mut world, &mut talker, "commands:all", &n.to_string());
    }
    assert_eq!(device.heard().len(), 20);
    let behind = world.metric_with("weir_channels_slow_consumers_total", "caught_up");
    assert_eq!(behind, 1.0, "there is room for a few of them");
}

#[test]
fn a_connection_that_cannot_be_subscribed_is_told_so_and_ended() {
    for (subscribe, why) in [
        ("closed:all", "permission denied in channel \"closed:all\""),
        ("gone:all", "channel \"gone:all\": no namespace of that name"),
    ] {
        let mut plan = plan();
        plan.options.subscribe = vec![template("commands:all"), template(subscribe)];
        let mut world = world(&plan);
        let mut device = Device::open(&mut world);
        device.peer.send(b"{\"device\":\"pump\"}\n");
        world.settle();
        assert_eq!(device.heard(), [format!("error: cannot subscribe: {why}")]);
        assert!(device.peer.at_end());
        drop(device);
        world.settle();
        assert_eq!(world.metric("weir_channels_subscriptions"), 0.0);
        assert_eq!(world.metric("weir_channels_publications_total"), 0.0);
    }
}

#[test]
fn who_is_subscribed_is_present_and_announced_and_no_longer_when_it_has_gone() {
    let mut plan = plan();
    plan.principal = Some("meter-7");
    let mut world = world(&plan);
    let mut client = world.client();
    client.ask(&mut world, r#""subscribe":{"channel":"commands:all","join_leave":true}"#);
    let device = Device::open(&mut world);
    let joined = client.heard().pop().expect("a join");
    assert_eq!(joined["push"]["join"]["info"]["user"], "meter-7", "{joined}");
    drop(client);
    world.settle();
    // Longer than a presence that nobody renews.
    world.pass(70);
    assert_eq!(present(&world), ["meter-7"]);
    let mut other = world.client();
    other.ask(&mut world, r#""subscribe":{"channel":"commands:all","join_leave":true}"#);
    drop(device);
    world.settle();
    let left = other.heard().pop().expect("a leave");
    assert_eq!(left["push"]["leave"]["info"]["user"], "meter-7", "{left}");
    assert_eq!(present(&world), [""]);
    assert_eq!(world.metric("weir_channels_subscriptions"), 1.0);
}

/// The users in `commands:all`.
fn present(world: &World) -> Vec<String> {
    let Answer::Now(Ok(present)) = world.shared.broker().presence("commands:all", world.now) else {
        panic!("a broker in memory answers at once")
    };
    present.iter().map(|info| info.user.to_string()).collect()
}

#[test]
fn a_backend_ends_subscriptions_and_connections_of_routes_too() {
    let mut plan = plan();
    plan.principal = Some("meter-7");
    let mut world = world(&plan);
    let mut device = Device::open(&mut world);
    let mut client = world.client();
    order(&mut world, ForClient::Unsubscribe { channel: Some("commands:all".into()) });
    publish(&mut world, &mut client, "commands:all", "1");
    assert_eq!(device.heard(), Vec::<String>::new());
    let except = [].into();
    order(&mut world, ForClient::Disconnect { code: 4500, reason: "enough".into(), except });
    assert_eq!(device.heard(), ["error: enough"]);
    assert!(device.peer.at_end());
}

/// Has the connections of `meter-7` do something.
fn order(world: &mut World, what: ForClient) {
    let make = || {
        let who = Who { user: "meter-7".into(), client: None };
        let (reply, _answer) = tokio::sync::oneshot::channel();
        Order::Clients { who, what: what.clone(), reply }
    };
    let shared = Arc::clone(&world.shared);
    world.runtime.block_on(shared.order(make));
    world.settle();
}

#[test]
fn an_envelope_says_which_channel_and_which_place() {
    let mut plan = plan();
    plan.options.written = Written::Envelope;
    plan.options.subscribe = vec![template("sensors:pump"), template("commands:all")];
    plan.options.reply = None;
    let mut world = world(&plan);
    let mut device = Device::open(&mut world);
    let mut client = world.client();
    publish(&mut world, &mut client, "commands:all", "\"open\"");
    device.say(&mut world, r#"{"device":"pump"}"#);
    let envelopes = [
        r#"{"channel":"commands:all","data":"open"}"#,
        r#"{"channel":"sensors:pump","offset":1,"data":{"device":"pump"}}"#,
    ];
    assert_eq!(device.heard(), envelopes);
}

#[test]
fn behind_lengths_everything_is_a_frame() {
    let mut plan = plan();
    plan.wire = FRAMES;
    let mut world = world(&plan);
    let device = Device::open(&mut world);
    let mut client = subscriber(&mut world, "sensors:pump");
    device.peer.send(b"\x11{\"device\":\"pump\"}");
    world.settle();
    assert_eq!(client.published(), [json!({"device": "pump"})]);
    publish(&mut world, &mut client, "commands:all", "\"a\\nb\"");
    assert_eq!(device.peer.receive(100), b"\x04ok 1\x03a\nb");
    device.peer.send(b"\x02{}");
    world.settle();
    let error = String::from_utf8(device.peer.receive(100)).expect("text");
    assert!(error[1..].starts_with("error: json.device is missing (request_id="), "{error}");
}

#[test]
fn what_a_silent_broker_has_not_confirmed_is_never_answered_as_published() {
    let faulty = Arc::new(Faulty::new(Memory::new(Limits::default(), 7), Faults::default(), 7));
    let broker = Arc::clone(&faulty) as Arc<dyn Broker>;
    let mut world = world_on(broker, &plan(), ConnectionLimits::default());
    let mut device = Device::open(&mut world);
    faulty.set(Faults { silent: 1, ..Faults::default() });
    let silent = "error: channels are not available now, try again later";
    assert_eq!(device.ask(&mut world, r#"{"device":"pump"}"#), silent);
    // Late answers leave in the order of the messages.
    faulty.set(Faults { late: 1, ..Faults::default() });
    for n in 0..20 {
        device.peer.send(format!("{{\"device\":\"pump\",\"n\":{n}}}\n{{}}\n").as_bytes());
    }
    for _ in 0..50 {
        world.settle();
    }
    let heard = device.heard();
    assert_eq!(heard.len(), 40, "{heard:?}");
    for (n, pair) in heard.chunks(2).enumerate() {
        assert_eq!(pair[0], format!("ok {}", n + 2));
        assert!(pair[1].starts_with("error: json.device is missing"), "{pair:?}");
    }
}

#[test]
fn a_subscription_that_a_late_broker_begins_is_there_before_the_first_message_is_taken() {
    let late = Faults { late: 1, ..Faults::default() };
    let broker = Arc::new(Faulty::new(Memory::new(Limits::default(), 7), late, 7));
    let mut plan = plan();
    plan.options.subscribe = vec![template("sensors:pump"), template("commands:all")];
    let mut world = world_on(broker, &plan, ConnectionLimits::default());
    let mut device = Device::open(&mut world);
    let line = r#"{"device":"pump"}"#;
    device.say(&mut world, line);
    for _ in 0..20 {
        world.settle();
    }
    let mut heard = device.heard();
    heard.sort();
    assert_eq!(heard, ["ok 1", line]);
    assert_eq!(world.metric("weir_channels_subscriptions"), 2.0);
}

#[test]
fn a_hole_is_told_and_what_comes_behind_it_is_told_too() {
    let faulty = Arc::new(Faulty::new(Memory::new(Limits::default(), 7), Faults::default(), 7));
    let broker = Arc::clone(&faulty) as Arc<dyn Broker>;
    let mut plan = plan();
    plan.options.subscribe = vec![template("sensors:pump")];
    plan.options.reply = None;
    let mut world = world_on(broker, &plan, ConnectionLimits::default());
    let mut device = Device::open(&mut world);
    let mut client = world.client();
    publish(&mut world, &mut client, "sensors:pump", "1");
    faulty.set(Faults { lose: 1, ..Faults::default() });
    publish(&mut world, &mut client, "sensors:pump", "2");
    faulty.set(Faults::default());
    publish(&mut world, &mut client, "sensors:pump", "3");
    publish(&mut world, &mut client, "sensors:pump", "4");
    let missed = "error: publications of channel \"sensors:pump\" were missed";
    assert_eq!(device.heard(), ["1", missed, "4"]);

    // Where it is not told of errors, it is not left in the belief that it has everything.
    plan.options.errors = false;
    let mut world =
        world_on(Arc::clone(&faulty) as Arc<dyn Broker>, &plan, ConnectionLimits::default());
    let mut device = Device::open(&mut world);
    let mut client = world.client();
    faulty.set(Faults { lose: 1, ..Faults::default() });
    publish(&mut world, &mut client, "sensors:pump", "5");
    faulty.set(Faults::default());
    publish(&mut world, &mut client, "sensors:pump", "6");
    assert_eq!(device.heard(), [missed]);
    assert!(device.peer.at_end());
}

#[test]
fn a_device_that_does_not_read_is_ended_and_the_others_are_complete() {
    let limits = ConnectionLimits { outbox_bytes_max: 1000, ..ConnectionLimits::default() };
    let mut world = world_on(memory(), &plan(), limits);
    let mut device = Device::open(&mut world);
    let slow = Device::connect(&mut world, 200);
    let mut client = world.client();
    for n in 0..50 {
        publish(&mut world, &mut client, "commands:all", &format!("\"{n:060}\""));
    }
    assert_eq!(device.heard().len(), 50);
    assert!(slow.peer.is_reset());
    assert_eq!(world.metric("weir_channels_slow_consumers_total"), 1.0);
}
