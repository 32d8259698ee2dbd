//! Refusals: each is told, nothing behind it is served, nothing before it is lost.

use super::*;

#[tokio::test(start_paused = true)]
async fn every_refusal_tells_its_status_and_its_rule_and_serves_nothing_behind() {
    let chunked = post("").replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let long = "x".repeat(600);
    let table = [
        (get("/post", "").replace("Host: weir\r\n", ""), 400, "no Host"),
        (get("/post", "Host: again\r\n"), 400, "more than one Host"),
        (get("/post", "X : y\r\n"), 400, "field name"),
        (get("/post", "Transfer-Encoding: chunked, chunked\r\n"), 400, "is not chunked"),
        (post("x").replace("Host", "Transfer-Encoding: chunked\r\nHost"), 400, "beside"),
        ("\u{16}\u{3}\u{1}".to_owned(), 400, "request line"),
        (get("/post", &format!("X: {long}\r\n")), 431, "limits.header_bytes_max = 500"),
        (get("/post", &"X: y\r\n".repeat(10)), 431, "limits.headers_max = 10"),
        (post(&"x".repeat(1001)), 413, "limits.message_bytes_max = 1000"),
        (format!("{chunked}3e9\r\n"), 413, "limits.message_bytes_max = 1000"),
        (format!("{chunked}zz\r\n"), 400, "chunk size"),
    ];
    for (request, status, rule) in table {
        let mut client = connect();
        client.send(request + &post("behind")).await;
        let (head, body) = client.expect(status).await;
        assert!(body.contains(rule), "{rule}: {body}");
        assert!(body.contains("\"request_id\":\"00000000000000c0-1\""), "{body}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        assert_eq!(client.rest().await, "", "{rule}");
        assert_eq!(client.tally.received.load(Relaxed), 0, "{rule}");
        assert_eq!(client.refused(status), 1.0, "{rule}");
        assert_eq!(client.end().await, CloseReason::BadRequest, "{rule}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_comes_behind_the_responses_that_are_owed() {
    let mut client = connect();
    let bad = get("/post", "X : y\r\n");
    client.send([post("one"), post("ask"), bad, post("behind")].concat()).await;
    assert_eq!(client.expect(200).await.1, "echo one");
    assert_eq!(client.expect(201).await.1, "asked");
    client.expect(400).await;
    assert_eq!(client.rest().await, "");
    assert_eq!(client.tally.received.load(Relaxed), 2);
    assert_eq!(client.end().await, CloseReason::BadRequest);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_ends_before_its_end_is_refused() {
    for request in ["GET / HT".to_owned(), post("whole").replace("whole", "part")] {
        let mut client = connect();
        client.send(request).await;
        client.io.shutdown().await.unwrap();
        let (_, body) = client.expect(400).await;
        assert!(body.contains("before its end"), "{body}");
        assert_eq!(client.end().await, CloseReason::BadRequest);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_peer_that_keeps_sending_is_read_for_a_while_and_then_left() {
    let mut client = connect_through(1000);
    client.send("\0").await;
    client.expect(400).await;
    let started = Instant::now();
    let mut sent = 0;
    while client.io.write_all(&[0; 1000]).await.is_ok() {
        sent += 1000;
    }
    assert!((LINGER_BYTES_MAX..LINGER_BYTES_MAX + 3000).contains(&sent), "{sent}");

    let mut quiet = connect();
    quiet.send("\0").await;
    quiet.expect(400).await;
    (&mut quiet.served).await.unwrap();
    assert_eq!(started.elapsed(), Timeouts::default().close);
}
