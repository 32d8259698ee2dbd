//! What a user is promised of routes that publish.

use weir_channels::route::{DataForm, Written};

use super::*;
use crate::config::route::Kind;

/// A listener, an HTTP listener with a POST, and namespaces, for these routes.
fn routes(text: &str) -> String {
    with(&format!(
        r#"[[listeners]]
name = "web"
address = "127.0.0.1:8080"
wire = "http"
[[listeners.paths]]
path = "/publish"
kind = "post"
route = "devices"
[[channels.namespaces]]
name = "sensors"
allow_publish_for_client = true
[[channels.namespaces]]
name = "commands"
{text}"#
    ))
}

#[test]
fn a_route_publishes_and_subscribes_as_it_says() {
    let config = load(&routes(
        r#"[[routes]]
name = "devices"
kind = "publish"
auth = "api_key"
channel = "sensors:{principal}.{json.device}"
[[auth.api_keys]]
name = "meter"
key = "at-least-16-bytes-that-nobody-guesses"
"#,
    ));
    let Kind::Publish(keys) = &config.routes.last().expect("routes").kind else {
        panic!("{:?}", config.routes)
    };
    let options = keys.options();
    let channel = options.channel.expect("a channel").to_string();
    assert_eq!(channel, "sensors:{principal}.{json.device}");
    assert_eq!((options.data, options.written), (DataForm::Auto, Written::Text));
    assert!(options.reply.is_none() && options.errors && options.subscribe.is_empty());
    assert_eq!(options.channels_max, 128);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn everything_that_is_wrong_with_routes_that_publish_is_told_at_once() {
    check_faults(
        &routes(
            r#"[[routes]]
name = "devices"
kind = "publish"
channel = "sensor:{jsn.device}.{peer}"
reply = "ok {ofset}"
subscribe = ["comands:all", "commands:{json.device}", "commands:{principal}"]
[[routes]]
name = "nothing"
kind = "publish"
data = "yaml"
[[routes]]
name = "free"
kind = "publish"
channel = "{json.kind}:all"
[[routes]]
name = "unknown"
kind = "publish"
channel = "sensor:all"
channels_max = 0
base = "/api"
"#,
        ),
        r#"weir.toml:16: listeners[1].paths[0].route: a "post" path is told of no channel, and "devices" subscribes
weir.toml:25: routes[1].channel: "sensor:{jsn.device}.{peer}": unknown placeholder {jsn.device}; did you mean "json.device"?; unknown placeholder {peer}
weir.toml:26: routes[1].reply: "ok {ofset}": unknown placeholder {ofset}; did you mean "offset"?
weir.toml:27: routes[1].subscribe: "commands:{json.device}": {json.device} is not known when a connection opens, before its messages
weir.toml:27: routes[1].subscribe: no namespace is named "comands"; did you mean "commands"?
weir.toml:30: routes[2].kind: does nothing without "channel", which is published into, or "subscribe"
weir.toml:31: routes[2].data: "yaml" is not one of "auto", "json", "text", "bytes"
weir.toml:35: routes[3].channel: "{json.kind}:all": the namespace before ":" must be written out, without placeholders
weir.toml:39: routes[4].channel: no namespace is named "sensor"; did you mean "sensors"?
weir.toml:40: routes[4].channels_max: 0 is not a whole number, 1 or more
weir.toml:41: routes[4].base: only with kind = "channels_api"
"#,
    );
}

#[test]
fn a_namespace_whose_backend_decides_takes_nothing_from_routes() {
    let only = "a backend is asked for clients of the protocol only";
    check_faults(
        &routes(
            r#"[[channels.namespaces]]
name = "asked"
publish_proxy_enabled = true
subscribe_proxy_enabled = true
[channels.hooks]
upstream = "app"
publish = "/publish"
subscribe = "/subscribe"
[[upstreams]]
name = "app"
targets = ["http://127.0.0.1:9000"]
[[routes]]
name = "devices"
kind = "publish"
channel = "asked:all"
[[routes]]
name = "told"
kind = "publish"
subscribe = ["asked:all"]
"#,
        ),
        &format!(
            "weir.toml:36: routes[1].channel: \"asked:all\": its namespace has publish_proxy_enabled, and {only}\n\
             weir.toml:40: routes[2].subscribe: \"asked:all\": its namespace has subscribe_proxy_enabled, and {only}\n"
        ),
    );
}

#[test]
fn a_route_through_which_nobody_may_is_warned_of() {
    let config = load(&routes(
        r#"[[routes]]
name = "devices"
kind = "publish"
channel = "sensors:{json.device}"
[[routes]]
name = "told"
kind = "publish"
subscribe = ["commands:all"]
"#,
    ));
    let warnings = [
        "routes: no listener names \"told\"",
        "routes: nobody may publish into \"sensors:{json.device}\" through \"devices\": its \
         namespace needs allow_publish_for_client and allow_publish_for_anonymous",
        "routes: nobody may subscribe to \"commands:all\" through \"told\": its namespace needs \
         allow_subscribe_for_client and allow_subscribe_for_anonymous",
    ];
    assert_eq!(config.warnings, warnings);
}
