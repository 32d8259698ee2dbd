//! Streams: the request that brings a message, the head that begins one, and what is said instead of
//! one; and what pages of other origins are told.

use super::*;
use crate::pressure::Pressure;
use crate::wire::stream::{Framing, Request};

/// What a connection goes on with.
struct Streamed {
    head: String,
    start: crate::http::StreamStart,
    path: usize,
    introduction: Box<crate::door::Introduction>,
}

impl Client {
    /// The head of a stream, in lower case, and what it goes on with.
    async fn stream(mut self) -> Streamed {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.io.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let end = self.served.await.unwrap();
        let HttpEnd::Upgraded { mut socket, early, path, introduction, stream, .. } = end else {
            panic!("closed: {head}")
        };
        assert_eq!(early, b""[..], "what follows the request of a stream means nothing");
        socket.write_all(b"by the table").await.unwrap();
        drop(socket);
        let mut body = String::new();
        self.io.read_to_string(&mut body).await.unwrap();
        assert!(body.ends_with("by the table"), "{body:?}");
        let start = stream.expect("a stream");
        assert_eq!(body.starts_with("2\r\n\r\n\r\n"), is_chunked_sse(&start), "{body:?}");
        Streamed { head, start, path, introduction }
    }
}

fn is_chunked_sse(start: &crate::http::StreamStart) -> bool {
    start.options.form == Form::Sse && start.options.framing == Framing::Chunked
}

fn post_to(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: weir\r\n{fields}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[tokio::test(start_paused = true)]
async fn events_begin_with_a_head_that_no_proxy_holds_back() {
    let mut client = connect();
    client
        .send(get("/events?cf_connect=%7B%22id%22%3A1%7D+x&a=b", "X-Request-Id: of-mine\r\n"))
        .await;
    let (tally, registry) = (Arc::clone(&client.tally), client.registry.clone());
    let streamed = client.stream().await;
    for line in [
        "http/1.1 200 ok\r\n",
        "\r\ncontent-type: text/event-stream\r\n",
        "\r\ncache-control: private, no-cache, no-store, must-revalidate, no-transform, max-age=0\r\n",
        "\r\nx-accel-buffering: no\r\n",
        "\r\ntransfer-encoding: chunked\r\n",
        "\r\nconnection: close\r\n",
        "\r\nx-request-id: of-mine\r\n",
    ] {
        assert!(streamed.head.contains(line), "{line:?} {}", streamed.head);
    }
    assert_eq!(streamed.path, 2);
    assert_eq!(&streamed.start.message[..], b"{\"id\":1} x");
    let request = Request { bytes: 10, kind: MessageKind::Text };
    assert_eq!(streamed.start.request, Some(request));
    let query = streamed.introduction.query.as_deref();
    assert_eq!(query, Some("cf_connect=%7B%22id%22%3A1%7D+x&a=b"));
    // The head and the blank line are HTTP's; what follows is counted by who writes it.
    let sent = streamed.head.len() + "2\r\n\r\n\r\n".len();
    assert_eq!(tally.bytes_sent.load(Relaxed), sent as u64);
    let families = registry.gather();
    let requests = families.iter().find(|f| f.name().contains("request_duration")).unwrap();
    let ended = |m: &&prometheus::proto::Metric| m.get_histogram().get_sample_count() == 1;
    let labels = requests.get_metric().iter().find(ended).unwrap().get_label();
    let labels: Vec<_> = labels.iter().map(|label| label.value()).collect();
    assert_eq!(labels, ["web", "obedient", "GET", "200"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_the_first_message_and_its_type_says_what_messages_are() {
    let cases = [
        ("/events", "", MessageKind::Text, "text/event-stream"),
        ("/stream", "", MessageKind::Text, "text/plain; charset=utf-8"),
        (
            "/stream",
            "Content-Type: application/json\r\n",
            MessageKind::Text,
            "text/plain; charset=utf-8",
        ),
        (
            "/stream",
            "Content-Type: application/octet-stream\r\n",
            MessageKind::Binary,
            "application/octet-stream",
        ),
    ];
    for (path, fields, kind, content_type) in cases {
        let mut client = connect();
        // What comes behind the body is dropped.
        client.send([&post_to(path, fields, b"connect"), &b"GET / HT"[..]].concat()).await;
        let streamed = client.stream().await;
        assert_eq!(&streamed.start.message[..], b"connect");
        assert_eq!(streamed.start.request, Some(Request { bytes: 7, kind }));
        let line = format!("\r\ncontent-type: {content_type}\r\n");
        assert!(streamed.head.contains(&line), "{}", streamed.head);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_begin_without_a_message() {
    for request in [get("/events", ""), get("/events?cf_connect=", "")] {
        let mut client = connect();
        client.send(request).await;
        assert_eq!(client.stream().await.start.request, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_http_10_ends_with_its_connection() {
    let mut client = connect();
    client.send("GET /events HTTP/1.0\r\n\r\n").await;
    let streamed = client.stream().await;
    assert!(streamed.head.starts_with("http/1.0 200 ok\r\n"), "{}", streamed.head);
    assert!(!streamed.head.contains("transfer-encoding"), "{}", streamed.head);
    assert_eq!(streamed.start.options.framing, Framing::Close);
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_until_earlier_responses_have_left() {
    let mut client = connect_through(300);
    let requests = [post("big"), get("/events", "")].concat();
    let (mut read, mut write) = tokio::io::split(client.io);
    let mut answers = Vec::new();
    let receive = async {
        while !answers.ends_with(b"\r\n\r\n2\r\n\r\n\r\n") {
            read.read_buf(&mut answers).await.unwrap();
        }
    };
    let (sent, ()) = tokio::join!(write.write_all(requests.as_bytes()), receive);
    sent.unwrap();
    assert!(answers.len() > 100_000);
    let end = (&mut client.served).await.unwrap();
    assert!(matches!(end, HttpEnd::Upgraded { stream: Some(_), .. }));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_ends_at_the_write_timeout_before_it_begins() {
    let mut client = connect_through(100);
    client.send(get("/events", "")).await;
    let started = Instant::now();
    let HttpEnd::Closed { reason } = (&mut client.served).await.unwrap() else { panic!("taken") };
    assert_eq!(reason, CloseReason::WriteTimeout);
    assert_eq!(started.elapsed(), Timeouts::default().write);
}

#[tokio::test(start_paused = true)]
async fn no_stream_begins_once_the_process_is_leaving_or_pressed() {
    let tells = [
        (Pressure::None, CloseReason::Drained.text()),
        (Pressure::High, CloseReason::Overload.text()),
    ];
    for (pressure, text) in tells {
        for request in [get("/events", "").into_bytes(), post_to("/stream", "", b"x")] {
            let mut client = connect();
            match pressure {
                Pressure::None => client.stop.notice.cancel(),
                Pressure::High | Pressure::Critical => {
                    assert_eq!(client.stop.pressure.set(pressure), Pressure::None);
                }
            }
            client.send(request).await;
            let (head, body) = client.expect(503).await;
            assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
            assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
            assert!(body.contains(&format!("\"error\":\"{text}\"")), "{body}");
            assert_eq!(client.refused(503), 1.0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_message_begins_no_stream() {
    let long = format!("/events?cf_connect={}", "x".repeat(400));
    let cases = [
        (get("/events?cf_connect=%ff", "").into_bytes(), 400, "invalid utf-8"),
        (post_to("/stream", "", b"\xff"), 400, "invalid utf-8"),
        (post_to("/events", "", b"\xff"), 400, "invalid utf-8"),
        (get("/stream", "").into_bytes(), 405, "method not allowed"),
        (get(&long, &format!("X: {}\r\n", "x".repeat(200))).into_bytes(), 431, "head over"),
        (post_to("/stream", "", &[b'x'; 1001]), 413, "body over"),
    ];
    for (request, status, text) in cases {
        let mut client = connect();
        client.send(&request).await;
        let (_, body) = client.expect(status).await;
        assert!(body.contains(text), "{body}");
    }
    let mut client = connect();
    client.send("PUT /events HTTP/1.1\r\nHost: weir\r\n\r\n").await;
    let (head, _) = client.expect(405).await;
    assert!(head.contains("\r\nallow: get, post\r\n"), "{head}");
}

const PAGE: &str = "Origin: https://app.example.com\r\n";

#[tokio::test(start_paused = true)]
async fn a_page_that_may_connect_may_read_with_its_users_cookies() {
    let allowed = "\r\naccess-control-allow-origin: https://app.example.com\r\n";
    let mut client = connect();
    client.send(get("/events", PAGE)).await;
    let head = client.stream().await.head;
    assert!(head.contains(allowed), "{head}");
    assert!(head.contains("\r\naccess-control-allow-credentials: true\r\n"), "{head}");
    assert!(head.contains("\r\nvary: origin\r\n"), "{head}");

    // What it is refused it can read too.
    let mut client = connect();
    client.stop.notice.cancel();
    client.send(get("/events", PAGE)).await;
    assert!(client.expect(503).await.0.contains(allowed));
    let mut client = connect();
    client.send(post_to("/emulation", PAGE, b"x")).await;
    assert!(client.expect(200).await.0.contains(allowed));
}

#[tokio::test(start_paused = true)]
async fn a_foreign_page_is_refused_and_told_nothing() {
    let page = "Origin: https://evil.example\r\n";
    let requests = [
        get("/events", page).into_bytes(),
        post_to("/stream", page, b"x"),
        post_to("/emulation", page, b"x"),
        get("/events", &format!("{PAGE}{PAGE}")).into_bytes(),
    ];
    for request in requests {
        let mut client = connect();
        client.send(request).await;
        let (head, body) = client.expect(403).await;
        assert!(body.contains("origin not allowed"), "{body}");
        assert!(!head.contains("access-control"), "{head}");
    }
    // A path that names no pages takes the requests of all, and lets none read.
    let mut client = connect();
    client.send(post_to("/post", page, b"x")).await;
    assert!(!client.expect(200).await.0.contains("access-control"));
}

#[tokio::test(start_paused = true)]
async fn a_preflight_says_for_300_seconds_what_a_page_may_send() {
    let asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-a, b\r\n";
    let options = |path, page| format!("OPTIONS {path} HTTP/1.1\r\nHost: weir\r\n{page}{asks}\r\n");
    let mut client = connect();
    for (path, methods) in [("/events", "get, post"), ("/stream", "post"), ("/emulation", "post")] {
        client.send(options(path, PAGE)).await;
        let (head, body) = client.expect(204).await;
        for line in [
            "\r\naccess-control-allow-origin: https://app.example.com\r\n",
            "\r\naccess-control-allow-credentials: true\r\n",
            "\r\naccess-control-max-age: 300\r\n",
            "\r\naccess-control-allow-headers: x-a, b\r\n",
        ] {
            assert!(head.contains(line), "{path} {line:?} {head}");
        }
        assert!(
            head.contains(&format!("\r\naccess-control-allow-methods: {methods}\r\n")),
            "{head}"
        );
        assert_eq!(body, "");
    }
    client.send(options("/events", "Origin: https://evil.example\r\n")).await;
    client.expect(403).await;
    for path in ["/post", "/ws"] {
        client.send(options(path, PAGE)).await;
        assert!(!client.expect(405).await.0.contains("access-control"));
    }
}
