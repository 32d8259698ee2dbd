use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus::Registry;
use tokio::io::{DuplexStream, duplex};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::asks::Asks;
use crate::context::ConnId;
use crate::http::{HttpMetrics, HttpPath, HttpStop, HttpTraffic, Origins, PathKind};
use crate::limits::{Limits, Timeouts};
use crate::service::{
    Actions, Answer, Message, MessageKind, Opening, Response, Service, Session, Ticket,
};

/// Does what the message says.
struct Obedient;

impl Service for Obedient {
    fn route(&self) -> &str {
        "obedient"
    }

    fn open(&self, _opening: &Opening<'_>) -> Box<dyn Session> {
        Box::new(Obedient)
    }
}

impl Session for Obedient {
    fn on_message(
        &mut self,
        message: Message<'_>,
        _request: &RequestId,
        _now: std::time::Instant,
        actions: &mut Actions,
    ) {
        match message.payload {
            b"quiet" => {}
            b"panic" => panic!("as the test wants"),
            b"teapot" => actions.reply_with_status(418, MessageKind::Text, &[b"short and stout"]),
            b"big" => actions.reply(MessageKind::Binary, &[&[b'b'; 100_000]]),
            b"exit" => actions.close(CloseReason::Exit),
            b"ask" => actions.ask(
                Ticket(1),
                Box::pin(async {
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    Ok(Response { status: 201, body: Bytes::from_static(b"asked") })
                }),
            ),
            payload => actions.reply(message.kind, &[b"echo ", payload]),
        }
    }

    fn on_answer(
        &mut self,
        _ticket: Ticket,
        answer: Answer,
        _request: &RequestId,
        _now: std::time::Instant,
        actions: &mut Actions,
    ) {
        let response = answer.unwrap();
        actions.reply_with_status(response.status, MessageKind::Text, &[&response.body]);
    }
}

#[derive(Default)]
struct Tally {
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl HttpTraffic for Tally {
    fn bytes_received(&self, n: u64) {
        self.bytes_received.fetch_add(n, Relaxed);
    }
    fn bytes_sent(&self, n: u64) {
        self.bytes_sent.fetch_add(n, Relaxed);
    }
    fn message_received(&self, path: usize) {
        assert_eq!(path, 1);
        self.received.fetch_add(1, Relaxed);
    }
    fn message_sent(&self, path: usize) {
        assert_eq!(path, 1);
        self.sent.fetch_add(1, Relaxed);
    }
}

/// A connection to a site with `/ws` and `/post`.
struct Client {
    io: DuplexStream,
    served: JoinHandle<HttpEnd<DuplexStream>>,
    stop: HttpStop,
    tally: Arc<Tally>,
    registry: Registry,
}

fn connect() -> Client {
    connect_through(256 * 1024)
}

/// `/ws` and `/post`, with small limits.
fn site(registry: &Registry) -> HttpSite {
    let origins = Origins::same_host();
    let path =
        |path: &str, kind| HttpPath { path: path.to_owned(), kind, service: Arc::new(Obedient) };
    let limits = Limits {
        message_bytes_max: 1000,
        header_bytes_max: 500,
        headers_max: 10,
        ..Limits::default()
    };
    HttpSite::new(
        "web".to_owned(),
        vec![path("/ws", PathKind::WebSocket { origins }), path("/post", PathKind::Post)],
        limits,
        Timeouts::default(),
        &HttpMetrics::register(registry).unwrap(),
    )
}

fn stop() -> HttpStop {
    let force = CancellationToken::new();
    HttpStop { drain: force.child_token(), force }
}

/// Through a pipe of `room` bytes each way.
fn connect_through(room: usize) -> Client {
    let registry = Registry::new();
    let site = site(&registry);
    let stop = stop();
    let tally = Arc::new(Tally::default());
    let peer = HttpPeer {
        addr: ([127, 0, 0, 1], 9).into(),
        conn: ConnId::from_raw(0xc0),
        stop: stop.clone(),
        asks: Asks::new(Handle::current(), TaskTracker::new()),
        traffic: Arc::clone(&tally) as Arc<dyn HttpTraffic>,
    };
    let (io, socket) = duplex(room);
    let served = TaskTracker::new().spawn(serve(socket, Arc::new(site), peer));
    Client { io, served, stop, tally, registry }
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything up to the end of the connection.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        self.io.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// One response: its head in lower case and its body.
    async fn response(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.io.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.io.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// The next response has this status; yields its head and body.
    #[track_caller]
    fn expect(&mut self, status: u16) -> impl Future<Output = (String, String)> {
        let caller = std::panic::Location::caller();
        async move {
            let (head, body) = self.response().await;
            let start = format!("http/1.1 {status} ");
            assert!(head.starts_with(&start), "{caller}: {status} expected: {head}{body}");
            (head, body)
        }
    }

    /// Waits for the end; the peer closes too.
    async fn end(self) -> CloseReason {
        drop(self.io);
        match self.served.await.unwrap() {
            HttpEnd::Closed { reason } => reason,
            HttpEnd::Upgraded { .. } => panic!("upgraded"),
        }
    }

    fn refused(&self, status: u16) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == "weir_http_refused_total").unwrap();
        let status = status.to_string();
        let is_it = |m: &&prometheus::proto::Metric| m.get_label()[1].value() == status;
        family.get_metric().iter().find(is_it).unwrap().get_counter().get_value()
    }
}

fn post(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /post?q HTTP/1.1\r\nHost: weir\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: weir\r\n{fields}\r\n")
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn handshake(fields: &str) -> String {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    get("/ws", &format!("{upgrade}{fields}"))
}

fn good_handshake() -> String {
    handshake(&format!("{KEY}Sec-WebSocket-Version: 13\r\n"))
}

// What is served.

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
    let origin = |origin: &str| {
        handshake(&format!("{KEY}Sec-WebSocket-Version: 13\r\nOrigin: {origin}\r\n"))
    };
    let bad_text = b"POST /post HTTP/1.1\r\nHost: weir\r\nContent-Type: text/plain\r\n\
                     Content-Length: 1\r\n\r\n\xff"
        .to_vec();
    let table: [(Vec<u8>, u16, &str); 14] = [
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
        (good_handshake().replace("dGhl", "").into(), 400, "Sec-WebSocket-Key"),
        (handshake(&format!("{KEY}{KEY}Sec-WebSocket-Version: 13\r\n")).into(), 400, "Key"),
        (origin("http://elsewhere").into(), 403, "origin not allowed"),
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

// Upgrades.

#[tokio::test(start_paused = true)]
async fn frames_in_the_segment_of_the_handshake_come_out_with_the_bare_socket() {
    let frames = b"\x81\x85\0\0\0\0hello\x89\x80\0\0\0\0\x81";
    let mut client = connect();
    client.send([good_handshake().as_bytes(), frames].concat()).await;
    let (head, _) = client.expect(101).await;
    assert!(head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    let received = client.tally.bytes_received.load(Relaxed);
    let HttpEnd::Upgraded { mut socket, early, path, request_id } = client.served.await.unwrap()
    else {
        panic!("closed")
    };
    assert_eq!(&early[..], frames);
    assert_eq!((path, request_id.to_string().as_str()), (0, "00000000000000c0-1"));
    assert_eq!(
        received,
        good_handshake().len() as u64,
        "early bytes are counted by who reads them"
    );

    // Nothing but the bare socket is left between the two.
    client.io.write_all(b"more").await.unwrap();
    let mut more = [0; 4];
    socket.read_exact(&mut more).await.unwrap();
    assert_eq!(&more, b"more");
    socket.write_all(b"back").await.unwrap();
    client.io.read_exact(&mut more).await.unwrap();
    assert_eq!(&more, b"back");
}

#[tokio::test(start_paused = true)]
async fn no_early_byte_is_lost_wherever_the_segments_end() {
    let input = [good_handshake().as_bytes(), b"0123456789"].concat();
    for at in good_handshake().len() - 3..input.len() {
        let mut client = connect();
        client.send(&input[..at]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.send(&input[at..]).await;
        let HttpEnd::Upgraded { mut socket, early, .. } = client.served.await.unwrap() else {
            panic!("closed")
        };
        let mut all = early.to_vec();
        all.resize(10, 0);
        socket.read_exact(&mut all[early.len()..]).await.unwrap();
        assert_eq!(all, b"0123456789");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_waits_until_earlier_responses_have_left() {
    let mut client = connect_through(300);
    let requests = [post("big"), good_handshake()].concat();
    let (mut read, mut write) = tokio::io::split(client.io);
    let mut answers = Vec::new();
    let send = async {
        write.write_all(requests.as_bytes()).await.unwrap();
        write.write_all(b"early").await.unwrap();
    };
    let receive = async {
        let is_101 = |answer: &[u8]| answer.starts_with(b"HTTP/1.1 101 ");
        while !(answers.ends_with(b"\r\n\r\n") && answers.windows(13).any(is_101)) {
            read.read_buf(&mut answers).await.unwrap();
        }
    };
    tokio::join!(send, receive);
    assert!(answers.len() > 100_000);
    let end = (&mut client.served).await.unwrap();
    assert!(matches!(end, HttpEnd::Upgraded { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_declined_upgrade_is_served_as_http() {
    let mut client = connect();
    client.send([handshake(KEY), post("behind")].concat()).await;
    client.expect(426).await;
    assert_eq!(client.expect(200).await.1, "echo behind");
}

#[tokio::test(start_paused = true)]
async fn a_response_is_whole_even_when_another_upgrade_was_offered() {
    let offer = "\r\nUpgrade: h2c\r\nConnection: upgrade, close\r\n\r\n";
    let mut client = connect_through(300);
    client.send(post("big").replacen("\r\n\r\n", offer, 1)).await;
    let answer = client.rest().await;
    assert_eq!(answer.split("\r\n\r\n").nth(1).unwrap().len(), 100_000);
    assert_eq!(client.end().await, CloseReason::PeerClosed);

    let mut client = connect_through(50);
    let chunked = post("").replace("Content-Length: 0", "Transfer-Encoding: chunked");
    client.send(chunked.replacen("\r\n\r\n", offer, 1) + "zz\r\n").await;
    let (_, body) = client.expect(400).await;
    assert!(body.contains("chunk size"), "{body}");
    assert_eq!(client.end().await, CloseReason::BadRequest);
}

// Refusals.

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

// Deadlines.

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

// Stopping.

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

// Memory.

#[tokio::test(start_paused = true)]
async fn a_connection_being_served_stays_within_its_budget() {
    let client = connect();
    let (io, _peer) = duplex(1);
    let peer = HttpPeer {
        addr: ([127, 0, 0, 1], 9).into(),
        conn: ConnId::from_raw(1),
        stop: client.stop.clone(),
        asks: Asks::new(Handle::current(), TaskTracker::new()),
        traffic: Arc::clone(&client.tally) as Arc<dyn HttpTraffic>,
    };
    let metrics = HttpMetrics::register(&Registry::new()).unwrap();
    let site = HttpSite::new(
        "web".to_owned(),
        Vec::new(),
        Limits::default(),
        Timeouts::default(),
        &metrics,
    );
    let future = serve(io, Arc::new(site), peer);
    // Hyper's buffers, about 8 KiB, come on top. An upgraded connection keeps nothing of it.
    assert!(size_of_val(&future) <= 4096, "{}", size_of_val(&future));
}

// Over real sockets, whose kernel buffers and resets a pipe does not have.

/// A connection over loopback: a blocking client, so that what it writes is in the kernel at once.
async fn connect_tcp(stop: &HttpStop) -> (std::net::TcpStream, JoinHandle<CloseReason>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, addr) = listener.accept().await.unwrap();
    let peer = HttpPeer {
        addr,
        conn: ConnId::from_raw(1),
        stop: stop.clone(),
        asks: Asks::new(Handle::current(), TaskTracker::new()),
        traffic: Arc::new(Tally::default()),
    };
    let site = Arc::new(site(&Registry::new()));
    let served = TaskTracker::new().spawn(async move {
        match serve(socket, site, peer).await {
            HttpEnd::Closed { reason } => reason,
            HttpEnd::Upgraded { .. } => panic!("upgraded"),
        }
    });
    (client, served)
}

/// What a blocking client reads up to the end, without holding up the server's thread.
async fn rest_of(mut client: std::net::TcpStream) -> std::io::Result<String> {
    let read = move || {
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut client, &mut answer).map(|_| answer)
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test]
async fn a_request_in_the_kernel_when_the_drain_begins_is_served() {
    let stop = stop();
    let (mut client, served) = connect_tcp(&stop).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    std::io::Write::write_all(&mut client, post("in time").as_bytes()).unwrap();
    stop.drain.cancel();
    let answer = rest_of(client).await.unwrap();
    assert!(answer.ends_with("echo in time"), "{answer:?}");
    assert_eq!(served.await.unwrap(), CloseReason::Drained);
}

#[tokio::test]
async fn a_refused_peer_with_more_on_its_way_is_told_and_not_reset() {
    let (mut client, served) = connect_tcp(&stop()).await;
    let garbage = [b"GET / HTTP/1.1\nHost".to_vec(), vec![b'x'; 50_000]].concat();
    std::io::Write::write_all(&mut client, &garbage).unwrap();
    let answer = rest_of(client).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    assert!(answer.contains("LF without CR"), "{answer:?}");
    assert_eq!(served.await.unwrap(), CloseReason::BadRequest);
}
