//! Whoever guesses learns nothing, and slowly; and no secret is told to anybody else.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use rustix::process::Signal;
use serde_json::json;
use weir_tests::collector::{Collector, Manner};
use weir_tests::doors::{API_KEY, bearer, guarded, post, upgrade};
use weir_tests::http::{self, HttpPeer, Reply};
use weir_tests::tokens::{in_seconds, temporary_file};
use weir_tests::{FramePeer, Gateway, Issuer, LinePeer, Peer, Upstream, WebSocket};

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

/// Where the proxy of these tests connects from.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// How many verdicts were held back on a listener.
async fn delayed(gateway: &Gateway, listener: &str) -> u64 {
    gateway.metrics().await.count("weir_auth_delayed_total", &[("listener", listener)])
}

#[tokio::test]
async fn behind_a_proxy_the_client_that_guesses_is_slowed_and_nobody_beside_it() {
    let gateway = guarded("\"api_key\"")
        .section("auth", "failures_per_address = 3")
        .section("network", "trusted_proxies = [\"127.0.0.9\"]")
        .listener("lines", "proxy_protocol = \"on\"")
        .await;
    let address = gateway.address("http");
    let post_from = async |client: &str, key: &str| {
        let mut http = HttpPeer::over(Peer::connect_from(PROXY, address).await, address);
        let headers = format!("X-Forwarded-For: {client}\r\nx-api-key: {key}\r\n");
        http.request("POST /echo", &headers, b"hi").await;
        http.reply().await.status
    };
    let line_from = async |client: &str, key: &str| {
        let peer = Peer::connect_from(PROXY, gateway.address("lines")).await;
        let mut lines = LinePeer { peer };
        lines.say(&format!("PROXY TCP4 {client} 192.0.2.1 4711 7001\r")).await;
        lines.say(key).await;
        lines.say("hi").await;
        lines.hear().await
    };
    for _ in 0..6 {
        assert_eq!(post_from("203.0.113.7", "a-wrong-key-of-somebody").await, 401);
    }
    let before = delayed(&gateway, "http").await;
    assert!((2..=3).contains(&before), "{before} delayed");
    // Its neighbours behind the same proxy, and the proxy itself, wait for nothing.
    assert_eq!(post_from("203.0.113.8", API_KEY).await, 200);
    assert_eq!(line_from("203.0.113.8", API_KEY).await, "hi");
    assert_eq!(delayed(&gateway, "http").await, before);
    assert_eq!(delayed(&gateway, "lines").await, 0);
    // It is known again on every wire.
    assert_eq!(post_from("203.0.113.7", API_KEY).await, 200);
    assert_eq!(line_from("203.0.113.7", API_KEY).await, "hi");
    assert_eq!(delayed(&gateway, "http").await, before + 1);
    assert_eq!(delayed(&gateway, "lines").await, 1);
    assert_eq!(gateway.metrics().await.count("weir_auth_failing_addresses", &[]), 1);
}

#[tokio::test]
async fn guesses_by_message_and_by_header_count_together() {
    let gateway = guarded("\"token\"").section("auth", "failures_per_address = 2").await;
    for _ in 0..2 {
        let mut lines = LinePeer::connect(gateway.address("lines")).await;
        lines.say("a.b.c").await;
        assert_eq!(lines.hear().await, "error: unauthorized");
        assert_eq!(post(&gateway, &bearer("a.b.c")).await.status, 401);
    }
    let mut frames = FramePeer::connect(gateway.address("frames")).await;
    frames.say("a.b.c").await;
    assert_eq!(frames.hear().await, "error: unauthorized");
    assert_eq!(delayed(&gateway, "frames").await, 1);
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

/// Secrets with characters that look otherwise in URLs.
const PLANTED: [&str; 6] = [
    "a/shared+secret=that%nobody&must-see",
    "a/second+secret=from%a&file-nobody-sees",
    "an/api+key=that%nobody&must-see",
    "a/wrong+api=key%that&nobody-must-see",
    "a/token+of=the%side&port-nobody-sees",
    "a/password+of=the%collector&nobody-sees",
];

/// What the answers, the pages and the log said, for the search.
#[derive(Default)]
struct Told(Vec<u8>);

impl Told {
    fn text(&mut self, text: &str) {
        self.0.extend(text.as_bytes());
    }

    fn reply(&mut self, reply: &Reply) {
        self.text(&format!("{:?}", reply.headers));
        self.0.extend(&reply.body);
    }
}

/// Plants secrets wherever they may come from and looks for them wherever they may go.
#[tokio::test]
async fn no_secret_is_told_to_anybody() {
    for manner in [Manner::Grpc, Manner::Http] {
        let collector = Collector::start(manner).await;
        let upstream = Upstream::start(Duration::ZERO).await;
        let mut gateway = secretive(&collector, &upstream).await;
        let (secret, key, wrong) = (PLANTED[0], PLANTED[2], PLANTED[3]);
        let good = Issuer::forger(secret.as_bytes(), Algorithm::HS256).named("main");
        let forged = Issuer::forger(wrong.as_bytes(), Algorithm::HS256).named("main");
        let expired = good.sign(&json!({"sub": "ann", "exp": in_seconds(-60)}));
        let tokens = [good.token("ann"), forged.token("ann"), expired];
        let mut told = Told::default();
        for credential in tokens.iter().map(String::as_str).chain([key, wrong, secret]) {
            show(&gateway, credential, &mut told).await;
        }
        let received = upstream.received();
        assert!(received.len() >= 8, "{} were let in", received.len());
        received.iter().for_each(|request| told.text(&request.head));
        collector.span("process main").await;
        look_around(&gateway, &mut told).await;
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.exit_code().await, 0);
        told.text(&gateway.log().join("\n"));
        let sent = collector.received();
        assert!(contains(&sent, b"process main") && contains(&sent, b"127.0.0.1"));
        told.0.extend(sent);
        for secret in PLANTED {
            search(&told.0, secret);
        }
        for token in &tokens {
            let (message, signature) = token.rsplit_once('.').expect("three parts");
            search(&told.0, signature);
            search(&told.0, message.rsplit_once('.').expect("three parts").1);
        }
    }
}

/// A weir that holds the planted secrets, traces everything and logs all it can.
async fn secretive(collector: &Collector, upstream: &Upstream) -> Gateway {
    let [secret, filed, key, _, ops, password] = PLANTED;
    let file = temporary_file("key", &format!("{filed}\n"));
    let tables = format!(
        "[[auth.keys]]\nname = \"main\"\nalgorithm = \"hmac\"\nkey = \"{secret}\"\n\
         [[auth.keys]]\nname = \"filed\"\nalgorithm = \"hmac\"\nkey = \"file:{}\"\n\
         [[auth.api_keys]]\nname = \"meter\"\nkey = \"{key}\"\n",
        file.display()
    );
    let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    Gateway::start()
        .section("logs", "filter = \"trace\"")
        .section("ops", &format!("token = \"{ops}\""))
        .section("traces", &collector.keys())
        .variable("OTEL_EXPORTER_OTLP_HEADERS", &format!("x-password={encoded}"))
        .section("auth", "failures_per_address = \"off\"")
        .route("auth = [\"token\", \"api_key\"]")
        .answered_by(upstream.address(), "")
        .tables(&tables)
        .await
}

/// Shows a credential in every way at every door.
async fn show(gateway: &Gateway, credential: &str, told: &mut Told) {
    for headers in [
        bearer(credential),
        format!("x-api-key: {credential}\r\n"),
        format!("authorization: ApiKey {credential}\r\n"),
        format!("sec-websocket-protocol: weir, weir.token.{credential}\r\n"),
        format!("{}x-api-key: {credential}\r\n", bearer(credential)),
    ] {
        told.reply(&post(gateway, &headers).await);
        match upgrade(gateway, &headers).await {
            Ok(mut socket) => {
                socket.say("hi").await;
                told.text(&socket.hear().await);
                socket.peer.send(&WebSocket::close_frame(1000, "")).await;
            }
            Err(reply) => told.reply(&reply),
        }
    }
    let mut lines = LinePeer::connect(gateway.address("lines")).await;
    lines.say(credential).await;
    lines.say("hi").await;
    told.text(&lines.hear().await);
    let mut frames = FramePeer::connect(gateway.address("frames")).await;
    frames.say(credential).await;
    frames.say("hi").await;
    told.text(&frames.hear().await);
    // A head that is no HTTP, and one that is cut, each with the credential in it.
    for bytes in [
        format!("POST /echo HTTP/9.9\r\n{}\r\n", bearer(credential)),
        format!("POST /echo HTTP/1.1\r\nauthorization: Bearer {credential}\0\r\n\r\n"),
    ] {
        let mut peer = Peer::connect(gateway.address("http")).await;
        peer.send(bytes.as_bytes()).await;
        told.0.extend(peer.take_rest().await.0);
    }
}

/// Asks the side port for everything that it shows, with its token and with a wrong one.
async fn look_around(gateway: &Gateway, told: &mut Told) {
    let ask = async |line: &str, token: &str| {
        http::request(gateway.address("ops"), line, &bearer(token), b"").await
    };
    let (token, wrong) = (PLANTED[4], PLANTED[3]);
    for path in [
        "/config",
        "/metrics",
        "/connections",
        "/connections?state=closed",
        "/readyz",
        "/debug/pprof/",
        "/debug/pprof/profile?seconds=1&format=svg",
        "/debug/pprof/heap?seconds=1&format=svg",
    ] {
        told.reply(&ask(&format!("GET {path}"), wrong).await);
        let page = ask(&format!("GET {path}"), token).await;
        assert_ne!(page.status, 401, "{path}");
        assert!(path != "/config" || page.text().contains("[redacted]"), "{}", page.text());
        told.reply(&page);
    }
    // A file that holds a secret, said to hold a public key.
    gateway.rewrite(|text| {
        let (before, after) = text.split_once("name = \"filed\"").expect("the key is there");
        format!("{before}name = \"filed\"{}", after.replacen("hmac", "rsa", 1))
    });
    let fault = ask("POST /reload", token).await;
    assert!(fault.text().contains("not a PEM public key"), "{}", fault.text());
    told.reply(&fault);
}

/// Fails when a secret is among these bytes, as it is or written otherwise.
#[track_caller]
fn search(told: &[u8], secret: &str) {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let percent = |byte: u8| format!("%{byte:02X}");
    let mut forms = vec![
        secret.to_owned(),
        secret.bytes().map(percent).collect(),
        secret
            .bytes()
            .map(|byte| if unreserved(byte) { char::from(byte).to_string() } else { percent(byte) })
            .collect(),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ];
    forms.extend((0..forms.len()).map(|at| forms[at].to_lowercase()).collect::<Vec<_>>());
    for shift in 0..3 {
        // Within a longer text base64 has one of three forms, but for what its ends share.
        let shifted = [&b"..."[..shift], secret.as_bytes()].concat();
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let text = engine.encode(&shifted);
            forms.push(text[(shift * 4).div_ceil(3)..text.len() - 1].to_owned());
        }
    }
    for form in forms {
        assert!(!contains(told, form.as_bytes()), "{secret} was told as {form}");
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn the_search_finds_a_secret_however_it_is_written() {
    let secret = PLANTED[0];
    for written in [
        format!("key={secret};"),
        STANDARD_NO_PAD.encode(format!("user:{secret}")),
        URL_SAFE_NO_PAD.encode(format!("{secret}\n")),
        "a%2Fshared%2Bsecret%3Dthat%25nobody%26must-see".to_owned(),
        "a%2fshared%2bsecret%3dthat%25nobody%26must-see".to_owned(),
    ] {
        let searched = std::panic::catch_unwind(|| search(written.as_bytes(), secret));
        assert!(searched.is_err(), "not found in {written}");
    }
    search(b"nothing of it is here", secret);
}
