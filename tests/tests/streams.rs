//! Streams over HTTP, Server-Sent Events and messages in a response that does not end: how they
//! begin, what they carry, how they end, and what is said instead of one.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use weir_tests::http::{HttpPeer, Reply};
use weir_tests::pki::Pki;
use weir_tests::tcp::Ending;
use weir_tests::tls::TlsClient;
use weir_tests::tools::shell;
use weir_tests::{Browser, Gateway, Nginx, Peer};

/// Both kinds of streams, and a POST for pages, for pages of any origin where `origins` says so.
fn paths(origins: &str) -> String {
    let path = |path, kind| {
        format!(
            "[[listeners.paths]]\npath = \"{path}\"\nkind = \"{kind}\"\nroute = \"main\"\n{origins}\n"
        )
    };
    format!(
        "wire = \"http\"\n{}{}{}",
        path("/events", "sse"),
        path("/stream", "http_stream"),
        path("/emulation", "post")
    )
}

/// A response that goes on.
struct Stream {
    peer: Peer,
    head: String,
}

impl Stream {
    /// Sends a request and reads the head of the stream that it is answered with.
    async fn open(mut peer: Peer, request: &str) -> Self {
        peer.send(request.as_bytes()).await;
        let head = peer.take_through(b"\r\n\r\n").await.expect("a head");
        let head = String::from_utf8(head).expect("a head in ASCII").to_ascii_lowercase();
        assert!(head.contains(" 200 ok\r\n"), "{head}");
        Self { peer, head }
    }

    /// Opens one of events, whose blank line is read.
    async fn events(peer: Peer, message: &str) -> Self {
        let target = format!("/events?cf_connect={message}");
        let request = format!("GET {target} HTTP/1.1\r\nHost: weir\r\n\r\n");
        let mut stream = Self::open(peer, &request).await;
        assert_eq!(stream.chunk().await, "\r\n");
        stream
    }

    /// Opens one of messages.
    async fn messages(peer: Peer, fields: &str, message: &str) -> Self {
        let length = message.len();
        let request = format!(
            "POST /stream HTTP/1.1\r\nHost: weir\r\n{fields}Content-Length: {length}\r\n\r\n{message}"
        );
        Self::open(peer, &request).await
    }

    /// The next chunk; an empty one is the last.
    async fn chunk(&mut self) -> String {
        let line = self.peer.take_through(b"\r\n").await.expect("the size of a chunk");
        let line = String::from_utf8(line).expect("a size in ASCII");
        let size = usize::from_str_radix(line.trim_end(), 16).expect("a size");
        let chunk = self.peer.take(size + 2).await;
        String::from_utf8(chunk[..size].to_vec()).expect("text")
    }

    /// The last chunk, and the end behind it.
    async fn ends(mut self) {
        assert_eq!(self.chunk().await, "");
        assert_eq!(self.peer.expect_end().await, Ending::Closed);
    }
}

async fn peer(gateway: &Gateway) -> Peer {
    Peer::connect(gateway.address("streams")).await
}

#[tokio::test]
async fn the_message_of_a_request_is_answered_in_the_stream() {
    let gateway = Gateway::start().listener("streams", &paths("")).await;
    let mut events = Stream::events(peer(&gateway).await, "hello%0Aworld").await;
    assert_eq!(events.chunk().await, "data: hello\ndata: world\n\n");

    let mut stream = Stream::messages(peer(&gateway).await, "", "{\"id\":1}").await;
    assert_eq!(stream.chunk().await, "{\"id\":1}\n");

    let bytes = "Content-Type: application/octet-stream\r\n";
    let mut stream = Stream::messages(peer(&gateway).await, bytes, "\0\n\x07").await;
    assert_eq!(stream.chunk().await, "\0\n\x07");

    gateway.wait_for_open("streams", 3).await;
    let metrics = gateway.metrics().await;
    let streams = [("listener", "streams"), ("route", "main")];
    assert_eq!(metrics.count("weir_messages_received_total", &streams), 3);
    assert_eq!(metrics.count("weir_messages_sent_total", &streams), 3);
}

#[tokio::test]
async fn a_stream_ends_with_its_last_chunk_whoever_ends_it() {
    let gateway = Gateway::start().listener("streams", &paths("")).await;
    Stream::events(peer(&gateway).await, "exit").await.ends().await;
    gateway.wait_for_closed("streams", "exit", 1).await;

    let mut stream = Stream::messages(peer(&gateway).await, "", "hello").await;
    stream.peer.half_close().await;
    assert_eq!(stream.chunk().await, "hello\n");
    stream.ends().await;
    gateway.wait_for_closed("streams", "peer_closed", 1).await;
}

#[tokio::test]
async fn what_comes_behind_the_request_is_no_message_and_a_flood_of_it_is_the_end() {
    let gateway = Gateway::start().listener("streams", &paths("")).await;
    let mut stream = Stream::messages(peer(&gateway).await, "", "hello").await;
    assert_eq!(stream.chunk().await, "hello\n");
    stream.peer.send(b"GET /events HTTP/1.1\r\nHost: weir\r\n\r\n").await;
    assert!(stream.peer.stays_quiet(Duration::from_millis(300)).await);
    stream.peer.send(&[b'x'; 64 * 1024]).await;
    gateway.wait_for_closed("streams", "protocol_error", 1).await;
    let metrics = gateway.metrics().await;
    let streams = [("listener", "streams"), ("route", "main")];
    assert_eq!(metrics.count("weir_messages_received_total", &streams), 1);
}

#[tokio::test]
async fn a_stream_is_the_same_over_tls() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start().listener("streams", &format!("{tls}\n{}", paths(""))).await;
    let client = TlsClient::trusting(&pki);
    let message = "x".repeat(40_000);
    let over_tls = peer(&gateway).await.over_tls(&client, "weir.example").await.expect("TLS");
    let mut stream = Stream::messages(over_tls, "", &message).await;
    assert_eq!(stream.chunk().await, format!("{message}\n"));
    let over_tls = peer(&gateway).await.over_tls(&client, "weir.example").await.expect("TLS");
    Stream::events(over_tls, "exit").await.ends().await;
}

#[tokio::test]
async fn a_quiet_stream_of_events_is_kept_alive_and_a_quiet_one_of_messages_goes() {
    let timeouts = "idle = \"2s\"\nping_interval = \"1s\"\npong = \"500ms\"";
    let gateway = Gateway::start().listener("streams", &paths("")).timeouts(timeouts).await;
    let mut events = Stream::events(peer(&gateway).await, "").await;
    let mut stream = Stream::messages(peer(&gateway).await, "", "hello").await;
    assert_eq!(stream.chunk().await, "hello\n");
    assert_eq!(stream.chunk().await, "error: idle timeout\n");
    stream.ends().await;
    gateway.wait_for_closed("streams", "idle_timeout", 1).await;
    for _ in 0..4 {
        assert_eq!(events.chunk().await, ":\n\n");
    }
}

#[tokio::test]
async fn a_stop_ends_streams_cleanly_and_begins_no_more() {
    let shutdown = "unready = \"2s\"\ndrain = \"2s\"\nforce = \"1s\"\nflush = \"1s\"";
    let mut gateway = Gateway::start().listener("streams", &paths("")).shutdown(shutdown).await;
    let mut events = Stream::events(peer(&gateway).await, "hello").await;
    assert_eq!(events.chunk().await, "data: hello\n\n");
    let mut waiting = [
        HttpPeer::connect(gateway.address("streams")).await,
        HttpPeer::connect(gateway.address("streams")).await,
    ];
    gateway.signal(Signal::TERM);
    gateway.logged("the stage", |line| line["stage"] == "unready").await;
    let [get, post] = &mut waiting;
    get.request("GET /events?cf_connect=x", "", b"").await;
    post.request("POST /stream", "", b"x").await;
    for refused in [get.reply().await, post.reply().await] {
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.json()["error"], "going away");
    }
    events.ends().await;
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn chromium_hears_events_and_streams_from_pages_that_may() {
    let gateway = Gateway::start()
        .listener("streams", &paths(""))
        .listener("open", &paths("origins = [\"*\"]"))
        .await;
    let (own, open) = (gateway.address("streams"), gateway.address("open"));
    let heard = |address| {
        format!(
            "new Promise(done => {{
                const events = new EventSource('http://{address}/events?cf_connect=z%C3%B3%0Ab',
                    {{ withCredentials: true }});
                events.onmessage = event => {{ events.close(); done(event.data); }};
                events.onerror = () => {{ events.close(); done('refused'); }};
            }})"
        )
    };
    let streamed = |address| {
        format!(
            "fetch('http://{address}/stream', {{ method: 'POST', credentials: 'include',
                headers: {{ 'Content-Type': 'application/octet-stream', 'X-Of-The-Page': 'a' }},
                body: 'hello' }})
             .then(response => response.body.getReader().read())
             .then(read => new TextDecoder().decode(read.value), () => 'refused')"
        )
    };
    let mut browser = Browser::open(&format!("http://{own}/")).await;
    assert_eq!(browser.run(&heard(own)).await, json!("zó\nb"));
    assert_eq!(browser.run(&streamed(own)).await, json!("hello"));
    // Of another origin, and with a header that a browser asks about first.
    assert_eq!(browser.run(&heard(open)).await, json!("zó\nb"));
    assert_eq!(browser.run(&streamed(open)).await, json!("hello"));
    drop(browser);
    let mut browser = Browser::open(&format!("http://{open}/")).await;
    assert_eq!(browser.run(&heard(own)).await, json!("refused"));
    assert_eq!(browser.run(&streamed(own)).await, json!("refused"));
}

#[tokio::test]
async fn curl_and_node_read_streams_to_their_end() {
    let gateway = Gateway::start().listener("streams", &paths("")).await;
    let address = gateway.address("streams");
    for version in ["--http1.1", "--http1.0"] {
        let curl = format!("curl -sSN {version} 'http://{address}/events?cf_connect=exit'");
        assert_eq!(shell(&curl, "").await.succeeded(), "\r\n");
        let curl = format!("curl -sSN {version} --data-binary exit 'http://{address}/stream'");
        assert_eq!(shell(&curl, "").await.succeeded(), "");
    }
    let script = format!(
        "const answer = await fetch('http://{address}/stream', {{ method: 'POST', body: 'hello' }}); \
         const read = await answer.body.getReader().read(); \
         console.log(answer.status, new TextDecoder().decode(read.value).trim()); process.exit(0)"
    );
    let node = format!("node --input-type=module -e \"{script}\"");
    assert_eq!(shell(&node, "").await.succeeded(), "200 hello\n");
}

#[tokio::test]
async fn nginx_as_it_comes_passes_every_event_on_at_once() {
    let gateway = Gateway::start().listener("streams", &paths("")).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("a bound socket");
    drop(free);
    // HTTP/1.0 towards weir and every buffer on, as nginx has it when nobody says otherwise.
    let site = format!(
        "server {{ listen {address}; location / {{ proxy_pass http://{}; }} }}",
        gateway.address("streams")
    );
    let _nginx = Nginx::before(address, &site).await;
    let request = "GET /events?cf_connect=hello HTTP/1.1\r\nHost: weir\r\n\r\n";
    let mut events = Stream::open(Peer::connect(address).await, request).await;
    assert!(!events.head.contains("x-accel"), "nginx takes it: {}", events.head);
    // It makes chunks of its own.
    let mut heard = events.chunk().await;
    while heard.len() < "\r\ndata: hello\n\n".len() {
        heard += &events.chunk().await;
    }
    assert_eq!(heard, "\r\ndata: hello\n\n");
}

#[tokio::test]
async fn a_door_is_in_front_of_a_stream() {
    let keys =
        "[[auth.api_keys]]\nname = \"meter\"\nkey = \"a-key-that-is-long-enough-to-be-one\"\n";
    let gateway = Gateway::start()
        .listener("streams", &paths(""))
        .route("auth = [\"api_key\"]")
        .tables(keys)
        .await;
    let mut http = HttpPeer::connect(gateway.address("streams")).await;
    http.request("GET /events?cf_connect=hello", "", b"").await;
    let refused: Reply = http.reply().await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (401, Some("unauthorized")));
    let key = "X-API-Key: a-key-that-is-long-enough-to-be-one\r\n";
    let mut stream = Stream::messages(peer(&gateway).await, key, "hello").await;
    assert_eq!(stream.chunk().await, "hello\n");
}
