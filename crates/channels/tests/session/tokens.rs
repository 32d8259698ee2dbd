//! Tokens in sessions: who somebody is by one, what it grants, and how what it gave ends or goes on.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use prometheus::Registry;
use serde_json::{Value, json};
use weir_auth::{ClaimRules, Key, Verifier};
use weir_channels::namespace::{ChannelOptions, ChannelRules, Namespaces};
use weir_channels::tokens::{TokenMetrics, Tokens};
use weir_channels::{ChannelMetrics, ClientOptions, Policy};

use crate::support::{Client, World, open};

const SECRET: &[u8] = b"a-shared-secret-that-nobody-must-see";

/// Channels without a namespace have these options; whoever connects needs a token, and has a channel
/// of its own.
fn world(options: ChannelOptions) -> World {
    let world = World::new(options.clone());
    let rules = ChannelRules {
        without_namespace: options,
        personal_channels: Some(String::new()),
        ..ChannelRules::default()
    };
    let registry = Registry::new();
    let claims =
        ClaimRules { expiry_required: false, principal_required: false, ..ClaimRules::default() };
    let key = Key::from_secret("main", SECRET).expect("long enough");
    let verifier = Arc::new(Verifier::new(claims, vec![Arc::new(key)], None));
    let metrics = TokenMetrics::register(&registry).expect("registered once");
    let tokens = Tokens::new(verifier, None, false, metrics);
    let metrics = ChannelMetrics::register(&registry).expect("registered once");
    let namespaces = Namespaces::new(rules).expect("good rules");
    world.shared.replace(Policy::new(namespaces, Some(tokens), ClientOptions::default(), &metrics));
    world
}

fn sign(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET)).expect("a signature")
}

/// A time as a token has it, so many seconds from now.
fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    now.as_secs().cast_signed() + seconds
}

/// Connects with a token of these claims. Gives the reply too.
fn connect(world: &mut World, claims: &Value) -> (Client, Value) {
    let mut client = world.connection(1 << 20);
    let reply = client.ask(world, &format!(r#""connect":{{"token":"{}"}}"#, sign(claims)));
    (client, reply)
}

#[test]
fn a_client_is_whom_its_token_is_about_and_has_the_channels_that_it_grants() {
    let mut world = world(ChannelOptions { presence: true, ..open() });
    let claims = json!({
        "sub": "ann", "info": {"role": "admin"},
        "subs": {"news": {"info": {"in": "news"}, "data": "welcome"}},
    });
    let (mut ann, reply) = connect(&mut world, &claims);
    let subs = reply["connect"]["subs"].as_object().expect("server-side subscriptions");
    assert_eq!(subs.keys().collect::<Vec<_>>(), ["#ann", "news"]);
    assert_eq!(subs["news"]["data"], json!("welcome"));
    let presence = ann.ask(&mut world, r#""presence":{"channel":"news"}"#);
    let clients = presence["presence"]["presence"].as_object().expect("clients");
    let info = clients.values().next().expect("ann is there");
    assert_eq!(info["user"], json!("ann"));
    assert_eq!((&info["conn_info"], &info["chan_info"]), (&claims["info"], &json!({"in": "news"})));
    let (_, reply) = connect(&mut world, &json!({}));
    assert_eq!(reply["connect"]["subs"], json!(null), "nobody has no channel of its own");
}

#[test]
fn who_is_granted_a_channel_that_is_full_does_not_come_in_and_leaves_no_trace() {
    let mut world = world(ChannelOptions { subscribers_max: Some(1), ..open() });
    let claims = |user: &str| json!({"sub": user, "subs": {"news": {}}});
    let (ann, reply) = connect(&mut world, &claims("ann"));
    assert!(reply["connect"]["subs"]["news"].is_object(), "{reply}");
    let (bob, reply) = connect(&mut world, &claims("bob"));
    let why = "limit exceeded: a channel has at most subscribers_max = 1 subscribers";
    assert_eq!(reply["error"], json!({"code": 106, "message": why}));
    assert_eq!(world.shared.channels_with_subscribers(), 2, "ann's own, and news");
    drop((ann, bob));
    world.settle();
    assert_eq!(world.shared.channels_with_subscribers(), 0);
    let (_, reply) = connect(&mut world, &claims("bob"));
    assert!(reply["connect"]["subs"]["news"].is_object(), "{reply}");
}

#[test]
fn a_token_that_is_late_is_told_so_and_one_that_is_forged_ends_the_connection() {
    let mut world = world(open());
    let (_, reply) = connect(&mut world, &json!({"sub": "ann", "exp": in_seconds(-60)}));
    assert_eq!(reply["error"]["code"], json!(109));
    let (_, reply) = connect(&mut world, &json!({"sub": "ann", "expire_at": in_seconds(-60)}));
    assert_eq!(reply["error"]["code"], json!(110));
    let mut client = world.connection(1 << 20);
    let token = sign(&json!({"sub": "ann", "channel": "news"}));
    client.say(&mut world, &format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    assert_eq!(client.told_to_go(), 3500);
    let mut client = world.connection(1 << 20);
    client.say(&mut world, r#"{"id":1,"connect":{}}"#);
    assert_eq!(client.told_to_go(), 3501, "without a token");
}

#[test]
fn a_private_channel_opens_to_its_token_and_to_no_other() {
    let mut world = world(open());
    let (mut ann, _) = connect(&mut world, &json!({"sub": "ann"}));
    let refused = ann.ask(&mut world, r#""subscribe":{"channel":"$news"}"#);
    assert_eq!(refused["error"]["code"], json!(103));
    let forged = format!(r#""subscribe":{{"channel":"$news","token":"{}x"}}"#, sign(&json!({})));
    assert_eq!(ann.ask(&mut world, &forged)["error"]["code"], json!(103));
    let subscribe = |channel: &str, claims: Value| {
        format!(r#""subscribe":{{"channel":"{channel}","token":"{}"}}"#, sign(&claims))
    };
    let good = json!({"sub": "ann", "channel": "$news", "exp": in_seconds(60)});
    let reply = ann.ask(&mut world, &subscribe("$news", good));
    assert_eq!(reply["subscribe"]["expires"], json!(true), "{reply}");
    assert!((58..=90).contains(&reply["subscribe"]["ttl"].as_u64().expect("seconds")), "{reply}");
    let of_bob = subscribe("$chat", json!({"sub": "bob", "channel": "$chat"}));
    ann.say(&mut world, &format!("{{\"id\":99,{of_bob}}}"));
    assert_eq!(ann.told_to_go(), 3500);
}

#[test]
fn a_subscription_goes_on_with_a_new_token_also_when_the_command_names_no_channel() {
    let mut world = world(open());
    let (mut ann, _) = connect(&mut world, &json!({"sub": "ann"}));
    let token =
        |seconds| sign(&json!({"sub": "ann", "channel": "$news", "exp": in_seconds(seconds)}));
    let subscribe = format!(r#""subscribe":{{"channel":"$news","token":"{}"}}"#, token(60));
    assert_eq!(ann.ask(&mut world, &subscribe)["error"], json!(null));
    let refresh = format!(r#""sub_refresh":{{"token":"{}"}}"#, token(3600));
    let reply = ann.ask(&mut world, &refresh);
    let ttl = reply["sub_refresh"]["ttl"].as_u64().unwrap_or_else(|| panic!("{reply}"));
    assert!((3590..=3640).contains(&ttl), "{ttl}");
    let other = sign(&json!({"sub": "ann", "channel": "$other"}));
    let refused = ann.ask(&mut world, &format!(r#""sub_refresh":{{"token":"{other}"}}"#));
    assert_eq!(refused["error"]["code"], json!(103), "it is not subscribed to that");
}
