//! Running out of memory, or of time: nobody new is let in, the largest outboxes go first, everybody
//! else is served, and it is over when they are gone.

use std::time::Duration;

use rustix::process::Signal;
use weir_tests::rows::Client as _;
use weir_tests::{Gateway, LinePeer, Peer, wait};

/// Clients that do not read, and what each of them asks for: together over the limit, with what the
/// kernel keeps in its own buffers (up to 4 MiB each) taken off.
const CLIENTS: usize = 28;
const ASKED_BYTES: usize = 24 << 20;

const REFUSED: [(&str, &str); 1] = [("action", "refused")];
const OUTBOXES: [(&str, &str); 1] = [("action", "closed_outbox")];
const IDLE: [(&str, &str); 1] = [("action", "closed_idle")];
const ACTIONS: &str = "weir_overload_actions_total";

#[tokio::test]
async fn clients_that_do_not_read_cost_themselves_and_nobody_else() {
    let gateway = Gateway::start()
        .limits("outbox_bytes_max = \"64MiB\"")
        .timeouts("write = \"5m\"\nidle = \"10m\"")
        .section("overload", "memory_max = \"256MiB\"")
        .await;
    let mut bystander = LinePeer::join(&gateway).await;
    bystander.echo("before").await;
    let mut keep_alive = weir_tests::http::HttpPeer::connect(gateway.address("http")).await;
    keep_alive.request("POST /echo", "", b"x").await;
    assert_eq!(keep_alive.reply().await.status, 200);

    let address = gateway.address("lines");
    let message = {
        let mut message = vec![b'x'; 32 * 1024];
        message.push(b'\n');
        let message: std::sync::Arc<[u8]> = message.repeat(ASKED_BYTES / message.len()).into();
        message
    };
    let floods: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let message = std::sync::Arc::clone(&message);
            tokio::spawn(async move {
                let mut peer = Peer::connect_narrow(address).await;
                peer.send_until_stuck(&message, Duration::from_secs(2)).await;
                peer
            })
        })
        .collect();

    let metrics =
        gateway.wait_for("outboxes to be closed", |m| m.count(ACTIONS, &OUTBOXES) > 0).await;
    assert!(metrics.value("weir_overload_level", &[]) >= 1.0);
    let ready = gateway.ops("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("overload"), "{}", ready.text());
    assert_eq!(gateway.ops("/healthz").await.status, 200);
    bystander.echo("during").await;
    assert!(keep_alive.try_reply().await.is_none(), "an idle connection is closed");
    let line = gateway.logged("the overload", |line| line["msg"] == "overload").await;
    assert_eq!(line["memory_max_bytes"], 256 << 20);
    let refused = wait::eventually("a refusal", async || {
        let mut next = LinePeer::connect(address).await;
        next.say("x").await;
        next.try_hear().await.filter(|line| line.contains("overloaded"))
    })
    .await;
    assert_eq!(refused, "error: refused: overloaded, try again later");

    let mut peers = Vec::new();
    for flood in floods {
        peers.push(flood.await.expect("a flood does not panic"));
    }
    let most = gateway.metrics().await.value("weir_memory_used_bytes", &[]);
    assert!(most < 1.5 * f64::from(256 << 20), "{most} bytes");
    drop(peers);
    wait::eventually("the overload to be over", async || {
        (gateway.ops("/readyz").await.status == 200).then_some(())
    })
    .await;
    LinePeer::join(&gateway).await.echo("after").await;
    bystander.echo("after").await;
    let metrics = gateway.metrics().await;
    assert!(metrics.count(ACTIONS, &REFUSED) > 0);
    assert!(metrics.count(ACTIONS, &IDLE) > 0);
    let closed = [("listener", "lines"), ("reason", "overload")];
    assert_eq!(
        metrics.count("weir_connections_closed_total", &closed),
        metrics.count(ACTIONS, &OUTBOXES)
    );
}

/// Stopped and let on by turns, as a cgroup does with a pod that has used up its share.
#[tokio::test]
async fn a_weir_that_is_given_no_time_lets_nobody_in_and_sheds_until_it_has_time_again() {
    let gateway = Gateway::start()
        .limits("outbox_bytes_max = \"16MiB\"")
        .timeouts("write = \"5m\"\nidle = \"10m\"")
        .section("overload", "lag_high = \"150ms\"\nlag_critical = \"250ms\"")
        .await;
    let mut bystander = LinePeer::join(&gateway).await;
    bystander.echo("before").await;
    let address = gateway.address("lines");
    let mut stuck = Peer::connect_narrow(address).await;
    let line = [b"x".repeat(32 * 1024), b"\n".to_vec()].concat();
    stuck.send_until_stuck(&line.repeat(128), Duration::from_secs(2)).await;

    let starve = async || {
        gateway.signal(Signal::STOP);
        tokio::time::sleep(Duration::from_millis(500)).await;
        gateway.signal(Signal::CONT);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let refused = wait::eventually("a refusal", async || {
        starve().await;
        let mut next = LinePeer::connect(address).await;
        next.say("x").await;
        next.try_hear().await.filter(|line| line.contains("overloaded"))
    })
    .await;
    assert_eq!(refused, "error: refused: overloaded, try again later");
    bystander.echo("during").await;
    wait::eventually("the outbox to be closed", async || {
        starve().await;
        (gateway.metrics().await.count(ACTIONS, &OUTBOXES) > 0).then_some(())
    })
    .await;
    let told = gateway.logged("the overload", |line| line["msg"] == "overload").await;
    assert!(told["lag_ms"].as_u64() >= Some(150), "{told}");
    wait::eventually("the overload to be over", async || {
        (gateway.ops("/readyz").await.status == 200).then_some(())
    })
    .await;
    LinePeer::join(&gateway).await.echo("after").await;
    bystander.echo("after").await;
    gateway.wait_for_closed("lines", "overload", 1).await;
}

#[tokio::test]
async fn thresholds_that_contradict_each_other_are_faults() {
    let gateway = Gateway::start().await;
    gateway.rewrite(|text| format!("[overload]\nmemory_high = \"90%\"\nlag_high = \"3s\"\n{text}"));
    let reply = gateway.post_reload().await;
    let told = reply.json()["faults"].to_string();
    assert!(told.contains("overload.memory_high") && told.contains("overload.lag_high"), "{told}");
}
