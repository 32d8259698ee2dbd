//! The keys that tokens are checked with: published by somebody else or listed, replaced, and used
//! while they are young enough.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use weir_tests::doors::{bearer, good, guarded, post};
use weir_tests::gateway::Start;
use weir_tests::http::HttpPeer;
use weir_tests::tokens::{SECRET, in_seconds};
use weir_tests::{Gateway, Issuer, KeyServer, LinePeer};

const SET: [(&str, &str); 1] = [("set", "auth.jwks")];

/// A gateway whose tokens are checked with a key set.
fn with_key_set(keys: &str) -> Start {
    Gateway::start()
        .section("auth", "failures_per_address = \"off\"")
        .route("auth = \"token\"")
        .tables(&format!("[auth.jwks]\n{keys}"))
}

/// An issuer of tokens, and a server that publishes its key.
async fn published() -> (Issuer, KeyServer) {
    let issuer = Issuer::ecdsa(Algorithm::ES256, "P-256").named("one");
    let server = KeyServer::start(&[issuer.jwk()]).await;
    (issuer, server)
}

async fn status(gateway: &Gateway, issuer: &Issuer) -> u16 {
    post(gateway, &bearer(&issuer.token("ann"))).await.status
}

/// Waits until a fetch has ended so.
async fn wait_for_refresh(gateway: &Gateway, result: &str, count: u64) {
    let labels = [SET[0], ("result", result)];
    let what = format!("{count} refreshes that ended as {result}");
    let name = "weir_jwks_refreshes_total";
    gateway.wait_for(&what, |metrics| metrics.count(name, &labels) >= count).await;
}

#[tokio::test]
async fn a_key_set_is_fetched_refreshed_and_outlives_its_server() {
    let first = Issuer::ecdsa(Algorithm::ES256, "P-256").named("one");
    let second = Issuer::rsa(Algorithm::PS256).named("two");
    let server = KeyServer::start(&[first.jwk()]).await;
    let keys = format!("url = \"{}\"\nrefresh_interval_min = \"1s\"", server.url());
    let gateway = with_key_set(&keys).await;
    wait_for_refresh(&gateway, "good", 1).await;
    let status = async |issuer: &Issuer| status(&gateway, issuer).await;
    assert_eq!(status(&first).await, 200);
    // Rotated: the new key is not known yet, and found without a restart.
    server.publish(&[first.jwk(), second.jwk()]);
    weir_tests::wait::eventually("the new key", async || {
        (status(&second).await == 200).then_some(())
    })
    .await;
    server.publish(&[second.jwk()]);
    assert_eq!(status(&first).await, 200, "the set is as old as it is");
    // Down: the last good set stays.
    server.answer_with(None);
    let stranger = Issuer::ecdsa(Algorithm::ES256, "P-256").named("three");
    assert_eq!(status(&stranger).await, 401);
    assert_eq!(status(&second).await, 200);
    // Rubbish is no set either.
    for rubbish in ["", "{}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"] {
        server.answer_with(Some(rubbish.to_owned()));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(status(&stranger).await, 401);
        assert_eq!(status(&second).await, 200);
    }
    // Back, with other keys.
    server.publish(&[stranger.jwk()]);
    weir_tests::wait::eventually("the third key", async || {
        (status(&stranger).await == 200).then_some(())
    })
    .await;
    assert_eq!(status(&first).await, 401);
    assert_eq!(status(&second).await, 401);
}

#[tokio::test]
async fn strangers_cannot_make_weir_ask_for_keys_often() {
    let (_issuer, server) = published().await;
    let gateway = with_key_set(&format!("url = \"{}\"", server.url())).await;
    wait_for_refresh(&gateway, "good", 1).await;
    let stranger = Issuer::ecdsa(Algorithm::ES256, "P-256");
    let token = stranger.named("nobody").token("ann");
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    for _ in 0..50 {
        http.request("POST /echo", &bearer(&token), b"hi").await;
        assert_eq!(http.reply().await.status, 401);
    }
    assert!(server.asked() <= 2, "asked {} times", server.asked());
}

#[tokio::test]
async fn a_key_set_is_used_no_longer_than_its_age() {
    let (issuer, server) = published().await;
    let keys = format!(
        "url = \"{}\"\nrefresh_interval = \"1s\"\nrefresh_interval_min = \"1s\"\nage_max = \"3s\"",
        server.url()
    );
    let gateway = with_key_set(&keys).await;
    wait_for_refresh(&gateway, "good", 1).await;
    // Fetched again and again, it never grows old.
    wait_for_refresh(&gateway, "good", 4).await;
    assert_eq!(status(&gateway, &issuer).await, 200);
    server.answer_with(None);
    wait_for_refresh(&gateway, "unreachable", 1).await;
    assert_eq!(status(&gateway, &issuer).await, 200, "down for a moment");
    gateway.wait_for("no keys", |metrics| metrics.count("weir_jwks_keys", &SET) == 0).await;
    assert_eq!(status(&gateway, &issuer).await, 401);
    server.publish(&[issuer.jwk()]);
    gateway.wait_for("the key", |metrics| metrics.count("weir_jwks_keys", &SET) == 1).await;
    assert_eq!(status(&gateway, &issuer).await, 200);
}

#[tokio::test]
async fn a_key_set_that_is_too_much_or_too_late_is_none() {
    let (issuer, server) = published().await;
    let other = Issuer::ecdsa(Algorithm::ES256, "P-256").named("two");
    server.publish(&[issuer.jwk(), other.jwk()]);
    // It takes connections, and its test never answers one.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent_url = format!("http://{}/", silent.local_addr().expect("a bound socket"));
    let (url, far) = (server.url(), "refresh_interval_min = \"1h\"\nrefresh_interval = \"1h\"");
    for (keys, result) in [
        (format!("url = \"{url}\"\nkeys_max = 1"), "too_many_keys"),
        (format!("url = \"{url}\"\nresponse_bytes_max = \"64B\""), "unreachable"),
        (format!("url = \"{silent_url}\"\nrequest_timeout = \"100ms\""), "unreachable"),
    ] {
        let gateway = with_key_set(&format!("{keys}\n{far}")).await;
        wait_for_refresh(&gateway, result, 1).await;
        assert_eq!(status(&gateway, &issuer).await, 401, "{keys}");
    }
    let gateway = with_key_set(&format!("url = \"{url}\"\nkeys_max = 2\n{far}")).await;
    wait_for_refresh(&gateway, "good", 1).await;
    assert_eq!(status(&gateway, &issuer).await, 200);
}

#[tokio::test]
async fn a_token_without_an_end_is_good_where_that_is_allowed() {
    let gateway = guarded("\"token\"").section("auth", "expiry_required = false").await;
    let issuer = Issuer::hmac(Algorithm::HS256);
    let status = async |claims: Value| post(&gateway, &bearer(&issuer.sign(&claims))).await.status;
    assert_eq!(status(json!({"sub": "ann"})).await, 200);
    assert_eq!(status(json!({"sub": "ann", "exp": in_seconds(-60)})).await, 401);
}

#[tokio::test]
async fn clocks_may_be_apart_by_the_leeway() {
    let gateway = guarded("\"token\"").section("auth", "leeway = \"120s\"").await;
    let issuer = Issuer::hmac(Algorithm::HS256);
    let status = async |exp: i64, nbf: i64| {
        let claims = json!({"sub": "ann", "exp": in_seconds(exp), "nbf": in_seconds(nbf)});
        post(&gateway, &bearer(&issuer.sign(&claims))).await.status
    };
    assert_eq!(status(-60, -90).await, 200);
    assert_eq!(status(90, 60).await, 200);
    assert_eq!(status(-180, -200).await, 401);
    assert_eq!(status(300, 180).await, 401);
}

#[tokio::test]
async fn keys_are_rotated_by_a_reload_and_nobody_who_is_in_notices() {
    let gateway = guarded("\"token\"").await;
    let mut inside = LinePeer::connect(gateway.address("lines")).await;
    inside.say(&good()).await;
    inside.say("hi").await;
    assert_eq!(inside.hear().await, "hi");
    let fresh = "another-secret-of-thirty-two-bytes";
    let told = gateway.reload(|text| text.replace(SECRET, fresh)).await;
    assert!(told["changed"].to_string().contains("auth.keys.main.key"), "{told}");
    assert!(!told.to_string().contains(fresh), "{told}");
    let fresh = Issuer::forger(fresh.as_bytes(), Algorithm::HS256).token("ann");
    assert_eq!(post(&gateway, &bearer(&good())).await.status, 401);
    assert_eq!(post(&gateway, &bearer(&fresh)).await.status, 200);
    let mut late = LinePeer::connect(gateway.address("lines")).await;
    late.say(&good()).await;
    assert_eq!(late.hear().await, "error: unauthorized");
    inside.say("still").await;
    assert_eq!(inside.hear().await, "still");
}
