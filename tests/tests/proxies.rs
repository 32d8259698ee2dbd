//! Behind proxies: the client's address is in limits, logs and `/connections`, and nobody is
//! believed who is no trusted proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use weir_tests::gateway::Start;
use weir_tests::http::{self, HttpPeer};
use weir_tests::pki::Pki;
use weir_tests::tls::TlsClient;
use weir_tests::{Gateway, Haproxy, LinePeer, Peer, WebSocket};

/// Where the proxies of these tests connect from.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
/// Somebody else.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A weir that trusts [`PROXY`], with PROXY headers on `lines`.
fn behind_a_proxy() -> Start {
    Gateway::start()
        .section("network", "trusted_proxies = [\"127.0.0.9\"]")
        .listener("lines", "proxy_protocol = \"on\"")
}

async fn connect(from: IpAddr, gateway: &Gateway, listener: &str) -> LinePeer {
    LinePeer { peer: Peer::connect_from(from, gateway.address(listener)).await }
}

/// A line peer of the proxy's, behind a header for this client.
async fn proxied(gateway: &Gateway, client: &str, port: u16) -> LinePeer {
    let mut peer = connect(PROXY, gateway, "lines").await;
    let header = format!("PROXY TCP4 {client} 192.0.2.1 {port} 7001\r\n");
    peer.peer.send(header.as_bytes()).await;
    peer
}

/// The addresses of the peers that `/connections` shows.
async fn shown(gateway: &Gateway) -> Vec<String> {
    let page = gateway.ops("/connections").await.json();
    let rows = page["connections"].as_array().expect("a list of connections");
    rows.iter().map(|row| row["peer"].as_str().expect("an address").to_owned()).collect()
}

#[tokio::test]
async fn a_header_of_either_version_gives_the_address() {
    let gateway = behind_a_proxy().await;
    let mut text = proxied(&gateway, "203.0.113.7", 4711).await;
    text.say("hello").await;
    assert_eq!(text.hear().await, "hello");

    let mut binary = connect(PROXY, &gateway, "lines").await;
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, 8, 192, 0, 2, 1, 0x12, 0x67, 0x1b, 0x59]);
    // The first line in the same segment, the header in two.
    binary.peer.send(&header[..20]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    binary.peer.send(&[&header[20..], b"hello\n"].concat()).await;
    assert_eq!(binary.hear().await, "hello");

    let mut local = connect(PROXY, &gateway, "lines").await;
    let own = local.peer.local().to_string();
    local.peer.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await;
    local.say("am I well?").await;
    assert_eq!(local.hear().await, "am I well?");

    let mut shown = shown(&gateway).await;
    shown.sort();
    let mut expected = ["203.0.113.7:4711".to_owned(), "203.0.113.8:4711".to_owned(), own];
    expected.sort();
    assert_eq!(shown, expected);
    drop(text);
    gateway
        .logged("the end of the client's connection", |line| {
            line["msg"] == "connection closed" && line["peer"] == "203.0.113.7:4711"
        })
        .await;
}

#[tokio::test]
async fn a_proxy_without_a_good_header_and_a_stranger_with_one_are_errors() {
    let gateway = behind_a_proxy().timeouts("handshake = \"1s\"").await;
    for (from, bytes) in [
        (PROXY, &b"hello\n"[..]),
        (PROXY, b"PROXY TCP4 300.0.113.7 192.0.2.1 1 2\r\n"),
        (PROXY, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"),
        (STRANGER, b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\nhello\n"),
        (STRANGER, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
    ] {
        let mut peer = connect(from, &gateway, "lines").await;
        peer.peer.send(bytes).await;
        let (said, _) = peer.peer.take_rest().await;
        assert_eq!(said, b"", "{bytes:?}");
    }
    gateway.wait_for_closed("lines", "protocol_error", 5).await;

    let mut slow = connect(PROXY, &gateway, "lines").await;
    slow.peer.send(b"PROXY TCP4 203.").await;
    slow.peer.take_rest().await;
    gateway.wait_for_closed("lines", "handshake_timeout", 1).await;
    drop(connect(PROXY, &gateway, "lines").await);
    gateway.wait_for_closed("lines", "peer_closed", 1).await;
}

#[tokio::test]
async fn a_stranger_without_a_header_is_who_it_is() {
    let gateway = behind_a_proxy().timeouts("handshake = \"1s\"").await;
    let mut peer = connect(STRANGER, &gateway, "lines").await;
    let own = peer.peer.local().to_string();
    // Begins as a header would.
    peer.peer.send(b"PRO").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    peer.say("FIT").await;
    assert_eq!(peer.hear().await, "PROFIT");
    assert_eq!(shown(&gateway).await, [own]);

    let mut silent = connect(STRANGER, &gateway, "lines").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    silent.say("late").await;
    assert_eq!(silent.hear().await, "late");
}

#[tokio::test]
async fn limits_hold_for_the_client_and_not_for_its_proxy() {
    let gateway = behind_a_proxy().limits("connections_per_address_max = 1").await;
    let mut held = Vec::new();
    for last in 1..=3 {
        let mut peer = proxied(&gateway, &format!("203.0.113.{last}"), 9).await;
        peer.say("in").await;
        assert_eq!(peer.hear().await, "in");
        held.push(peer);
    }
    let mut second = proxied(&gateway, "203.0.113.2", 10).await;
    assert_eq!(second.hear().await, "error: refused: limits.connections_per_address_max reached");
    second.peer.expect_end().await;
    let labels = [("listener", "lines"), ("reason", "address")];
    let refused = gateway.metrics().await.count("weir_connections_refused_total", &labels);
    assert_eq!(refused, 1);
    gateway.wait_for_closed("lines", "refused", 1).await;
    held.clear();
    gateway.wait_for_open("lines", 0).await;
    let mut again = proxied(&gateway, "203.0.113.2", 11).await;
    again.say("in").await;
    assert_eq!(again.hear().await, "in");
}

/// Upgrades from this address with these header fields.
async fn upgrade(gateway: &Gateway, from: IpAddr, headers: &str) -> Result<WebSocket, u16> {
    let address = gateway.address("http");
    let http = HttpPeer::over(Peer::connect_from(from, address).await, address);
    WebSocket::upgrade(http, "/ws", headers).await.map_err(|reply| reply.status)
}

#[tokio::test]
async fn forwarded_addresses_are_believed_of_proxies_and_of_nobody_else() {
    let gateway = behind_a_proxy().limits("connections_per_address_max = 1").await;
    let chain = "X-Forwarded-For: 1.1.1.1, 203.0.113.7\r\nForwarded: for=8.8.8.8\r\n";
    let mut socket = upgrade(&gateway, PROXY, chain).await.expect("an upgrade");
    socket.say("hello").await;
    assert_eq!(socket.hear().await, "hello");
    assert_eq!(shown(&gateway).await, ["203.0.113.7:0"]);
    assert_eq!(upgrade(&gateway, PROXY, chain).await.err(), Some(503), "one over its limit");
    gateway.wait_for_closed("http", "refused", 1).await;

    // Forged: that of a stranger is ignored, so this counts for the stranger itself.
    let mut forged = upgrade(&gateway, STRANGER, chain).await.expect("an upgrade");
    forged.say("hello").await;
    assert_eq!(forged.hear().await, "hello");
    assert!(shown(&gateway).await.iter().any(|peer| peer.starts_with("127.0.0.2:")));
}

#[tokio::test]
async fn haproxy_passes_addresses_on_in_both_versions_and_into_tls() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start()
        .section("network", "trusted_proxies = [\"127.0.0.9\"]")
        .listener("lines", "proxy_protocol = \"on\"")
        .listener("frames", "proxy_protocol = \"on\"")
        .listener(
            "secure",
            &format!("wire = \"lines\"\nroute = \"main\"\nproxy_protocol = \"on\"\n{tls}"),
        )
        .await;
    for version in ["send-proxy", "send-proxy-v2"] {
        let server =
            format!("    server a {} {version} source 127.0.0.9", gateway.address("lines"));
        let haproxy = Haproxy::start("tcp", &server).await;
        let mut peer = LinePeer { peer: Peer::connect_from(STRANGER, haproxy.address()).await };
        peer.say("hello").await;
        assert_eq!(peer.hear().await, "hello");
        let own = peer.peer.local().to_string();
        assert!(shown(&gateway).await.contains(&own), "{version}");
    }
    let server =
        format!("    server a {} send-proxy-v2 source 127.0.0.9", gateway.address("secure"));
    let haproxy = Haproxy::start("tcp", &server).await;
    let client = TlsClient::trusting(&pki);
    let mut peer = client.connect(haproxy.address(), "weir.example").await.expect("TLS");
    peer.say("hello").await;
    assert_eq!(peer.hear().await, "hello");
}

#[tokio::test]
async fn a_websocket_through_haproxy_has_its_clients_address() {
    let gateway = Gateway::start().section("network", "trusted_proxies = [\"127.0.0.9\"]").await;
    let server =
        format!("    option forwardfor\n    server a {} source 127.0.0.9", gateway.address("http"));
    let haproxy = Haproxy::start("http", &server).await;
    let http =
        HttpPeer::over(Peer::connect_from(STRANGER, haproxy.address()).await, haproxy.address());
    // What the client claims of itself stands left of what haproxy adds.
    let headers = "X-Forwarded-For: 6.6.6.6\r\n";
    let mut socket = WebSocket::upgrade(http, "/ws", headers).await.expect("an upgrade");
    socket.say("hello").await;
    assert_eq!(socket.hear().await, "hello");
    assert_eq!(shown(&gateway).await, ["127.0.0.2:0"]);
}

#[tokio::test]
async fn a_weir_that_drains_behind_haproxy_loses_no_request() {
    let weir = || async {
        Gateway::start()
            .shutdown("unready = \"2s\"\ndrain = \"5s\"\nforce = \"2s\"\nflush = \"2s\"")
            .await
    };
    let (mut first, second) = (weir().await, weir().await);
    let server = |name: &str, gateway: &Gateway| {
        let (http, ops) = (gateway.address("http"), gateway.address("ops").port());
        format!("    server {name} {http} check port {ops} inter 100ms fall 2 rise 2\n")
    };
    let keys = format!(
        "    option httpchk GET /readyz\n    http-check expect status 200\n    balance roundrobin\n{}{}",
        server("a", &first),
        server("b", &second)
    );
    let haproxy = Haproxy::start("http", &keys).await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients = (0..8).map(|n| {
        let (stop, sent, address) = (Arc::clone(&stop), Arc::clone(&sent), haproxy.address());
        tokio::spawn(post_until(stop, sent, address, n))
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.signal(rustix::process::Signal::TERM);
    assert_eq!(first.exit_code().await, 0);
    let before = sent.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("every request is answered");
    }
    let after = sent.load(Ordering::Relaxed);
    assert!(before > 100 && after > before + 100, "{before} then {after} requests");
}

/// POSTs again and again, each with a connection to haproxy of its own, and counts the answers.
async fn post_until(stop: Arc<AtomicBool>, sent: Arc<AtomicU64>, address: SocketAddr, n: usize) {
    while !stop.load(Ordering::Relaxed) {
        let body = format!("client {n}, request {}", sent.load(Ordering::Relaxed));
        let reply = http::post(address, "/echo", body.as_bytes()).await;
        assert_eq!((reply.status, reply.text()), (200, body.as_str()));
        sent.fetch_add(1, Ordering::Relaxed);
    }
}
