//! Behind Debian's nginx, which ends TLS, with the samples of `deploy/nginx` as they are: only ports,
//! addresses and paths are the test's own, and where a test says so, times.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use weir_tests::http::HttpPeer;
use weir_tests::pki::Pki;
use weir_tests::tls::TlsClient;
use weir_tests::tools::read;
use weir_tests::websocket::opcode;
use weir_tests::{Gateway, Nginx, Peer, WebSocket};

const ALICE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
const BOB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 78));
const NAME: &str = "weir.example";

/// Two weirs, the nginx before them, and who trusts its certificate.
struct Site {
    weirs: [Gateway; 2],
    nginx: Nginx,
    client: TlsClient,
    /// Holds the certificate's files.
    _pki: Pki,
}

impl Site {
    /// `sections` are more of each `weir.toml`; `times` changes nginx's sample.
    async fn start(sections: &str, times: impl FnOnce(String) -> String) -> Self {
        let pki = Pki::new();
        let identity = pki.issue("weir", &[NAME]);
        let weirs = [weir(sections).await, weir(sections).await];
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("a bound socket");
        drop(free);
        let mut sample = times(read("deploy/nginx/weir.conf"));
        for (there, here) in [
            ("10.0.0.11:8080", weirs[0].address("http").to_string()),
            ("10.0.0.12:8080", weirs[1].address("http").to_string()),
            ("listen 443 ssl", format!("listen {address} ssl")),
            ("/etc/nginx/tls/weir.crt", identity.certificate.display().to_string()),
            ("/etc/nginx/tls/weir.key", identity.key.display().to_string()),
        ] {
            sample = replaced(&sample, there, &here);
        }
        let nginx = Nginx::before(address, &sample).await;
        Self { weirs, nginx, client: TlsClient::trusting(&pki), _pki: pki }
    }

    /// A connection with TLS, from this address.
    async fn connect(&self, from: IpAddr) -> HttpPeer {
        connect(&self.client, from, self.nginx.address()).await
    }

    /// Upgrades with these further header fields; the error is the status of the refusal.
    async fn upgrade(&self, from: IpAddr, headers: &str) -> Result<WebSocket, u16> {
        let http = self.connect(from).await;
        WebSocket::upgrade(http, "/ws", headers).await.map_err(|reply| reply.status)
    }

    /// The addresses of the peers that both weirs show as those of WebSockets.
    async fn shown(&self) -> Vec<String> {
        let mut peers = Vec::new();
        for weir in &self.weirs {
            let page = weir.ops("/connections").await.json();
            let rows = page["connections"].as_array().expect("a list");
            // nginx keeps connections for requests, which have a route each and none of their own.
            let rows = rows.iter().filter(|row| row["route"] == "echo");
            peers.extend(rows.map(|row| row["peer"].as_str().expect("text").to_owned()));
        }
        peers.sort();
        peers
    }
}

async fn connect(client: &TlsClient, from: IpAddr, nginx: SocketAddr) -> HttpPeer {
    let peer = Peer::connect_from(from, nginx).await;
    HttpPeer::over(peer.over_tls(client, NAME).await.expect("nginx's TLS"), nginx)
}

/// The sample's weir, on free ports of this machine.
async fn weir(sections: &str) -> Gateway {
    let sample = read("deploy/nginx/weir.toml");
    let sample = replaced(&sample, "0.0.0.0:8080", "127.0.0.1:0");
    let sample = replaced(&sample, "10.0.0.10/32", "127.0.0.1/32");
    let own = "[ops]\naddress = \"127.0.0.1:0\"\n[logs]\nformat = \"json\"\n";
    let gateway = Gateway::run(&format!("{sample}\n{own}{sections}")).await;
    gateway.ready().await;
    gateway
}

#[track_caller]
fn replaced(text: &str, there: &str, here: &str) -> String {
    assert!(text.contains(there), "{there} is not in the sample");
    text.replace(there, here)
}

async fn echoes(socket: &mut WebSocket, text: &str) {
    socket.say(text).await;
    assert_eq!(socket.hear().await, text);
}

#[tokio::test]
async fn limits_logs_and_connections_name_who_is_before_nginx() {
    let site = Site::start("[limits]\nconnections_per_address_max = 1\n", |same| same).await;
    // What somebody claims of itself is replaced.
    let forged = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n";
    let mut alice = Vec::new();
    for _ in 0..2 {
        let mut socket = site.upgrade(ALICE, forged).await.expect("one on each of the two");
        echoes(&mut socket, "hello").await;
        alice.push(socket);
    }
    assert_eq!(site.upgrade(ALICE, forged).await.err(), Some(503), "one over her limit on both");
    let mut bob = site.upgrade(BOB, "").await.expect("his own limit");
    echoes(&mut bob, "hello").await;
    assert_eq!(site.shown().await, ["127.0.0.77:0", "127.0.0.77:0", "127.0.0.78:0"]);

    drop(alice);
    for weir in &site.weirs {
        let ended = weir.logged("the end of hers", |line| {
            line["msg"] == "connection closed" && line["peer"] == "127.0.0.77:0"
        });
        ended.await;
        assert!(!weir.log().join("\n").contains("6.6.6.6"), "a forged address in the log");
    }
    let again = site.upgrade(ALICE, "").await;
    assert!(again.is_ok(), "her places are free again: {:?}", again.err());
}

#[tokio::test]
async fn who_goes_round_nginx_is_not_believed() {
    let site = Site::start("", |same| same).await;
    let address = site.weirs[0].address("http");
    let http = HttpPeer::over(Peer::connect_from(BOB, address).await, address);
    let forged = "X-Forwarded-For: 127.0.0.77\r\nForwarded: for=127.0.0.77\r\n";
    let mut socket = WebSocket::upgrade(http, "/ws", forged).await.expect("an upgrade");
    let own = socket.peer.local().to_string();
    echoes(&mut socket, "hello").await;
    assert_eq!(site.shown().await, [own]);
}

/// Talks over WebSockets until `stop`: one that is told to go comes back. Gives how often it was.
async fn talk_until(stop: Arc<AtomicBool>, client: TlsClient, nginx: SocketAddr) -> usize {
    let mut told = 0;
    'come: loop {
        let http = connect(&client, BOB, nginx).await;
        let upgraded = WebSocket::upgrade(http, "/ws", "").await;
        let mut socket = upgraded.unwrap_or_else(|reply| panic!("no upgrade: {}", reply.status));
        while !stop.load(Ordering::Relaxed) {
            socket.say("still here").await;
            match socket.next_message().await {
                frame if frame.opcode == opcode::CLOSE => {
                    assert_eq!(frame.close().0, 1001, "going away");
                    told += 1;
                    continue 'come;
                }
                frame => assert_eq!(frame.payload, b"still here"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        return told;
    }
}

#[tokio::test]
async fn the_websockets_of_a_weir_that_drains_behind_nginx_are_told_and_come_back() {
    let stages = "[shutdown]\nunready = \"1s\"\ndrain = \"3s\"\nforce = \"1s\"\nflush = \"1s\"\n";
    let mut site = Site::start(stages, |same| same).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut talks = JoinSet::new();
    for _ in 0..8 {
        talks.spawn(talk_until(Arc::clone(&stop), site.client.clone(), site.nginx.address()));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    site.weirs[0].signal(rustix::process::Signal::TERM);
    assert_eq!(site.weirs[0].exit_code().await, 0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let told: usize = talks.join_all().await.into_iter().sum();
    assert!(told >= 2, "only {told} WebSockets were on the one that drained");
}

#[tokio::test]
async fn a_weir_that_drains_behind_nginx_loses_no_request() {
    let stages = "[shutdown]\nunready = \"1s\"\ndrain = \"3s\"\nforce = \"1s\"\nflush = \"1s\"\n";
    let mut site = Site::start(stages, |same| same).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut posts = JoinSet::new();
    for _ in 0..8 {
        posts.spawn(post_until(Arc::clone(&stop), site.client.clone(), site.nginx.address()));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    site.weirs[0].signal(rustix::process::Signal::TERM);
    assert_eq!(site.weirs[0].exit_code().await, 0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let answered: u64 = posts.join_all().await.into_iter().sum();
    assert!(answered > 100, "only {answered} requests");
}

/// POSTs again and again, on connections of 500 requests each: nginx ends those of 1,000. Says how
/// many answers came.
async fn post_until(stop: Arc<AtomicBool>, client: TlsClient, nginx: SocketAddr) -> u64 {
    let mut sent = 0;
    loop {
        let mut http = connect(&client, ALICE, nginx).await;
        for _ in 0..500 {
            if stop.load(Ordering::Relaxed) {
                return sent;
            }
            let body = format!("request {sent}");
            http.request("POST /messages", "", body.as_bytes()).await;
            let reply = http.reply().await;
            assert_eq!((reply.status, reply.text()), (200, body.as_str()));
            sent += 1;
        }
    }
}

/// nginx's timeouts for a silent weir, made this long.
fn read_timeout(sample: String, time: &str) -> String {
    replaced(&sample, "proxy_read_timeout 75s", &format!("proxy_read_timeout {time}"))
}

#[tokio::test]
async fn a_quiet_websocket_outlives_nginxs_timeout_because_weir_pings() {
    let site =
        Site::start("[timeouts]\nping_interval = \"1s\"\n", |sample| read_timeout(sample, "2s"));
    let site = site.await;
    let mut socket = site.upgrade(ALICE, "").await.expect("an upgrade");
    // Three of nginx's timeouts long: nothing but pings, which are answered.
    let until = tokio::time::Instant::now() + Duration::from_secs(6);
    let mut pings = 0;
    while tokio::time::Instant::now() < until {
        let frame = socket.next_frame().await;
        assert_eq!(frame.opcode, opcode::PING);
        socket.send_frame(true, opcode::PONG, &frame.payload).await;
        pings += 1;
    }
    assert!(pings >= 4, "{pings} pings");
    echoes(&mut socket, "still here").await;
}

#[tokio::test]
async fn a_websocket_that_is_pinged_too_rarely_is_cut_by_nginx_and_counted() {
    let site = Site::start("[timeouts]\nping_interval = \"20s\"\nidle = \"60s\"\n", |sample| {
        read_timeout(sample, "2s")
    });
    let site = site.await;
    let mut socket = site.upgrade(ALICE, "").await.expect("an upgrade");
    echoes(&mut socket, "hello").await;
    // No close frame: nginx knows nothing of WebSockets.
    socket.peer.expect_end().await;
    let closed = |gateway: &Gateway| {
        let line = gateway.log().into_iter().find(|line| line.contains("\"connection closed\""));
        line.map(|line| serde_json::from_str::<serde_json::Value>(&line).expect("JSON"))
    };
    let ended = weir_tests::wait::eventually("the end in a log", async || {
        site.weirs.iter().find_map(closed)
    });
    let ended = ended.await;
    assert_eq!((&ended["reason"], &ended["peer"]), (&"peer_closed".into(), &"127.0.0.77:0".into()));
}

#[tokio::test]
async fn the_samples_timeout_leaves_room_for_two_pings() {
    let sample = read("deploy/nginx/weir.conf");
    let timeout =
        sample.split("proxy_read_timeout ").nth(1).and_then(|rest| rest.split('s').next());
    let timeout: u64 = timeout.expect("the sample has one").parse().expect("seconds");
    let defaults = read("tests/golden/weir.toml");
    let ping = defaults.lines().find_map(|line| line.strip_prefix("ping_interval = \""));
    let ping: u64 = ping.and_then(|rest| rest.split('s').next()).expect("it").parse().expect("it");
    assert!(timeout > 2 * ping, "{timeout} s leave no room for two pings, {ping} s apart");
}
