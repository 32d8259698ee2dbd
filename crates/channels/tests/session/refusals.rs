//! What is not offered is refused as the protocol says, whoever asks for it, and touches nobody else.

use serde_json::{Value, json};
use weir_channels::namespace::ChannelOptions;

use crate::support::{World, history, open};

#[test]
fn experimental_types_are_not_available() {
    let mut world = World::new(open());
    let mut client = world.client();
    client.ask(&mut world, r#""subscribe":{"channel":"there"}"#);
    let mut check = |request: &str| {
        let reply = client.ask(&mut world, request);
        assert_eq!(reply["error"]["code"], 108, "{request}: {reply}");
    };
    for kind in [1, 2, 3, 4, 5, -1] {
        check(&format!(r#""subscribe":{{"channel":"news","type":{kind},"limit":10,"phase":2}}"#));
        check(&format!(r#""publish":{{"channel":"news","type":{kind},"key":"a","data":1}}"#));
        check(&format!(r#""sub_refresh":{{"channel":"there","type":{kind},"track":[]}}"#));
    }
    assert_eq!(world.metric("weir_channels_subscriptions"), 1.0);
    assert_eq!(world.metric("weir_channels_publications_total"), 0.0);
}

#[test]
fn a_filter_is_a_bad_request_and_deltas_are_not_agreed_on() {
    let mut world = World::new(ChannelOptions { history: history(9), ..open() });
    let mut client = world.client();
    let filter = r#""subscribe":{"channel":"news","tf":{"key":"a","cmp":"eq","val":"b"}}"#;
    assert_eq!(client.ask(&mut world, filter)["error"]["code"], 107);
    let deltas = client.ask(&mut world, r#""subscribe":{"channel":"news","delta":"fossil"}"#);
    assert!(deltas["subscribe"].is_object(), "{deltas}");
    assert_eq!(deltas["subscribe"]["delta"], Value::Null);
    for n in 1..=2 {
        client.say(&mut world, &format!(r#"{{"id":9,"publish":{{"channel":"news","data":{n}}}}}"#));
        let said = client.heard();
        assert_eq!(
            (&said[1]["push"]["pub"]["data"], &said[1]["push"]["pub"]["delta"]),
            (&json!(n), &Value::Null)
        );
    }
}

#[test]
fn commands_out_of_order_end_the_connection_that_sent_them_and_no_other() {
    let mut world = World::new(open());
    let mut bystander = world.client();
    for (lines, code) in [
        (&[r#"{"id":1,"subscribe":{"channel":"a"}}"#][..], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"id":2,"connect":{}}"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"subscribe":{"channel":"a"}}"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"id":2}"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"id":2,"subscribe":{}}"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"id":2,"publish":{"data":1}}"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"id":2,"presence":{}}"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"id":2,"history":{}}"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"id":2,"refresh":{}}"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"id":2,"ping":{}}"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{}"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"id":2,"#], 3501),
        (&[r#"{"id":1,"connect":{}}"#, r#"{"send":{"data":1}}"#], 3508),
    ] {
        let mut client = world.connection(1 << 20);
        for line in lines {
            client.say(&mut world, line);
        }
        assert_eq!(client.told_to_go(), code, "{lines:?}");
    }
    let reply = bystander.ask(&mut world, r#""subscribe":{"channel":"a"}"#);
    assert!(reply["subscribe"].is_object(), "{reply}");
}

#[test]
fn a_subscription_of_the_server_is_not_the_clients_to_renew() {
    let mut world = World::new(open());
    let mut client = world.connection(1 << 20);
    let reply = client.ask(&mut world, r#""connect":{}"#);
    crate::support::subscribe_by_server(&mut world, &reply, <_>::default());
    assert!(client.heard()[0]["push"]["subscribe"].is_object());
    client.say(&mut world, r#"{"id":5,"sub_refresh":{"channel":"news","token":"x"}}"#);
    assert_eq!(client.told_to_go(), 3501);
}
