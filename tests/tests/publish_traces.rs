//! Traces of channels as a collector receives them: a publish, by a backend or by a client, from its
//! command to the fan-out of each event loop.

use serde_json::Value;
use weir_tests::collector::{Collector, Manner, Span};
use weir_tests::{Gateway, Peer, WebSocket, http, wait};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A weir with channels, their API and two event loops.
async fn gateway(traces: &str) -> Gateway {
    Gateway::start()
        .section("traces", &format!("{traces}\nmessages_per_second_max = 10000"))
        .section("runtime", "workers = 2")
        .tables(
            "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nwire = \"http\"\n\
             [[listeners.paths]]\npath = \"/connection\"\nkind = \"websocket\"\nroute = \"channels\"\n\
             [[listeners.paths]]\npath = \"/stream\"\nkind = \"http_stream\"\nroute = \"channels\"\n\
             [[listeners.paths]]\npath = \"/emulation\"\nkind = \"post\"\nroute = \"channels\"\n\
             [[listeners.paths]]\npath = \"/api/*\"\nkind = \"post\"\nroute = \"api\"\n\
             [[routes]]\nname = \"channels\"\nkind = \"channels\"\n\
             [[routes]]\nname = \"api\"\nkind = \"channels_api\"\n\
             [channels]\nallow_anonymous_connect_without_token = true\n\
             [channels.without_namespace]\nhistory_size = 10\nhistory_ttl = \"1m\"\n\
             allow_subscribe_for_client = true\nallow_subscribe_for_anonymous = true\n\
             allow_publish_for_client = true\nallow_publish_for_anonymous = true\n",
        )
        .await
}

/// A client that is subscribed to `news`.
async fn subscriber(gateway: &Gateway) -> WebSocket {
    let mut socket = WebSocket::connect_to(gateway.address("web"), "/connection", "").await;
    socket.say(r#"{"id":1,"connect":{}}"#).await;
    assert!(socket.hear().await.contains(r#""connect""#));
    socket.say(r#"{"id":2,"subscribe":{"channel":"news"}}"#).await;
    assert!(socket.hear().await.contains(r#""subscribe""#));
    socket
}

/// The spans of fan-out below a publish, when there are so many.
async fn fanouts(collector: &Collector, publish: &Span, expected: usize) -> Vec<Span> {
    wait::eventually("the spans of the fan-out", async || {
        let spans = collector.children(publish);
        (spans.len() >= expected).then_some(spans)
    })
    .await
}

#[track_caller]
fn assert_fans_out(spans: &[Span], publish: &Span, subscribers: u64) {
    let mut workers: Vec<_> = spans.iter().map(|span| span.attribute("weir.worker")).collect();
    workers.sort_unstable();
    assert_eq!(workers, ["0", "1"], "one span an event loop");
    let told = spans.iter().map(|span| span.attribute("weir.subscribers").parse::<u64>());
    assert_eq!(told.sum::<Result<u64, _>>(), Ok(subscribers));
    for span in spans {
        assert_eq!((span.name.as_str(), span.trace_id.as_str()), ("fanout", &*publish.trace_id));
        assert_eq!(span.attribute("weir.stage"), "fanout");
        assert_eq!(span.attribute("weir.channel"), "news");
        assert!(publish.start <= span.end && span.start <= span.end, "{span:?}");
    }
}

#[tokio::test]
async fn a_backends_publish_is_one_trace_from_its_own_span_to_every_event_loop() {
    let collector = Collector::start(Manner::Grpc).await;
    let gateway = gateway(&collector.keys()).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(subscriber(&gateway).await);
    }
    let headers = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let body = br#"{"channel":"news","data":{"n":1}}"#;
    let reply = http::request(gateway.address("web"), "POST /api/publish", &headers, body).await;
    assert_eq!(reply.json()["result"]["offset"], 1);
    for client in &mut clients {
        assert!(client.hear().await.contains(r#""offset":1"#));
    }
    let request = collector.span("POST /api/*").await;
    assert_eq!((request.trace_id.as_str(), request.parent.as_str()), (TRACE, PARENT));
    let publish = collector.span("publish").await;
    assert_eq!(publish.parent, request.span_id);
    assert_eq!(publish.attribute("weir.channel"), "news");
    assert_eq!(publish.attribute("weir.stage"), "publish");
    assert_fans_out(&fanouts(&collector, &publish, 2).await, &publish, 4);
}

#[tokio::test]
async fn a_clients_publish_is_followed_in_the_trace_of_its_message() {
    let collector = Collector::start(Manner::Http).await;
    let gateway = gateway(&collector.keys()).await;
    let (mut ann, mut bob) = (subscriber(&gateway).await, subscriber(&gateway).await);
    ann.say(r#"{"id":3,"publish":{"channel":"news","data":1}}"#).await;
    assert!(bob.hear().await.contains(r#""pub""#));
    let publish = collector.span("publish").await;
    let message = wait::eventually("the message that published", async || {
        collector.spans().into_iter().find(|span| span.span_id == publish.parent)
    })
    .await;
    assert_eq!(message.name, "process channels");
    assert_eq!(message.attribute("network.protocol.name"), "websocket");
    assert_fans_out(&fanouts(&collector, &publish, 2).await, &publish, 2);
}

#[tokio::test]
async fn a_publish_beside_a_stream_is_followed_in_the_trace_of_its_post() {
    let collector = Collector::start(Manner::Grpc).await;
    let gateway = gateway(&collector.keys()).await;
    let _subscribers = (subscriber(&gateway).await, subscriber(&gateway).await);
    let mut stream = Peer::connect(gateway.address("web")).await;
    let connect = r#"{"id":1,"connect":{}}"#;
    let head = format!("POST /stream HTTP/1.1\r\nHost: weir\r\nContent-Length: {}", connect.len());
    stream.send(format!("{head}\r\n\r\n{connect}").as_bytes()).await;
    stream.take_through(b"\r\n\r\n").await.expect("the head of a response");
    stream.take_through(b"\r\n").await.expect("the size of a chunk");
    let line = stream.take_through(b"\n").await.expect("it is connected");
    let reply: Value = serde_json::from_slice(&line).expect("a line is JSON");
    let (session, node) = (&reply["connect"]["session"], &reply["connect"]["node"]);
    let publish = r#"{"id":2,"publish":{"channel":"news","data":1}}"#;
    let body = serde_json::json!({"session": session, "node": node, "data": publish}).to_string();
    let reply = http::post(gateway.address("web"), "/emulation", body.as_bytes()).await;
    assert_eq!(reply.status, 204);
    let publish = collector.span("publish").await;
    let request = collector.span("POST /emulation").await;
    assert_eq!((&publish.trace_id, &publish.parent), (&request.trace_id, &request.span_id));
    assert_fans_out(&fanouts(&collector, &publish, 2).await, &publish, 2);
}

#[tokio::test]
async fn a_broadcast_is_one_publish_and_its_fanout_is_bounded() {
    let collector = Collector::start(Manner::Grpc).await;
    let gateway = gateway(&collector.keys()).await;
    let mut client = subscriber(&gateway).await;
    for n in 0..100 {
        let id = n + 10;
        client.say(&format!(r#"{{"id":{id},"subscribe":{{"channel":"c{n}"}}}}"#)).await;
        client.hear().await;
    }
    let channels: Vec<_> = (0..100).map(|n| format!("c{n}")).collect();
    let body = serde_json::json!({"channels": channels, "data": 1}).to_string();
    http::post(gateway.address("web"), "/api/broadcast", body.as_bytes()).await;
    let publish = collector.span("publish").await;
    assert_eq!(publish.attribute("weir.channels"), "100");
    assert_eq!(fanouts(&collector, &publish, 64).await.len(), 64);
}

#[tokio::test]
async fn what_is_not_sampled_has_no_span_of_its_fanout() {
    let collector = Collector::start(Manner::Grpc).await;
    let gateway = gateway(&collector.keys().replace("ratio = 1.0", "ratio = 0")).await;
    let mut client = subscriber(&gateway).await;
    let body = br#"{"channel":"news","data":1}"#;
    http::post(gateway.address("web"), "/api/publish", body).await;
    assert!(client.hear().await.contains(r#""pub""#));
    gateway.reload(|toml| toml.replace("ratio = 0", "ratio = 1.0")).await;
    http::post(gateway.address("web"), "/api/publish", body).await;
    let publish = collector.span("publish").await;
    fanouts(&collector, &publish, 1).await;
    let spans = collector.spans();
    assert_eq!(spans.iter().filter(|span| span.name == "fanout").count(), 1);
    assert_eq!(spans.iter().filter(|span| span.name == "publish").count(), 1);
}
