//! The drain finishes what has begun; force does not.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_drain_closes_an_idle_connection() {
    for used in [false, true] {
        let mut client = connect();
        if used {
            client.send(post("x")).await;
            client.expect(200).await;
        }
        client.stop.drain.cancel();
        assert_eq!(client.rest().await, "");
        assert_eq!(client.end().await, CloseReason::Drained);
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_notice_a_response_is_the_last_and_a_quiet_connection_stays() {
    let mut client = connect();
    client.send(post("before")).await;
    let (head, _) = client.expect(200).await;
    assert!(!head.contains("connection: close"), "{head}");
    client.stop.notice.cancel();
    tokio::time::sleep(Duration::from_secs(3)).await;
    client.send(post("last")).await;
    let (head, body) = client.expect(200).await;
    assert_eq!(body, "echo last");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!(client.end().await, CloseReason::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_request_in_flight_and_says_that_it_is_the_last() {
    let mut client = connect();
    client.send(post("ask")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.stop.drain.cancel();
    let (head, body) = client.expect(201).await;
    assert_eq!(body, "asked");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!(client.rest().await, "");
    assert_eq!(client.end().await, CloseReason::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_a_request_whose_head_has_begun() {
    let request = post("late");
    for at in [1, 30, request.len() - 1] {
        let mut client = connect();
        client.send(&request[..at]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.stop.drain.cancel();
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.send(&request[at..]).await;
        let (head, body) = client.expect(200).await;
        assert_eq!(body, "echo late");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        assert_eq!(client.end().await, CloseReason::Drained);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_came_with_the_drain_is_served() {
    let mut client = connect();
    client.send(post("x")).await;
    client.expect(200).await;
    client.send(post("with it")).await;
    client.stop.drain.cancel();
    assert_eq!(client.expect(200).await.1, "echo with it");
    assert_eq!(client.end().await, CloseReason::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_connection_accepted_before_a_drain_upgrades_no_more_than_its_handshake() {
    let mut client = connect();
    client.stop.drain.cancel();
    client.send(good_handshake()).await;
    client.expect(101).await;
    assert!(matches!(client.served.await.unwrap(), HttpEnd::Upgraded { .. }));
}

#[tokio::test(start_paused = true)]
async fn force_ends_what_is_in_flight_at_once() {
    let mut client = connect();
    client.send(post("ask")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    client.stop.force.cancel();
    assert_eq!(client.rest().await, "");
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(client.end().await, CloseReason::Forced);
}
