//! Every wait for the peer ends by its own timeout.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_closed_after_the_handshake_timeout() {
    let started = Instant::now();
    let mut client = connect();
    assert_eq!(client.rest().await, "");
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    assert_eq!(client.end().await, CloseReason::HandshakeTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_refused_after_the_header_timeout() {
    let mut client = connect();
    client.send(post("first")).await;
    client.expect(200).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let started = Instant::now();
    for byte in post("second").bytes().take(6) {
        client.send([byte]).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    let (_, body) = client.expect(408).await;
    assert!(body.contains("timeouts.header"), "{body}");
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert_eq!(client.end().await, CloseReason::HeaderTimeout);
}

#[tokio::test(start_paused = true)]
async fn the_first_head_must_also_end_within_the_handshake_timeout() {
    let mut client = connect();
    tokio::time::sleep(Duration::from_secs(8)).await;
    client.send("GET").await;
    let started = Instant::now();
    let (_, body) = client.expect(408).await;
    assert!(body.contains("timeouts.handshake"), "{body}");
    assert_eq!(started.elapsed(), Duration::from_secs(2));
    assert_eq!(client.end().await, CloseReason::HandshakeTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_refused_after_the_read_timeout() {
    let mut client = connect();
    let started = Instant::now();
    client.send(post(&"x".repeat(100)).trim_end_matches('x')).await;
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.send("x").await;
    }
    let (_, body) = client.expect(408).await;
    assert!(body.contains("timeouts.read"), "{body}");
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    assert_eq!(client.rest().await, "");
    assert_eq!(client.end().await, CloseReason::ReadTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_keep_alive_connection_is_closed_after_the_idle_timeout() {
    let mut client = connect();
    client.send(post("x")).await;
    client.expect(200).await;
    let started = Instant::now();
    assert_eq!(client.rest().await, "");
    assert_eq!(started.elapsed(), Duration::from_secs(75));
    assert_eq!(client.end().await, CloseReason::IdleTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_take_its_response_is_cut_after_the_write_timeout() {
    let mut client = connect_through(1000);
    let started = Instant::now();
    client.send(post("big")).await;
    // Taking a little does not buy more time.
    let HttpEnd::Closed { reason } = (loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if client.served.is_finished() {
            break (&mut client.served).await.unwrap();
        }
        client.io.read_exact(&mut [0; 10]).await.unwrap();
    }) else {
        panic!("upgraded")
    };
    assert_eq!(reason, CloseReason::WriteTimeout);
    assert!(started.elapsed() <= Duration::from_secs(11), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_before_its_response_is_a_reset() {
    let mut client = connect();
    client.send(post("ask")).await;
    assert_eq!(client.end().await, CloseReason::PeerReset);
}
