//! Traces as a collector receives them: the trees of the three roads through weir, what sampling
//! promises, and that no collector and no peer can do harm.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::time::Instant;
use weir_tests::collector::{Collector, Manner, Span};
use weir_tests::pki::{Identity, Pki};
use weir_tests::prometheus::Prometheus;
use weir_tests::rows::Client;
use weir_tests::{Gateway, LinePeer, Peer, Upstream, WebSocket, http, tools, wait};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// The span of this name among these.
#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no {name} among {:?}", names(spans)))
}

/// That a parent's times hold its children's.
#[track_caller]
fn assert_within(children: &[Span], parent: &Span) {
    for child in children {
        // Each span is placed by two clocks, which differ by what lies between their reads.
        let slack = 5_000_000;
        assert!(
            child.start + slack >= parent.start && child.end <= parent.end + slack,
            "{child:?}"
        );
        assert!(child.start <= child.end, "{child:?}");
    }
}

#[tokio::test]
async fn a_websocket_message_through_an_upstream_is_a_tree_that_links_to_its_handshake() {
    for manner in [Manner::Grpc, Manner::Http] {
        let collector = Collector::start(manner).await;
        let upstream = Upstream::start(Duration::from_millis(5)).await;
        let gateway = Gateway::start()
            .section("traces", &collector.keys())
            .answered_by(upstream.address(), "")
            .await;
        let mut client = WebSocket::join(&gateway).await;
        client.say("an order").await;
        assert_eq!(client.hear().await, "answer: an order");

        let message = collector.span("process main").await;
        assert_eq!((message.kind.as_str(), message.parent.as_str()), ("Consumer", ""));
        assert_eq!(message.attribute("messaging.system"), "weir");
        assert_eq!(message.attribute("messaging.operation.type"), "process");
        assert_eq!(message.attribute("messaging.destination.name"), "main");
        assert_eq!(message.attribute("messaging.message.body.size"), "8");
        assert_eq!(message.attribute("network.protocol.name"), "websocket");
        assert_eq!(message.attribute("network.peer.address"), "127.0.0.1");
        assert_eq!(message.attribute("weir.listener"), "http");
        assert_eq!(message.attribute("weir.cause"), "sampled");
        let request = message.attribute("messaging.message.id");
        assert_eq!(upstream.received()[0].header("x-request-id"), Some(request));
        assert_eq!(message.resource["service.name"], "weir");

        let handshake = collector.span("GET /ws").await;
        assert_eq!((handshake.kind.as_str(), handshake.parent.as_str()), ("Server", ""));
        assert_eq!(handshake.attribute("http.request.method"), "GET");
        assert_eq!(handshake.attribute("http.route"), "/ws");
        assert_eq!(handshake.attribute("http.response.status_code"), "101");
        let link = (handshake.trace_id.clone(), handshake.span_id.clone());
        assert_eq!(message.links, [link]);
        assert_ne!(message.trace_id, handshake.trace_id);
        assert!(handshake.end <= message.start, "a span as long as a connection");

        let stages = collector.children(&message);
        let mut expected = ["frame", "decode", "pool_wait", "POST /orders", "queue", "write"];
        let mut found = names(&stages);
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
        assert_within(&stages, &message);
        let call = named(&stages, "POST /orders");
        assert_eq!(call.kind, "Client");
        assert_eq!(call.attribute("weir.stage"), "upstream");
        assert_eq!(call.attribute("http.response.status_code"), "200");
        assert_eq!(call.attribute("url.template"), "/orders");
        assert_eq!(call.attribute("service.peer.name"), "backend");
        assert_eq!(call.attribute("server.port"), upstream.address().port().to_string());
        assert!(stages.iter().all(|span| span.kind == "Internal" || span.kind == "Client"));
        let told = format!("00-{}-{}-01", call.trace_id, call.span_id);
        assert_eq!(upstream.received()[0].header("traceparent"), Some(told.as_str()));
    }
}

#[tokio::test]
async fn an_http_request_continues_its_trace_and_so_does_the_upstream() {
    let collector = Collector::start(Manner::Grpc).await;
    let upstream = Upstream::start(Duration::ZERO).await;
    let gateway = Gateway::start()
        .section("traces", &collector.keys())
        .answered_by(upstream.address(), "")
        .await;
    let headers = format!("traceparent: {}\r\ntracestate: rojo=1,congo=2\r\n", traceparent());
    let reply = http::request(gateway.address("http"), "POST /echo?a=b", &headers, b"hi").await;
    assert_eq!((reply.status, reply.text()), (200, "answer: hi"));

    let request = collector.span("POST /echo").await;
    assert_eq!(request.kind, "Server");
    assert_eq!((request.trace_id.as_str(), request.parent.as_str()), (TRACE, PARENT));
    assert_eq!(request.state, "rojo=1,congo=2");
    assert_eq!(request.attribute("http.request.method"), "POST");
    assert_eq!(request.attribute("http.route"), "/echo");
    assert_eq!(request.attribute("url.path"), "/echo");
    assert_eq!(request.attribute("http.response.status_code"), "200");
    assert_eq!(request.attribute("network.protocol.version"), "1.1");
    assert!(request.links.is_empty() && !request.failed);

    let stages = collector.children(&request);
    let mut found = names(&stages);
    found.sort_unstable();
    assert_eq!(found, ["POST /orders", "decode", "frame", "pool_wait"]);
    assert_within(&stages, &request);
    let call = named(&stages, "POST /orders");
    let told = format!("00-{TRACE}-{}-01", call.span_id);
    assert_eq!(upstream.received()[0].header("traceparent"), Some(told.as_str()));
    assert_eq!(upstream.received()[0].header("tracestate"), Some("rojo=1,congo=2"));
}

/// A listener whose route looks for a trace context in its lines.
fn carrying(upstream: &Upstream, carrier: &str) -> String {
    let target = upstream.address();
    format!(
        "[[listeners]]\nname = \"carrying\"\naddress = \"127.0.0.1:0\"\nwire = \"lines\"\n\
         route = \"carrying\"\n[[routes]]\nname = \"carrying\"\nkind = \"upstream\"\n\
         upstream = \"carried\"\npath = \"/lines\"\n{carrier}\n[[upstreams]]\nname = \"carried\"\n\
         targets = [\"http://{target}\"]"
    )
}

#[tokio::test]
async fn a_line_that_carries_a_traceparent_continues_its_trace() {
    let collector = Collector::start(Manner::Http).await;
    let upstream = Upstream::start(Duration::ZERO).await;
    let gateway = Gateway::start()
        .section("traces", &collector.keys())
        .tables(&carrying(&upstream, "trace_prefix = \"traceparent=\""))
        .await;
    let mut line = LinePeer { peer: Peer::connect(gateway.address("carrying")).await };
    line.say(&format!("traceparent={} temp 21.5", traceparent())).await;
    assert_eq!(line.hear().await, "answer: temp 21.5", "the prefix is no part of the message");

    let message = collector.span("process carrying").await;
    assert_eq!(message.kind, "Consumer");
    assert_eq!((message.trace_id.as_str(), message.parent.as_str()), (TRACE, PARENT));
    assert_eq!(message.attribute("network.protocol.name"), "lines");
    assert_eq!(message.attribute("messaging.message.body.size"), "9");
    assert!(message.links.is_empty(), "TCP has no handshake to link to");
    let stages = collector.children(&message);
    let call = named(&stages, "POST /lines");
    assert_within(&stages, &message);
    let told = format!("00-{TRACE}-{}-01", call.span_id);
    assert_eq!(upstream.received()[0].header("traceparent"), Some(told.as_str()));
}

#[tokio::test]
async fn a_field_of_a_message_carries_a_trace_and_stays_in_it() {
    let collector = Collector::start(Manner::Grpc).await;
    let upstream = Upstream::start(Duration::ZERO).await;
    let gateway = Gateway::start()
        .section("traces", &collector.keys())
        .tables(&carrying(&upstream, "trace_field = \"trace\""))
        .await;
    let mut line = LinePeer { peer: Peer::connect(gateway.address("carrying")).await };
    let text = format!(r#"{{"n":1,"trace":"{}"}}"#, traceparent());
    line.say(&text).await;
    assert_eq!(line.hear().await, format!("answer: {text}"));
    let message = collector.span("process carrying").await;
    assert_eq!((message.trace_id.as_str(), message.parent.as_str()), (TRACE, PARENT));
}

#[tokio::test]
async fn malformed_and_hostile_contexts_change_nothing_and_are_counted() {
    let collector = Collector::start(Manner::Grpc).await;
    let upstream = Upstream::start(Duration::ZERO).await;
    let gateway = Gateway::start()
        .section("traces", &format!("{}\nmessages_per_second_max = 1000", collector.keys()))
        .answered_by(upstream.address(), "")
        .tables(&carrying(&upstream, "trace_prefix = \"traceparent=\""))
        .await;
    let zeros = format!("00-{}-{PARENT}-01", "0".repeat(32));
    let upper = traceparent().to_uppercase();
    let long = format!("cc-{TRACE}-{PARENT}-01-{}", "x".repeat(4000));
    let bad = ["", "x", "00-00-00-00", &zeros, &upper, &long, "ff-\u{e9}", "%s%n{{}}"];
    let address = gateway.address("http");
    for value in bad {
        let headers = format!("traceparent: {value}\r\n");
        let reply = http::request(address, "POST /echo", &headers, b"hi").await;
        assert_eq!((reply.status, reply.text()), (200, "answer: hi"), "{value:?}");
    }
    let twice = format!("traceparent: {0}\r\ntraceparent: {0}\r\n", traceparent());
    assert_eq!(http::request(address, "POST /echo", &twice, b"hi").await.status, 200);
    let mut line = LinePeer { peer: Peer::connect(gateway.address("carrying")).await };
    for value in ["x", &zeros, &upper, "{{}}"] {
        let text = format!("traceparent={value} hello");
        line.say(&text).await;
        assert_eq!(line.hear().await, format!("answer: {text}"));
    }
    let metrics = gateway.metrics().await;
    let malformed = |source| [("source", source), ("result", "malformed")];
    let count = |source| metrics.count("weir_trace_contexts_total", &malformed(source));
    assert_eq!((count("http"), count("message")), (9, 4));
    wait::eventually("every request to be traced as one of its own", async || {
        let spans = collector.spans();
        let roots = spans.iter().filter(|span| span.kind == "Server" || span.kind == "Consumer");
        let roots: Vec<_> = roots.collect();
        assert!(roots.iter().all(|span| span.parent.is_empty() && span.trace_id != TRACE));
        (roots.len() == 13).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_strangers_flag_decides_nothing_and_a_trusted_peers_does() {
    let collector = Collector::start(Manner::Grpc).await;
    let upstream = Upstream::start(Duration::ZERO).await;
    let headers = format!("traceparent: {}\r\n", traceparent());
    for (trusted, expected) in [("[]", "00"), (r#"["127.0.0.0/8"]"#, "01")] {
        let keys = collector.keys().replace("ratio = 1.0", "ratio = 0");
        let gateway = Gateway::start()
            .section("traces", &format!("{keys}\ntrust_sampled_from = {trusted}"))
            .answered_by(upstream.address(), "")
            .await;
        http::request(gateway.address("http"), "POST /echo", &headers, b"hi").await;
        let received = upstream.received();
        let told = received.last().and_then(|request| request.header("traceparent"));
        let told = told.expect("the trace is passed on").to_owned();
        assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with(expected), "{told}");
        if expected == "01" {
            collector.span("POST /echo").await;
        }
    }
    assert_eq!(collector.spans().iter().filter(|span| span.kind == "Server").count(), 1);
}

#[tokio::test]
async fn a_collector_that_is_dead_silent_or_refusing_slows_nothing_down() {
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("a bound socket")
    };
    let silent = Collector::start(Manner::Silent).await;
    let grpc = Collector::start(Manner::RefusingGrpc).await;
    let over_http = Collector::start(Manner::RefusingHttp).await;
    let cases = [
        ("dead", format!("endpoint = \"http://{dead}\"\nratio = 1.0"), "failed"),
        ("silent", silent.keys(), "dropped"),
        ("refusing over grpc", grpc.keys(), "failed"),
        ("refusing over http", over_http.keys(), "failed"),
    ];
    for (what, keys, result) in cases {
        let bounds = "messages_per_second_max = 1000000\nqueue_max = 64";
        let mut gateway = Gateway::start()
            .section("runtime", "workers = 1\nservice_threads = 1")
            .section("traces", &format!("{keys}\n{bounds}"))
            .await;
        let mut client = WebSocket::join(&gateway).await;
        let begun = Instant::now();
        let mut slowest = Duration::ZERO;
        for n in 0..1500 {
            let asked = Instant::now();
            client.echo(&format!("message {n}")).await;
            slowest = slowest.max(asked.elapsed());
        }
        // The wait for a collector would be 2 s.
        assert!(slowest < Duration::from_secs(1), "{what}: an echo took {slowest:?}");
        let labels = [("result", result)];
        let metrics = gateway
            .wait_for(&format!("{what}: spans {result}"), |metrics| {
                metrics.count("weir_trace_spans_total", &labels) > 0
            })
            .await;
        assert!(metrics.value("weir_traces_waiting", &[]) <= 64.0, "{what}");
        assert_eq!(metrics.count("weir_trace_spans_total", &[("result", "exported")]), 0);
        drop(client);
        println!("{what}: 1,500 echoes in {:?}, the slowest in {slowest:?}", begun.elapsed());
        gateway.signal(Signal::TERM);
        let asked = Instant::now();
        assert_eq!(gateway.exit_code().await, 0, "{what}");
        // 0.1 s unready, nothing to drain, at most 2 s to flush; and a busy machine.
        assert!(asked.elapsed() < Duration::from_secs(4), "{what}: {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn the_ceiling_holds_under_load() {
    let collector = Collector::start(Manner::Grpc).await;
    let gateway = Gateway::start()
        .section("traces", &format!("{}\nmessages_per_second_max = 20", collector.keys()))
        .await;
    let mut client = WebSocket::join(&gateway).await;
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        client.echo("hello").await;
        sent += 1;
    }
    let took = begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let traced = collector.spans().iter().filter(|span| span.name == "process main").count();
    // And a tenth of a second's allowance at once.
    let most = 20.0 * (took + 0.5) + 3.0;
    println!("{traced} of {sent} messages were traced in {took:.1} s");
    assert!(sent > 400 && traced >= 20 && traced as f64 <= most, "{traced} of {sent}");
}

#[tokio::test]
async fn what_fails_is_traced_afterwards_and_its_log_lines_name_a_sampled_trace() {
    let collector = Collector::start(Manner::Grpc).await;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("a bound socket")
    };
    let keys = collector.keys();
    for (ratio, cause) in [("ratio = 0", "failed"), ("ratio = 1.0", "sampled")] {
        let gateway = Gateway::start()
            .section("traces", &keys.replace("ratio = 1.0", ratio))
            .section("logs", "filter = \"info,weir_upstream=debug\"")
            .answered_by(nobody, "")
            .await;
        let mut client = WebSocket::join(&gateway).await;
        client.say("an order").await;
        assert!(client.hear().await.starts_with("error: upstream unavailable"));
        let what = format!("a message traced because it was {cause}");
        let message = wait::eventually(&what, async || {
            let spans = collector.spans().into_iter();
            let mut spans = spans.filter(|span| span.name == "process main");
            spans.find(|span| span.attribute("weir.cause") == cause)
        })
        .await;
        assert!(message.failed);
        assert_eq!(message.attribute("error.type"), "unavailable");
        assert!(names(&collector.children(&message)).contains(&"pool_wait"));
        let line = gateway.logged("the call failed", |line| line["msg"] == "failed").await;
        if cause == "sampled" {
            assert_eq!(line["trace_id"], message.trace_id.as_str());
            assert_eq!(line["span_id"], message.span_id.as_str());
        } else {
            assert_eq!(line.get("trace_id"), None);
        }
    }
}

#[tokio::test]
async fn a_message_whose_peer_has_gone_ends_with_its_connection() {
    let collector = Collector::start(Manner::Grpc).await;
    let upstream = Upstream::start(Duration::from_secs(30)).await;
    let gateway = Gateway::start()
        .section("traces", &collector.keys())
        .answered_by(upstream.address(), "")
        .await;
    let mut client = WebSocket::join(&gateway).await;
    client.say("an order").await;
    wait::eventually("the upstream to be asked", async || upstream.received().pop()).await;
    client.into_peer().reset();
    let message = collector.span("process main").await;
    assert!(message.failed);
    assert_eq!(message.attribute("error.type"), "peer_reset");
}

#[tokio::test]
async fn sampling_is_reloaded() {
    let collector = Collector::start(Manner::Grpc).await;
    let keys = collector.keys().replace("ratio = 1.0", "ratio = 0");
    let gateway = Gateway::start().section("traces", &keys).await;
    let address = gateway.address("http");
    http::post(address, "/echo", b"before").await;
    gateway.reload(|toml| toml.replace("ratio = 0", "ratio = 1.0")).await;
    http::post(address, "/echo", b"after").await;
    let request = collector.span("POST /echo").await;
    assert_eq!(request.attribute("http.request.body.size"), "5");
    assert_eq!(collector.spans().iter().filter(|span| span.kind == "Server").count(), 1);
}

#[tokio::test]
async fn a_slow_message_is_traced_afterwards_with_the_stage_that_held_it_back() {
    let collector = Collector::start(Manner::Grpc).await;
    let upstream = Upstream::start(Duration::from_millis(300)).await;
    let keys = collector.keys().replace("ratio = 1.0", "ratio = 0\nslow = \"200ms\"");
    let gateway =
        Gateway::start().section("traces", &keys).answered_by(upstream.address(), "").await;
    let mut client = WebSocket::join(&gateway).await;
    client.say("an order").await;
    client.hear().await;
    let message = collector.span("process main").await;
    assert_eq!(message.attribute("weir.cause"), "slow");
    let stages = collector.children(&message);
    let call = named(&stages, "POST /orders");
    assert!(call.end - call.start >= 300_000_000, "{call:?}");
    assert_eq!(upstream.received()[0].header("traceparent"), None, "nobody knew then");
}

#[tokio::test]
async fn the_start_and_the_stages_of_the_stop_are_spans_and_the_last_ones_arrive() {
    let collector = Collector::start(Manner::Http).await;
    let mut gateway = Gateway::start().section("traces", &collector.keys()).await;
    let mut client = WebSocket::join(&gateway).await;
    client.echo("hello").await;
    gateway.signal(Signal::TERM);
    client.expect_close().await;
    assert_eq!(gateway.exit_code().await, 0);
    let spans = collector.spans();
    assert!(named(&spans, "start").parent.is_empty());
    let stop = named(&spans, "stop");
    assert_eq!(names(&collector.children(stop)), ["unready", "draining"]);
    named(&spans, "process main");
}

#[tokio::test]
async fn the_exemplar_of_a_sampled_message_is_seen_in_openmetrics() {
    let collector = Collector::start(Manner::Grpc).await;
    let upstream = Upstream::start(Duration::ZERO).await;
    let gateway = Gateway::start()
        .section("traces", &collector.keys())
        .answered_by(upstream.address(), "")
        .await;
    let mut client = WebSocket::join(&gateway).await;
    client.say("an order").await;
    client.hear().await;
    let message = collector.span("process main").await;
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let page = http::request(gateway.address("ops"), "GET /metrics", accept, b"").await;
    let kind = page.header("content-type");
    assert_eq!(kind, Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = page.text();
    assert!(text.ends_with("# EOF\n"));
    let trace = format!("# {{trace_id=\"{}\",span_id=\"{}\"}}", message.trace_id, message.span_id);
    let families = ["message", "stage", "upstream_request", "pool_acquire"];
    for family in families.map(|name| format!("weir_{name}_seconds")) {
        let bucket = format!("{family}_bucket");
        let shown = text.lines().any(|line| line.starts_with(&bucket) && line.contains(&trace));
        assert!(shown, "no exemplar at {family} in\n{text}");
    }
    let classic = gateway.ops("/metrics").await;
    assert_eq!(classic.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!classic.text().contains(" # "), "exemplars are for OpenMetrics");
    let checked = tools::shell("promtool check metrics", classic.text()).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{}", checked.stdout);
}

#[tokio::test]
async fn exemplars_are_seen_through_prometheus() {
    let collector = Collector::start(Manner::Grpc).await;
    let gateway = Gateway::start().section("traces", &collector.keys()).await;
    let prometheus = Prometheus::start(&[gateway.address("ops")]).await;
    WebSocket::join(&gateway).await.echo("hello").await;
    let message = collector.span("process main").await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let (start, end) = (now - 60, now + 60);
    let path = format!(
        "/api/v1/query_exemplars?query=weir_message_seconds_bucket&start={start}&end={end}"
    );
    let labels = wait::eventually("Prometheus to have scraped the exemplar", async || {
        let answer = prometheus.get(&path).await;
        let series = answer["data"].as_array()?.first()?;
        Some(series["exemplars"].as_array()?.first()?["labels"].clone())
    })
    .await;
    assert_eq!(labels["trace_id"], message.trace_id.as_str());
    assert_eq!(labels["span_id"], message.span_id.as_str());
}

#[tokio::test]
async fn the_standard_variables_are_honoured() {
    let collector = Collector::start(Manner::Http).await;
    let gateway = Gateway::start()
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .variable("OTEL_TRACES_SAMPLER", "always_on")
        .variable("OTEL_SERVICE_NAME", "orders-gateway")
        .variable("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .await;
    WebSocket::join(&gateway).await.echo("hello").await;
    let message = collector.span("process main").await;
    assert_eq!(message.resource["service.name"], "orders-gateway");
    assert_eq!(message.resource["deployment.environment.name"], "test");
}

/// The keys that show this certificate and trust this authority.
fn tls_keys(shown: &Identity, trusted: &Pki) -> String {
    let (certificate, key, ca) = (&shown.certificate, &shown.key, trusted.ca());
    format!(
        "ca_file = {ca:?}\nclient_certificate = {certificate:?}\nclient_key = {key:?}\n\
         export_timeout = \"5s\""
    )
}

#[tokio::test]
async fn a_collector_behind_tls_is_sent_spans_and_shown_a_certificate() {
    let pki = Pki::new();
    let (server, client) = (pki.issue("collector", &["localhost"]), pki.issue("weir", &["weir"]));
    for manner in [Manner::Grpc, Manner::Http] {
        let collector = Collector::start_behind_tls(manner, &server, &pki).await;
        let keys = format!("{}\n{}", collector.keys(), tls_keys(&client, &pki));
        let gateway = Gateway::start().section("traces", &keys).await;
        WebSocket::join(&gateway).await.echo("hello").await;
        collector.span("process main").await;
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.count("weir_trace_spans_total", &[("result", "failed")]), 0);
    }
}

#[tokio::test]
async fn a_collector_that_another_authority_vouches_for_is_sent_nothing_and_named_once() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (server, client) = (pki.issue("collector", &["localhost"]), pki.issue("weir", &["weir"]));
    for manner in [Manner::Grpc, Manner::Http] {
        let collector = Collector::start_behind_tls(manner, &server, &pki).await;
        let keys = format!("{}\n{}", collector.keys(), tls_keys(&client, &other));
        let gateway = Gateway::start().section("traces", &keys).await;
        let mut web = WebSocket::join(&gateway).await;
        web.echo("hello").await;
        gateway
            .wait_for("failed spans", |metrics| {
                metrics.count("weir_trace_spans_total", &[("result", "failed")]) > 0
            })
            .await;
        let told = |line: &serde_json::Value| line["msg"] == "spans cannot be exported";
        let line = gateway.logged("that spans cannot be exported", told).await;
        assert_eq!(line["level"], "warn");
        let error = line["error"].as_str().expect("a text");
        assert!(error.contains("invalid peer certificate"), "{manner:?}: {error}");
        assert!(collector.spans().is_empty());
        web.echo("nobody else is harmed").await;
    }
}

#[tokio::test]
async fn the_variables_of_tls_and_headers_are_honoured_and_no_secret_is_shown() {
    let pki = Pki::new();
    let (server, client) = (pki.issue("collector", &["localhost"]), pki.issue("weir", &["weir"]));
    let collector = Collector::start_behind_tls(Manner::Http, &server, &pki).await;
    let text = |path: &std::path::Path| path.display().to_string();
    let gateway = Gateway::start()
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .variable("OTEL_EXPORTER_OTLP_CERTIFICATE", &text(&pki.ca()))
        .variable("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &text(&client.certificate))
        .variable("OTEL_EXPORTER_OTLP_CLIENT_KEY", &text(&client.key))
        .variable("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20planted-secret")
        .variable("OTEL_TRACES_SAMPLER", "always_on")
        .await;
    WebSocket::join(&gateway).await.echo("hello").await;
    collector.span("process main").await;
    assert!(collector.heads()[0].contains("authorization: Bearer planted-secret"));
    let config = gateway.ops("/config").await;
    assert!(config.text().contains(&text(&pki.ca())), "{}", config.text());
    assert!(!config.text().contains("planted-secret"));
}
