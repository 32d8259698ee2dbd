//! The server API of channels, by the Python SDK of backends and by hand, against the real program.

use serde_json::{Value, json};
use weir_tests::gateway::{Start, config_file, weir_command};
use weir_tests::http::{self, Reply};
use weir_tests::{Gateway, tools};

const KEY: &str = "a-key-of-sixteen-and-more";
const SECRET: &str = "a-shared-secret-of-32-bytes-or-more";

/// A weir with channels and their API, whose route has these keys.
fn api(keys: &str) -> Start {
    Gateway::start()
        .tables(
            "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nwire = \"http\"\n\
             [[listeners.paths]]\npath = \"/connection/websocket\"\nkind = \"websocket\"\n\
             route = \"channels\"\n\
             [[listeners.paths]]\npath = \"/api/*\"\nkind = \"post\"\nroute = \"api\"\n\
             [[listeners.paths]]\npath = \"/api\"\nkind = \"post\"\nroute = \"api\"\n\
             [[routes]]\nname = \"channels\"\nkind = \"channels\"\n",
        )
        .tables(&format!("[[routes]]\nname = \"api\"\nkind = \"channels_api\"\n{keys}\n"))
        .tables(&format!(
            "[[auth.api_keys]]\nname = \"backend\"\nkey = \"{KEY}\"\n\
             [[channels.token.keys]]\nname = \"main\"\nalgorithm = \"hmac\"\nkey = \"{SECRET}\"\n\
             [channels.without_namespace]\nhistory_size = 100\nhistory_ttl = \"10m\"\n\
             presence = true\nallow_subscribe_for_client = true\n"
        ))
}

const GUARDED: &str = "auth = \"api_key\"";

async fn ask(gateway: &Gateway, path: &str, headers: &str, body: &str) -> Reply {
    let line = format!("POST {path}");
    http::request(gateway.address("web"), &line, headers, body.as_bytes()).await
}

/// The status and the body of what was asked without any key.
async fn told(gateway: &Gateway, path: &str, headers: &str, body: &str) -> (u16, Value) {
    let reply = ask(gateway, path, headers, body).await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    (reply.status, reply.json())
}

#[tokio::test]
async fn a_backend_does_everything_with_its_sdk_and_a_subscriber_sees_it() {
    let gateway = api(GUARDED).await;
    let address = gateway.address("web");
    let token = tools::python(
        &[
            "-c",
            "import base64, hashlib, hmac, sys\n\
             b = lambda data: base64.urlsafe_b64encode(data).rstrip(b'=')\n\
             text = b(b'{\"alg\":\"HS256\"}') + b'.' + b(b'{\"sub\":\"ann\"}')\n\
             sign = hmac.new(sys.argv[1].encode(), text, hashlib.sha256).digest()\n\
             print((text + b'.' + b(sign)).decode())",
            SECRET,
        ],
        "",
    );
    let token = token.await.succeeded();
    let (ws, url) =
        (format!("ws://{address}/connection/websocket"), format!("http://{address}/api"));
    let arguments = ["tests/clients/cent/conversation.py", &ws, &url, KEY, token.trim()];
    let printed = tools::python(&arguments, "").await.succeeded();
    let seen: Value = serde_json::from_str(&printed).expect("python prints JSON");
    let expected = json!({
        "first": [1, 16],
        "keyed": [2, 2],
        "broadcast": [3, 102],
        "published": [[1, {"n": 1}], [2, {"n": 2}], [3, {"n": 3}]],
        "presence": ["ann"],
        "stats": [1, 1],
        "history": [[3, {"n": 3}, {"a": "b"}], [2, {"n": 2}, null]],
        "channels": {"room": 1},
        "info": ["weir", 1, 1, 1],
        "batch": [1, 1],
        "removed": [0, 0],
        "unknown": 102,
        "left": [[4500, "enough"]],
        "stranger": "unauthorized",
    });
    assert_eq!(seen, expected);
    let metrics = gateway.metrics().await;
    let published =
        |origin| metrics.count("weir_channels_publications_total", &[("origin", origin)]);
    assert_eq!((published("api"), published("client")), (5, 0));
    let errors = [("error", "unknown_channel")];
    assert_eq!(metrics.count("weir_channels_api_errors_total", &errors), 2);
}

#[tokio::test]
async fn a_key_comes_in_a_header_or_in_the_query_and_without_one_nothing_is_told() {
    let gateway = api(GUARDED).await;
    for (path, headers, status) in [
        ("/api/info", format!("X-API-Key: {KEY}\r\n"), 200),
        ("/api/info", format!("Authorization: apikey {KEY}\r\n"), 200),
        (&*format!("/api/info?api_key={KEY}"), String::new(), 200),
        ("/api/info", String::new(), 401),
        ("/api/info", "X-API-Key: another-key-of-that-length\r\n".to_owned(), 401),
        ("/api/info?api_key=another-key-of-that-length", String::new(), 401),
        ("/api/nothing", String::new(), 401),
        ("/api", String::new(), 401),
    ] {
        let reply = ask(&gateway, path, &headers, "{}").await;
        assert_eq!(reply.status, status, "{path} {headers}");
    }
    assert_eq!(http::get(gateway.address("web"), "/api/openapi.json").await.status, 401);
}

#[tokio::test]
async fn an_error_is_in_the_body_or_has_a_status_as_route_and_request_want() {
    let unknown = r#"{"channel":"nothing:x","data":1}"#;
    let transport = "X-Centrifugo-Error-Mode: transport\r\n";
    let gateway = api("").await;
    let publish = "/api/publish";
    let (status, body) = told(&gateway, publish, "", unknown).await;
    assert_eq!((status, &body["error"]["code"]), (200, &json!(102)));
    let (status, body) = told(&gateway, publish, transport, unknown).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!(102)));
    assert_eq!(told(&gateway, publish, "", "{\"channel\":").await.0, 400);
    assert_eq!(told(&gateway, "/api/nothing", "", "{}").await.0, 404);
    let gateway = api("error_mode = \"transport\"").await;
    assert_eq!(told(&gateway, publish, "", unknown).await.0, 404);
    assert_eq!(told(&gateway, publish, "", "{}").await.0, 400);
}

#[tokio::test]
async fn a_version_that_is_too_late_and_a_body_that_is_too_big_publish_nothing() {
    let gateway = api("").await;
    for (version, offset) in [(2, 1), (1, 1), (3, 2)] {
        let body = format!(r#"{{"channel":"a","data":{version},"version":{version}}}"#);
        let (_, answer) = told(&gateway, "/api/publish", "", &body).await;
        assert_eq!(answer["result"]["offset"], offset, "{version}");
    }
    let big = format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(ask(&gateway, "/api/publish", "", &big).await.status, 413);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_channels_publications_total", &[("origin", "api")]), 2);
}

#[tokio::test]
async fn the_older_form_and_the_description_are_there() {
    let gateway = api("").await;
    let command = r#"{"method":"publish","params":{"channel":"a","data":1}}"#;
    let reply = ask(&gateway, "/api", "", &format!("{command}\n{command}\n")).await;
    let lines = reply.text().lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let offsets: Vec<Value> = lines.map(|line: Value| line["result"]["offset"].clone()).collect();
    assert_eq!(offsets, [1, 2]);
    let document = http::get(gateway.address("web"), "/api/openapi.json").await;
    assert_eq!((document.status, &document.json()["openapi"]), (200, &json!("3.1.0")));
    assert_eq!(http::get(gateway.address("web"), "/api/publish").await.status, 405);
}

#[tokio::test]
async fn a_route_of_the_api_is_for_post_paths_behind_its_base() {
    let config = |path: &str, kind: &str| {
        config_file(&format!(
            "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nwire = \"http\"\n\
             [[listeners.paths]]\npath = \"{path}\"\nkind = \"{kind}\"\nroute = \"api\"\n\
             [[routes]]\nname = \"api\"\nkind = \"channels_api\"\n"
        ))
    };
    for (path, kind, good) in [
        ("/api/*", "post", true),
        ("/api", "post", true),
        ("/other/*", "post", false),
        ("/apis", "post", false),
        ("/api/*", "websocket", false),
    ] {
        let file = config(path, kind);
        let mut weir = weir_command().await;
        weir.arg("--config").arg(&file).arg("check");
        let checked = tools::run(weir, "").await;
        std::fs::remove_file(file).expect("the file is ours");
        let told = checked.stderr.contains("has kind = \"channels_api\"");
        assert_eq!((checked.code == 0, told), (good, !good), "{path} {kind}: {}", checked.stderr);
    }
}
