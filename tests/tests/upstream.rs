//! Upstreams against two nginx that are not ours: connection limits that are exact, every wait
//! bounded and seen, and targets that are slow, dead and back again.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use weir_tests::rows::Client as _;
use weir_tests::{Gateway, LinePeer, Nginx, http, kernel, wait};

/// A gateway whose listeners ask `path` of these targets; `keys` are more of the upstream's.
async fn gateway(path: &str, targets: &[SocketAddr], keys: &str) -> Gateway {
    let targets = targets.iter().map(|target| format!("\"http://{target}\"")).collect::<Vec<_>>();
    Gateway::start()
        .limits("in_flight_max = 256")
        .asking(path, &format!("targets = [{}]\n{keys}", targets.join(", ")))
        .await
}

const POOL: [(&str, &str); 1] = [("pool", "backend")];

fn refused(reason: &str) -> [(&str, &str); 2] {
    [("pool", "backend"), ("reason", reason)]
}

#[tokio::test]
async fn there_are_never_more_connections_than_configured() {
    let (left, right) = (Nginx::start().await, Nginx::start().await);
    let keys = "connections_per_target_max = 3\nconnections_max = 5\nwait_timeout = \"10s\"";
    let gateway = gateway("/slow", &[left.address(), right.address()], keys).await;
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut client = LinePeer::join(&gateway).await;
        let packet = (0..5).flat_map(|m| LinePeer::encode(&format!("{n} {m}"))).collect::<Vec<_>>();
        client.peer.send(&packet).await;
        clients.push(client);
    }
    let ports = [left.address().port(), right.address().port()];
    let sample = async {
        let mut most = 0;
        loop {
            most = most.max(ports.map(kernel::established).iter().sum());
            assert!(most <= 5, "the kernel sees {most} connections");
            sleep(Duration::from_millis(2)).await;
        }
    };
    let answers = async {
        for (n, client) in clients.iter_mut().enumerate() {
            for m in 0..5 {
                assert_eq!(client.hear().await, format!("{n} {m}"));
            }
        }
    };
    tokio::select! {
        () = answers => {}
        () = sample => {}
    }
    let most = |nginx: &Nginx| nginx.log().iter().map(|line| line.connections).max().unwrap_or(0);
    assert!(most(&left) <= 3 && most(&right) <= 3, "{} and {}", most(&left), most(&right));
    assert!(most(&left) + most(&right) >= 5, "the room that there is was not used");
    assert_eq!(left.log().len() + right.log().len(), 100);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_refused_and_seen() {
    let nginx = Nginx::start().await;
    let keys = "connections_max = 1\nwait_timeout = \"200ms\"";
    let gateway = gateway("/second", &[nginx.address()], keys).await;
    let mut first = LinePeer::join(&gateway).await;
    let mut second = LinePeer::join(&gateway).await;
    first.say("first").await;
    gateway.wait_for("a busy connection", |metrics| busy(metrics) == 1).await;
    second.say("second").await;
    gateway.wait_for("a wait", |metrics| metrics.count("weir_pool_waiting", &POOL) == 1).await;
    assert!(second.hear().await.starts_with("error: upstream overloaded"));
    assert_eq!(first.hear().await, "first");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_pool_refused_total", &refused("wait_timeout")), 1);
    assert_eq!(metrics.count("weir_pool_acquire_seconds_count", &POOL), 2);
    let waited = metrics.value("weir_pool_acquire_seconds_sum", &POOL);
    assert!((0.2..0.5).contains(&waited), "the waits took {waited} s");
}

fn busy(metrics: &weir_tests::Metrics) -> u64 {
    metrics.count("weir_pool_connections", &[("pool", "backend"), ("state", "busy")])
}

#[tokio::test]
async fn the_wait_queue_is_bounded() {
    let nginx = Nginx::start().await;
    let keys = "connections_max = 1\nqueue_max = 2\nwait_timeout = \"10s\"";
    let gateway = gateway("/second", &[nginx.address()], keys).await;
    let mut clients = Vec::new();
    for n in 0..4 {
        let mut client = LinePeer::join(&gateway).await;
        client.say(&format!("{n}")).await;
        clients.push(client);
        gateway
            .wait_for("the call", |metrics| {
                let waiting = metrics.count("weir_pool_waiting", &POOL);
                let refused = metrics.count("weir_pool_refused_total", &refused("queue_full"));
                busy(metrics) + waiting + refused > n
            })
            .await;
    }
    assert!(clients[3].hear().await.starts_with("error: upstream overloaded"));
    for (n, client) in clients[..3].iter_mut().enumerate() {
        assert_eq!(client.hear().await, format!("{n}"));
    }
}

#[tokio::test]
async fn a_slow_target_is_cut_at_the_request_timeout() {
    let nginx = Nginx::start().await;
    let gateway = gateway("/never", &[nginx.address()], "request_timeout = \"500ms\"").await;
    let asked = Instant::now();
    let mut client = LinePeer::join(&gateway).await;
    client.say("hello").await;
    assert!(client.hear().await.starts_with("error: upstream timed out"));
    assert!(asked.elapsed() < Duration::from_secs(2), "it took {:?}", asked.elapsed());
    let reply = http::post(gateway.address("http"), "/echo", b"hello").await;
    assert_eq!(reply.status, 504);
    let labels = [("pool", "backend"), ("status", "error")];
    let name = "weir_upstream_request_seconds_count";
    assert_eq!(gateway.metrics().await.count(name, &labels), 2);
}

#[tokio::test]
async fn a_target_that_accepts_and_says_nothing_is_cut_too() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("a bound socket");
    let gateway = gateway("/echo", &[address], "request_timeout = \"500ms\"").await;
    let mut client = LinePeer::join(&gateway).await;
    client.say("hello").await;
    assert!(client.hear().await.starts_with("error: upstream timed out"));
}

#[tokio::test]
async fn a_response_over_its_cap_is_refused_with_the_limit() {
    let nginx = Nginx::start().await;
    let gateway = gateway("/big", &[nginx.address()], "response_bytes_max = \"1MiB\"").await;
    let mut client = LinePeer::join(&gateway).await;
    client.say("hello").await;
    let said = client.hear().await;
    assert!(
        said.starts_with("error: upstream response over upstream.response_bytes_max"),
        "{said}"
    );
    assert_eq!(http::post(gateway.address("http"), "/echo", b"hello").await.status, 502);
}

#[tokio::test]
async fn a_dead_target_beside_a_live_one_costs_no_answer() {
    let (live, dead) = (Nginx::start().await, Nginx::start().await);
    let addresses = [live.address(), dead.address()];
    let keys = "breaker_failures = 3\nbreaker_open = \"30s\"";
    let gateway = gateway("/echo", &addresses, keys).await;
    let mut client = LinePeer::join(&gateway).await;
    client.echo("both are there").await;
    dead.stop().await;
    for n in 0..50 {
        client.echo(&format!("one is left {n}")).await;
    }
    assert_eq!(live.log().len(), 51);
}

#[tokio::test]
async fn a_breaker_opens_refuses_at_once_and_closes_when_the_target_is_back() {
    let nginx = Nginx::start().await;
    let keys = "breaker_failures = 3\nbreaker_open = \"2s\"";
    let gateway = gateway("/echo", &[nginx.address()], keys).await;
    let mut client = LinePeer::join(&gateway).await;
    client.echo("before").await;
    let address = nginx.stop().await;
    for _ in 0..3 {
        client.say("into the void").await;
        assert!(client.hear().await.starts_with("error: upstream"));
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_breaker_open", &POOL), 1);
    let to = |state| [("pool", "backend"), ("to", state)];
    assert_eq!(metrics.count("weir_breaker_transitions_total", &to("open")), 1);

    let nginx = Nginx::start_on(address).await;
    client.say("too early").await;
    assert!(client.hear().await.starts_with("error: upstream unavailable"));
    assert!(nginx.log().is_empty(), "an open breaker lets nothing through");
    wait::eventually("the breaker to close", async || {
        client.say("back?").await;
        (client.hear().await == "back?").then_some(())
    })
    .await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_breaker_open", &POOL), 0);
    assert_eq!(metrics.count("weir_breaker_transitions_total", &to("half_open")), 1);
    assert_eq!(metrics.count("weir_breaker_transitions_total", &to("closed")), 1);
}

#[tokio::test]
async fn connections_are_kept_and_reused() {
    let nginx = Nginx::start().await;
    let gateway = gateway("/echo", &[nginx.address()], "").await;
    let mut client = LinePeer::join(&gateway).await;
    for n in 0..200 {
        client.echo(&format!("{n}")).await;
    }
    assert_eq!(nginx.log().iter().map(|line| line.connections).max(), Some(1));
}

#[tokio::test]
async fn a_request_arrives_with_its_id_method_path_and_content_type() {
    let nginx = Nginx::start().await;
    let gateway = gateway("/echo", &[nginx.address()], "").await;
    let mut client = LinePeer::join(&gateway).await;
    client.echo("one").await;
    client.echo("two").await;
    let headers = "x-request-id: order-17\r\n";
    http::request(gateway.address("http"), "POST /echo", headers, b"three").await;
    let log = nginx.log();
    assert!(log[0].request_id.ends_with("-1") && log[1].request_id.ends_with("-2"), "{log:?}");
    assert_eq!(log[2].request_id, "order-17");
    assert!(log.iter().all(|line| line.request == "POST /echo text/plain"), "{log:?}");
}

#[tokio::test]
async fn a_name_is_resolved_and_a_name_that_is_not_known_is_told() {
    let nginx = Nginx::start().await;
    let port = nginx.address().port();
    let named = |host: &str| format!("targets = [\"http://{host}:{port}\"]");
    let known = Gateway::start().asking("/echo", &named("localhost")).await;
    LinePeer::join(&known).await.echo("by name").await;
    let unknown = Gateway::start().asking("/echo", &named("nowhere.invalid")).await;
    let mut client = LinePeer::join(&unknown).await;
    client.say("hello").await;
    assert!(client.hear().await.starts_with("error: upstream unavailable"));
}

#[tokio::test]
async fn a_peer_that_leaves_takes_its_call_with_it() {
    let nginx = Nginx::start().await;
    let gateway = gateway("/never", &[nginx.address()], "request_timeout = \"60s\"").await;
    let mut client = LinePeer::join(&gateway).await;
    client.say("hello").await;
    gateway.wait_for("a busy connection", |metrics| busy(metrics) == 1).await;
    client.into_peer().reset();
    gateway.wait_for("no busy connection", |metrics| busy(metrics) == 0).await;
    let labels = [("pool", "backend"), ("status", "cancelled")];
    let name = "weir_upstream_request_seconds_count";
    assert_eq!(gateway.metrics().await.count(name, &labels), 1);
}
