//! Reading the configuration again: what changes holds at once, for open connections where that is
//! safe; a fault changes nothing; and nobody on an open connection notices either.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use weir_tests::http::{self, HttpPeer};
use weir_tests::pki::Pki;
use weir_tests::rows::Client as _;
use weir_tests::tls::TlsClient;
use weir_tests::traffic::Traffic;
use weir_tests::{Gateway, LinePeer, Peer, Upstream, WebSocket, kernel, wait};

/// Says something, and hears just this.
async fn answers(client: &mut LinePeer, message: &str, answer: &str) {
    client.say(message).await;
    assert_eq!(client.hear().await, answer);
}

/// Adds a section in front of the file.
fn with(section: &'static str, keys: &'static str) -> impl FnOnce(String) -> String {
    move |text| format!("[{section}]\n{keys}\n{text}")
}

fn with_limits(keys: &'static str) -> impl FnOnce(String) -> String {
    with("limits", keys)
}

#[tokio::test]
async fn a_route_that_changed_is_for_new_connections_and_the_next_request() {
    let gateway = Gateway::start().await;
    let traffic = Traffic::start(&gateway).await;
    let mut kept = HttpPeer::connect(gateway.address("http")).await;
    kept.request("POST /echo", "", b"one").await;
    assert_eq!(kept.reply().await.text(), "one");

    let told = gateway
        .reload(|text| text.replace("exit = \"exit\"", "exit = \"bye\"\nreply = \"new {message}\""))
        .await;
    assert_eq!(told["changed"], serde_json::json!(["routes.main.exit", "routes.main.reply"]));
    assert_eq!(
        (&told["status"], &told["needs_restart"]),
        (&"reloaded".into(), &serde_json::json!([]))
    );

    answers(&mut LinePeer::join(&gateway).await, "hello", "new hello").await;
    kept.request("POST /echo", "", b"two").await;
    assert_eq!(kept.reply().await.text(), "new two", "the same HTTP connection, its next request");
    assert!(traffic.end().await > 0, "the open connection kept its session");
}

#[tokio::test]
async fn an_upstream_that_moved_is_asked_by_open_connections_too() {
    let (old, new) = (Upstream::start(Duration::ZERO).await, Upstream::start(Duration::ZERO).await);
    let gateway = Gateway::start().answered_by(old.address(), "").await;
    let mut client = LinePeer::join(&gateway).await;
    answers(&mut client, "1", "answer: 1").await;
    let (from, to) = (old.address().to_string(), new.address().to_string());
    gateway.reload(|text| text.replace(&from, &to)).await;
    answers(&mut client, "2", "answer: 2").await;
    assert_eq!((old.received().len(), new.received().len()), (1, 1));
    // The old pool's connection is gone from the figures when it is closed.
    let idle = [("pool", "backend"), ("state", "idle")];
    gateway.wait_for("one idle", |m| m.count("weir_pool_connections", &idle) == 1).await;
}

#[tokio::test]
async fn calls_that_run_during_a_reload_are_answered() {
    let (old, new) =
        (Upstream::start(Duration::from_millis(700)).await, Upstream::start(Duration::ZERO).await);
    let gateway = Gateway::start().answered_by(old.address(), "").await;
    let mut client = LinePeer::join(&gateway).await;
    client.say("slow").await;
    wait::eventually("the call to run", async || {
        let busy = [("pool", "backend"), ("state", "busy")];
        (gateway.metrics().await.count("weir_pool_connections", &busy) == 1).then_some(())
    })
    .await;
    let (from, to) = (old.address().to_string(), new.address().to_string());
    gateway.reload(|text| text.replace(&from, &to)).await;
    client.say("fast").await;
    assert_eq!(client.hear().await, "answer: slow");
    assert_eq!(client.hear().await, "answer: fast");
}

#[tokio::test]
async fn limits_of_connections_hold_for_the_next_one() {
    let gateway = Gateway::start().await;
    let traffic = Traffic::start(&gateway).await;
    let mut second = LinePeer::join(&gateway).await;
    let rows: [(&'static str, &str); 3] = [
        ("connections_max = 2", "limits.connections_max"),
        ("connections_per_address_max = 1", "limits.connections_per_address_max"),
        ("connections_per_second_max = 1", "limits.connections_per_second_max"),
    ];
    for (keys, limit) in rows {
        let original = Arc::new(std::sync::Mutex::new(String::new()));
        let kept = Arc::clone(&original);
        gateway
            .reload(move |text| {
                kept.lock().expect("no panic").clone_from(&text);
                with_limits(keys)(text)
            })
            .await;
        // Who came while there was no such limit is not counted for it, so the first is let in.
        let mut admitted = Vec::new();
        let refused = wait::eventually(limit, async || {
            let mut next = LinePeer::connect(gateway.address("lines")).await;
            next.say("x").await;
            let line = next.try_hear().await;
            admitted.push(next);
            line.filter(|line| line.contains("refused"))
        })
        .await;
        assert!(refused.contains(limit), "{refused}");
        second.echo("an open connection does not notice").await;
        let original = original.lock().expect("no panic").clone();
        gateway.reload(move |_| original).await;
    }
    assert!(traffic.end().await > 0);
}

#[tokio::test]
async fn limits_of_messages_hold_for_new_connections_and_rates_for_open_ones() {
    let gateway = Gateway::start().await;
    let mut open = LinePeer::join(&gateway).await;
    gateway.reload(with_limits("message_bytes_max = 10\nmessages_per_second_max = 5")).await;
    open.echo("this line is longer than ten bytes").await;
    let mut new = LinePeer::join(&gateway).await;
    new.say("this line is longer than ten bytes").await;
    assert_eq!(new.hear().await, "error: message over limits.message_bytes_max = 10 bytes");
    let begun = tokio::time::Instant::now();
    for n in 0..12 {
        open.echo(&n.to_string()).await;
    }
    assert!(begun.elapsed() > Duration::from_millis(900), "five a second: {:?}", begun.elapsed());
}

#[tokio::test]
async fn timeouts_hold_for_open_connections() {
    let gateway = Gateway::start().await;
    let mut quiet = LinePeer::join(&gateway).await;
    let mut socket = WebSocket::join(&gateway).await;
    gateway.reload(with("timeouts", "ping_interval = \"1s\"\npong = \"5s\"\nidle = \"7s\"")).await;
    let ping = socket.next_frame().await;
    assert_eq!(ping.opcode, 9, "{ping:?}");
    let told = gateway
        .reload(|text| {
            text.replace(
                "ping_interval = \"1s\"\npong = \"5s\"\nidle = \"7s\"",
                "ping_interval = \"off\"\nidle = \"1s\"",
            )
        })
        .await;
    assert_eq!(
        told["changed"],
        serde_json::json!(["timeouts.idle", "timeouts.ping_interval", "timeouts.pong"])
    );
    assert_eq!(quiet.hear().await, "error: idle timeout");
    gateway.wait_for_closed("lines", "idle_timeout", 1).await;
}

#[tokio::test]
async fn waits_for_a_slow_or_dead_peer_hold_for_open_connections() {
    let gateway = Gateway::start().timeouts("ping_interval = \"off\"\nidle = \"off\"").await;
    let mut slow = LinePeer::join(&gateway).await;
    let mut dead = WebSocket::join(&gateway).await;
    dead.echo("alive").await;
    slow.peer.send(b"half a li").await;
    gateway
        .reload(|text| {
            text.replace(
                "ping_interval = \"off\"\nidle = \"off\"",
                "ping_interval = \"1s\"\npong = \"1s\"\nread = \"1s\"\nidle = \"60s\"",
            )
        })
        .await;
    assert_eq!(slow.hear().await, "error: read timeout");
    // Nobody reads its frames, so that nobody answers a ping.
    gateway.wait_for_closed("http", "pong_timeout", 1).await;
}

#[tokio::test]
async fn limits_of_heads_and_the_waits_for_them_hold_for_new_connections() {
    let gateway = Gateway::start().await;
    let big = format!("x-big: {}\r\n", "x".repeat(10_000));
    let asked = async |headers: &str| {
        http::request(gateway.address("http"), "POST /echo", headers, b"x").await.status
    };
    assert_eq!(asked(&big).await, 200);
    gateway.reload(with("timeouts", "handshake = \"1s\"\nheader = \"500ms\"\n[limits]\nheader_bytes_max = \"8KiB\"\nheaders_max = 5")).await;
    assert_eq!(asked(&big).await, 431);
    assert_eq!(asked(&"a: b\r\n".repeat(6)).await, 431);
    assert_eq!(asked("").await, 200);
    let mut silent = HttpPeer::connect(gateway.address("http")).await;
    assert!(silent.try_reply().await.is_none());
    gateway.wait_for_closed("http", "handshake_timeout", 1).await;
    let mut dripping = HttpPeer::connect(gateway.address("http")).await;
    dripping.send("POST /echo HTTP/1.1\r\nHost").await;
    assert_eq!(dripping.reply().await.status, 408);
}

#[tokio::test]
async fn what_an_upstream_may_take_holds_for_the_next_call_of_an_open_connection() {
    let upstream = Upstream::start(Duration::from_millis(1500)).await;
    let gateway = Gateway::start().answered_by(upstream.address(), "queue_max = 9\n").await;
    let mut client = LinePeer::join(&gateway).await;
    answers(&mut client, "1", "answer: 1").await;
    gateway.reload(|text| text.replace("queue_max = 9\n", "request_timeout = \"200ms\"\n")).await;
    client.say("2").await;
    assert!(client.hear().await.starts_with("error: upstream timed out"));
    gateway
        .reload(|text| text.replace("request_timeout = \"200ms\"\n", "response_bytes_max = 4\n"))
        .await;
    client.say("3").await;
    let told = client.hear().await;
    assert!(told.contains("response_bytes_max"), "{told}");
}

#[tokio::test]
async fn thresholds_of_overload_hold_at_once_and_are_taken_back() {
    let gateway = Gateway::start().await;
    let mut client = LinePeer::join(&gateway).await;
    let ready = async || gateway.ops("/readyz").await.status;
    gateway.reload(with("overload", "memory_max = \"1MiB\"")).await;
    wait::eventually("overload", async || (ready().await == 503).then_some(())).await;
    client.echo("an open connection is served").await;
    gateway.reload(|text| text.replace("memory_max = \"1MiB\"", "memory_max = \"off\"")).await;
    wait::eventually("no overload", async || (ready().await == 200).then_some(())).await;
    let keys = gateway.ops("/config").await.json();
    assert_eq!(keys["overload"]["memory_max"], "off");
}

#[tokio::test]
async fn the_log_filter_changes_and_one_for_a_while_reverts_to_the_new_one() {
    let gateway = Gateway::start().await;
    let ops = gateway.address("ops");
    let set =
        |text: String| text.replace("format = \"json\"", "format = \"json\"\nfilter = \"warn\"");
    gateway.reload(set).await;
    assert_eq!(gateway.ops("/log").await.json()["filter"], "warn");
    http::request(ops, "PUT /log?ttl=1s", "", b"debug").await;
    gateway.reload(|text| text.replace("\"warn\"", "\"error\"")).await;
    assert_eq!(gateway.ops("/log").await.json()["filter"], "debug", "not before its time is over");
    wait::eventually("the filter to revert", async || {
        (gateway.ops("/log").await.json()["filter"] == "error").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_fault_leaves_everything_as_it_was() {
    let gateway = Gateway::start().await;
    let traffic = Traffic::start(&gateway).await;
    let shown = gateway.ops("/config").await.json();
    let hash = gateway.metrics().await.value("weir_config_hash", &[]);
    type Change = fn(String) -> String;
    let faults: [(Change, &str); 5] = [
        (|text| text.replace("kind = \"echo\"", "kind = \"ecco\""), "ecco"),
        (|text| text.replace("route = \"main\"", "route = \"mian\""), "did you mean \"main\"?"),
        (|text| text + "\n[[routes]]\nname = \"main\"\nkind = \"discard\"", "already the name"),
        (|text| "[limits]\nmessage_bytes_max = \"2MiB\"\n".to_owned() + &text, "outbox_bytes_max"),
        (|text| text + "\n[[[", "TOML"),
    ];
    for (refused, (change, why)) in (1..).zip(faults) {
        let original = Arc::new(std::sync::Mutex::new(String::new()));
        let kept = Arc::clone(&original);
        gateway.rewrite(move |text| {
            kept.lock().expect("no panic").clone_from(&text);
            change(text)
        });
        let reply = gateway.post_reload().await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        let told = reply.json()["faults"].to_string().replace('\\', "");
        assert!(told.contains(why) || why == "TOML", "{why}: {told}");
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.count("weir_reloads_total", &[("result", "refused")]), refused);
        assert_eq!(metrics.value("weir_config_hash", &[]), hash);
        assert_eq!(gateway.ops("/config").await.json(), shown);
        let original = original.lock().expect("no panic").clone();
        gateway.rewrite(move |_| original);
    }
    assert!(traffic.end().await > 0);
}

#[tokio::test]
async fn whom_to_believe_about_an_address_changes_for_the_next_connection() {
    let gateway = Gateway::start()
        .section("network", "trusted_proxies = [\"127.0.0.9\"]")
        .listener("lines", "proxy_protocol = \"on\"")
        .await;
    let traffic = Traffic::start(&gateway).await;
    let proxied = async |proxy: [u8; 4]| {
        let peer = Peer::connect_from(proxy.into(), gateway.address("lines")).await;
        let mut peer = LinePeer { peer };
        peer.peer.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 7001\r\n").await;
        peer
    };
    let mut before = proxied([127, 0, 0, 9]).await;
    answers(&mut before, "one", "one").await;

    let told = gateway.reload(|text| text.replace("127.0.0.9", "127.0.0.8")).await;
    assert_eq!(told["changed"], serde_json::json!(["network.trusted_proxies"]));
    answers(&mut before, "two", "two").await;
    answers(&mut proxied([127, 0, 0, 8]).await, "believed", "believed").await;
    proxied([127, 0, 0, 9]).await.peer.expect_end().await;
    gateway.wait_for_closed("lines", "protocol_error", 1).await;
    assert!(traffic.end().await > 0);
}

#[tokio::test]
async fn the_pace_of_tls_handshakes_changes_for_the_next() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start().listener("frames", &tls).limits("tls_handshakes_max = 8").await;
    let traffic = Traffic::start(&gateway).await;
    let client = TlsClient::trusting(&pki);
    let address = gateway.address("frames");
    let told = gateway
        .reload(|text| text.replace("tls_handshakes_max = 8", "tls_handshakes_per_second_max = 2"))
        .await;
    let keys = ["limits.tls_handshakes_max", "limits.tls_handshakes_per_second_max"];
    assert_eq!(told["changed"], serde_json::json!(keys));
    let begun = Instant::now();
    for _ in 0..5 {
        client.connect(address, "weir.example").await.expect("TLS");
    }
    // Two at once, then one each half second.
    assert!(begun.elapsed() > Duration::from_millis(1400), "{:?}", begun.elapsed());
    assert!(traffic.end().await > 0);
}

#[tokio::test]
async fn sighup_reloads_and_what_needs_a_restart_is_told_and_not_done() {
    let gateway = Gateway::start().await;
    let address = gateway.address("lines");
    gateway.rewrite(|text| {
        text.replace("exit = \"exit\"", "exit = \"exit\"\nreply = \"new {message}\"")
            .replacen(
                "address = \"127.0.0.1:0\"",
                "address = \"127.0.0.1:0\"\ntoken = \"a-secret-of-sixteen\"",
                1,
            )
            .replace("wire = \"lines\"", "wire = \"lines\"\nbacklog = 16")
    });
    gateway.signal(Signal::HUP);
    let line = gateway.logged("the reload", |line| line["msg"] == "configuration reloaded").await;
    assert_eq!(line["changed"], "routes.main.reply");
    assert_eq!(line["needs_restart"], "listeners.lines.backlog ops.token");
    answers(&mut LinePeer::connect(address).await, "x", "new x").await;
    assert_eq!(gateway.ops("/connections").await.status, 200, "the side port still needs no token");
    let again = gateway.post_reload().await.json();
    assert_eq!(again["status"], "reloaded", "what needs a restart is told each time: {again}");
    assert_eq!(again["changed"], serde_json::json!([]));
}

#[tokio::test]
async fn two_hundred_reloads_lose_no_message_and_leak_nothing() {
    let upstream = Upstream::start(Duration::ZERO).await;
    let extra = format!(
        "[[routes]]\nname = \"ask\"\nkind = \"upstream\"\nupstream = \"spare\"\n\
         [[upstreams]]\nname = \"spare\"\ntargets = [\"http://{}\"]\nqueue_max = 1\n",
        upstream.address()
    );
    let gateway = Gateway::start().tables(&extra).await;
    let traffic = Traffic::start(&gateway).await;
    let mut after_warm_up = None;
    for n in 1..=200_usize {
        let (before, now) = (format!("queue_max = {n}\n"), format!("queue_max = {}\n", n + 1));
        gateway.reload(|text| text.replace(&before, &now)).await;
        if n == 50 {
            after_warm_up = Some(figures(&gateway).await);
        }
    }
    let (files, series, tasks, resident) = after_warm_up.expect("fifty were made");
    wait::eventually("files and tasks to be as before", async || {
        let now = figures(&gateway).await;
        (now.0 <= files && now.2 <= tasks).then_some(())
    })
    .await;
    let now = figures(&gateway).await;
    assert_eq!(now.1, series, "series on the metrics page");
    let grown = now.3.saturating_sub(resident);
    assert!(grown < 3 << 20, "resident memory grew by {grown} bytes in 150 reloads");
    assert!(traffic.end().await > 200);
    let reloaded = [("result", "reloaded")];
    assert_eq!(gateway.metrics().await.count("weir_reloads_total", &reloaded), 200);
}

/// Open files, series, tasks, resident bytes.
async fn figures(gateway: &Gateway) -> (usize, usize, u64, u64) {
    let metrics = gateway.metrics().await;
    let tasks = metrics.count("weir_service_tasks", &[]);
    let pid = gateway.pid();
    (kernel::open_files(pid), metrics.series(), tasks, kernel::resident_bytes(pid))
}

#[tokio::test]
async fn a_listener_stays_where_it_is() {
    let gateway = Gateway::start().await;
    let before: SocketAddr = gateway.address("frames");
    let told =
        gateway.reload(|text| text.replace("prefix = \"u32be\"", "prefix = \"u16be\"")).await;
    assert_eq!(told["needs_restart"], serde_json::json!(["listeners.frames.prefix"]));
    weir_tests::FramePeer::connect(before).await.echo("four bytes in front, as before").await;
}
