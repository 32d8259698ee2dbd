//! Messages of devices on a route that publishes, judged by a reader of JSON that knows no templates; and
//! texts of templates. weir-channels' tests include this file too.

use std::sync::{Arc, LazyLock};

use prometheus::Registry;
use serde_json::Value;
use weir_channels::broker::{Limits, Memory};
use weir_channels::namespace::{ChannelOptions, ChannelRules, Namespaces, Permission};
use weir_channels::route::{
    ChannelTemplate, DataForm, PublishRoute, ReplyTemplate, RouteMetrics, RouteOptions, Written,
};
use weir_channels::{ChannelMetrics, ClientOptions, Policy, Shared};
use weir_core::clock;
use weir_core::context::{ConnId, RequestId};
use weir_core::service::{Action, Actions, Carrier, Message, MessageKind, Opening, Service};

/// Templates, each with the fields and what stands before, between and behind them.
const TEMPLATES: [(&str, &[&str], &[&str]); 3] = [
    ("sensors:{json.a}", &["/a"], &["sensors:", ""]),
    ("sensors:x.{json.a}.{json.b}", &["/a", "/b"], &["sensors:x.", ".", ""]),
    ("sensors:{json.a.b}/{listener}", &["/a/b"], &["sensors:", "/fuzz"]),
];

static ROUTES: LazyLock<Vec<PublishRoute>> = LazyLock::new(|| {
    let registry = Registry::new();
    let metrics = ChannelMetrics::register(&registry).expect("registered once");
    let routes = RouteMetrics::register(&registry).expect("registered once");
    let all = Permission { client: true, subscriber: true, anonymous: true };
    let sensors = ChannelOptions { publish: all, ..ChannelOptions::default() };
    let namespaces = vec![("sensors".to_owned(), sensors)];
    let rules = ChannelRules { namespaces, ..ChannelRules::default() };
    let namespaces = Namespaces::new(rules).expect("good rules");
    let policy = Policy::new(namespaces, None, ClientOptions::default(), &metrics);
    let broker = Arc::new(Memory::new(Limits::default(), 7));
    let shared = Shared::new(broker, policy, metrics, 7);
    let route = |template: &str| {
        let options = RouteOptions {
            channel: Some(ChannelTemplate::parse(template).expect("a template")),
            data: DataForm::Json,
            reply: Some(ReplyTemplate::parse("{channel}").expect("a template")),
            errors: true,
            channels_max: 1,
            subscribe: Vec::new(),
            written: Written::Text,
        };
        PublishRoute::new("fuzz".to_owned(), options, Arc::clone(&shared), &routes)
    };
    TEMPLATES.iter().map(|(template, ..)| route(template)).collect()
});

/// A byte that chooses a template, or to be one; then the message, or the text.
pub fn device(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    match usize::from(*choice) % (TEMPLATES.len() + 1) {
        which if which < TEMPLATES.len() => message(which, data),
        _ => template(data),
    }
}

fn message(which: usize, message: &[u8]) {
    let (_, fields, texts) = TEMPLATES[which];
    let (status, reply) = publish(&ROUTES[which], message);
    if status != 200 {
        assert!(reply.contains("\"error\""), "{reply}");
        return;
    }
    let known: Value = serde_json::from_slice(message).expect("what is published is JSON");
    let mut model = texts[0].to_owned();
    for (field, text) in fields.iter().zip(&texts[1..]) {
        match known.pointer(field) {
            Some(Value::String(value)) => model += value,
            Some(Value::Number(number)) if !number.is_f64() => model += &number.to_string(),
            other => panic!("published without {field}: {other:?}"),
        }
        model += text;
    }
    assert_eq!(reply, model);
    assert_eq!(reply.matches([':', '#', '$']).count(), 1, "{reply}");
    assert!(!reply.chars().any(char::is_control), "{reply:?}");
}

/// One POST: the status and the body of its answer.
fn publish(route: &PublishRoute, message: &[u8]) -> (u16, String) {
    let request_id = RequestId::Message { conn: ConnId::from_raw(9), seq: 1 };
    let mut session = route.open(&Opening {
        conn: ConnId::from_raw(9),
        peer: ([127, 0, 0, 1], 9).into(),
        listener: "fuzz",
        carrier: Carrier::Http,
        wire: None,
        request_id: &request_id,
        tls: None,
        principal: None,
        path: None,
        headers: None,
        query: None,
    });
    let mut actions = Actions::default();
    let message = Message { payload: message, kind: MessageKind::Binary };
    session.on_message(message, &request_id, clock::now(), &mut actions);
    let (bytes, list) = actions.take();
    match &list[..] {
        [Action::Reply { status, payload, .. }] => {
            let reply = String::from_utf8(bytes[payload.clone()].to_vec()).expect("text");
            (*status, reply)
        }
        _ => panic!("one answer to one message"),
    }
}

/// A text that is a template is written as it was read, and stays in its namespace.
fn template(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(template) = ChannelTemplate::parse(text) {
        assert_eq!(template.to_string(), text);
        assert!(
            !template.namespace().contains(['{', '}', ':'])
                || text.contains("{{")
                || text.contains("}}"),
            "{text}"
        );
    }
    if let Ok(template) = ReplyTemplate::parse(text) {
        assert_eq!(template.to_string(), text);
    }
}
