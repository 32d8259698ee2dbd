//! What the side port promises an operator, over real sockets: it answers whatever hangs, to whom
//! it may, within bounds, and it closes without cutting an answer short.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Registry};
use serde_json::json;
use support::{View, eventually, now, read, start, start_with};
use weir_ops::{Access, LifeStage, LogControl, ROUTES, Token};

#[test]
fn every_route_is_listed_and_answers_and_nothing_else_does() {
    let side = start();
    side.health.enter(LifeStage::Serving);
    let index = side.get("/").text();
    let missing = side.get("/nowhere");
    assert_eq!(missing.status, 404);
    for route in ROUTES {
        assert!(index.contains(route.path) && index.contains(route.what), "{}", route.path);
        let listed = format!("{} {}", route.method, route.path);
        assert!(missing.json()["routes"].as_array().expect("routes").contains(&json!(listed)));
        let other = side.ask("DELETE", route.path, "Host: localhost\r\n", b"");
        assert_eq!(other.status, 405, "{}", route.path);
        assert!(other.header("allow").expect("allow").contains(route.method.as_str()));
    }
    let page = side.ask("GET", "/", "Host: localhost\r\nAccept: text/html\r\n", b"");
    assert!(page.header("content-type").expect("a type").starts_with("text/html"));
    for path in ["/healthz", "/readyz", "/startupz", "/metrics", "/config", "/log", "/connections"]
    {
        let reply = side.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let head = side.ask("HEAD", path, "Host: localhost\r\n", b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "HEAD {path}");
    }
}

#[test]
fn metrics_are_the_registry_in_the_text_form() {
    let registry = Registry::new();
    let counter = IntCounter::new("weir_tests_total", "Tests.").expect("a counter");
    registry.register(Box::new(counter.clone())).expect("a new name");
    counter.inc_by(3);
    let side = start_with(|_, state| state.registry = registry);
    let page = side.get("/metrics");
    assert_eq!(
        page.header("content-type").as_deref(),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(
        page.text(),
        "# HELP weir_tests_total Tests.\n# TYPE weir_tests_total counter\nweir_tests_total 3\n"
    );
}

#[test]
fn health_is_the_loops_and_readiness_the_stage() {
    let side = start();
    assert_eq!((side.get("/healthz").status, side.get("/readyz").status), (200, 503));
    assert_eq!(side.get("/startupz").status, 503);
    let heartbeat = side.health.worker("weir-worker-3", now() - Duration::from_secs(0));
    side.health.enter(LifeStage::Serving);
    assert_eq!(side.get("/readyz").status, 200);
    side.health.enter(LifeStage::Draining);
    let unready = side.get("/readyz");
    assert_eq!((unready.status, &unready.json()["stage"]), (503, &json!("draining")));
    assert_eq!(side.get("/healthz").status, 200);
    drop(heartbeat);
}

/// A collector that takes its time.
struct Slow(Duration, Desc);

impl Collector for Slow {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.1]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        std::thread::sleep(self.0);
        Vec::new()
    }
}

#[test]
fn a_collector_that_hangs_holds_up_neither_health_nor_the_end() {
    let desc = Desc::new("slow".into(), "Slow.".into(), vec![], Default::default());
    let slow = Slow(Duration::from_secs(20), desc.expect("a description"));
    let mut side = start_with(|options, state| {
        options.timeouts.request = Duration::from_millis(300);
        state.registry.register(Box::new(slow)).expect("a new name");
    });
    for _ in 0..5 {
        let mut scrape = side.connect();
        scrape.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("sent");
        let asked = now();
        assert_eq!(side.get("/healthz").status, 200);
        assert!(now() - asked < Duration::from_millis(200), "{:?}", now() - asked);
    }
    assert_eq!(side.get("/metrics").status, 503);
    let asked = now();
    side.handle.take().expect("running").stop(Duration::from_millis(100));
    assert!(now() - asked < Duration::from_secs(1), "{:?}", now() - asked);
}

#[test]
fn health_is_answered_when_every_seat_is_taken() {
    let side = start_with(|options, _| options.requests_max = 2);
    let idle: Vec<TcpStream> = (0..2).map(|_| side.connect()).collect();
    eventually("the seats are taken", || side.get("/config").status == 503);
    assert_eq!(side.get("/healthz").status, 200);
    assert_eq!(side.get("/metrics").status, 200);
    drop(idle);
    eventually("the seats are free", || side.get("/config").status == 200);
}

#[test]
fn more_connections_than_places_wait_and_are_answered() {
    let side = start_with(|options, _| {
        options.requests_max = 2;
        options.timeouts.header = Duration::from_millis(500);
    });
    let _idle: Vec<TcpStream> = (0..40).map(|_| side.connect()).collect();
    assert_eq!(side.get("/healthz").status, 200);
}

#[test]
fn a_head_that_does_not_end_in_time_closes_the_connection() {
    let side = start_with(|options, _| options.timeouts.header = Duration::from_millis(200));
    for sent in ["", "GET /config HTTP/1.1\r\nHost: local"] {
        let mut stream = side.connect();
        stream.write_all(sent.as_bytes()).expect("sent");
        let began = now();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("an end");
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        assert!(now() - began < Duration::from_secs(3));
    }
}

#[test]
fn a_reader_that_does_not_read_loses_its_connection() {
    let side = start_with(|options, state| {
        options.timeouts.write = Duration::from_millis(300);
        state.config = Arc::new(|| json!("x".repeat(32 << 20)));
    });
    let mut stream = side.connect();
    stream.write_all(b"GET /config HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0]).expect("the answer begins");
    std::thread::sleep(Duration::from_secs(1));
    let mut got = Vec::new();
    // A reset counts as well as an end.
    let ended = stream.read_to_end(&mut got);
    assert!(ended.is_err() || got.len() < 32 << 20, "all of it arrived");
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let side = start();
    let mut stream = side.connect();
    let request = "GET /healthz HTTP/1.1\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{request}{request}{last}").as_bytes()).expect("sent");
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("an end");
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 3, "{all}");
}

#[test]
fn a_body_over_the_cap_is_refused() {
    let side = start();
    let put = |body: &[u8]| side.ask("PUT", "/log", "Host: localhost\r\n", body).status;
    assert_eq!(put(&vec![b'a'; 64 * 1024]), 200);
    assert_eq!(put(&vec![b'a'; 64 * 1024 + 1]), 413);
    assert_eq!(put(&vec![b'a'; 900 * 1024]), 413);
}

#[test]
fn the_log_filter_changes_for_a_while_and_a_bad_one_is_told_in_the_parsers_words() {
    let side = start();
    let put =
        |path: &str, body: &str| side.ask("PUT", path, "Host: localhost\r\n", body.as_bytes());
    let changed = put("/log?ttl=300ms", "debug\n");
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["filter"], "debug");
    assert_eq!(side.get("/log").json()["reverts_to"], "info");
    eventually("the filter is as before", || side.filter.filter() == "info");
    assert_eq!(side.get("/log").json(), json!({ "filter": "info" }));
    let bad = put("/log", "a==b");
    assert_eq!((bad.status, bad.json()), (400, json!({ "error": "invalid filter directive" })));
    let bad = put("/log?tll=1s", "debug");
    assert!(bad.text().contains("\\\"ttl\\\""), "{}", bad.text());
}

#[test]
fn connections_are_paged_by_a_cursor() {
    let side = start();
    let first = side.get("/connections?limit=2").json();
    assert_eq!(first["connections"].as_array().expect("rows").len(), 2);
    assert_eq!(first["connections"][0]["state"], "open");
    let cursor = first["next"].as_str().expect("a cursor");
    let second = side.get(&format!("/connections?limit=2&cursor={cursor}")).json();
    assert_eq!(second["connections"][0]["id"], "0000000000000003");
    assert!(second["next"].is_null());
    assert_eq!(side.get(&format!("/connections?sort=age&cursor={cursor}")).status, 400);
}

#[test]
fn a_view_that_does_not_answer_is_given_up() {
    let side = start_with(|options, state| {
        options.timeouts.request = Duration::from_millis(200);
        state.connections = Arc::new(View { delay: Duration::from_secs(60) });
    });
    let reply = side.get("/connections");
    assert_eq!((reply.status, reply.json()), (503, json!({ "error": "no answer within 0.2 s" })));
}

#[test]
fn a_drain_is_asked_for_by_post_and_not_by_another_sites_page() {
    let side = start();
    let host = "Host: localhost:6060\r\n";
    assert_eq!(side.ask("GET", "/drain", host, b"").status, 405);
    for foreign in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(side.ask("POST", "/drain", &format!("{host}{foreign}"), b"").status, 403);
    }
    assert_eq!(side.ask("POST", "/drain", "Host: evil.example\r\n", b"").status, 403);
    assert_eq!(side.drains.load(Ordering::SeqCst), 0);
    assert_eq!(side.ask("POST", "/drain", host, b"").status, 202);
    assert_eq!(side.drains.load(Ordering::SeqCst), 1);
}

#[test]
fn only_health_and_metrics_are_answered_under_any_name() {
    let side = start_with(|options, _| options.hosts = vec!["weir.internal".to_owned()]);
    side.health.enter(LifeStage::Serving);
    for route in ROUTES.iter().filter(|route| route.method == http::Method::GET) {
        let foreign = side.ask("GET", route.path, "Host: rebound.example\r\n", b"").status;
        assert_eq!(foreign, if route.access == Access::Open { 200 } else { 403 }, "{}", route.path);
    }
    assert_eq!(side.ask("GET", "/config", "Host: weir.internal:6060\r\n", b"").status, 200);
    assert_eq!(side.ask("GET", "/healthz", "", b"").status, 200);
    assert_eq!(side.ask("GET", "/config", "", b"").status, 400);
}

#[test]
fn beyond_loopback_the_rest_needs_the_token() {
    let beyond = |token: Option<&str>| {
        let token = token.map(Token::new);
        start_with(|options, _| {
            options.address = ([0, 0, 0, 0], 0).into();
            options.token = token;
        })
    };
    let host = "Host: 10.0.0.1\r\n";
    let closed = beyond(None);
    let refused = closed.ask("GET", "/config", host, b"");
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("ops.token"), "{}", refused.text());
    assert_eq!(closed.ask("GET", "/metrics", host, b"").status, 200);

    let side = beyond(Some("open-sesame"));
    let get = |path: &str, header: &str| side.ask("GET", path, &format!("{host}{header}"), b"");
    assert_eq!(get("/healthz", "").status, 200);
    let unauthorized = get("/config", "Authorization: Bearer open-sesam\r\n");
    assert_eq!(unauthorized.status, 401);
    assert_eq!(unauthorized.json(), json!({ "error": "unauthorized" }));
    assert_eq!(unauthorized.header("www-authenticate").as_deref(), Some("Bearer"));
    assert_eq!(get("/nowhere", "").status, 401, "what is there is not told");
    assert_eq!(get("/config", "Authorization: Bearer open-sesame\r\n").status, 200);
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn stopping_answers_what_is_under_way_then_closes_and_drops_all() {
    let (ran, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (running, guard) = (ran.clone(), Dropped(dropped.clone()));
    let mut side = start_with(|_, state| {
        state.connections = Arc::new(View { delay: Duration::from_millis(500) });
        state.background.push(Box::pin(async move {
            running.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
            drop(guard);
        }));
    });
    let _idle = side.connect();
    let mut asked = side.connect();
    asked.write_all(b"GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    assert!(ran.load(Ordering::SeqCst));
    let stopping = now();
    side.handle.take().expect("running").stop(Duration::from_secs(5));
    assert!(now() - stopping < Duration::from_secs(2), "idle connections are not waited for");
    assert_eq!(read(&mut asked).status, 200);
    assert!(dropped.load(Ordering::SeqCst), "background tasks end with the port");
    assert!(TcpStream::connect(side.address).is_err());
}
