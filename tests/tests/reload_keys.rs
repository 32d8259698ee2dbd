//! Every key that does not need a restart, changed while a client talks: each one is told as changed,
//! holds, and costs no message. What each of them does is the other tests' to show.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_tests::pki::Pki;
use weir_tests::tools;
use weir_tests::traffic::Traffic;
use weir_tests::{Gateway, Upstream};

/// Tables for which keys are tried. A marker stands where the keys of one of several begin.
const TABLES: &str = r#"
[auth.jwks]
url = "http://127.0.0.1:9/keys"
[[auth.keys]]
name = "signer"
# auth.keys.signer
[[auth.api_keys]]
name = "meter"
# auth.api_keys.meter
[channels]
[channels.without_namespace]
[[channels.namespaces]]
name = "rooms"
[channels.hooks]
[channels.token.jwks]
[channels.subscription_token.jwks]
[[channels.token.keys]]
name = "signer"
# channels.token.keys.signer
[[channels.subscription_token.keys]]
name = "signer"
# channels.subscription_token.keys.signer
[[routes]]
name = "answer"
kind = "echo"
# routes.answer
[[routes]]
name = "ask"
kind = "upstream"
# routes.ask
upstream = "spare"
[[routes]]
name = "api"
kind = "channels_api"
# routes.api
[[routes]]
name = "devices"
kind = "publish"
# routes.devices
[[upstreams]]
name = "spare"
# upstreams.spare
"#;

/// Keys that the tables have from the beginning.
const REQUIRED: [(&str, &str, &str); 19] = [
    ("auth.keys.signer", "algorithm", "\"hmac\""),
    ("auth.keys.signer", "key", "\"a-secret-of-more-than-32-bytes-in-all\""),
    ("auth.api_keys.meter", "key", "\"a-key-of-sixteen-and-more\""),
    ("channels", "subscribe_to_user_personal_channel", "true"),
    ("channels.without_namespace", "history_size", "10"),
    ("channels.without_namespace", "history_ttl", "\"1m\""),
    ("channels.hooks", "upstream", "\"spare\""),
    ("channels.hooks", "subscribe", "\"/subscribe\""),
    ("channels.hooks", "publish", "\"/publish\""),
    ("channels.hooks", "sub_refresh", "\"/sub_refresh\""),
    ("channels.hooks", "rpc", "\"/rpc\""),
    ("channels.hooks", "calls_max", "4"),
    ("channels.token.keys.signer", "algorithm", "\"hmac\""),
    ("channels.token.keys.signer", "key", "\"a-secret-of-more-than-32-bytes-in-all\""),
    ("channels.subscription_token.keys.signer", "algorithm", "\"hmac\""),
    ("channels.subscription_token.keys.signer", "key", "\"a-secret-of-more-than-32-bytes-in-all\""),
    ("routes.answer", "auth", "\"api_key\""),
    ("routes.devices", "channel", "\"rooms:all\""),
    ("upstreams.spare", "targets", "[\"http://127.0.0.1:9\"]"),
];

/// A table, a key of it and a value that is not its default.
const CHANGES: &[(&str, &str, &str)] = &[
    ("limits", "connections_max", "900"),
    ("limits", "connections_per_address_max", "800"),
    ("limits", "connections_per_second_max", "700"),
    ("limits", "tls_handshakes_max", "60"),
    ("limits", "tls_handshakes_per_second_max", "50"),
    ("limits", "outboxes_bytes_max", "\"256MiB\""),
    ("limits", "message_bytes_max", "\"32KiB\""),
    ("limits", "header_bytes_max", "\"8KiB\""),
    ("limits", "headers_max", "50"),
    ("limits", "outbox_bytes_max", "\"512KiB\""),
    ("limits", "in_flight_max", "8"),
    ("limits", "messages_per_second_max", "100000"),
    ("limits", "connection_age_max", "\"10m\""),
    ("limits", "connection_age_jitter", "\"30s\""),
    ("timeouts", "handshake", "\"5s\""),
    ("timeouts", "header", "\"4s\""),
    ("timeouts", "read", "\"9s\""),
    ("timeouts", "idle", "\"70s\""),
    ("timeouts", "ping_interval", "\"20s\""),
    ("timeouts", "pong", "\"9s\""),
    ("timeouts", "write", "\"9s\""),
    ("timeouts", "close", "\"2s\""),
    ("overload", "memory_max", "\"8GiB\""),
    ("overload", "memory_high", "\"70%\""),
    ("overload", "memory_critical", "\"95%\""),
    ("overload", "lag_high", "\"900ms\""),
    ("overload", "lag_critical", "\"3s\""),
    ("network", "trusted_proxies", "[\"10.0.0.0/8\"]"),
    ("network", "forwarded_header", "\"forwarded\""),
    ("logs", "filter", "\"debug\""),
    ("traces", "ratio", "0.5"),
    ("traces", "messages_per_second_max", "7"),
    ("traces", "slow", "\"2s\""),
    ("traces", "slow_per_second_max", "3"),
    ("traces", "trust_sampled_from", "[\"10.0.0.0/8\"]"),
    ("auth", "audience", "[\"weir\"]"),
    ("auth", "issuer", "\"https://id.example\""),
    ("auth", "leeway", "\"10s\""),
    ("auth", "expiry_required", "false"),
    ("auth", "expired", "\"keep\""),
    ("auth", "principal_claim", "\"device\""),
    ("auth", "failures_per_address", "20"),
    ("auth.jwks", "url", "\"http://127.0.0.1:9/other\""),
    ("auth.jwks", "refresh_interval", "\"20m\""),
    ("auth.jwks", "refresh_interval_min", "\"20s\""),
    ("auth.jwks", "age_max", "\"12h\""),
    ("auth.jwks", "keys_max", "32"),
    ("auth.jwks", "response_bytes_max", "\"128KiB\""),
    ("auth.jwks", "request_timeout", "\"4s\""),
    ("auth.jwks", "ca_file", "CA"),
    ("auth.keys.signer", "key", "\"another-secret-of-more-than-32-bytes\""),
    ("auth.api_keys.meter", "key", "\"another-key-of-sixteen-and-more\""),
    ("routes.answer", "trace_field", "\"traceparent\""),
    ("routes.answer", "trace_prefix", "\"traceparent=\""),
    ("routes.answer", "auth", "\"none\""),
    ("routes.answer", "principals", "[\"ann\"]"),
    ("routes.answer", "reply", "\"new {message}\""),
    ("routes.answer", "exit", "\"bye\""),
    ("routes.ask", "upstream", "\"other\""),
    ("routes.ask", "method", "\"PUT\""),
    ("routes.ask", "path", "\"/v2\""),
    ("routes.ask", "content_type", "\"application/json\""),
    ("routes.ask", "forward_headers", "[\"x-tenant\"]"),
    ("routes.api", "base", "\"/v1\""),
    ("routes.api", "error_mode", "\"transport\""),
    ("routes.devices", "channel", "\"rooms:{json.device}\""),
    ("routes.devices", "data", "\"json\""),
    ("routes.devices", "reply", "\"ok\""),
    ("routes.devices", "errors", "false"),
    ("routes.devices", "channels_max", "64"),
    ("routes.devices", "subscribe", "[\"rooms:all\"]"),
    ("routes.devices", "publications", "\"data\""),
    ("upstreams.spare", "targets", "[\"http://127.0.0.1:10\"]"),
    ("upstreams.spare", "resolve_interval", "\"5s\""),
    ("upstreams.spare", "connections_per_target_max", "16"),
    ("upstreams.spare", "connections_max", "32"),
    ("upstreams.spare", "queue_max", "512"),
    ("upstreams.spare", "connect_timeout", "\"1s\""),
    ("upstreams.spare", "wait_timeout", "\"500ms\""),
    ("upstreams.spare", "request_timeout", "\"5s\""),
    ("upstreams.spare", "idle_timeout", "\"30s\""),
    ("upstreams.spare", "response_bytes_max", "\"512KiB\""),
    ("upstreams.spare", "breaker_failures", "9"),
    ("upstreams.spare", "breaker_open", "\"9s\""),
    ("upstreams.spare", "ca_file", "CA"),
    ("channels", "channels_per_connection_max", "64"),
    ("channels", "ping_interval", "\"20s\""),
    ("channels", "pong_timeout", "\"7s\""),
    ("channels", "connect_timeout", "\"9s\""),
    ("channels", "connect_include_server_time", "true"),
    ("channels", "expired_close_delay", "\"20s\""),
    ("channels", "channel_bytes_max", "\"64B\""),
    ("channels", "allow_anonymous_connect_without_token", "true"),
    ("channels", "subscribe_to_user_personal_channel", "false"),
    ("channels", "personal_channel_namespace", "\"rooms\""),
    ("channels", "insecure", "true"),
    ("auth", "audience_regex", "\"weir-[a-z]+\""),
    ("auth", "issuer_regex", "\"https://[a-z]+[.]example\""),
    ("auth.keys.signer", "until", "4102444800"),
    ("channels.token", "audience_regex", "\"weir-[a-z]+\""),
    ("channels.token", "issuer_regex", "\"https://[a-z]+[.]example\""),
    ("channels.token.keys.signer", "until", "4102444800"),
    ("channels.subscription_token", "audience_regex", "\"weir-[a-z]+\""),
    ("channels.subscription_token", "issuer_regex", "\"https://[a-z]+[.]example\""),
    ("channels.subscription_token.keys.signer", "until", "4102444800"),
    ("channels.without_namespace", "history_size", "20"),
    ("channels.without_namespace", "history_ttl", "\"2m\""),
    ("channels.without_namespace", "history_meta_ttl", "\"1h\""),
    ("channels.without_namespace", "force_positioning", "true"),
    ("channels.without_namespace", "allow_positioning", "true"),
    ("channels.without_namespace", "force_recovery", "true"),
    ("channels.without_namespace", "allow_recovery", "true"),
    ("channels.without_namespace", "presence", "true"),
    ("channels.without_namespace", "join_leave", "true"),
    ("channels.without_namespace", "force_push_join_leave", "true"),
    ("channels.without_namespace", "allow_subscribe_for_client", "true"),
    ("channels.without_namespace", "allow_subscribe_for_anonymous", "true"),
    ("channels.without_namespace", "allow_publish_for_client", "true"),
    ("channels.without_namespace", "allow_publish_for_subscriber", "true"),
    ("channels.without_namespace", "allow_publish_for_anonymous", "true"),
    ("channels.without_namespace", "allow_presence_for_client", "true"),
    ("channels.without_namespace", "allow_presence_for_subscriber", "true"),
    ("channels.without_namespace", "allow_presence_for_anonymous", "true"),
    ("channels.without_namespace", "allow_history_for_client", "true"),
    ("channels.without_namespace", "allow_history_for_subscriber", "true"),
    ("channels.without_namespace", "allow_history_for_anonymous", "true"),
    ("channels.without_namespace", "allow_user_limited_channels", "true"),
    ("channels.without_namespace", "channel_regex", "\"^[a-z]+$\""),
    ("channels.without_namespace", "publication_data_format", "\"json\""),
    ("channels.without_namespace", "subscribe_proxy_enabled", "true"),
    ("channels.without_namespace", "publish_proxy_enabled", "true"),
    ("channels.without_namespace", "sub_refresh_proxy_enabled", "true"),
    ("channels.hooks", "upstream", "\"other\""),
    ("channels.hooks", "connect", "\"/v2\""),
    ("channels.hooks", "refresh", "\"/v2\""),
    ("channels.hooks", "subscribe", "\"/v2\""),
    ("channels.hooks", "publish", "\"/v2\""),
    ("channels.hooks", "sub_refresh", "\"/v2\""),
    ("channels.hooks", "rpc", "\"/v2\""),
    ("channels.hooks", "notices", "\"/v2\""),
    ("channels.hooks", "notice_events", "[\"disconnect\"]"),
    ("channels.hooks", "notice_age_max", "\"5m\""),
    ("channels.hooks", "notice_count_max", "1000"),
    ("channels.hooks", "notice_bytes_max", "\"1MiB\""),
    ("channels.hooks", "notice_batch_max", "100"),
    ("channels.hooks", "notice_timeout", "\"5s\""),
    ("channels.hooks", "timeout", "\"2s\""),
    ("channels.hooks", "calls_max", "5"),
    ("channels.hooks", "forward_headers", "[\"cookie\"]"),
    ("channels.hooks", "forward_emulated_headers", "[\"x-tenant\"]"),
    ("channels.hooks", "binary_encoding", "true"),
    ("channels.without_namespace", "subscribers_max", "1000"),
    ("channels.without_namespace", "slow_consumer", "\"catch_up\""),
    ("channels.without_namespace", "slow_consumer_bytes_max", "\"32KiB\""),
    ("channels.token", "audience", "[\"weir\"]"),
    ("channels.token", "issuer", "\"https://id.example\""),
    ("channels.token", "leeway", "\"10s\""),
    ("channels.token", "expiry_required", "true"),
    ("channels.token", "user_id_claim", "\"device\""),
    ("channels.token", "short_secrets", "true"),
    ("channels.token.jwks", "url", "\"http://127.0.0.1:9/other\""),
    ("channels.token.jwks", "refresh_interval", "\"20m\""),
    ("channels.token.jwks", "refresh_interval_min", "\"20s\""),
    ("channels.token.jwks", "age_max", "\"12h\""),
    ("channels.token.jwks", "keys_max", "32"),
    ("channels.token.jwks", "response_bytes_max", "\"128KiB\""),
    ("channels.token.jwks", "request_timeout", "\"4s\""),
    ("channels.token.jwks", "ca_file", "CA"),
    ("channels.token.keys.signer", "key", "\"another-secret-of-more-than-32-bytes\""),
    ("channels.subscription_token", "audience", "[\"weir\"]"),
    ("channels.subscription_token", "issuer", "\"https://id.example\""),
    ("channels.subscription_token", "leeway", "\"10s\""),
    ("channels.subscription_token", "expiry_required", "true"),
    ("channels.subscription_token", "user_id_claim", "\"device\""),
    ("channels.subscription_token", "short_secrets", "true"),
    ("channels.subscription_token.jwks", "url", "\"http://127.0.0.1:9/other\""),
    ("channels.subscription_token.jwks", "refresh_interval", "\"20m\""),
    ("channels.subscription_token.jwks", "refresh_interval_min", "\"20s\""),
    ("channels.subscription_token.jwks", "age_max", "\"12h\""),
    ("channels.subscription_token.jwks", "keys_max", "32"),
    ("channels.subscription_token.jwks", "response_bytes_max", "\"128KiB\""),
    ("channels.subscription_token.jwks", "request_timeout", "\"4s\""),
    ("channels.subscription_token.jwks", "ca_file", "CA"),
    ("channels.subscription_token.keys.signer", "key", "\"another-secret-of-more-than-32-bytes\""),
];

/// Keys by which a table is known, or that change only together with another.
const IDENTITY: [(&str, &str); 12] = [
    ("routes", "name"),
    ("routes", "kind"),
    ("upstreams", "name"),
    ("auth.keys", "name"),
    ("auth.keys", "algorithm"),
    ("auth.api_keys", "name"),
    ("channels.namespaces", "name"),
    ("channels.without_namespace", "slow_consumer_key"),
    ("channels.token.keys", "name"),
    ("channels.token.keys", "algorithm"),
    ("channels.subscription_token.keys", "name"),
    ("channels.subscription_token.keys", "algorithm"),
];

/// `text` with a key of a table set to this value, and to no other.
fn set(text: &str, table: &str, key: &str, value: &str) -> String {
    let marks = [format!("# {table}\n"), format!("[{table}]\n")];
    let Some(mark) = marks.iter().find(|mark| text.contains(*mark)) else {
        return format!("[{table}]\n{key} = {value}\n{text}");
    };
    let (before, after) = text.split_once(mark).expect("it is there");
    let end = after.find("\n[").map_or(after.len(), |at| at + 1);
    let own = |line: &&str| !line.starts_with(&format!("{key} = "));
    let others: String = after[..end].split_inclusive('\n').filter(own).collect();
    format!("{before}{mark}{key} = {value}\n{others}{}", &after[end..])
}

/// The list that a table of [`CHANGES`] belongs to, and its name there; or the table itself.
fn list_of(table: &str) -> (&str, Option<&str>) {
    let lists = [
        "routes",
        "upstreams",
        "auth.keys",
        "auth.api_keys",
        "channels.token.keys",
        "channels.subscription_token.keys",
    ];
    lists
        .into_iter()
        .find_map(|list| Some((list, Some(table.strip_prefix(list)?.strip_prefix('.')?))))
        .unwrap_or((table, None))
}

/// Every key of `weir print-config` that is not marked as needing a restart.
async fn reloadable() -> BTreeSet<(String, String)> {
    let mut command = weir_tests::gateway::weir_command().await;
    command.arg("print-config");
    let printed = tools::run(command, "").await.succeeded();
    let reference = printed.split("# ---- The listeners and routes").next().expect("a text");
    let mut table = String::new();
    let mut found = BTreeSet::new();
    for line in reference.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let restart =
            line.ends_with("  # restart") || line.trim_start_matches('[').starts_with("listeners.");
        if line.starts_with('[') {
            let name = line.trim_end_matches("  # restart").trim_matches(['[', ']']);
            table = if restart { String::new() } else { name.to_owned() };
        } else if line.starts_with("Keys of a listener") || line.starts_with("A WebSocket") {
            table = String::new();
        } else if let Some((key, _)) = line.split_once(" = ")
            && !table.is_empty()
            && !restart
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            found.insert((table.clone(), key.to_owned()));
        }
    }
    found
}

/// What `/config` shows of a key.
fn shown(config: &Value, table: &str, key: &str) -> Value {
    let (list, name) = list_of(table);
    let place = list.split('.').fold(config, |place, part| &place[part]);
    let Some(name) = name else { return place[key].clone() };
    let mut items = place.as_array().expect("a list").iter();
    items.find(|item| item["name"] == name).expect("it is in the list")[key].clone()
}

#[tokio::test]
async fn every_key_without_a_restart_is_tried_here() {
    let tried: BTreeSet<(String, String)> = CHANGES
        .iter()
        .map(|(table, key, _)| (list_of(table).0, *key))
        .chain(IDENTITY)
        .map(|(table, key)| (table.to_owned(), key.to_owned()))
        .collect();
    assert_eq!(reloadable().await, tried);
}

#[tokio::test]
async fn each_key_holds_at_once_and_no_message_is_lost() {
    let pki = Pki::new();
    let other = Upstream::start(std::time::Duration::ZERO).await;
    let more = format!("name = \"other\"\ntargets = [\"http://{}\"]\n", other.address());
    let mut tables = format!("{TABLES}\n[[upstreams]]\n{more}");
    for (table, key, value) in REQUIRED {
        tables = set(&tables, table, key, value);
    }
    // Its default follows from what the upstreams may open.
    let gateway = Gateway::start().limits("connections_max = 1000").tables(&tables).await;
    let traffic = Traffic::start(&gateway).await;
    let ca = json!(pki.ca()).to_string();
    // Each change begins anew from the original, so the one before it is told too, as undone.
    let mut before: Option<String> = None;
    let mut original = None;
    for (table, key, value) in CHANGES {
        let value = value.replace("CA", &ca);
        let old = gateway.ops("/config").await.json();
        let told =
            gateway.reload(|text| set(original.get_or_insert(text), table, key, &value)).await;
        let path = format!("{table}.{key}");
        let changed: BTreeSet<&str> =
            told["changed"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let expected: BTreeSet<&str> = before.as_deref().into_iter().chain([&*path]).collect();
        assert_eq!(changed, expected, "{told}");
        assert_eq!(told["needs_restart"], json!([]), "{told}");
        let new = gateway.ops("/config").await.json();
        if shown(&new, table, key) != "[redacted]" {
            assert_ne!(shown(&new, table, key), shown(&old, table, key), "{path}");
        }
        before = Some(path);
    }
    assert!(traffic.end().await > 0);
}
