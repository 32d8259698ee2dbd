//! Who gets in by which door with which credential, and that nobody else does or learns why.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use weir_tests::gateway::Start;
use weir_tests::http::{self, HttpPeer, Reply};
use weir_tests::pki::Pki;
use weir_tests::tls::TlsClient;
use weir_tests::tokens::{SECRET, in_seconds, temporary_file};
use weir_tests::{Ending, FramePeer, Gateway, Issuer, KeyServer, LinePeer, Upstream, WebSocket};

const API_KEY: &str = "an-api-key-that-nobody-must-see";

const KEYS: &str = r#"
[[auth.keys]]
name = "main"
algorithm = "hmac"
key = "a-shared-secret-that-nobody-must-see"
[[auth.api_keys]]
name = "meter"
key = "an-api-key-that-nobody-must-see"
"#;

/// A gateway whose route has these doors, and one key for each of them.
fn guarded(doors: &str) -> Start {
    Gateway::start().route(&format!("auth = {doors}")).tables(KEYS)
}

/// A token that is good at [`guarded`].
fn good() -> String {
    Issuer::hmac(Algorithm::HS256).token("ann")
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

async fn post(gateway: &Gateway, headers: &str) -> Reply {
    http::request(gateway.address("http"), "POST /echo", headers, b"hi").await
}

async fn upgrade(gateway: &Gateway, headers: &str) -> Result<WebSocket, Reply> {
    let http = HttpPeer::connect(gateway.address("http")).await;
    WebSocket::upgrade(http, "/ws", headers).await
}

/// Tries all four ways in: POST, WebSocket, lines and frames. `headers` for the first two, `first`
/// as the first message of the others. Says by which of them it got in.
async fn tried(gateway: &Gateway, headers: &str, first: &str) -> [bool; 4] {
    let posted = post(gateway, headers).await;
    if posted.status != 200 {
        check_refusal(&posted);
    }
    let upgraded = match upgrade(gateway, headers).await {
        Ok(mut socket) => {
            socket.say("hi").await;
            assert_eq!(socket.hear().await, "hi");
            true
        }
        Err(reply) => {
            check_refusal(&reply);
            false
        }
    };
    let mut lines = LinePeer::connect(gateway.address("lines")).await;
    lines.say(first).await;
    lines.say("hi").await;
    let lines_in = match lines.hear().await.as_str() {
        "hi" => true,
        "error: unauthorized" => {
            assert_eq!(lines.peer.expect_end().await, Ending::Closed);
            false
        }
        other => panic!("heard {other:?}"),
    };
    let mut frames = FramePeer::connect(gateway.address("frames")).await;
    frames.say(first).await;
    frames.say("hi").await;
    let frames_in = match frames.hear().await.as_str() {
        "hi" => true,
        "error: unauthorized" => false,
        other => panic!("heard {other:?}"),
    };
    [posted.status == 200, upgraded, lines_in, frames_in]
}

/// A refusal is the same whatever was wrong, but for its request id.
fn check_refusal(reply: &Reply) {
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    let mut body = reply.json();
    assert!(body["request_id"].take().is_string());
    assert_eq!(body, json!({"error": "unauthorized", "request_id": Value::Null}));
}

const ALL: [bool; 4] = [true; 4];
const NONE: [bool; 4] = [false; 4];

/// Each row: a test, the doors, the headers, the first message, and who gets in.
macro_rules! rows {
    ($($name:ident: $doors:literal, $headers:expr, $first:expr => $expected:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            let gateway = guarded($doors).await;
            assert_eq!(tried(&gateway, &$headers, &$first).await, $expected);
        }
    )+};
}

rows! {
    an_open_door_lets_everybody_in: r#""none""#, "", "hi" => ALL;
    a_token_opens_the_token_door: r#""token""#, bearer(&good()), good() => ALL;
    nothing_opens_no_token_door: r#""token""#, "", "hi" => NONE;
    an_api_key_opens_no_token_door:
        r#""token""#, format!("x-api-key: {API_KEY}\r\n"), API_KEY => NONE;
    an_api_key_opens_the_api_key_door:
        r#""api_key""#, format!("x-api-key: {API_KEY}\r\n"), API_KEY => ALL;
    an_api_key_may_come_as_an_authorization:
        r#""api_key""#, format!("authorization: ApiKey {API_KEY}\r\n"), API_KEY => ALL;
    a_token_opens_no_api_key_door: r#""api_key""#, bearer(&good()), good() => NONE;
    a_wrong_api_key_opens_nothing: r#""api_key""#, "x-api-key: wrong\r\n", "wrong" => NONE;
    a_route_with_two_doors_takes_a_token:
        r#"["token", "api_key"]"#, bearer(&good()), good() => ALL;
    a_route_with_two_doors_takes_an_api_key:
        r#"["token", "api_key"]"#, format!("x-api-key: {API_KEY}\r\n"), API_KEY => ALL;
    a_token_in_the_query_is_not_looked_at: r#""token""#, "referer: /?token=x\r\n", "" => {
        // An empty line is skipped, and the next one is no credential either.
        NONE
    };
    two_credentials_open_nothing: r#"["token", "api_key"]"#,
        format!("{}x-api-key: {API_KEY}\r\n", bearer(&good())), format!("{} {API_KEY}", good()) => NONE;
    an_expired_token_opens_nothing: r#""token""#,
        bearer(&hs256(json!({"sub": "ann", "exp": in_seconds(-60)}))),
        hs256(json!({"sub": "ann", "exp": in_seconds(-60)})) => NONE;
    a_token_from_the_future_opens_nothing: r#""token""#,
        bearer(&hs256(json!({"sub": "ann", "exp": in_seconds(3600), "nbf": in_seconds(60)}))),
        hs256(json!({"sub": "ann", "exp": in_seconds(3600), "nbf": in_seconds(60)})) => NONE;
    a_token_without_an_end_opens_nothing: r#""token""#,
        bearer(&hs256(json!({"sub": "ann"}))), hs256(json!({"sub": "ann"})) => NONE;
    a_token_without_a_subject_opens_nothing: r#""token""#,
        bearer(&hs256(json!({"exp": in_seconds(60)}))), hs256(json!({"exp": in_seconds(60)})) => NONE;
    a_token_of_another_secret_opens_nothing: r#""token""#, bearer(&forged()), forged() => NONE;
    a_token_of_an_unknown_key_opens_nothing: r#""token""#,
        bearer(&Issuer::hmac(Algorithm::HS256).named("other").token("ann")),
        Issuer::hmac(Algorithm::HS256).named("other").token("ann") => NONE;
    a_token_that_names_its_key_opens_the_door: r#""token""#,
        bearer(&Issuer::hmac(Algorithm::HS512).named("main").token("ann")),
        Issuer::hmac(Algorithm::HS512).named("main").token("ann") => ALL;
    an_unsigned_token_opens_nothing: r#""token""#, bearer(&unsigned()), unsigned() => NONE;
    rubbish_opens_nothing: r#""token""#, bearer("a.b.c"), "a.b.c" => NONE;
}

fn hs256(claims: Value) -> String {
    Issuer::hmac(Algorithm::HS256).sign(&claims)
}

fn forged() -> String {
    Issuer::forger(b"another-secret-of-thirty-two-bytes", Algorithm::HS256).token("ann")
}

/// `{"alg":"none"}` with claims that would be good, and no signature.
fn unsigned() -> String {
    let claims = good().split('.').nth(1).expect("three parts").to_owned();
    format!("eyJhbGciOiJub25lIn0.{claims}.")
}

/// Each kind of key, the token of each of its algorithms, and that of no other.
#[tokio::test]
async fn a_key_checks_its_own_algorithms_and_no_other() {
    use Algorithm::{ES256, ES384, PS256, PS512, RS256, RS384};
    let issuers = [
        ("rsa", "rsa", Issuer::rsa(RS256)),
        ("ec256", "ecdsa", Issuer::ecdsa(ES256, "P-256")),
        ("ec384", "ecdsa", Issuer::ecdsa(ES384, "P-384")),
        ("ed", "eddsa", Issuer::eddsa()),
    ];
    let mut keys = String::from(KEYS);
    for (name, algorithm, issuer) in &issuers {
        let file = issuer.public_key_file();
        let key = format!("file:{}", file.display());
        keys += &format!(
            "[[auth.keys]]\nname = \"{name}\"\nalgorithm = \"{algorithm}\"\nkey = \"{key}\"\n"
        );
    }
    let gateway = Gateway::start()
        .section("auth", "failures_per_address = \"off\"")
        .route("auth = \"token\"")
        .tables(&keys)
        .await;
    let status = async |token: &str| post(&gateway, &bearer(token)).await.status;
    for (name, _, issuer) in issuers {
        // The public key as if it were a shared secret: the confusion that this is about.
        for confused in [Algorithm::HS256, Algorithm::HS384] {
            let forger = Issuer::forger(issuer.public_key().as_bytes(), confused).named(name);
            assert_eq!(status(&forger.token("ann")).await, 401, "{name}");
        }
        let issuer = issuer.named(name);
        assert_eq!(status(&issuer.token("ann")).await, 200, "{name}");
        // Signed by one key, said to be by another.
        let lied = issuer.named(if name == "rsa" { "ed" } else { "rsa" });
        assert_eq!(status(&lied.token("ann")).await, 401, "{name}");
    }
    for algorithm in [RS384, PS256, PS512] {
        let other = Issuer::rsa(algorithm).named("rsa");
        assert_eq!(status(&other.token("ann")).await, 401, "another RSA key");
    }
    let refused = |metrics: &weir_tests::Metrics, reason| {
        let labels = [("listener", "http"), ("door", "token"), ("reason", reason)];
        metrics.count("weir_auth_refused_total", &labels)
    };
    let metrics = gateway.metrics().await;
    assert_eq!(refused(&metrics, "algorithm"), 12);
    assert_eq!(refused(&metrics, "signature"), 3);
}

#[tokio::test]
async fn a_token_for_or_by_somebody_else_opens_nothing() {
    let keys = "audience = [\"weir\", \"gate\"]\nissuer = \"https://id.example\"\n\
                principal_claim = \"device\"";
    let gateway = guarded("\"token\"").section("auth", keys).await;
    let status = async |aud: Value, iss: &str, device: &str| {
        let exp = in_seconds(60);
        let claims = json!({"device": device, "exp": exp, "aud": aud, "iss": iss});
        post(&gateway, &bearer(&hs256(claims))).await.status
    };
    let issuer = "https://id.example";
    assert_eq!(status(json!("weir"), issuer, "d").await, 200);
    assert_eq!(status(json!(["x", "gate"]), issuer, "d").await, 200);
    assert_eq!(status(json!("x"), issuer, "d").await, 401);
    assert_eq!(status(json!("weir"), "https://evil.example", "d").await, 401);
    assert_eq!(status(json!("weir"), issuer, "").await, 401);
}

#[tokio::test]
async fn only_the_principals_of_a_route_may_pass() {
    let gateway = guarded("\"token\"").route("principals = [\"bob\"]").await;
    let issuer = Issuer::hmac(Algorithm::HS256);
    assert_eq!(post(&gateway, &bearer(&issuer.token("bob"))).await.status, 200);
    let reply = post(&gateway, &bearer(&issuer.token("ann"))).await;
    assert_eq!((reply.status, &reply.json()["error"]), (403, &json!("forbidden")));
    let mut peer = LinePeer::connect(gateway.address("lines")).await;
    peer.say(&issuer.token("ann")).await;
    assert_eq!(peer.hear().await, "error: unauthorized");
}

#[tokio::test]
async fn a_browser_shows_its_token_as_a_subprotocol_that_is_never_said_back() {
    let gateway = guarded("\"token\"").await;
    let token = good();
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    let offers = format!("sec-websocket-protocol: weir, weir.token.{token}\r\n");
    http.request("GET /ws", &(WebSocket::headers() + &offers), b"").await;
    let reply = http.reply().await;
    assert_eq!((reply.status, reply.header("sec-websocket-protocol")), (101, Some("weir")));
    assert!(!format!("{:?}", reply.headers).contains(&token));
    // A POST has headers of its own: there it is nothing.
    assert_eq!(post(&gateway, &offers).await.status, 401);
}

#[tokio::test]
async fn what_is_sent_behind_the_credential_is_answered_in_order() {
    let gateway = guarded("\"token\"").await;
    let mut peer = LinePeer::connect(gateway.address("lines")).await;
    let mut packet = LinePeer::encode(&good());
    (0..100).for_each(|n| packet.extend(LinePeer::encode(&format!("{n}"))));
    peer.peer.send(&packet).await;
    for n in 0..100 {
        assert_eq!(peer.hear().await, format!("{n}"));
    }
}

#[tokio::test]
async fn a_connection_that_does_not_say_who_it_is_is_closed_after_the_handshake_timeout() {
    let gateway = guarded("\"token\"").timeouts("handshake = \"1s\"").await;
    let mut peer = LinePeer::connect(gateway.address("lines")).await;
    assert_eq!(peer.hear().await, "error: handshake timeout");
    gateway.wait_for_closed("lines", "handshake_timeout", 1).await;
    let mut late = LinePeer::connect(gateway.address("lines")).await;
    late.say(&good()).await;
    late.say("hi").await;
    assert_eq!(late.hear().await, "hi");
    assert!(late.peer.stays_quiet(Duration::from_secs(3)).await, "the timeout outlived the door");
}

#[tokio::test]
async fn a_refused_connection_has_a_reason_of_its_own() {
    let gateway = guarded("\"token\"").await;
    let mut peer = FramePeer::connect(gateway.address("frames")).await;
    peer.say("x").await;
    assert_eq!(peer.hear().await, "error: unauthorized");
    gateway.wait_for_closed("frames", "unauthorized", 1).await;
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let gateway = guarded("\"token\"").section("auth", "leeway = \"0s\"").await;
    let token = hs256(json!({"sub": "ann", "exp": in_seconds(3)}));
    let mut socket = upgrade(&gateway, &bearer(&token)).await.expect("let in");
    let mut lines = LinePeer::connect(gateway.address("lines")).await;
    lines.say(&token).await;
    socket.say("hi").await;
    assert_eq!(socket.hear().await, "hi");
    assert_eq!(socket.expect_close().await, (4401, "token expired".to_owned()));
    assert_eq!(lines.hear().await, "error: token expired");
    gateway.wait_for_closed("http", "token_expired", 1).await;
    gateway.wait_for_closed("lines", "token_expired", 1).await;
}

#[tokio::test]
async fn a_connection_outlives_its_token_where_that_is_wanted() {
    let keys = "leeway = \"0s\"\nexpired = \"keep\"";
    let gateway = guarded("\"token\"").section("auth", keys).await;
    let token = hs256(json!({"sub": "ann", "exp": in_seconds(2)}));
    let mut lines = LinePeer::connect(gateway.address("lines")).await;
    lines.say(&token).await;
    lines.say("hi").await;
    assert_eq!(lines.hear().await, "hi");
    assert!(lines.peer.stays_quiet(Duration::from_secs(4)).await);
}

#[tokio::test]
async fn an_upstream_is_told_who_asks_and_never_by_the_client() {
    let upstream = Upstream::start(Duration::ZERO).await;
    let gateway = guarded("\"token\"")
        .answered_by(upstream.address(), "")
        .route("forward_headers = [\"user-agent\"]")
        .await;
    let forged = "x-weir-principal: root\r\nx-weir-connection: 1\r\nx-forwarded-for: 10.0.0.1\r\n\
                  user-agent: meter/1\r\ncookie: c=1\r\n";
    let headers = bearer(&good()) + forged;
    assert_eq!(post(&gateway, &headers).await.status, 200);
    let mut socket = upgrade(&gateway, &headers).await.expect("let in");
    socket.say("ws").await;
    assert_eq!(socket.hear().await, "answer: ws");
    let mut lines = LinePeer::connect(gateway.address("lines")).await;
    lines.say(&good()).await;
    lines.say("line").await;
    assert_eq!(lines.hear().await, "answer: line");
    let received = upstream.received();
    assert_eq!(received.len(), 3);
    for (request, path, agent) in [
        (&received[0], Some("/echo"), Some("meter/1")),
        (&received[1], Some("/ws"), Some("meter/1")),
        (&received[2], None, None),
    ] {
        assert_eq!(request.header("x-weir-principal"), Some("ann"), "{}", request.head);
        assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(request.header("x-weir-connection").map(str::len), Some(16));
        assert_eq!(request.header("x-weir-path"), path);
        assert_eq!(request.header("user-agent"), agent);
        assert_eq!(request.header("cookie"), None);
        assert_eq!(request.header("authorization"), None);
        assert!(!request.head.contains("root"), "{}", request.head);
    }
}

#[tokio::test]
async fn an_address_that_guesses_is_answered_later_and_later() {
    let gateway = guarded("\"api_key\"").section("auth", "failures_per_address = 3").await;
    let timed = async |key: &str| {
        let begun = std::time::SystemTime::now();
        let status = post(&gateway, &format!("x-api-key: {key}\r\n")).await.status;
        (status, begun.elapsed().expect("time goes on"))
    };
    for _ in 0..3 {
        assert_eq!(timed("wrong").await.0, 401);
    }
    for _ in 0..5 {
        assert_eq!(timed("wrong").await.0, 401);
    }
    let (status, took) = timed(API_KEY).await;
    // Late, too: else who is answered at once would know.
    assert_eq!(status, 200);
    assert!(took >= Duration::from_millis(1500) && took < Duration::from_secs(8), "{took:?}");
    let metrics = gateway.metrics().await;
    // All but the free ones, of which decay may have given one more.
    let delayed = metrics.count("weir_auth_delayed_total", &[("listener", "http")]);
    assert!((5..=6).contains(&delayed), "{delayed} delayed");
    assert_eq!(metrics.count("weir_auth_failing_addresses", &[]), 1);
}

#[tokio::test]
async fn a_key_set_is_fetched_refreshed_and_outlives_its_server() {
    let first = Issuer::ecdsa(Algorithm::ES256, "P-256").named("one");
    let second = Issuer::rsa(Algorithm::PS256).named("two");
    let server = KeyServer::start(&[first.jwk()]).await;
    let keys = format!("[auth.jwks]\nurl = \"{}\"\nrefresh_interval_min = \"1s\"\n", server.url());
    let gateway = Gateway::start()
        .section("auth", "failures_per_address = \"off\"")
        .route("auth = \"token\"")
        .tables(&keys)
        .await;
    let set = [("set", "auth.jwks")];
    gateway.wait_for("a key", |metrics| metrics.count("weir_jwks_keys", &set) == 1).await;
    let status = async |issuer: &Issuer| post(&gateway, &bearer(&issuer.token("ann"))).await.status;
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
    let issuer = Issuer::ecdsa(Algorithm::ES256, "P-256").named("one");
    let server = KeyServer::start(&[issuer.jwk()]).await;
    let keys = format!("[auth.jwks]\nurl = \"{}\"\n", server.url());
    let gateway = Gateway::start()
        .section("auth", "failures_per_address = \"off\"")
        .route("auth = \"token\"")
        .tables(&keys)
        .await;
    let set = [("set", "auth.jwks")];
    gateway.wait_for("a key", |metrics| metrics.count("weir_jwks_keys", &set) == 1).await;
    let stranger = Issuer::ecdsa(Algorithm::ES256, "P-256");
    let token = stranger.named("nobody").token("ann");
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    for _ in 0..50 {
        http.request("POST /echo", &bearer(&token), b"hi").await;
        assert_eq!(http.reply().await.status, 401);
    }
    assert!(server.asked() <= 2, "asked {} times", server.asked());
}

/// Plants secrets wherever they may come from and looks for them wherever they may go.
#[tokio::test]
async fn no_secret_is_told_to_anybody() {
    let file = temporary_file("key", "a-key-in-a-file-that-nobody-must-see\n");
    let tables = format!(
        "{KEYS}[[auth.keys]]\nname = \"filed\"\nalgorithm = \"hmac\"\nkey = \"file:{}\"\n",
        file.display()
    );
    let gateway = Gateway::start()
        .section("logs", "filter = \"trace\"")
        .section("auth", "failures_per_address = \"off\"")
        .route("auth = [\"token\", \"api_key\"]")
        .tables(&tables)
        .await;
    let tokens = [good(), forged(), unsigned(), hs256(json!({"sub": "ann"}))];
    let wrong_key = "a-wrong-api-key-that-nobody-must-see";
    let mut told = String::new();
    let mut tell = |text: &str| told.push_str(text);
    for credential in tokens.iter().map(String::as_str).chain([API_KEY, wrong_key, SECRET]) {
        for headers in [
            bearer(credential),
            format!("x-api-key: {credential}\r\n"),
            format!("authorization: ApiKey {credential}\r\n"),
            format!("sec-websocket-protocol: weir, weir.token.{credential}\r\n"),
        ] {
            tell(&format!("{:?}", post(&gateway, &headers).await.headers));
            match upgrade(&gateway, &headers).await {
                Ok(mut socket) => socket.peer.send(&WebSocket::close_frame(1000, "")).await,
                Err(reply) => tell(&format!("{:?} {}", reply.headers, reply.text())),
            }
        }
        let mut lines = LinePeer::connect(gateway.address("lines")).await;
        lines.say(credential).await;
        lines.say("exit").await;
        let (rest, _) = lines.peer.take_rest().await;
        tell(&String::from_utf8_lossy(&rest));
    }
    for path in ["/config", "/metrics", "/connections", "/connections?state=closed", "/readyz"] {
        let reply = gateway.ops(path).await;
        assert_eq!(reply.status, 200, "{path}");
        tell(reply.text());
    }
    assert!(gateway.ops("/config").await.text().contains("[redacted]"));
    tell(&gateway.log().join("\n"));
    for secret in [SECRET, API_KEY, wrong_key, "a-key-in-a-file"] {
        assert!(!told.contains(secret), "{secret} was told");
    }
    for token in tokens {
        let signature = token.rsplit('.').next().expect("three parts").to_owned();
        assert!(signature.is_empty() || !told.contains(&signature), "a signature was told");
        let claims = token.split('.').nth(1).expect("three parts").to_owned();
        assert!(!told.contains(&claims), "claims were told");
    }
}

#[tokio::test]
async fn refusals_are_a_line_now_and_then_and_not_one_each() {
    let gateway = guarded("\"token\"").section("auth", "failures_per_address = \"off\"").await;
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    for _ in 0..200 {
        http.request("POST /echo", &bearer("a.b.c"), b"hi").await;
        assert_eq!(http.reply().await.status, 401);
    }
    gateway.logged("refusals", |line| line["reasons"] == "token/malformed=1").await;
    let lines = gateway.log().iter().filter(|line| line.contains("not let in")).count();
    assert!(lines <= 3, "{lines} lines");
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
    assert_eq!(post(&gateway, &bearer(&good())).await.status, 401);
    assert_eq!(post(&gateway, &bearer(&forged())).await.status, 200);
    let mut late = LinePeer::connect(gateway.address("lines")).await;
    late.say(&good()).await;
    assert_eq!(late.hear().await, "error: unauthorized");
    inside.say("still").await;
    assert_eq!(inside.hear().await, "still");
}

#[tokio::test]
async fn a_reload_shuts_a_door_and_opens_it_again() {
    let gateway = guarded("\"none\"").await;
    assert_eq!(post(&gateway, "").await.status, 200);
    gateway.reload(|text| text.replace("auth = \"none\"", "auth = \"api_key\"")).await;
    assert_eq!(post(&gateway, "").await.status, 401);
    let headers = format!("x-api-key: {API_KEY}\r\n");
    assert_eq!(tried(&gateway, &headers, API_KEY).await, ALL);
    gateway.reload(|text| text.replace("auth = \"api_key\"", "auth = \"none\"")).await;
    assert_eq!(tried(&gateway, "", "hi").await, ALL);
}

/// The listeners stay those of the start: a route that is open on loopback only must not be open
/// because the file says that its listener will be there.
#[tokio::test]
async fn no_reload_opens_a_route_by_mistake() {
    let gateway = Gateway::start()
        .tables(KEYS)
        .tables("[[routes]]\nname = \"far\"\nkind = \"echo\"\nauth = \"api_key\"\n")
        .tables("[[listeners]]\nname = \"far\"\nwire = \"lines\"\nroute = \"far\"\naddress = \"0.0.0.0:0\"\n")
        .await;
    gateway.rewrite(|text| {
        text.replace("0.0.0.0:0", "127.0.0.1:0").replace("auth = \"api_key\"\n", "")
    });
    let reply = gateway.post_reload().await;
    assert_ne!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains("routes.far.auth"), "{}", reply.text());
}

/// A certificate is who its client is, on every wire; without one the other doors are left.
#[tokio::test]
async fn a_certificate_opens_the_mtls_door() {
    let pki = Pki::new();
    let server = pki.issue("weir", &["weir.example"]);
    let ca = pki.ca();
    let optional = format!(", client_ca = \"{}\", client_auth = \"optional\"", ca.display());
    let tls = server.listener(&optional);
    let upstream = Upstream::start(Duration::ZERO).await;
    let gateway = Gateway::start()
        .answered_by(upstream.address(), "")
        .route("auth = [\"mtls\", \"api_key\"]")
        .listener("lines", &tls)
        .listener("frames", &tls)
        .listener("http", &tls)
        .tables(KEYS)
        .await;
    let address = gateway.address("lines");
    let meter = TlsClient::showing(&pki, &pki.issue("meter-7", &["meter.example"]));
    let mut peer = meter.connect(address, "weir.example").await.expect("a handshake");
    peer.say("reading").await;
    assert_eq!(peer.hear().await, "answer: reading");
    assert_eq!(upstream.received()[0].header("x-weir-principal"), Some("meter-7"));
    let stranger = TlsClient::trusting(&pki);
    let mut peer = stranger.connect(address, "weir.example").await.expect("a handshake");
    peer.say("reading").await;
    assert_eq!(peer.hear().await, "error: unauthorized");
    let mut peer = stranger.connect(address, "weir.example").await.expect("a handshake");
    peer.say(API_KEY).await;
    peer.say("reading").await;
    assert_eq!(peer.hear().await, "answer: reading");
    assert_eq!(upstream.received()[1].header("x-weir-principal"), Some("meter"));
}
