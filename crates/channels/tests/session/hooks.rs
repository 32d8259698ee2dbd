//! Hooks in sessions: a backend that is there in place of an HTTP server says who somebody is and what
//! it may do, and when it is slow nobody else notices.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::uri::PathAndQuery;
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::sync::Notify;
use weir_channels::hooks::{
    Backend, Call, CallFuture, Called, Hook, HookMetrics, HookOptions, Hooks,
};
use weir_channels::namespace::{ChannelOptions, ChannelRules, Namespaces};
use weir_channels::{ChannelMetrics, ClientOptions, Policy};
use weir_core::service::{AskError, Response};

use crate::support::{Client, World, history, open};

/// What the backend does about a hook.
#[derive(Clone)]
enum Script {
    /// Answers at once.
    Says(u16, Value),
    /// Answers when it is let.
    Waits(Arc<Notify>, Value),
    /// Does not answer.
    Fails(AskError),
}

/// A backend that does what a test says, and knows what it was asked.
#[derive(Default)]
struct Fake {
    scripts: Mutex<HashMap<String, Script>>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Fake {
    fn does(&self, hook: Hook, script: Script) {
        self.scripts.lock().insert(format!("/{}", hook.as_str()), script);
    }

    /// It grants this.
    fn grants(&self, hook: Hook, result: Value) {
        self.does(hook, Script::Says(200, json!({ "result": result })));
    }

    /// It answers when it is let.
    fn waits(&self, hook: Hook, result: Value) -> Arc<Notify> {
        let let_go = Arc::new(Notify::new());
        self.does(hook, Script::Waits(Arc::clone(&let_go), json!({ "result": result })));
        let_go
    }

    /// What it was asked by this hook, one after the other.
    fn asked(&self, hook: Hook) -> Vec<Value> {
        let path = format!("/{}", hook.as_str());
        let asked = self.asked.lock();
        asked.iter().filter(|(to, _)| *to == path).map(|(_, body)| body.clone()).collect()
    }
}

/// The fake as hooks know it.
struct Known(Arc<Fake>);

impl Backend for Known {
    fn call(&self, call: Call) -> CallFuture {
        let body = serde_json::from_slice(&call.body).expect("a body is JSON");
        let path = call.path.to_string();
        let script = self.0.scripts.lock().get(&path).cloned();
        self.0.asked.lock().push((path, body));
        Box::pin(async move {
            let response =
                |status, body: &Value| Response { status, body: body.to_string().into() };
            let answer = match script.expect("it was told what to do") {
                Script::Says(status, body) => Ok(response(status, &body)),
                Script::Fails(error) => Err(error),
                Script::Waits(let_go, body) => {
                    let_go.notified().await;
                    Ok(response(200, &body))
                }
            };
            Called { took: Duration::from_millis(1), answer }
        })
    }
}

/// Channels without a namespace have these options, those of `plain:` the usual ones, and a backend is
/// asked by every hook.
fn world(options: ChannelOptions) -> (World, Arc<Fake>, Registry) {
    world_with(options, Hook::ALL.to_vec(), 16)
}

fn world_with(
    options: ChannelOptions,
    hooks: Vec<Hook>,
    calls_max: usize,
) -> (World, Arc<Fake>, Registry) {
    let world = World::new(open());
    let fake = Arc::new(Fake::default());
    fake.grants(Hook::Connect, json!({"user": "ann"}));
    let path = |hook: Hook| PathAndQuery::try_from(format!("/{}", hook.as_str())).expect("a path");
    let paths = Hook::ALL.map(|hook| hooks.contains(&hook).then(|| path(hook)));
    let hook_options = HookOptions {
        paths,
        timeout: Duration::from_secs(1),
        calls_max,
        forward_headers: Vec::new(),
        forward_emulated_headers: Vec::new(),
        binary_encoding: false,
        notices: None,
    };
    let registry = Registry::new();
    let metrics = HookMetrics::register(&registry).expect("registered once");
    let hooks = Hooks::new(Arc::new(Known(Arc::clone(&fake))), hook_options, metrics);
    let rules = ChannelRules {
        without_namespace: options,
        namespaces: vec![("plain".to_owned(), open())],
        ..ChannelRules::default()
    };
    let metrics = ChannelMetrics::register(&Registry::new()).expect("registered once");
    let namespaces = Namespaces::new(rules).expect("good rules");
    let policy = Policy::new(namespaces, None, ClientOptions::default(), &metrics);
    world.shared.replace(policy.with_hooks(hooks));
    (world, fake, registry)
}

/// How often a hook ended so.
fn count(registry: &Registry, hook: Hook, outcome: &str) -> u64 {
    let families = registry.gather();
    let calls = families.iter().find(|one| one.name() == "weir_channels_hook_calls_total");
    let mut series = calls.expect("it is registered").get_metric().iter();
    let found = series.find(|metric| {
        let labels = metric.get_label();
        labels.iter().all(|label| label.value() == hook.as_str() || label.value() == outcome)
    });
    found.expect("every outcome is there").get_counter().get_value() as u64
}

/// A time as a backend gives it, so many seconds from now.
fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    now.as_secs().cast_signed() + seconds
}

fn connect(world: &mut World, request: &str) -> (Client, Value) {
    let mut client = world.connection(1 << 20);
    let reply = client.ask(world, &format!(r#""connect":{request}"#));
    (client, reply)
}

fn ann(world: &mut World) -> Client {
    let (client, reply) = connect(world, "{}");
    assert_eq!(reply["error"], json!(null), "{reply}");
    client
}

/// Lets what waits go on.
fn let_go(world: &mut World, waiting: &Notify) {
    waiting.notify_one();
    // What comes of it may ask again.
    world.settle();
    world.settle();
}

#[test]
fn an_rpc_is_answered_by_the_backend_which_is_told_who_asks_what() {
    let (mut world, fake, registry) = world(open());
    let mut ann = ann(&mut world);
    fake.grants(Hook::Rpc, json!({"data": {"sum": 3}}));
    let reply = ann.ask(&mut world, r#""rpc":{"method":"add","data":{"a":1,"b":2}}"#);
    assert_eq!(reply["rpc"]["data"], json!({"sum": 3}));
    let asked = &fake.asked(Hook::Rpc)[0];
    assert!(asked["client"].as_str().is_some_and(|client| client.len() == 36), "{asked}");
    let mut rest = asked.as_object().expect("an object").clone();
    rest.remove("client");
    let expected = json!({
        "transport": "tcp", "protocol": "json", "encoding": "json", "user": "ann",
        "method": "add", "data": {"a": 1, "b": 2},
    });
    assert_eq!(Value::from(rest), expected);
    assert_eq!(count(&registry, Hook::Rpc, "result"), 1);
}

#[test]
fn a_backends_error_reaches_the_client_as_it_is_and_its_disconnect_ends_the_connection() {
    let (mut world, fake, registry) = world(open());
    let mut ann = ann(&mut world);
    let error = json!({"code": 1001, "message": "too late", "temporary": true});
    fake.does(Hook::Rpc, Script::Says(200, json!({ "error": error })));
    let reply = ann.ask(&mut world, r#""rpc":{"method":"bid"}"#);
    assert_eq!(reply["error"], error);
    let gone = json!({"disconnect": {"code": 4501, "reason": "banned"}});
    fake.does(Hook::Rpc, Script::Says(200, gone));
    ann.say(&mut world, r#"{"id":9,"rpc":{"method":"bid"}}"#);
    assert_eq!(ann.told_to_go(), 4501);
    let outcomes = ["error", "disconnect", "result"].map(|one| count(&registry, Hook::Rpc, one));
    assert_eq!(outcomes, [1, 1, 0]);
}

#[test]
fn a_hook_that_fails_is_a_temporary_100_counted_by_how_it_failed() {
    let (mut world, fake, registry) = world(open());
    let mut ann = ann(&mut world);
    let failures = [
        (Script::Fails(AskError::Timeout), "timeout"),
        (Script::Fails(AskError::Overloaded), "overloaded"),
        (Script::Fails(AskError::Unavailable), "unavailable"),
        (Script::Fails(AskError::Failed), "failed"),
        (Script::Says(500, json!({"result": {}})), "failed"),
        (Script::Says(200, json!("no")), "invalid"),
        (Script::Says(200, json!({})), "invalid"),
    ];
    for (script, outcome) in failures {
        let before = count(&registry, Hook::Rpc, outcome);
        fake.does(Hook::Rpc, script);
        let reply = ann.ask(&mut world, r#""rpc":{"method":"m"}"#);
        let code = (&reply["error"]["code"], &reply["error"]["temporary"]);
        assert_eq!(code, (&json!(100), &json!(true)), "{outcome}");
        assert_eq!(count(&registry, Hook::Rpc, outcome), before + 1, "{outcome}");
    }
}

#[test]
fn without_the_hook_an_rpc_is_108_and_a_send_is_3508_as_ever() {
    let (mut world, _, _) = world_with(open(), vec![Hook::Connect], 16);
    let mut ann = ann(&mut world);
    let reply = ann.ask(&mut world, r#""rpc":{"method":"m"}"#);
    assert_eq!(reply["error"]["code"], json!(108));
    ann.say(&mut world, r#"{"send":{"data":1}}"#);
    assert_eq!(ann.told_to_go(), 3508);
}

#[test]
fn a_slow_hook_delays_no_pong_and_no_other_command_however_many_come() {
    let (mut world, fake, _) = world(ChannelOptions { publish_hook: true, ..open() });
    let mut ann = ann(&mut world);
    let slow = fake.waits(Hook::Rpc, json!({"data": "late"}));
    let slower = fake.waits(Hook::Publish, json!({}));
    ann.say(&mut world, r#"{"id":1000,"rpc":{"method":"slow"}}"#);
    ann.say(&mut world, r#"{"id":1001,"publish":{"channel":"news","data":1}}"#);
    fake.grants(Hook::Rpc, json!({"data": "quick"}));
    // More than a connection may have in flight, one after the other.
    for _ in 0..200 {
        let reply = ann.ask(&mut world, r#""rpc":{"method":"quick"}"#);
        assert_eq!(reply["rpc"]["data"], json!("quick"));
        let reply = ann.ask(&mut world, r#""publish":{"channel":"plain:a","data":1}"#);
        assert_eq!(reply["error"], json!(null));
    }
    // The first ping is sent within its interval, and its pong is taken.
    let mut waited = 0;
    while !ann.heard().contains(&json!({})) {
        assert!(waited < 26, "no ping");
        world.pass(1);
        waited += 1;
    }
    ann.say(&mut world, "{}");
    world.pass(10);
    assert!(ann.heard().iter().all(|said| said["push"]["disconnect"].is_null()), "still here");
    let_go(&mut world, &slow);
    assert_eq!(ann.heard()[0], json!({"id": 1000, "rpc": {"data": "late"}}));
    let_go(&mut world, &slower);
    assert_eq!(ann.heard()[0]["id"], json!(1001));
}

#[test]
fn a_connection_has_only_so_many_calls_waiting_and_the_next_is_111() {
    let (mut world, fake, registry) = world_with(open(), Hook::ALL.to_vec(), 2);
    let mut ann = ann(&mut world);
    let slow = fake.waits(Hook::Rpc, json!({}));
    ann.say(&mut world, r#"{"id":1000,"rpc":{"method":"a"}}"#);
    ann.say(&mut world, r#"{"id":1001,"rpc":{"method":"b"}}"#);
    let reply = ann.ask(&mut world, r#""rpc":{"method":"c"}"#);
    assert_eq!(reply["error"]["code"], json!(111));
    assert_eq!(count(&registry, Hook::Rpc, "too_many"), 1);
    let_go(&mut world, &slow);
    ann.say(&mut world, r#"{"id":1002,"rpc":{"method":"d"}}"#);
    assert_eq!(fake.asked(Hook::Rpc).len(), 3, "one was let go, one more is asked");
}

#[test]
fn the_backend_says_who_a_client_without_a_token_is_and_what_it_is_told() {
    let (mut world, fake, _) = world(ChannelOptions { presence: true, ..open() });
    let answer = json!({
        "user": "bob", "info": {"role": "admin"}, "data": {"welcome": true},
        "channels": ["news"], "subs": {"plain:a": {"data": "hi", "info": {"in": "a"}}},
        "meta": {"plan": "pro"},
    });
    fake.grants(Hook::Connect, answer);
    fake.grants(Hook::Rpc, json!({}));
    let request =
        r#"{"name":"js","version":"5","data":{"pin":1},"subs":{"news":{"recover":true}}}"#;
    let (mut bob, reply) = connect(&mut world, request);
    let result = &reply["connect"];
    assert_eq!(result["data"], json!({"welcome": true}));
    let subs = result["subs"].as_object().expect("subscriptions");
    assert_eq!(subs.keys().collect::<Vec<_>>(), ["news", "plain:a"]);
    assert_eq!(subs["plain:a"]["data"], json!("hi"));
    let asked = &fake.asked(Hook::Connect)[0];
    let said = ["name", "version", "data", "channels", "user"].map(|field| asked[field].clone());
    assert_eq!(json!(said), json!(["js", "5", {"pin": 1}, ["news"], null]));
    let presence = bob.ask(&mut world, r#""presence":{"channel":"news"}"#);
    let clients = presence["presence"]["presence"].as_object().expect("clients");
    let info = clients.values().next().expect("bob is there");
    assert_eq!((&info["user"], &info["conn_info"]), (&json!("bob"), &json!({"role": "admin"})));
    bob.ask(&mut world, r#""rpc":{"method":"m"}"#);
    assert_eq!(fake.asked(Hook::Rpc)[0]["meta"], json!({"plan": "pro"}), "later hooks are told");
    assert_eq!(fake.asked(Hook::Rpc)[0]["user"], json!("bob"));
}

#[test]
fn commands_behind_a_connect_wait_for_its_backend() {
    let (mut world, fake, _) = world(open());
    let waiting = fake.waits(Hook::Connect, json!({"user": "ann"}));
    let mut client = world.connection(1 << 20);
    client.peer.send(b"{\"id\":1,\"connect\":{}}\n");
    client.say(&mut world, r#"{"id":2,"subscribe":{"channel":"news"}}"#);
    assert_eq!(client.heard(), Vec::<Value>::new());
    let_go(&mut world, &waiting);
    let said = client.heard();
    assert_eq!((&said[0]["id"], &said[1]["id"]), (&json!(1), &json!(2)));
    assert!(said[1]["subscribe"].is_object(), "{said:?}");
}

#[test]
fn whom_the_backend_does_not_want_or_does_not_know_is_not_connected() {
    let (mut world, fake, _) = world(open());
    fake.does(Hook::Connect, Script::Says(200, json!({"error": {"code": 1000, "message": "no"}})));
    let (mut client, reply) = connect(&mut world, "{}");
    assert_eq!(reply["error"]["code"], json!(1000));
    client.say(&mut world, r#"{"id":9,"rpc":{"method":"m"}}"#);
    assert_eq!(client.told_to_go(), 3501, "one command too many");
    let gone = json!({"disconnect": {"code": 4500, "reason": "no"}});
    for (script, code) in [(Script::Says(200, gone), 4500), (Script::Says(200, json!({})), 3501)] {
        fake.does(Hook::Connect, script);
        let mut client = world.connection(1 << 20);
        client.say(&mut world, r#"{"id":1,"connect":{}}"#);
        assert_eq!(client.told_to_go(), code);
    }
    fake.grants(Hook::Connect, json!({"user": "ann", "expire_at": in_seconds(-10)}));
    assert_eq!(connect(&mut world, "{}").1["error"]["code"], json!(110), "over already");
    fake.does(Hook::Connect, Script::Fails(AskError::Unavailable));
    assert_eq!(connect(&mut world, "{}").1["error"]["code"], json!(100));
}

#[test]
fn a_connection_that_the_backend_refreshes_is_told_of_no_end_and_stays_as_it_says() {
    let (mut world, fake, _) = world(ChannelOptions { presence: true, ..open() });
    fake.grants(Hook::Connect, json!({"user": "ann", "expire_at": in_seconds(30)}));
    let (mut ann, reply) = connect(&mut world, "{}");
    assert_eq!(reply["connect"]["expires"], json!(null), "{reply}");
    let waiting = fake.waits(Hook::Refresh, json!({"expire_at": in_seconds(60), "info": {"n": 2}}));
    world.pass(20);
    ann.say(&mut world, "{}");
    world.pass(15);
    assert_eq!(fake.asked(Hook::Refresh).len(), 1, "asked once, however long it takes");
    assert_eq!(fake.asked(Hook::Refresh)[0]["user"], json!("ann"));
    let_go(&mut world, &waiting);
    ann.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    let presence = ann.ask(&mut world, r#""presence":{"channel":"news"}"#);
    let clients = presence["presence"]["presence"].as_object().expect("clients");
    let info = clients.values().next().expect("ann is there");
    assert_eq!(info["conn_info"], json!({"n": 2}));
    fake.grants(Hook::Refresh, json!({"expired": true}));
    pass_with_pongs(&mut world, &mut ann, 70);
    assert_eq!(fake.asked(Hook::Refresh).len(), 2);
}

/// Passes time, answers pings, and wants a disconnect with 3005 at the end.
fn pass_with_pongs(world: &mut World, client: &mut Client, seconds: u64) {
    for _ in 0..seconds {
        world.pass(1);
        for said in client.heard() {
            if said == json!({}) {
                client.say(world, "{}");
            } else if let Some(code) = said["push"]["disconnect"]["code"].as_u64() {
                assert_eq!(code, 3005);
                return;
            }
        }
    }
    panic!("still connected after {seconds} s");
}

#[test]
fn a_refresh_that_fails_gives_a_minute_and_is_asked_again() {
    let (mut world, fake, registry) = world(open());
    fake.grants(Hook::Connect, json!({"user": "ann", "expire_at": in_seconds(5)}));
    fake.does(Hook::Refresh, Script::Fails(AskError::Unavailable));
    let mut ann = ann(&mut world);
    for _ in 0..50 {
        world.pass(1);
        if ann.heard().contains(&json!({})) {
            ann.say(&mut world, "{}");
        }
    }
    assert_eq!(count(&registry, Hook::Refresh, "unavailable"), 1);
    fake.grants(Hook::Refresh, json!({"expire_at": in_seconds(-5)}));
    pass_with_pongs(&mut world, &mut ann, 40);
    assert_eq!(fake.asked(Hook::Refresh).len(), 2);
}

#[test]
fn a_client_does_not_refresh_what_the_backend_does() {
    let (mut world, fake, _) = world(ChannelOptions { sub_refresh_hook: true, ..open() });
    fake.grants(Hook::Connect, json!({"user": "ann", "expire_at": in_seconds(60)}));
    let mut first = ann(&mut world);
    first.say(&mut world, r#"{"id":9,"refresh":{"token":"x"}}"#);
    assert_eq!(first.told_to_go(), 3501);
    let mut second = ann(&mut world);
    second.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    second.say(&mut world, r#"{"id":9,"sub_refresh":{"channel":"news","token":"x"}}"#);
    assert_eq!(second.told_to_go(), 3501);
}

fn by_backend() -> ChannelOptions {
    ChannelOptions {
        subscribe_hook: true,
        sub_refresh_hook: true,
        presence: true,
        presence_access: open().presence_access,
        ..ChannelOptions::default()
    }
}

#[test]
fn the_backend_says_who_may_subscribe_and_what_the_subscription_is_like() {
    let (mut world, fake, _) = world(by_backend());
    let mut ann = ann(&mut world);
    let result = json!({"data": {"motd": 1}, "info": {"seat": 3},
        "override": {"presence": {"value": true}}});
    fake.grants(Hook::Subscribe, result);
    let subscribe = r#""subscribe":{"channel":"news","data":{"pin":7}}"#;
    let reply = ann.ask(&mut world, subscribe);
    assert_eq!(reply["subscribe"]["data"], json!({"motd": 1}));
    let asked = &fake.asked(Hook::Subscribe)[0];
    assert_eq!((&asked["channel"], &asked["data"]), (&json!("news"), &json!({"pin": 7})));
    let presence = ann.ask(&mut world, r#""presence":{"channel":"news"}"#);
    let clients = presence["presence"]["presence"].as_object().expect("clients");
    assert_eq!(clients.values().next().expect("ann")["chan_info"], json!({"seat": 3}));
    let again = ann.ask(&mut world, subscribe);
    assert_eq!(again["error"]["code"], json!(105));
    assert_eq!(fake.asked(Hook::Subscribe).len(), 1, "nobody is asked what is known");
    fake.does(Hook::Subscribe, Script::Says(200, json!({"error": {"code": 103, "message": "no"}})));
    let refused = ann.ask(&mut world, r#""subscribe":{"channel":"other"}"#);
    assert_eq!(refused["error"]["code"], json!(103));
    fake.does(Hook::Subscribe, Script::Fails(AskError::Timeout));
    let failed = ann.ask(&mut world, r#""subscribe":{"channel":"other"}"#);
    assert_eq!(
        (&failed["error"]["code"], &failed["error"]["temporary"]),
        (&json!(100), &json!(true))
    );
    let private = ann.ask(&mut world, r#""subscribe":{"channel":"$other"}"#);
    assert_eq!(private["error"]["code"], json!(103), "that takes a token");
}

#[test]
fn the_commands_of_a_channel_keep_their_order_behind_a_slow_subscribe() {
    let (mut world, fake, _) = world(by_backend());
    let mut ann = ann(&mut world);
    let waiting = fake.waits(Hook::Subscribe, json!({}));
    ann.say(&mut world, r#"{"id":50,"subscribe":{"channel":"news"}}"#);
    ann.say(&mut world, r#"{"id":51,"unsubscribe":{"channel":"news"}}"#);
    ann.say(&mut world, r#"{"id":52,"subscribe":{"channel":"news"}}"#);
    ann.say(&mut world, r#"{"id":53,"unsubscribe":{"channel":"news"}}"#);
    ann.say(&mut world, r#"{"id":54,"subscribe":{"channel":"plain:a"}}"#);
    let ids = |said: Vec<Value>| said.iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(ann.heard()), [json!(54)], "another channel does not wait");
    let_go(&mut world, &waiting);
    assert_eq!(ids(ann.heard()), [json!(50), json!(51)], "the next one waits for its own answer");
    let_go(&mut world, &waiting);
    assert_eq!(ids(ann.heard()), [json!(52), json!(53)]);
    let presence = ann.ask(&mut world, r#""presence_stats":{"channel":"news"}"#);
    assert_eq!(presence["presence_stats"]["num_clients"], json!(0), "it ended unsubscribed");
}

#[test]
fn too_many_commands_behind_a_slow_one_are_111() {
    let (mut world, fake, _) = world(by_backend());
    let mut ann = ann(&mut world);
    let waiting = fake.waits(Hook::Subscribe, json!({}));
    ann.say(&mut world, r#"{"id":1000,"subscribe":{"channel":"news"}}"#);
    for id in 0..64 {
        ann.say(
            &mut world,
            &format!(r#"{{"id":{},"unsubscribe":{{"channel":"news"}}}}"#, 2000 + id),
        );
    }
    assert_eq!(ann.heard(), Vec::<Value>::new());
    let reply = ann.ask(&mut world, r#""unsubscribe":{"channel":"news"}"#);
    assert_eq!(reply["error"]["code"], json!(111));
    let_go(&mut world, &waiting);
    assert_eq!(ann.heard().len(), 65);
}

#[test]
fn a_subscription_that_the_backend_refreshes_stays_or_ends_as_it_says() {
    let (mut world, fake, _) = world(by_backend());
    let mut ann = ann(&mut world);
    fake.grants(Hook::Subscribe, json!({"expire_at": in_seconds(10)}));
    let reply = ann.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    assert_eq!(reply["subscribe"]["expires"], json!(null), "{reply}");
    fake.grants(Hook::SubRefresh, json!({"expire_at": in_seconds(5)}));
    world.pass(12);
    assert_eq!(fake.asked(Hook::SubRefresh)[0]["channel"], json!("news"));
    assert!(ann.heard().iter().all(|said| said["push"].is_null()));
    fake.grants(Hook::SubRefresh, json!({"expired": true}));
    world.pass(7);
    let said = ann.heard();
    let unsubscribe = said.iter().find(|said| !said["push"]["unsubscribe"].is_null());
    let unsubscribe = unsubscribe.unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!(unsubscribe["push"]["unsubscribe"]["code"], json!(2501));
    assert_eq!(fake.asked(Hook::SubRefresh).len(), 2);
}

#[test]
fn what_a_client_publishes_is_what_the_backend_makes_of_it() {
    let options = ChannelOptions {
        publish_hook: true,
        history: history(10),
        publish: weir_channels::namespace::Permission::default(),
        ..open()
    };
    let (mut world, fake, _) = world(options);
    let (mut ann, mut bob) = (ann(&mut world), ann(&mut world));
    bob.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    let publish = |n: u32| format!(r#""publish":{{"channel":"news","data":{{"n":{n}}}}}"#);
    fake.grants(Hook::Publish, json!({}));
    assert_eq!(ann.ask(&mut world, &publish(1))["error"], json!(null));
    fake.grants(Hook::Publish, json!({"data": {"n": 20}, "skip_history": true}));
    assert_eq!(ann.ask(&mut world, &publish(2))["error"], json!(null));
    fake.does(Hook::Publish, Script::Says(200, json!({"error": {"code": 403, "message": "no"}})));
    assert_eq!(ann.ask(&mut world, &publish(3))["error"]["code"], json!(403));
    fake.does(Hook::Publish, Script::Fails(AskError::Failed));
    assert_eq!(ann.ask(&mut world, &publish(4))["error"]["code"], json!(100));
    assert_eq!(bob.published(), [json!({"n": 1}), json!({"n": 20})]);
    let asked = &fake.asked(Hook::Publish)[0];
    assert_eq!((&asked["channel"], &asked["data"]), (&json!("news"), &json!({"n": 1})));
    let history = bob.ask(&mut world, r#""history":{"channel":"news","limit":10}"#);
    let kept = history["history"]["publications"].as_array().expect("publications");
    assert_eq!(kept.len(), 1, "the second was kept out: {kept:?}");
}

#[test]
fn publications_of_one_channel_keep_their_order_though_the_first_waits_longer() {
    let options = ChannelOptions { publish_hook: true, ..open() };
    let (mut world, fake, _) = world(options);
    let (mut ann, mut bob) = (ann(&mut world), ann(&mut world));
    bob.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    let waiting = fake.waits(Hook::Publish, json!({"data": 1}));
    ann.say(&mut world, r#"{"id":50,"publish":{"channel":"news","data":1}}"#);
    fake.grants(Hook::Publish, json!({"data": 2}));
    ann.say(&mut world, r#"{"id":51,"publish":{"channel":"news","data":2}}"#);
    assert_eq!(bob.published(), Vec::<Value>::new());
    let_go(&mut world, &waiting);
    assert_eq!(bob.published(), [json!(1), json!(2)]);
}

#[test]
fn a_connection_that_ends_while_its_backend_is_asked_takes_its_calls_along() {
    let (mut world, fake, registry) = world(open());
    let ann = ann(&mut world);
    let waiting = fake.waits(Hook::Rpc, json!({}));
    ann.peer.send(b"{\"id\":9,\"rpc\":{\"method\":\"m\"}}\n");
    world.settle();
    drop(ann);
    world.pass(40);
    let_go(&mut world, &waiting);
    assert_eq!(count(&registry, Hook::Rpc, "result"), 0, "nobody heard of it");
}
