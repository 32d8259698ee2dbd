//! What is served, and that a mistake with a good frame costs no connection.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_post_is_a_message_and_its_reply_the_response() {
    let mut client = connect();
    client.send(post("hello")).await;
    let (head, body) = client.expect(200).await;
    assert_eq!(body, "echo hello");
    assert!(head.contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"), "{head}");
    assert!(head.contains("\r\nx-request-id: 00000000000000c0-1\r\n"), "{head}");

    client.send("POST /post HTTP/1.1\r\nHost: weir\r\nX-Request-Id: mine\r\n").await;
    client.send("Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n").await;
    let (head, body) = client.expect(200).await;
    assert_eq!(body, "echo hello");
    assert!(head.contains("\r\ncontent-type: application/octet-stream\r\n"), "{head}");
    assert!(head.contains("\r\nx-request-id: mine\r\n"), "{head}");

    client.send(post("teapot")).await;
    assert_eq!(client.expect(418).await.1, "short and stout");
    client.send(post("quiet")).await;
    assert_eq!(client.expect(204).await.1, "");
    client.send(post("panic")).await;
    client.expect(500).await;
    client.send(post("ask")).await;
    assert_eq!(client.expect(201).await.1, "asked");

    assert_eq!(client.tally.received.load(Relaxed), 6);
    assert_eq!(client.tally.sent.load(Relaxed), 4);
    assert_eq!(client.tally.answered.load(Relaxed), 6, "204 is an answer");
    assert_eq!(client.end().await, CloseReason::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn one_connection_serves_a_thousand_requests_and_counts_their_bytes() {
    let mut client = connect();
    let (mut sent, mut received) = (0, 0);
    for n in 0..1000 {
        let request = post(&format!("message {n}"));
        client.send(&request).await;
        let (head, body) = client.expect(200).await;
        assert_eq!(body, format!("echo message {n}"));
        sent += request.len() as u64;
        received += (head.len() + body.len()) as u64;
    }
    assert_eq!(client.tally.bytes_received.load(Relaxed), sent);
    assert_eq!(client.tally.bytes_sent.load(Relaxed), received);
    assert_eq!(client.end().await, CloseReason::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let mut client = connect();
    let bodies = ["one", "ask", "two", "quiet", "three"];
    client.send(bodies.map(post).concat()).await;
    for expected in ["echo one", "asked", "echo two", "", "echo three"] {
        assert_eq!(client.response().await.1, expected);
    }
    assert_eq!(client.end().await, CloseReason::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn requests_in_pieces_of_one_byte_are_served() {
    let client = connect_through(1);
    let requests = [post("one"), post("two")].concat();
    let (mut read, mut write) = tokio::io::split(client.io);
    let send = async { write.write_all(requests.as_bytes()).await.unwrap() };
    let mut answers = Vec::new();
    let receive = async {
        while !answers.ends_with(b"echo two") {
            read.read_buf(&mut answers).await.unwrap();
        }
    };
    tokio::join!(send, receive);
    let answers = String::from_utf8(answers).unwrap();
    assert!(answers.contains("\r\n\r\necho oneHTTP/1.1 200 OK\r\n"), "{answers}");
    client.served.abort();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let mut client = connect();
    let fields = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    client.send(get("/post", fields).replace("GET", "POST")).await;
    assert_eq!(client.response().await.0, "http/1.1 100 continue\r\n\r\n");
    client.send("hello").await;
    assert_eq!(client.expect(200).await.1, "echo hello");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_shuts_its_side_still_gets_every_response() {
    let mut client = connect();
    client.send([post("one"), post("ask"), post("two")].concat()).await;
    client.io.shutdown().await.unwrap();
    let answers = client.rest().await;
    for body in ["echo one", "asked", "echo two"] {
        assert!(answers.contains(body), "{answers}");
    }
    assert_eq!(client.end().await, CloseReason::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn http_1_0_and_connection_close_end_after_one_response() {
    for request in [
        post("x").replace("1.1", "1.0"),
        post("x").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
    ] {
        let mut client = connect();
        client.send(request).await;
        assert!(client.rest().await.ends_with("echo x"));
        assert_eq!(client.end().await, CloseReason::PeerClosed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_exit_word_ends_the_connection_after_its_response() {
    let mut client = connect();
    client.send([post("exit"), post("behind")].concat()).await;
    let (head, _) = client.expect(204).await;
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!(client.rest().await, "");
    assert_eq!(client.tally.received.load(Relaxed), 1);
    assert_eq!(client.end().await, CloseReason::Exit);
}

#[tokio::test(start_paused = true)]
async fn a_mistake_with_a_good_frame_leaves_the_connection_open() {
    let bad_text = b"POST /post HTTP/1.1\r\nHost: weir\r\nContent-Type: text/plain\r\n\
                     Content-Length: 1\r\n\r\n\xff"
        .to_vec();
    let table: [(Vec<u8>, u16, &str); 11] = [
        (get("/nowhere", "").into(), 404, "error\":\"no such path"),
        (post("a body").replace("/post", "/nowhere").into(), 404, "no such path"),
        (handshake(KEY).replace("/ws", "/nowhere").into(), 404, "no such path"),
        (get("/post", "").into(), 405, "allow: post\r\n"),
        (handshake(KEY).replace("/ws", "/post").into(), 405, "allow: post\r\n"),
        (post("a body").replace("/post", "/ws").into(), 405, "allow: get\r\n"),
        (get("/ws", "").into(), 426, "\r\nupgrade: websocket\r\n"),
        (get("/ws", "Upgrade: h2c\r\nConnection: upgrade\r\n").into(), 426, "upgrade: websocket"),
        (handshake(KEY).into(), 426, "sec-websocket-version: 13"),
        (good_handshake().replace("13", "8").into(), 426, "sec-websocket-version: 13"),
        (bad_text, 400, "invalid utf-8"),
    ];
    let mut client = connect();
    for (n, (request, status, text)) in table.iter().enumerate() {
        let refused = client.refused(*status);
        client.send(request).await;
        let (head, body) = client.expect(*status).await;
        assert!(format!("{head}{body}").contains(text), "{text}: {head}{body}");
        assert!(body.contains(&format!("\"request_id\":\"00000000000000c0-{}\"", n + 1)), "{body}");
        assert!(!head.contains("connection: close"), "{head}");
        assert_eq!(client.refused(*status), refused + 1.0);
    }
    client.send(post("still here")).await;
    client.expect(200).await;
    assert_eq!(client.tally.received.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_refused_for_good_ends_the_connection() {
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (request, status, text) in [
        (good_handshake().replace("dGhl", ""), 400, "Sec-WebSocket-Key"),
        (handshake(&format!("{KEY}{KEY}{version}")), 400, "Sec-WebSocket-Key"),
        (handshake(&format!("{KEY}{version}Origin: http://elsewhere\r\n")), 403, "origin"),
    ] {
        let mut client = connect();
        client.send([request, post("behind")].concat()).await;
        let (head, body) = client.expect(status).await;
        assert!(head.contains("\r\nconnection: close\r\n") && body.contains(text), "{head}{body}");
        assert_eq!(client.rest().await, "");
        assert_eq!(client.tally.received.load(Relaxed), 0, "what follows is never served");
        assert_eq!(client.end().await, CloseReason::BadRequest);
    }
}
