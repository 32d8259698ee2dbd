//! What a user is promised of `[channels]`.

use weir_channels::broker::{Limits, StreamOptions};
use weir_channels::hooks::Hook;
use weir_channels::namespace::{
    ChannelRules, DataFormat, KeyOf, Namespaces, Permission, SlowConsumers, SlowPolicy,
};

use super::*;

#[test]
fn channels_have_the_options_that_users_of_the_protocol_know() {
    let config = load(&with(
        r#"
[channels]
allow_anonymous_connect_without_token = true
[channels.without_namespace]
presence = true
[[channels.namespaces]]
name = "chat"
history_size = 10
history_ttl = "5m"
force_recovery = true
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
channel_regex = "^[a-z]+$"
publication_data_format = "json"
"#,
    ));
    let rules = &config.channels.rules;
    assert!(rules.without_namespace.presence && rules.allow_anonymous_connect_without_token);
    let (name, chat) = &rules.namespaces[0];
    let history = StreamOptions {
        size: 10,
        ttl: Duration::from_secs(300),
        meta_ttl: Duration::from_secs(30 * 24 * 3600),
    };
    assert_eq!((&**name, chat.history), ("chat", Some(history)));
    assert!(chat.force_recovery && chat.subscribe_for_client && !chat.presence);
    assert_eq!(chat.publish, Permission { subscriber: true, ..Permission::default() });
    assert_eq!(chat.publication_data_format, DataFormat::Json);
    let namespaces = Namespaces::new(rules.clone()).expect("checked when it was read");
    assert!(namespaces.resolve("chat:room").is_ok());
    assert!(namespaces.resolve("chat:room7").is_err());
}

#[test]
fn a_backend_is_asked_what_has_a_path_in_the_way_that_is_set() {
    let config = load(&with(
        r#"
[channels.hooks]
upstream = "app"
connect = "/hooks/connect?v=1"
subscribe = "/hooks/subscribe"
timeout = "300ms"
forward_headers = ["Cookie", "authorization"]
[[channels.namespaces]]
name = "chat"
subscribe_proxy_enabled = true
[[upstreams]]
name = "app"
targets = ["http://127.0.0.1:9"]
"#,
    ));
    let options = config.channels.hooks.options();
    let path = |hook: Hook| options.paths[hook as usize].as_ref().map(ToString::to_string);
    assert_eq!(path(Hook::Connect).as_deref(), Some("/hooks/connect?v=1"));
    assert_eq!((path(Hook::Rpc), options.timeout), (None, Duration::from_millis(300)));
    assert_eq!(options.forward_headers, [http::header::COOKIE, http::header::AUTHORIZATION]);
    assert!(config.channels.rules.namespaces[0].1.subscribe_hook);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn what_is_wrong_with_hooks_is_told_at_its_key() {
    check_faults(
        &with(
            r#"[channels.hooks]
upstream = "ap"
subscrib = "/hooks/subscribe"
calls_max = 25
forward_headers = ["x-weir-principal"]
[channels.without_namespace]
publish_proxy_enabled = true
[limits]
in_flight_max = 25
[[channels.namespaces]]
name = "chat"
subscribe_proxy_enabled = true
[[upstreams]]
name = "app"
targets = ["http://127.0.0.1:9"]
"#,
        ),
        r#"weir.toml:10: channels.hooks.upstream: is asked nothing: no hook has a path
weir.toml:10: channels.hooks.upstream: no upstream is named "ap"; did you mean "app"?
weir.toml:11: channels.hooks.subscrib: unknown key; did you mean "subscribe"?
weir.toml:12: channels.hooks.calls_max: 25 is not from 1 to 24
weir.toml:13: channels.hooks.forward_headers: "x-weir-principal" is never passed on: it is weir's or the connection's own
weir.toml:15: channels.without_namespace.publish_proxy_enabled: needs channels.hooks.publish, the path of that hook
weir.toml:20: channels.namespaces[0].subscribe_proxy_enabled: needs channels.hooks.subscribe, the path of that hook
"#,
    );
    check_faults(
        &with(
            r#"[channels.hooks]
upstream = "app"
rpc = "/rpc"
calls_max = 16
[limits]
in_flight_max = 16
[[upstreams]]
name = "app"
targets = ["http://127.0.0.1:9"]
"#,
        ),
        r#"weir.toml:12: channels.hooks.calls_max: 16 is not below limits.in_flight_max = 16: a connection whose hooks are slow would not be read
"#,
    );
    check_faults(
        &with("[channels.hooks]\nrpc = \"/rpc\"\n"),
        r#"weir.toml:10: channels.hooks.rpc: nobody is asked without an upstream
"#,
    );
}

#[test]
fn what_is_wrong_with_channels_is_told_at_its_key() {
    check_faults(
        &with(
            r#"[channels.without_namespace]
history_size = 10
force_recovery = true
[[channels.namespaces]]
name = "chat"
histroy_ttl = "5m"
channel_regex = "a(b"
[[channels.namespaces]]
name = "chat"
history_size = 1
history_ttl = "2h"
history_meta_ttl = "1h"
[[channels.namespaces]]
presence = "yes"
[channels.token]
user_id_clam = "sub"
[[channels.token.keys]]
name = "main"
algorithm = "hmac"
key = "short"
[channels.subscription_token]
issuer = "https://id.example"
"#,
        ),
        r#"weir.toml:10: channels.without_namespace.history_size: does nothing without history_ttl
weir.toml:14: channels.namespaces[0].histroy_ttl: unknown key; did you mean "history_ttl"?
weir.toml:15: channels.namespaces[0].channel_regex: "a(b" is not a regular expression: unclosed group
weir.toml:17: channels.namespaces[1].name: "chat" is already the name of channels.namespaces[0]
weir.toml:20: channels.namespaces[1].history_meta_ttl: history_meta_ttl is shorter than history_ttl
weir.toml:21: channels.namespaces[2].name: missing; it is a name of 1 to 64 letters, digits, "-", "_" or "."
weir.toml:22: channels.namespaces[2].presence: "yes" is not true or false
weir.toml:24: channels.token.user_id_clam: unknown key; did you mean "user_id_claim"?
weir.toml:28: channels.token.keys[0].key: the value is shorter than 32 bytes
weir.toml:29: channels.subscription_token: nothing in it holds without [[channels.subscription_token.keys]] or a jwks.url there: subscription tokens are checked as connection tokens are
"#,
    );
}

#[test]
fn the_defaults_are_those_of_the_core() {
    let channels = load(&with("")).channels;
    assert_eq!(channels.rules, ChannelRules::default());
    assert_eq!(format!("{:?}", channels.limits), format!("{:?}", Limits::default()));
}

#[test]
fn personal_channels_are_in_a_namespace_that_is_there() {
    let channels = |more: &str| load(&with(&format!("[channels]\n{more}"))).channels.rules;
    let personal = "subscribe_to_user_personal_channel = true\n";
    assert_eq!(channels(personal).personal_channels.as_deref(), Some(""));
    let namespace = "personal_channel_namespace = \"chat\"\n";
    let chat = "[[channels.namespaces]]\nname = \"chat\"\n";
    let rules = channels(&format!("{personal}{namespace}{chat}"));
    assert_eq!(rules.personal_channels.as_deref(), Some("chat"));
    check_faults(
        &with(&format!("[channels]\n{namespace}{}", chat.replace("chat", "chats"))),
        "weir.toml:10: channels.personal_channel_namespace: does nothing without \
         subscribe_to_user_personal_channel\n\
         weir.toml:10: channels.personal_channel_namespace: no namespace is named \"chat\"; did you \
         mean \"chats\"?\n",
    );
}

#[test]
fn what_is_done_about_the_slow_fits_what_subscribers_are_promised() {
    let config = load(&with(
        r#"
[[channels.namespaces]]
name = "quotes"
slow_consumer = "latest_by_key"
slow_consumer_key = "json:symbol"
slow_consumer_bytes_max = "16KiB"
[[channels.namespaces]]
name = "chat"
history_size = 10
history_ttl = "5m"
allow_recovery = true
slow_consumer = "catch_up"
"#,
    ));
    let slow = |at: usize| config.channels.rules.namespaces[at].1.slow.clone();
    let policy = SlowPolicy::LatestByKey(KeyOf::Json("symbol".into()));
    assert_eq!(slow(0), SlowConsumers { policy, bytes_max: 16 << 10 });
    let policy = SlowPolicy::CatchUp;
    assert_eq!(slow(1), SlowConsumers { policy, ..SlowConsumers::default() });
    check_faults(
        &with(
            r#"[[channels.namespaces]]
name = "a"
history_size = 10
history_ttl = "5m"
allow_recovery = true
slow_consumer = "drop_oldest"
[[channels.namespaces]]
name = "b"
slow_consumer = "catch_up"
[[channels.namespaces]]
name = "c"
slow_consumer = "latest_by_key"
[[channels.namespaces]]
name = "d"
slow_consumer_key = "symbol"
[[channels.namespaces]]
name = "e"
slow_consumer_key = "tag:symbol"
"#,
        ),
        r#"weir.toml:14: channels.namespaces[0].slow_consumer: allow_recovery promises that nothing is missed, and slow_consumer drops publications
weir.toml:17: channels.namespaces[1].slow_consumer: slow_consumer = "catch_up" needs history_size and history_ttl
weir.toml:20: channels.namespaces[2].slow_consumer: "latest_by_key" needs slow_consumer_key
weir.toml:23: channels.namespaces[3].slow_consumer_key: "symbol" is not "tag:NAME", "json:NAME", or "off"
weir.toml:26: channels.namespaces[4].slow_consumer_key: does nothing without slow_consumer = "latest_by_key"
"#,
    );
}

#[test]
fn the_subscribers_of_a_channel_may_be_bounded() {
    let config = load(&with("[channels.without_namespace]\nsubscribers_max = 500\n"));
    assert_eq!(config.channels.rules.without_namespace.subscribers_max, Some(500));
    let config = load(&with(""));
    assert_eq!(config.channels.rules.without_namespace.subscribers_max, None);
}

#[test]
fn a_recovery_without_a_history_is_a_contradiction() {
    check_faults(
        &with("[channels.without_namespace]\nforce_recovery = true\n"),
        "weir.toml:10: channels.without_namespace.force_recovery: force_recovery needs history_size \
         and history_ttl\n",
    );
}

#[test]
fn there_are_only_so_many_namespaces() {
    let tables: String =
        (0..257).map(|i| format!("[[channels.namespaces]]\nname = \"n{i}\"\n")).collect();
    let text = with(&tables);
    let faults = Config::read("weir.toml", &text, &surroundings(&[])).expect_err("too many");
    assert!(faults.to_string().contains("channels.namespaces: 257 of them, and at most 256"));
}

#[test]
fn tokens_of_subscriptions_have_keys_of_their_own_only_where_these_are_given() {
    let key = |section: &str| {
        format!(
            "[[channels.{section}.keys]]\nname = \"main\"\nalgorithm = \"hmac\"\n\
             key = \"a-secret-of-more-than-32-bytes-in-all\"\n"
        )
    };
    let config = load(&with(&key("token")));
    assert!(config.channels.token.has_keys());
    assert!(config.channels.subscription_token.is_none());
    let config = load(&with(&format!("{}{}", key("token"), key("subscription_token"))));
    assert!(config.channels.subscription_token.is_some());
    assert!(!format!("{config:?}").contains("a-secret"));
}

#[test]
fn what_is_only_for_development_is_warned_of() {
    let config =
        load(&with("[channels]\ninsecure = true\n[channels.token]\nshort_secrets = true\n"));
    let warned = |of: &str| config.warnings.iter().any(|warning| warning.starts_with(of));
    assert!(warned("channels.insecure: everybody may do everything"));
    assert!(warned("channels.token.short_secrets: "));
}

#[test]
fn the_environment_reaches_every_section_of_channels() {
    let config = load_with(
        &with("[[channels.token.keys]]\nname = \"main\"\nalgorithm = \"hmac\"\nkey = \"secret\"\n"),
        &[
            ("WEIR_CHANNELS__INSECURE", "true"),
            ("WEIR_CHANNELS__WITHOUT_NAMESPACE__PRESENCE", "true"),
            ("WEIR_CHANNELS__TOKEN__SHORT_SECRETS", "true"),
        ],
    );
    assert!(config.channels.rules.insecure);
    assert!(config.channels.rules.without_namespace.presence);
    assert_eq!(config.channels.token.token_keys.len(), 1);
}

#[test]
fn pages_are_for_the_demo_and_the_demo_is_for_pages() {
    let paths = |first: &str, second: &str| {
        with(&format!(
            r#"[[listeners]]
name = "http"
address = "127.0.0.1:8080"
wire = "http"
[[listeners.paths]]
path = "/"
kind = "page"
route = "{first}"
[[listeners.paths]]
path = "/echo"
kind = "post"
route = "{second}"
[[routes]]
name = "demo"
kind = "demo"
"#
        ))
    };
    load(&paths("demo", "echo"));
    check_faults(
        &paths("echo", "demo"),
        r#"weir.toml:16: listeners[1].paths[0].route: "page" paths are for routes with kind = "demo", and "echo" has another
weir.toml:20: listeners[1].paths[1].route: "demo" has kind = "demo", for "page" paths: "/" and "/demo/*"
"#,
    );
}
