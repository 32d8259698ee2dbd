//! Who gets in by which door with which credential, and that nobody else does or learns why.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use weir_tests::doors::{
    ALL, API_KEY, KEYS, NONE, Shown, bearer, good, guarded, post, tried, tried_over, upgrade,
};
use weir_tests::http::HttpPeer;
use weir_tests::pki::{Identity, Pki};
use weir_tests::tls::TlsClient;
use weir_tests::tokens::in_seconds;
use weir_tests::{FramePeer, Gateway, Issuer, LinePeer, Peer, Upstream, WebSocket};

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

/// An authority, a weir that asks clients for its certificates on every listener but insists on
/// none, and an upstream behind it. The route has these doors.
async fn certified(doors: &str) -> (Pki, Upstream, Gateway) {
    let pki = Pki::new();
    let optional = format!(", client_ca = \"{}\", client_auth = \"optional\"", pki.ca().display());
    let tls = pki.issue("weir", &["weir.example"]).listener(&optional);
    let upstream = Upstream::start(Duration::ZERO).await;
    let gateway = guarded(doors)
        .answered_by(upstream.address(), "")
        .listener("lines", &tls)
        .listener("frames", &tls)
        .listener("http", &tls)
        .await;
    (pki, upstream, gateway)
}

/// Shows nothing but perhaps a certificate, and claims to be somebody in headers.
const FORGING: Shown<'_> =
    Shown { headers: "x-weir-principal: root\r\nX-Weir-Principal: root\r\n", first: None };

#[tokio::test]
async fn a_certificate_opens_the_mtls_door_and_is_who_the_upstream_is_told() {
    let (pki, upstream, gateway) = certified("\"mtls\"").await;
    let meter = TlsClient::showing(&pki, &pki.issue("meter-7", &["meter.example"]));
    assert_eq!(tried_over(Some(&meter), &gateway, FORGING).await, ALL);
    // No common name: the first DNS name.
    let truck = pki.issue_for("truck", "", &["truck.example"], -1..30);
    let truck = TlsClient::showing(&pki, &truck);
    assert_eq!(tried_over(Some(&truck), &gateway, FORGING).await, ALL);
    let received = upstream.received();
    let (meters, trucks) = received.split_at(4);
    assert_eq!(trucks.len(), 4, "POST, WebSocket, lines, frames");
    for (requests, name) in [(meters, "meter-7"), (trucks, "truck.example")] {
        for request in requests {
            assert_eq!(request.header("x-weir-principal"), Some(name), "{}", request.head);
            assert!(!request.head.contains("root"), "{}", request.head);
        }
        let paths: Vec<_> = requests.iter().filter_map(|one| one.header("x-weir-path")).collect();
        assert_eq!(paths, ["/echo", "/ws"]);
    }
    let metrics = gateway.metrics().await;
    for (listener, count) in [("http", 4), ("lines", 2), ("frames", 2)] {
        let labels = [("listener", listener), ("door", "mtls")];
        assert_eq!(metrics.count("weir_auth_admitted_total", &labels), count, "{listener}");
    }
}

#[tokio::test]
async fn no_certificate_and_none_with_a_name_opens_no_mtls_door() {
    let (pki, upstream, gateway) = certified("\"mtls\"").await;
    let long = "x".repeat(300);
    let nameless = ["", "two\nlines", &long];
    let showing = |identity: &Identity| TlsClient::showing(&pki, identity);
    let clients = nameless.map(|name| showing(&pki.issue_for("nameless", name, &[], -1..30)));
    for tls in clients.iter().chain([&TlsClient::trusting(&pki)]) {
        assert_eq!(tried_over(Some(tls), &gateway, FORGING).await, NONE);
    }
    // What opens other doors is nothing here.
    let headers = format!("{}x-weir-principal: meter\r\n", bearer(&good()));
    let shown = Shown { headers: &headers, first: Some(&good()) };
    assert_eq!(tried_over(Some(&TlsClient::trusting(&pki)), &gateway, shown).await, NONE);
    assert_eq!(upstream.received().len(), 0);
    let labels = [("listener", "lines"), ("door", "mtls"), ("reason", "missing")];
    assert_eq!(gateway.metrics().await.count("weir_auth_refused_total", &labels), 5);
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_another_day_opens_no_listener() {
    let (pki, upstream, gateway) = certified("\"mtls\"").await;
    let other = Pki::new();
    let bad = [
        ("certificate_unknown_authority", other.issue("meter-7", &["meter.example"])),
        ("certificate_expired", pki.issue_for("late", "meter-7", &[], -9..-2)),
    ];
    for (_, identity) in &bad {
        let tls = TlsClient::showing(&pki, identity);
        for listener in ["http", "lines", "frames"] {
            // In TLS 1.3 the client's part is over before its certificate is looked at.
            let peer = Peer::connect(gateway.address(listener)).await;
            let Ok(mut peer) = peer.over_tls(&tls, "weir.example").await else { continue };
            peer.send(b"GET /ws HTTP/1.1\r\nhost: weir\r\n\r\n").await;
            assert_eq!(peer.take_rest().await.0, b"", "{listener}");
        }
    }
    assert_eq!(upstream.received().len(), 0);
    for (result, _) in bad {
        let what = format!("handshakes that ended as {result}");
        gateway
            .wait_for(&what, |metrics| {
                ["http", "lines", "frames"].iter().all(|listener| {
                    let labels = [("listener", *listener), ("result", result)];
                    metrics.count("weir_tls_handshakes_total", &labels) == 1
                })
            })
            .await;
    }
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_known_and_may_not() {
    let (pki, _upstream, gateway) = certified("\"mtls\"\nprincipals = [\"meter-7\"]").await;
    let seven = TlsClient::showing(&pki, &pki.issue("meter-7", &[]));
    assert_eq!(tried_over(Some(&seven), &gateway, FORGING).await, ALL);
    let eight = TlsClient::showing(&pki, &pki.issue("meter-8", &[]));
    let address = gateway.address("http");
    let peer = Peer::connect(address).await.over_tls(&eight, "weir.example").await.expect("TLS");
    let mut http = HttpPeer::over(peer, address);
    http.request("POST /echo", "", b"hi").await;
    assert_eq!(http.reply().await.status, 403);
    let peer = Peer::connect(gateway.address("lines")).await;
    let peer = peer.over_tls(&eight, "weir.example").await.expect("TLS");
    assert_eq!(LinePeer { peer }.hear().await, "error: unauthorized");
}

#[tokio::test]
async fn without_a_certificate_the_other_doors_are_left() {
    let (pki, upstream, gateway) = certified("[\"mtls\", \"api_key\"]").await;
    let stranger = TlsClient::trusting(&pki);
    let headers = format!("x-api-key: {API_KEY}\r\n");
    let shown = Shown { headers: &headers, first: Some(API_KEY) };
    assert_eq!(tried_over(Some(&stranger), &gateway, shown).await, ALL);
    assert_eq!(tried_over(Some(&stranger), &gateway, FORGING).await, NONE);
    let received = upstream.received();
    assert_eq!(received.len(), 4);
    for request in received {
        assert_eq!(request.header("x-weir-principal"), Some("meter"), "{}", request.head);
    }
}

/// Where every message of a route may begin with its trace, the first may too. It is no part of the
/// credential, and nobody gets in by it.
#[tokio::test]
async fn a_trace_before_the_credential_is_no_part_of_it() {
    let trace = "traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ";
    let gateway = guarded("\"token\"").route("trace_prefix = \"traceparent=\"").await;
    let first = [trace, &good()].concat();
    let in_by = tried(&gateway, &bearer(&good()), &first).await;
    assert_eq!(in_by, ALL);
    assert_eq!(tried(&gateway, "", trace).await, NONE);
}
