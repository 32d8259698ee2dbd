//! Tokens of connections and subscriptions, signed and checked: what they give, what they are refused
//! for, and where a check runs.

#![allow(unreachable_pub, reason = "helpers and samples are shared by path")]

mod key_set;
mod support;

use std::time::Duration;

use serde_json::json;
use weir_auth::Moment;
use weir_channels::protocol::codes::{DisconnectCode, ErrorCode};
use weir_channels::tokens::{
    Bearer, ConnectionUse, Reason, Refusal, SubscriptionUse, Tokens, Verdict,
};

use self::support::{NOW, World, at, keys, sample, sign, sign_with};

const CONNECT: ConnectionUse<'_> = ConnectionUse::Connect;
const ANN: Bearer<'_> = Bearer { user: "ann", client: "c-1" };
const SUBSCRIBE: SubscriptionUse<'_> = SubscriptionUse::Subscribe { channel: "news" };

fn connect(tokens: &Tokens, token: &str) -> Result<String, Verdict> {
    let checked = tokens.connection(token, CONNECT, at()).expect("a quick check");
    checked.map(|token| token.user.to_string()).map_err(Refusal::verdict)
}

fn subscribe(tokens: &Tokens, claims: serde_json::Value) -> Result<(), Refusal> {
    let token = sign(&claims);
    let checked = tokens.subscription(&token, ANN, SUBSCRIBE, at()).expect("a quick check");
    checked.map(|token| assert_eq!(&*token.channel, "news"))
}

const INVALID: Verdict = Verdict::Disconnect(DisconnectCode::InvalidToken);
const EXPIRED: Verdict = Verdict::Error(ErrorCode::TokenExpired);

#[test]
fn a_connection_token_says_who_it_is_and_an_empty_one_nobody() {
    let world = World::new();
    let connect = |claims| connect(&world.tokens, &sign(&claims));
    assert_eq!(connect(json!({"sub": "ann"})), Ok("ann".to_owned()));
    assert_eq!(connect(json!({"sub": ""})), Ok(String::new()));
    assert_eq!(connect(json!({})), Ok(String::new()));
    assert_eq!(connect(json!({"sub": "ann", "exp": NOW + 1})), Ok("ann".to_owned()));
}

#[test]
fn a_connection_token_that_is_not_good_is_3500_and_a_late_one_109() {
    let world = World::new();
    let connect = |claims| connect(&world.tokens, &sign(&claims));
    assert_eq!(connect(json!({"sub": "ann", "exp": NOW})), Err(EXPIRED));
    assert_eq!(connect(json!({"sub": "ann", "nbf": NOW + 60})), Err(EXPIRED));
    assert_eq!(connect(json!({"sub": "ann", "channel": "news"})), Err(INVALID));
    assert_eq!(connect(json!({"sub": 42})), Err(INVALID));
    let over = connect(json!({"sub": "ann", "exp": NOW + 60, "expire_at": NOW - 1}));
    assert_eq!(over, Err(Verdict::Error(ErrorCode::Expired)));
    let forged = sign_with("another-secret-that-nobody-has-been-told", &json!({"sub": "ann"}));
    assert_eq!(self::connect(&world.tokens, &forged), Err(INVALID));
    for nonsense in ["", "x", "a.b.c"] {
        assert_eq!(self::connect(&world.tokens, nonsense), Err(INVALID), "{nonsense:?}");
    }
    for (reason, count) in [
        (Reason::Token(weir_auth::TokenError::Expired), 1),
        (Reason::Token(weir_auth::TokenError::NotYetValid), 1),
        (Reason::Token(weir_auth::TokenError::Signature), 1),
        (Reason::Token(weir_auth::TokenError::Malformed), 3),
        (Reason::Token(weir_auth::TokenError::Claims), 1),
        (Reason::Channel, 1),
        (Reason::Over, 1),
        (Reason::User, 0),
    ] {
        assert_eq!(world.refused("connection", reason.as_str()), count, "{}", reason.as_str());
    }
}

#[test]
fn a_connection_is_refreshed_by_its_own_user_only() {
    let world = World::new();
    let refresh = |claims| {
        let shown = ConnectionUse::Refresh { user: "ann" };
        let checked = world.tokens.connection(&sign(&claims), shown, at()).expect("a quick check");
        checked.map(|token| token.expires.is_some()).map_err(Refusal::verdict)
    };
    assert_eq!(refresh(json!({"sub": "ann", "exp": NOW + 60})), Ok(true));
    assert_eq!(refresh(json!({"sub": "bob", "exp": NOW + 60})), Err(INVALID));
    let gone = Verdict::Disconnect(DisconnectCode::Expired);
    assert_eq!(refresh(json!({"sub": "ann", "exp": NOW})), Err(gone));
}

#[test]
fn a_subscription_token_is_of_one_channel_one_user_and_perhaps_one_connection() {
    let world = World::new();
    let reason = |claims| subscribe(&world.tokens, claims).map_err(|refusal| refusal.reason);
    assert_eq!(reason(json!({"sub": "ann", "channel": "news"})), Ok(()));
    assert_eq!(reason(json!({"sub": "ann", "channel": "news", "client": "c-1"})), Ok(()));
    assert_eq!(reason(json!({"sub": "ann", "channel": "news", "client": ""})), Ok(()));
    assert_eq!(reason(json!({"sub": "ann", "channel": "chat"})), Err(Reason::Channel));
    assert_eq!(reason(json!({"sub": "ann"})), Err(Reason::Channel));
    assert_eq!(reason(json!({"sub": "bob", "channel": "news"})), Err(Reason::User));
    assert_eq!(reason(json!({"channel": "news"})), Err(Reason::User));
    let other = json!({"sub": "ann", "channel": "news", "client": "c-2"});
    assert_eq!(reason(other), Err(Reason::Client));
    assert_eq!(world.refused("subscription", "user"), 2);
    assert_eq!(world.refused("connection", "user"), 0);
}

#[test]
fn a_subscription_token_of_another_ends_the_connection_and_a_bad_one_does_not() {
    let world = World::new();
    let verdict = |claims| subscribe(&world.tokens, claims).expect_err("refused").verdict();
    assert_eq!(verdict(json!({"sub": "bob", "channel": "news"})), INVALID);
    assert_eq!(verdict(json!({"sub": "ann", "channel": "news", "exp": NOW})), EXPIRED);
    let forged = sign_with("another-secret-that-nobody-has-been-told", &json!({}));
    let forged = world.tokens.subscription(&forged, ANN, SUBSCRIBE, at()).expect("quick");
    let denied = Verdict::Error(ErrorCode::PermissionDenied);
    assert_eq!(forged.expect_err("refused").verdict(), denied);
}

#[test]
fn a_subscription_is_refreshed_with_or_without_its_channel_in_the_command() {
    let world = World::new();
    let refresh = |channel: Option<&str>, claims| {
        let shown = SubscriptionUse::Refresh { channel };
        let token = sign(&claims);
        let checked = world.tokens.subscription(&token, ANN, shown, at()).expect("a quick check");
        checked.map(|token| token.channel.to_string()).map_err(Refusal::verdict)
    };
    let good = json!({"sub": "ann", "channel": "news", "exp": NOW + 60});
    assert_eq!(refresh(Some("news"), good.clone()), Ok("news".to_owned()));
    assert_eq!(refresh(None, good.clone()), Ok("news".to_owned()));
    assert_eq!(refresh(Some("chat"), good), Err(INVALID));
    let late = json!({"sub": "ann", "channel": "news", "exp": NOW});
    let gone = Verdict::Disconnect(DisconnectCode::SubscriptionExpired);
    assert_eq!(refresh(None, late), Err(gone));
}

#[test]
fn subscriptions_may_have_keys_of_their_own_which_open_nothing_else() {
    const OTHER: &str = "the-secret-of-subscriptions-and-of-nothing-else";
    let world = World::with(keys(support::SECRET), Some(keys(OTHER)), false);
    let claims = json!({"sub": "ann", "channel": "news"});
    let checked = |token: &str| {
        let checked = world.tokens.subscription(token, ANN, SUBSCRIBE, at());
        checked.expect("a quick check").is_ok()
    };
    assert!(checked(&sign_with(OTHER, &claims)));
    assert!(!checked(&sign(&claims)), "the connection's key");
    assert_eq!(connect(&world.tokens, &sign_with(OTHER, &json!({"sub": "ann"}))), Err(INVALID));
    assert_eq!(connect(&world.tokens, &sign(&json!({"sub": "ann"}))), Ok("ann".to_owned()));
}

#[test]
fn a_secret_that_is_being_replaced_holds_until_its_end_and_the_new_one_from_the_beginning() {
    const NEW: &str = "the-secret-that-comes-after-it-is-as-long";
    let end = at().wall + Duration::from_secs(10);
    let old = keys(support::SECRET).into_iter().map(|key| key.until(end));
    let world = World::with(old.chain(keys(NEW)).collect(), None, false);
    let claims = json!({"sub": "ann"});
    let reason = |secret: &str, seconds| {
        let at = Moment { wall: at().wall + Duration::from_secs(seconds), ..at() };
        let checked = world.tokens.connection(&sign_with(secret, &claims), CONNECT, at);
        checked.expect("a quick check").map_err(|refusal| refusal.reason).err()
    };
    assert_eq!((reason(support::SECRET, 9), reason(NEW, 9)), (None, None));
    let signature = Some(Reason::Token(weir_auth::TokenError::Signature));
    assert_eq!((reason(support::SECRET, 10), reason(NEW, 10)), (signature, None));
}

#[test]
fn where_it_is_insecure_a_connection_outlives_its_token_but_no_forged_one_is_believed() {
    let world = World::with(keys(support::SECRET), None, true);
    let check = |token: &str| world.tokens.connection(token, CONNECT, at()).expect("quick");
    let token = check(&sign(&json!({"sub": "ann", "exp": NOW + 60}))).expect("a good token");
    assert_eq!(token.expires, None);
    let forged = sign_with("another-secret-that-nobody-has-been-told", &json!({"sub": "ann"}));
    assert_eq!(check(&forged).expect_err("forged").verdict(), INVALID);
}

#[tokio::test]
async fn a_check_that_takes_long_is_not_made_on_an_event_loop() {
    let key = sample("rsa8192");
    let world = World::with(vec![key.0], None, false);
    let (token, shown) = (key.1, CONNECT);
    assert!(world.tokens.connection(&token, shown, at()).is_none());
    let checked = world.tokens.connection_later(&token, shown).await;
    assert_eq!(checked.map(|token| token.user.to_string()), Ok("ann".to_owned()));
}
