//! Paths that stand for many, and what a service says of its replies.

use super::*;
use crate::service::Document;

/// Answers with the path that was asked for, as JSON, and has a document to read.
struct Described;

struct Asked(Arc<str>);

impl Service for Described {
    fn route(&self) -> &str {
        "described"
    }

    fn content_type(&self) -> Option<&'static str> {
        Some("application/json")
    }

    fn document(&self, path: &str) -> Option<Document> {
        let body = Bytes::from_static(b"read me");
        path.ends_with("/doc").then(|| Document::new("text/markdown", body))
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        Box::new(Asked(Arc::clone(opening.path.expect("HTTP has paths"))))
    }
}

impl Session for Asked {
    fn on_message(
        &mut self,
        _message: Message<'_>,
        _request: &RequestId,
        _now: std::time::Instant,
        actions: &mut Actions,
    ) {
        actions.reply(MessageKind::Text, &[b"\"", self.0.as_bytes(), b"\""]);
    }

    fn on_answer(
        &mut self,
        _ticket: Ticket,
        _answer: Answer,
        _request: &RequestId,
        _now: std::time::Instant,
        _actions: &mut Actions,
    ) {
        unreachable!("nothing is asked");
    }
}

fn site_of(paths: &[&str], registry: &Registry) -> HttpSite {
    let path = |path: &&str| HttpPath {
        path: (*path).into(),
        kind: PathKind::Post { origins: Origins::default() },
        service: Arc::new(Described),
    };
    HttpSite::new(
        "web".to_owned(),
        paths.iter().map(path).collect(),
        Limits::default(),
        Timeouts::default(),
        &HttpMetrics::register(registry).unwrap(),
    )
}

#[test]
fn a_star_stands_for_whatever_is_there_and_an_exact_or_longer_path_comes_first() {
    let site = site_of(&["/*", "/api/*", "/api/one", "/a*", "/api"], &Registry::new());
    for (asked, found) in [
        ("/api/two", Some(1)),
        ("/api/one/more", Some(1)),
        ("/api/one", Some(2)),
        ("/api", Some(4)),
        // Nothing is in place of the star.
        ("/api/", Some(0)),
        ("/other", Some(0)),
        // A star elsewhere is a star.
        ("/ab", Some(0)),
        ("/a*", Some(3)),
        ("/", None),
        ("*", None),
    ] {
        assert_eq!(site.find(asked), found, "{asked}");
    }
}

fn connect_described() -> Client {
    let registry = Registry::new();
    let site = site_of(&["/other", "/api/*"], &registry);
    connect_to(site, registry, 64 << 10)
}

fn post_to(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}")
}

#[tokio::test]
async fn a_session_sees_the_path_that_was_asked_for_and_its_reply_has_the_services_type() {
    let mut client = connect_described();
    client.send(post_to("/api/one?x=y")).await;
    let (head, body) = client.expect(200).await;
    assert_eq!(body, "\"/api/one\"");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    client.send(post_to("/apix")).await;
    client.expect(404).await;
}

#[tokio::test]
async fn a_document_is_read_by_get_and_everything_else_there_is_posted_to() {
    let mut client = connect_described();
    client.send(get("/api/doc", "")).await;
    let (head, body) = client.expect(200).await;
    assert_eq!(body, "read me");
    assert!(head.contains("content-type: text/markdown\r\n"), "{head}");
    client.send(get("/api/other", "")).await;
    let (head, _) = client.expect(405).await;
    assert!(head.contains("allow: post\r\n"), "{head}");
}

#[tokio::test]
async fn a_page_is_read_by_get_and_head_and_takes_nothing_else() {
    let registry = Registry::new();
    let page =
        HttpPath { path: "/pages/*".into(), kind: PathKind::Page, service: Arc::new(Described) };
    let metrics = HttpMetrics::register(&registry).unwrap();
    let (limits, timeouts) = (Limits::default(), Timeouts::default());
    let site = HttpSite::new("web".to_owned(), vec![page], limits, timeouts, &metrics);
    let mut client = connect_to(site, registry, 64 << 10);
    client.send(get("/pages/doc", "")).await;
    let (head, body) = client.expect(200).await;
    assert_eq!(body, "read me");
    assert!(head.contains("content-type: text/markdown\r\n"), "{head}");
    client.send(get("/pages/other", "")).await;
    client.expect(404).await;
    client.send(post_to("/pages/doc")).await;
    let (head, _) = client.expect(405).await;
    assert!(head.contains("allow: get, head\r\n"), "{head}");
    client.send("HEAD /pages/doc HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let head = client.rest().await;
    assert!(head.contains("content-length: 7\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}
