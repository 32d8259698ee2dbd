//! How weir stops: the stages in their order, not one accepted request without its answer, closes
//! at a pace, stuck peers forced at the deadline, and always in time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep, timeout};
use weir_tests::rows::Client;
use weir_tests::{Gateway, LinePeer, Peer, Upstream, WebSocket, http, wait};

/// What became of a peer that talked until weir ended the connection.
struct Talk {
    said: u64,
    heard: u64,
    ended: Instant,
}

/// Says something every `pause` and hears the answer, until weir ends the connection.
async fn talk<C: Client>(mut client: C, pause: Duration) -> Talk {
    let (mut said, mut heard) = (0, 0);
    'open: loop {
        client.say(&format!("message {said}")).await;
        said += 1;
        match client.try_hear().await {
            None => break,
            Some(text) => assert!(text.ends_with(&format!("message {}", said - 1)), "{text}"),
        }
        heard += 1;
        match timeout(pause, client.try_hear()).await {
            Ok(None) => break 'open,
            Ok(Some(text)) => panic!("an answer to nothing: {text}"),
            Err(_) => {}
        }
    }
    Talk { said, heard, ended: Instant::now() }
}

/// Opens `count` connections and lets them talk, their beginnings spread over `pause`.
async fn crowd<C: Client + 'static>(
    gateway: &Gateway,
    count: u32,
    pause: Duration,
) -> Vec<JoinHandle<Talk>> {
    let mut talks = Vec::new();
    for n in 0..count {
        let client = C::join(gateway).await;
        talks.push(tokio::task::spawn_local(async move {
            sleep(pause * n / count).await;
            talk(client, pause).await
        }));
    }
    talks
}

async fn all(talks: Vec<JoinHandle<Talk>>) -> Vec<Talk> {
    let mut ends = Vec::new();
    for talk in talks {
        ends.push(talk.await.expect("a talk that does not panic"));
    }
    ends
}

/// Peers that ask and never read, until the kernel takes no more replies and weir no more
/// requests: what they are owed stays in the outbox.
async fn stuck(gateway: &Gateway, count: usize) -> Vec<Peer> {
    let packet = LinePeer::encode(&"x".repeat(60_000)).repeat(200);
    let mut peers = Vec::new();
    for _ in 0..count {
        let mut peer = Peer::connect_narrow(gateway.address("lines")).await;
        let sent = peer.send_until_stuck(&packet, Duration::from_millis(200)).await;
        assert!(sent < packet.len(), "a peer that never reads was not stuck");
        peers.push(peer);
    }
    peers
}

/// Asks `/readyz`, `/healthz` and `/metrics` until the side port is gone. The last is the
/// process' end: the side port closes last.
struct Watch {
    stages: Rc<std::cell::RefCell<Vec<String>>>,
    unready: Rc<Cell<Option<Instant>>>,
    task: JoinHandle<()>,
}

fn watch(gateway: &Gateway) -> Watch {
    let ops = gateway.address("ops");
    let stages = Rc::new(std::cell::RefCell::new(Vec::<String>::new()));
    let unready = Rc::new(Cell::new(None));
    let (seen, since) = (Rc::clone(&stages), Rc::clone(&unready));
    let task = tokio::task::spawn_local(async move {
        while tokio::net::TcpStream::connect(ops).await.is_ok() {
            let Some(ready) = try_get(ops, "/readyz").await else { return };
            if ready.status != 200 && since.get().is_none() {
                since.set(Some(Instant::now()));
            }
            let Some(health) = try_get(ops, "/healthz").await else { return };
            assert_eq!(health.status, 200, "/healthz: {}", health.text());
            let Some(page) = try_get(ops, "/metrics").await else { return };
            assert_eq!(page.status, 200, "/metrics: {}", page.text());
            let stage = stage_of(&weir_tests::Metrics::parse(page.text()));
            if seen.borrow().last() != Some(&stage) {
                seen.borrow_mut().push(stage);
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    Watch { stages, unready, task }
}

/// A GET that may find the process gone, which is no fault of the page's.
async fn try_get(address: std::net::SocketAddr, path: &str) -> Option<http::Reply> {
    drop(tokio::net::TcpStream::connect(address).await.ok()?);
    let mut peer = http::HttpPeer::connect(address).await;
    peer.request(&format!("GET {path}"), "Connection: close\r\n", b"").await;
    peer.try_reply().await
}

/// The one stage that the gauge says is on.
fn stage_of(metrics: &weir_tests::Metrics) -> String {
    let stages = metrics.label_values("weir_shutdown_stage", "stage");
    let on = |stage: &&String| metrics.count("weir_shutdown_stage", &[("stage", stage)]) == 1;
    let on = stages.iter().filter(on).cloned().collect::<Vec<_>>();
    assert_eq!(on.len(), 1, "one stage at a time: {on:?}");
    on.into_iter().next().expect("one stage")
}

/// The acceptance of the shutdown: everything at once.
#[tokio::test]
async fn a_busy_gateway_stops_without_losing_an_answer() {
    LocalSet::new().run_until(busy_gateway()).await;
}

async fn busy_gateway() {
    const DRAIN: Duration = Duration::from_secs(12);
    let upstream = Upstream::start(Duration::from_millis(1_500)).await;
    let orders = format!(
        r#"
[[listeners]]
name = "orders"
address = "127.0.0.1:0"
wire = "lines"
route = "orders"
[[routes]]
name = "orders"
kind = "upstream"
upstream = "backend"
method = "POST"
path = "/orders"
content_type = "text/plain"
[[upstreams]]
name = "backend"
targets = ["http://{}"]
connections_per_target_max = 100
connections_max = 100
"#,
        upstream.address()
    );
    let mut gateway = Gateway::start()
        .shutdown("unready = \"2s\"\ndrain = \"12s\"\nforce = \"2s\"\nflush = \"2s\"")
        .timeouts("write = \"60s\"\nping_interval = \"off\"")
        .tables(&orders)
        .await;

    let mut lines = crowd::<LinePeer>(&gateway, 1_000, Duration::from_secs(1)).await;
    lines.extend(crowd::<WebSocket>(&gateway, 1_000, Duration::from_secs(1)).await);
    let stuck = stuck(&gateway, 20).await;
    let mut ordering = Vec::new();
    for _ in 0..40 {
        ordering.push(LinePeer { peer: Peer::connect(gateway.address("orders")).await });
    }
    gateway.wait_for_open("lines", 1_020).await;
    gateway.wait_for_open("http", 1_000).await;
    gateway.wait_for_open("orders", 40).await;
    sleep(Duration::from_secs(1)).await;
    let watch = watch(&gateway);
    sleep(Duration::from_millis(100)).await;

    for client in &mut ordering {
        client.say("before the signal").await;
    }
    let signalled = Instant::now();
    gateway.signal(Signal::TERM);

    // Unready first, while everything still works, also for those who come now.
    wait::eventually("/readyz to be 503", async || watch.unready.get()).await;
    assert!(signalled.elapsed() < Duration::from_secs(1), "/readyz was late");
    LinePeer::join(&gateway).await.echo("a late one").await;
    let late = WebSocket::join(&gateway).await;
    for client in &mut ordering {
        client.say("after the signal").await;
    }
    for client in &mut ordering {
        assert_eq!(client.hear().await, "answer: before the signal");
        assert_eq!(client.hear().await, "answer: after the signal");
    }

    let talks = all(lines).await;
    let unanswered = talks.iter().filter(|talk| talk.said > talk.heard + 1).count();
    assert_eq!(unanswered, 0, "peers that were owed more than the last answer");
    assert_paced(&talks);
    drop(late);

    let code = gateway.exit_code().await;
    let took = signalled.elapsed();
    watch.task.await.expect("the side port answers until the end");
    assert!(took < DRAIN + Duration::from_secs(2 + 2 + 2 + 1), "the stop took {took:?}");
    assert_eq!(code, 1, "work was lost: 20 peers never took their answers");
    assert_stages(&watch.stages.borrow());
    assert_every_accepted_message_was_answered(&gateway);
    assert_forced(&gateway, 20);
    drop(stuck);
}

/// In no second are more than 1.5 times as many closed as on the average.
fn assert_paced(talks: &[Talk]) {
    let first = talks.iter().map(|talk| talk.ended).min().expect("talks");
    let last = talks.iter().map(|talk| talk.ended).max().expect("talks");
    let seconds = last.duration_since(first).as_secs_f64();
    let average = talks.len() as f64 / seconds;
    let mut closed = vec![0_u32; seconds as usize + 1];
    for talk in talks {
        closed[talk.ended.duration_since(first).as_secs() as usize] += 1;
    }
    let most = closed.iter().max().expect("at least one second");
    assert!(f64::from(*most) <= 1.5 * average, "closed by the second: {closed:?} of {average:.0}");
    assert!(seconds >= 3.0, "all were closed within {seconds:.1} s");
}

fn assert_stages(stages: &[String]) {
    let order = ["serving", "unready", "draining", "forcing", "flushing", "stopped"];
    let place = |stage: &String| order.iter().position(|known| known == stage);
    let places = stages.iter().map(|stage| place(stage).expect("a known stage"));
    assert!(places.clone().is_sorted(), "{stages:?}");
    assert!(places.clone().any(|place| place == 1) && places.into_iter().any(|p| p == 2));
}

/// The lines at the ends of the connections say what each read and what each sent.
fn assert_every_accepted_message_was_answered(gateway: &Gateway) {
    let log = gateway.log();
    let lines = log.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let ends = lines.filter(|line| line["msg"] == "connection closed").collect::<Vec<_>>();
    assert!(ends.len() >= 2_061, "{} ends in the log", ends.len());
    for end in ends.iter().filter(|end| end["reason"] == "drained") {
        assert_eq!(end["received"], end["sent"], "{end}");
    }
}

fn assert_forced(gateway: &Gateway, count: usize) {
    let log = gateway.log();
    let lines = log.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let forced = lines.filter(|line| line["reason"] == "forced").count();
    assert_eq!(forced, count, "forced connections in the log");
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once_and_exits_0() {
    let mut gateway = Gateway::start().await;
    let signalled = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit_code().await, 0);
    let took = signalled.elapsed();
    assert!(took < Duration::from_secs(1), "nothing to wait for took {took:?}");
}

#[tokio::test]
async fn an_interrupt_and_a_post_stop_as_a_termination_does() {
    let mut gateway = Gateway::start().await;
    gateway.signal(Signal::INT);
    assert_eq!(gateway.exit_code().await, 0);

    let mut gateway = Gateway::start().await;
    let reply = http::post(gateway.address("ops"), "/drain", b"").await;
    assert!((200..300).contains(&reply.status), "{reply:?}");
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn peers_are_told_in_their_own_form() {
    let gateway = Gateway::start().listener("lines", "farewell = \"bye\"").await;
    let mut line = LinePeer::join(&gateway).await;
    line.echo("hello").await;
    let mut socket = WebSocket::join(&gateway).await;
    socket.echo("hello").await;
    gateway.signal(Signal::TERM);
    assert_eq!(line.hear().await, "bye");
    line.peer.expect_end().await;
    assert_eq!(socket.expect_close().await.0, 1001);
}

#[tokio::test]
async fn a_drain_lets_a_request_finish_and_takes_no_new_connection() {
    let upstream = Upstream::start(Duration::from_millis(1_500)).await;
    let mut gateway = Gateway::start()
        .shutdown("unready = \"100ms\"\ndrain = \"10s\"")
        .answered_by(upstream.address(), "")
        .await;
    let mut client = LinePeer::join(&gateway).await;
    client.say("slow").await;
    wait::eventually("the call", async || (!upstream.received().is_empty()).then_some(())).await;
    gateway.signal(Signal::TERM);
    gateway.wait_for("draining", |metrics| stage_of(metrics) == "draining").await;
    let address = gateway.address("lines");
    wait::eventually("the listener to be closed", async || {
        tokio::net::TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    assert_eq!(client.hear().await, "answer: slow");
    client.peer.expect_end().await;
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn a_second_signal_forces_at_once() {
    let mut gateway = Gateway::start()
        .shutdown("unready = \"20s\"\ndrain = \"20s\"\nforce = \"2s\"")
        .timeouts("write = \"60s\"\nping_interval = \"off\"")
        .await;
    let _stuck = stuck(&gateway, 3).await;
    gateway.wait_for_open("lines", 3).await;
    sleep(Duration::from_millis(500)).await;
    let signalled = Instant::now();
    gateway.signal(Signal::TERM);
    gateway.wait_for("unready", |metrics| stage_of(metrics) == "unready").await;
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit_code().await, 1);
    let took = signalled.elapsed();
    assert!(took < Duration::from_secs(6), "a second signal took {took:?}");
    assert_forced(&gateway, 3);
}

#[tokio::test]
async fn a_third_signal_ends_the_process() {
    let upstream = Upstream::start(Duration::from_secs(60)).await;
    let mut gateway = Gateway::start()
        .shutdown("unready = \"20s\"\ndrain = \"20s\"\nforce = \"20s\"\nflush = \"20s\"")
        .answered_by(upstream.address(), "request_timeout = \"60s\"")
        .await;
    let mut client = LinePeer::join(&gateway).await;
    client.say("never answered").await;
    let signalled = Instant::now();
    for _ in 0..3 {
        // The process may be gone before the third.
        let gone = std::fs::metadata(format!("/proc/{}", gateway.pid())).is_err();
        if !gone {
            gateway.signal(Signal::TERM);
        }
        sleep(Duration::from_millis(200)).await;
    }
    assert_ne!(gateway.exit_code().await, 0);
    let took = signalled.elapsed();
    assert!(took < Duration::from_secs(3), "a third signal took {took:?}");
}

#[tokio::test]
async fn a_dead_upstream_and_one_worker_do_not_hold_the_stop() {
    // Accepts and never answers: the worst kind of dead.
    let upstream = Upstream::start(Duration::from_secs(600)).await;
    let mut gateway = Gateway::start()
        .section("runtime", "workers = 1")
        .shutdown("unready = \"100ms\"\ndrain = \"3s\"\nforce = \"1s\"\nflush = \"1s\"")
        .answered_by(upstream.address(), "request_timeout = \"300s\"")
        .await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = LinePeer::join(&gateway).await;
        client.say("never answered").await;
        clients.push(client);
    }
    wait::eventually("the calls", async || (!upstream.received().is_empty()).then_some(())).await;
    let signalled = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit_code().await, 1);
    let took = signalled.elapsed();
    assert!(took < Duration::from_millis(100 + 3_000 + 1_000 + 1_000 + 2_000), "{took:?}");
}

#[tokio::test]
async fn a_port_that_is_taken_fails_the_start_by_name() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("a bound socket");
    let table = format!(
        "[[listeners]]\nname = \"taken\"\naddress = \"{address}\"\nwire = \"lines\"\n\
         route = \"main\"\n"
    );
    let mut gateway = Gateway::start().tables(&table).without_waiting().await;
    assert_eq!(gateway.exit_code().await, 1);
    let log = gateway.log().join("\n");
    assert!(log.contains("taken") && log.contains(&address.to_string()), "{log}");
}
