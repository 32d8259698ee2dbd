//! What a user is promised of the configuration, as texts in and lines out.

mod channels;
mod publish;

use std::time::Duration;

use super::print::default_config;
use super::*;
use crate::config::listener::{PathKind, Wire};

/// A small machine, and these variables.
fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let machine = Machine { cores: 2, memory_bytes: None, open_files: 20_000 };
    Surroundings { variables: variables.collect(), machine }
}

/// A good configuration of one listener, one route, and this text.
fn with(text: &str) -> String {
    format!(
        "[[listeners]]\nname = \"lines\"\naddress = \"127.0.0.1:7001\"\nwire = \"lines\"\n\
         route = \"echo\"\n[[routes]]\nname = \"echo\"\nkind = \"echo\"\n{text}"
    )
}

fn load(text: &str) -> Config {
    load_with(text, &[])
}

fn load_with(text: &str, variables: &[(&str, &str)]) -> Config {
    match Config::read("weir.toml", text, &surroundings(variables)) {
        Ok(config) => config,
        Err(faults) => panic!("{faults}"),
    }
}

#[track_caller]
fn check_faults(text: &str, expected: &str) {
    check_faults_with(text, &[], expected);
}

#[track_caller]
fn check_faults_with(text: &str, variables: &[(&str, &str)], expected: &str) {
    let faults = Config::read("weir.toml", text, &surroundings(variables)).expect_err("faults");
    assert_eq!(faults.to_string(), expected);
}

#[test]
fn five_faults_of_five_kinds_are_five_lines() {
    check_faults(
        r#"
[limits]
headers_max = "many"
message_bytes_max = "2MiB"
[timeouts]
read = "10 seconds"
[[listeners]]
name = "lines"
address = "127.0.0.1:7001"
wire = "lines"
route = "echo"
[[listeners]]
name = "frames"
addres = "127.0.0.1:7002"
address = "127.0.0.1:7003"
wire = "length"
route = "echo"
[[routes]]
name = "echo"
kind = "echo"
[[routes]]
name = "echo"
kind = "discard"
"#,
        r#"weir.toml:3: limits.headers_max: "many" is not a whole number, 1 or more
weir.toml:4: limits.message_bytes_max: 2MiB is over limits.outbox_bytes_max = 1MiB: no echo would fit
weir.toml:6: timeouts.read: "10 seconds" is not a duration such as "30s", "1m30s" or "250ms"
weir.toml:14: listeners[1].addres: unknown key; did you mean "address"?
weir.toml:22: routes[1].name: "echo" is already the name of routes[0]
"#,
    );
}

#[test]
fn text_that_is_not_toml_is_told_with_line_and_column() {
    check_faults(
        "[limits]\nheaders_max = = 3\n[ops\n",
        "weir.toml:2: column 15: extra `=`, expected nothing\n\
         weir.toml:3: column 5: unclosed table, expected `]`\n",
    );
}

#[test]
fn a_key_that_is_missing_or_stands_elsewhere_is_told_where() {
    check_faults(
        r#"
[[listeners]]
name = "lines"
wire = "lines"
prefix = "u8"
route = "echo"
[[listeners]]
name = "http"
address = "127.0.0.1:8080"
wire = "http"
route = "echo"
text = true
[[listeners]]
name = "odd"
address = "127.0.0.1:8081"
wire = "line"
heartbeat = "."
[[routes]]
name = "echo"
kind = "echo"
method = "POST"
[limit]
headers_max = 1
"#,
        r#"weir.toml:2: listeners[0].address: missing; it is an address with a port, such as "127.0.0.1:7001" or "[::]:7001"
weir.toml:5: listeners[0].prefix: only with wire = "length"
weir.toml:7: listeners[1]: wire = "http" serves nothing without [[listeners.paths]]
weir.toml:11: listeners[1].route: only with wire = "lines" or wire = "length"
weir.toml:12: listeners[1].text: only with wire = "lines" or wire = "length"
weir.toml:16: listeners[2].wire: "line" is not one of "lines", "length", "http"; did you mean "lines"?
weir.toml:21: routes[0].method: only with kind = "upstream"
weir.toml:22: limit: unknown section; did you mean "limits"?
"#,
    );
}

#[test]
fn names_that_refer_to_nothing_are_told_with_the_nearest() {
    check_faults(
        r#"
[[listeners]]
name = "http"
address = "127.0.0.1:8080"
wire = "http"
[[listeners.paths]]
path = "/ws"
kind = "websocket"
route = "Echo"
[[listeners.paths]]
path = "/orders"
kind = "post"
route = "orders"
[[listeners.paths]]
path = "/orders"
kind = "post"
route = "orders"
[[routes]]
name = "echo"
kind = "echo"
reply = "got {mesage}"
[[routes]]
name = "orders"
kind = "upstream"
upstream = "backand"
[[upstreams]]
name = "backend"
targets = ["127.0.0.1:9000"]
"#,
        r#"weir.toml:9: listeners[0].paths[0].route: no route is named "Echo"; did you mean "echo"?
weir.toml:15: listeners[0].paths[2].path: "/orders" stands twice with this kind
weir.toml:21: routes[0].reply: unknown placeholder {mesage}, the nearest is {message}
weir.toml:25: routes[1].upstream: no upstream is named "backand"; did you mean "backend"?
weir.toml:28: upstreams[0].targets: "127.0.0.1:9000" is not an address such as "http://127.0.0.1:9000" or "https://orders.internal", without a path
"#,
    );
}

#[test]
fn settings_that_contradict_each_other_are_faults() {
    check_faults(
        &with(
            r#"
[limits]
connections_max = 30000
header_bytes_max = "4KiB"
[timeouts]
ping_interval = "70s"
[[listeners]]
name = "other"
address = "0.0.0.0:7001"
wire = "length"
route = "echo"
[ops]
address = "127.0.0.1:7001"
"#,
        ),
        "weir.toml:3: listeners[0].address: 127.0.0.1:7001 is taken by ops.address = 127.0.0.1:7001\n\
         weir.toml:11: limits.connections_max: 30000 is over 19744, what the open-file limit of \
         20000 leaves; raise it (ulimit -Hn)\n\
         weir.toml:12: limits.header_bytes_max: 4KiB is under 8KiB\n\
         weir.toml:14: timeouts.ping_interval: 1m10s and timeouts.pong = 10s must be below \
         timeouts.idle = 1m15s\n\
         weir.toml:17: listeners[1].address: 0.0.0.0:7001 is taken by ops.address = 127.0.0.1:7001\n",
    );
    check_faults(
        "[timeouts]\nidle = \"0s\"\nping_interval = \"80s\"\n",
        "weir.toml: listeners: none; weir would serve nothing\n\
         weir.toml:2: timeouts.idle: \"0s\" is no time at all\n",
    );
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = load_with(
        &with("[limits]\nconnections_max = 10\n[ops]\nhosts = [\"a\"]\n"),
        &[
            ("WEIR_LIMITS__CONNECTIONS_MAX", "1000"),
            ("WEIR_TIMEOUTS__IDLE", "off"),
            ("WEIR_OPS__HOSTS", "weir.internal, weir"),
            ("WEIR_METRICS__STAGES", "false"),
            ("WEIR_LISTENERS__LINES__ADDRESS", "0.0.0.0:7001"),
            ("WEIR_ROUTES__ECHO__AUTH", "token"),
            ("WEIR_AUTH__ISSUER", "https://id.example"),
            ("WEIR_AUTH__JWKS__URL", "https://id.example/keys.json"),
            ("WEIR_REPLICAS", "3"),
            ("WEIR_PORT_7001_TCP_ADDR", "10.0.0.1"),
        ],
    );
    assert_eq!(config.admission.connections_max, 1000);
    assert_eq!(config.timeouts.idle, None);
    let hosts: Vec<&str> = config.ops.hosts.iter().map(|host| &**host).collect();
    assert_eq!(hosts, ["weir.internal", "weir"]);
    assert!(!config.metrics.stages);
    assert_eq!(config.listeners[0].keys.address.to_string(), "0.0.0.0:7001");
    assert_eq!(config.auth.keys.issuer.as_deref(), Some("https://id.example"));
    assert_eq!(config.shown["auth"]["jwks"]["url"], "https://id.example:443/keys.json");
    assert_eq!(config.shown["routes"][0]["auth"], serde_json::json!(["token"]));
}

/// A listener for everybody and one route with these keys, and these tables.
fn open(route: &str, tables: &str) -> String {
    format!(
        "[[listeners]]\nname = \"lines\"\naddress = \"0.0.0.0:7001\"\nwire = \"lines\"\n\
         route = \"echo\"\n[[routes]]\nname = \"echo\"\nkind = \"echo\"\n{route}\n{tables}"
    )
}

#[test]
fn a_route_that_strangers_reach_says_who_may_use_it() {
    let missing = "weir.toml:6: routes[0].auth: missing: listener \"lines\" on 0.0.0.0:7001 is not \
                   loopback, so say who may use \"echo\", or write auth = \"none\"\n";
    check_faults(&open("", ""), missing);
    load(&open("auth = \"none\"", ""));
}

#[test]
fn a_door_that_lets_nobody_in_is_a_fault() {
    let fault = |text: &str| format!("weir.toml:9: routes[0].{text}\n");
    let no_token = "auth: \"token\" lets nobody in without [[auth.keys]] or auth.jwks.url";
    check_faults(&open("auth = \"token\"", ""), &fault(no_token));
    let no_key = "auth: \"api_key\" lets nobody in without [[auth.api_keys]]";
    check_faults(&open("auth = [\"api_key\"]", ""), &fault(no_key));
    let misspelt = "auth: \"tokne\" is not one of \"none\", \"token\", \"api_key\", \"mtls\"; \
                    did you mean \"token\"?";
    let faults = Config::read("weir.toml", &open("auth = \"tokne\"", ""), &surroundings(&[]));
    assert!(faults.expect_err("faults").to_string().starts_with(&fault(misspelt)));
}

#[test]
fn a_bad_key_is_a_fault_that_does_not_show_it() {
    let key = |algorithm: &str, key: &str| {
        let keys = format!(
            "[[auth.keys]]\nname = \"main\"\nalgorithm = \"{algorithm}\"\nkey = \"{key}\"\n"
        );
        open("auth = \"token\"", &keys)
    };
    let fault = |text: &str| format!("weir.toml:13: auth.keys[0].key: {text}\n");
    check_faults(&key("hmac", "hunter2"), &fault("the value is shorter than 32 bytes"));
    check_faults(&key("rsa", "hunter2"), &fault("the value is not a PEM public key of this kind"));
    let missing = "cannot read /nowhere/key: No such file or directory (os error 2)";
    check_faults(&key("eddsa", "file:/nowhere/key"), &fault(missing));
    let short = "[[auth.api_keys]]\nname = \"m\"\nkey = \"hunter2\"\n";
    check_faults(
        &open("auth = \"api_key\"", short),
        "weir.toml:12: auth.api_keys[0].key: the value is not at least 16 visible ASCII characters\n",
    );
}

#[test]
fn keys_are_not_among_what_is_shown() {
    let keys = "[[auth.keys]]\nname = \"main\"\nalgorithm = \"hmac\"\n\
                key = \"a-secret-of-at-least-thirty-two-bytes\"\n\
                [[auth.api_keys]]\nname = \"m\"\nkey = \"a-secret-of-sixteen\"\n";
    let config = load(&open("auth = [\"token\", \"api_key\"]", keys));
    let shown = format!("{} {config:?}", config.shown);
    assert!(!shown.contains("a-secret"), "{shown}");
}

#[test]
fn variables_that_set_nothing_are_faults() {
    check_faults_with(
        &with(""),
        &[
            ("WEIR_LIMITS_CONNECTIONS_MAX", "5"),
            ("WEIR_LIMITS__CONECTIONS_MAX", "5"),
            ("WEIR_LIMITS__HEADERS_MAX", "many"),
            ("WEIR_LISTENERS__LINE__ADDRESS", "0.0.0.0:1"),
            ("WEIR_ROUTES__ECHO__REPLI", "x"),
        ],
        "env WEIR_LIMITS_CONNECTIONS_MAX: unknown variable; they are WEIR_SECTION__KEY; \
         did you mean \"WEIR_LIMITS__CONNECTIONS_MAX\"?\n\
         env WEIR_LIMITS__CONECTIONS_MAX: unknown key of limits; did you mean \"connections_max\"?\n\
         env WEIR_LIMITS__HEADERS_MAX: limits.headers_max: \"many\" is not a whole number, 1 or more\n\
         env WEIR_LISTENERS__LINE__ADDRESS: unknown name in listeners; did you mean \"lines\"?\n\
         env WEIR_ROUTES__ECHO__REPLI: routes[0].repli: unknown key; did you mean \"reply\"?\n",
    );
}

#[test]
fn names_keep_their_case() {
    let config = load(
        r#"
[[listeners]]
name = "Quotes-EU"
address = "127.0.0.1:7001"
wire = "lines"
route = "EchoBack"
[[routes]]
name = "EchoBack"
kind = "upstream"
upstream = "BackEnd"
[[upstreams]]
name = "BackEnd"
targets = ["http://127.0.0.1:9000"]
"#,
    );
    assert_eq!(&*config.listeners[0].keys.name, "Quotes-EU");
    assert_eq!(&*config.routes[0].keys.name, "EchoBack");
    assert_eq!(&*config.upstreams[0].name, "BackEnd");
}

#[test]
fn what_is_printed_as_default_is_read_as_the_default() {
    let printed = load(&default_config());
    let mut built_in = load(BUILT_IN);
    assert!(built_in.warnings.is_empty(), "{:?}", built_in.warnings);
    built_in.shown["source"] = printed.shown["source"].clone();
    assert_eq!(printed.shown, built_in.shown);
}

#[test]
fn every_example_in_the_reference_is_read() {
    // The reference of lists stands in comments: an upstream with all its keys, taken out of them.
    let text = default_config();
    let start = text.find("# [[upstreams]]").expect("upstreams in the reference");
    let upstream = text[start..].lines().take_while(|line| line.starts_with("# "));
    let upstream: Vec<&str> = upstream.filter_map(|line| line.strip_prefix("# ")).collect();
    let config = load(&with(&upstream.join("\n")));
    assert_eq!(config.upstreams[0].connections_max, 64);
}

#[test]
fn the_printed_default_equals_its_golden_file() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/weir.toml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(Path::new(golden).parent().expect("a folder")).expect("golden");
        std::fs::write(golden, default_config()).expect("write the golden file");
    }
    let expected = std::fs::read_to_string(golden).expect("the golden file; UPDATE_GOLDEN=1");
    assert_eq!(default_config(), expected, "UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn secrets_are_redacted_and_the_rest_is_in_effect() {
    let config = load_with(
        &with("[ops]\naddress = \"0.0.0.0:6060\"\n"),
        &[("WEIR_OPS__TOKEN", "correct-horse-battery")],
    );
    assert_eq!(config.ops.token.as_ref().expect("a token").expose(), "correct-horse-battery");
    assert_eq!(config.shown["ops"]["token"], "[redacted]");
    assert_eq!(config.shown["limits"]["connections_max"], 19_744);
    assert_eq!(config.shown["limits"]["message_bytes_max"], "64KiB");
    assert_eq!(config.shown["listeners"][0]["heartbeat"], "off");
    assert!(!format!("{config:?}").contains("horse"));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let config = load(&with(
        r#"
[ops]
address = "0.0.0.0:6060"
[shutdown]
grace_period = "35s"
[[routes]]
name = "spare"
kind = "upstream"
upstream = "slow"
[[upstreams]]
name = "slow"
targets = ["http://127.0.0.1:9000"]
request_timeout = "30s"
"#,
    ));
    assert_eq!(
        config.warnings,
        [
            "ops.address: 0.0.0.0:6060 is not loopback and ops.token is off: only health and \
             metrics answer",
            "routes: no listener names \"spare\"",
            "upstreams: a call of \"slow\" may take 33s, and shutdown.drain = 20s cuts it",
            "shutdown.grace_period: 35s is not over 35s, the sum of the stages: a stop may be cut \
             short",
        ]
    );
}

#[test]
fn an_http_listener_maps_paths_to_routes() {
    let config = load(BUILT_IN);
    let http = config.listeners.last().expect("listeners");
    let Wire::Http(routes) = &http.wire else { panic!("{http:?}") };
    assert!(matches!(&routes[0].kind, PathKind::WebSocket(origins) if origins.len() == 1));
    assert!(matches!(&routes[1].kind, PathKind::WebSocket(_)));
    assert!(matches!(&routes[5].kind, PathKind::Post(origins) if origins.len() == 1));
    assert!(matches!(&routes[6].kind, PathKind::Page));
    assert!(matches!(&routes[8].kind, PathKind::Post(origins) if origins.is_empty()));
    assert_eq!(config.runtime, Runtime { workers: 2, service_threads: 2 });
    assert_eq!(config.shutdown.total(), Duration::from_secs(35));
}

#[test]
fn a_file_that_is_not_there_is_a_fault() {
    let faults = Config::load(Some(Path::new("no/such.toml")), &surroundings(&[]));
    let text = faults.expect_err("a fault").to_string();
    assert!(text.starts_with("no/such.toml: cannot be read: No such file"), "{text}");
}
