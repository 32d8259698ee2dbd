//! Subscribers that read 1 KB a second among many that keep up: each namespace's policy does what it says
//! to them, the others have everything, and memory stays bounded.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use weir_tests::kernel::resident_bytes;
use weir_tests::{Gateway, LinePeer, Peer};

/// Subscribers of each namespace that keep up, beside one that does not: 1%.
const FAST: usize = 99;
const PUBLICATIONS: u64 = 240;
/// Beside its number and key: much more comes in all than kernel and outbox hold for one.
const FILLING: usize = 500;
/// Values of the key.
const KEYS: u64 = 4;
const NAMESPACES: [&str; 4] = ["ends", "drops", "keeps", "reads"];

const ACTIONS: &str = "weir_channels_slow_consumers_total";

/// Everybody may do everything; what differs is what is done about the slow.
fn tables() -> String {
    let mut tables =
        "[[listeners]]\nname = \"channels\"\naddress = \"127.0.0.1:0\"\nwire = \"lines\"\n\
         unsent_bytes_max = \"4KiB\"\nroute = \"channels\"\n\
         [[routes]]\nname = \"channels\"\nkind = \"channels\"\n\
         [channels]\nallow_anonymous_connect_without_token = true\nping_interval = \"off\"\n"
            .to_owned();
    let policies = [
        "slow_consumer = \"disconnect\"",
        "slow_consumer = \"drop_oldest\"",
        "slow_consumer = \"latest_by_key\"\nslow_consumer_key = \"json:key\"",
        "slow_consumer = \"catch_up\"\nhistory_size = 1000\nhistory_ttl = \"10m\"",
    ];
    for (name, policy) in NAMESPACES.iter().zip(policies) {
        tables += &format!(
            "[[channels.namespaces]]\nname = \"{name}\"\n{policy}\n\
             slow_consumer_bytes_max = \"16KiB\"\n\
             allow_subscribe_for_client = true\nallow_subscribe_for_anonymous = true\n\
             allow_publish_for_client = true\nallow_publish_for_anonymous = true\n"
        );
    }
    tables
}

/// A subscriber of the channel of a namespace.
async fn subscribe(mut peer: LinePeer, namespace: &str) -> LinePeer {
    peer.say(r#"{"id":1,"connect":{}}"#).await;
    peer.say(&format!(r#"{{"id":2,"subscribe":{{"channel":"{namespace}:all"}}}}"#)).await;
    for _ in 0..2 {
        let reply = peer.hear().await;
        assert!(!reply.contains("error"), "{reply}");
    }
    peer
}

/// The number of a publication; panics on anything else.
fn number(line: &str) -> u64 {
    let push: Value = serde_json::from_str(line).expect("a push is JSON");
    let number = &push["push"]["pub"]["data"]["n"];
    number.as_u64().unwrap_or_else(|| panic!("no publication: {}", &line[..line.len().min(200)]))
}

/// Reads everything that is published, each once and in order.
fn keep_up(mut peer: LinePeer) -> JoinHandle<LinePeer> {
    tokio::spawn(async move {
        for n in 0..PUBLICATIONS {
            let line = peer.hear().await;
            // The whole of it is read where time does not matter.
            assert!(line.contains(&format!("\"n\":{n},")), "{n}: {}", &line[..200]);
        }
        peer
    })
}

/// Reads 1 KB a second until it is told to go on, and then what there is up to the last publication;
/// gives the numbers that came. `None`: the connection ended.
fn read_slowly(mut peer: LinePeer, go_on: JoinHandle<()>) -> JoinHandle<Option<Vec<u64>>> {
    tokio::spawn(async move {
        let mut read = Vec::new();
        while !go_on.is_finished() {
            let part = |bytes: &[u8]| Some((bytes.get(..256)?.to_vec(), 256));
            let take = peer.peer.take_parsed(part);
            if let Ok(bytes) = tokio::time::timeout(Duration::from_millis(100), take).await {
                read.extend(bytes?);
            }
            sleep(Duration::from_millis(250)).await;
        }
        loop {
            if let Some(line) = read.split(|byte| *byte == b'\n').rev().nth(1)
                && number(&String::from_utf8_lossy(line)) == PUBLICATIONS - 1
            {
                let lines = read.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                return Some(lines.map(|line| number(&String::from_utf8_lossy(line))).collect());
            }
            read.extend(peer.peer.take_through(b"\n").await?);
        }
    })
}

async fn publish(talker: &mut LinePeer, n: u64) {
    for (at, namespace) in NAMESPACES.iter().enumerate() {
        let (id, key, filling) = (n * 4 + at as u64 + 9, n % KEYS, "x".repeat(FILLING));
        let data = format!(r#"{{"n":{n},"key":{key},"filling":"{filling}"}}"#);
        let publish = format!(r#"{{"channel":"{namespace}:all","data":{data}}}"#);
        talker.say(&format!(r#"{{"id":{id},"publish":{publish}}}"#)).await;
    }
    for _ in NAMESPACES {
        let reply = talker.hear().await;
        assert!(reply.contains("publish"), "{reply}");
    }
}

/// Many that read nothing, each within its own bound: together they are over the budget.
#[tokio::test]
async fn memory_stays_within_the_budget_of_all_outboxes() {
    const BUDGET: u64 = 4 << 20;
    let gateway = Gateway::start()
        .limits(&format!("outbox_bytes_max = \"1MiB\"\noutboxes_bytes_max = \"{BUDGET}B\""))
        .timeouts("write = \"60s\"\nidle = \"10m\"")
        .listener("echoes", "wire = \"lines\"\nroute = \"main\"\nunsent_bytes_max = \"4KiB\"")
        .await;
    let address = gateway.address("echoes");
    let before = resident_bytes(gateway.pid());
    let mut bystander = LinePeer::connect(address).await;
    let line = LinePeer::encode(&"x".repeat(1000)).repeat(800);
    let mut stuck = Vec::new();
    for _ in 0..24 {
        let mut peer = Peer::connect_narrow(address).await;
        peer.send_until_stuck(&line, Duration::from_millis(100)).await;
        stuck.push(peer);
    }
    let closed = [("action", "closed")];
    let metrics = gateway
        .wait_for("outboxes to be closed", |metrics| {
            metrics.count("weir_outbox_budget_total", &closed) > 0
        })
        .await;
    let (held, max) = ("weir_outbox_bytes", "weir_outbox_bytes_limit");
    assert_eq!(metrics.count(max, &[]), BUDGET);
    assert!(metrics.count(held, &[]) <= BUDGET, "{} bytes", metrics.count(held, &[]));
    assert!(metrics.count(held, &[]) > BUDGET / 4, "they do not all go");
    let grown = resident_bytes(gateway.pid()).saturating_sub(before);
    assert!(grown < 4 * BUDGET, "{grown} bytes");
    bystander.say("still there").await;
    assert_eq!(bystander.hear().await, "still there");
    let overload = [("listener", "echoes"), ("reason", "overload")];
    assert_eq!(
        metrics.count("weir_connections_closed_total", &overload),
        metrics.count("weir_outbox_budget_total", &closed)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_policy_does_what_it_says_and_the_others_notice_nothing() {
    let gateway = Gateway::start()
        .limits("outbox_bytes_max = \"64KiB\"")
        .timeouts("write = \"60s\"\nidle = \"10m\"")
        .tables(&tables())
        .await;
    let address = gateway.address("channels");
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    let (gone, until) = tokio::sync::watch::channel(false);
    for namespace in NAMESPACES {
        for _ in 0..FAST {
            let peer = LinePeer::connect(address).await;
            fast.push(keep_up(subscribe(peer, namespace).await));
        }
        let peer = LinePeer { peer: Peer::connect_narrow(address).await };
        let mut until = until.clone();
        let go_on = tokio::spawn(async move {
            until.wait_for(|gone| *gone).await.expect("it is told");
        });
        slow.push(read_slowly(subscribe(peer, namespace).await, go_on));
    }
    let mut talker = LinePeer::connect(address).await;
    talker.say(r#"{"id":1,"connect":{}}"#).await;
    talker.hear().await;
    let before = resident_bytes(gateway.pid());
    for n in 0..PUBLICATIONS {
        publish(&mut talker, n).await;
        sleep(Duration::from_millis(20)).await;
    }
    for one in fast {
        one.await.expect("it keeps up");
    }
    let grown = resident_bytes(gateway.pid()).saturating_sub(before);
    assert!(grown < 16 << 20, "{} KiB for four that are slow", grown >> 10);

    gone.send(true).expect("they wait for it");
    let mut got = Vec::new();
    for one in slow {
        got.push(one.await.unwrap_or_else(|error| panic!("{error}")));
    }
    let all: Vec<u64> = (0..PUBLICATIONS).collect();
    assert_eq!(got[0], None, "disconnected");
    let dropped = got[1].as_ref().expect("it is let be slow");
    assert!(dropped.is_sorted() && dropped.len() < all.len(), "{dropped:?}");
    let newest = got[2].as_ref().expect("it is let be slow");
    for key in 0..KEYS {
        let last = newest.iter().rfind(|n| *n % KEYS == key);
        assert_eq!(last, Some(&(PUBLICATIONS - KEYS + key)), "{newest:?}");
    }
    assert!(newest.len() < all.len(), "{newest:?}");
    assert_eq!(got[3].as_ref(), Some(&all), "caught up without a code");

    let metrics = gateway.metrics().await;
    let count =
        |namespace, action| metrics.count(ACTIONS, &[("namespace", namespace), ("action", action)]);
    assert_eq!(count("ends", "disconnected"), 1);
    assert_eq!(count("drops", "dropped"), (all.len() - dropped.len()) as u64);
    assert_eq!(count("keeps", "superseded"), (all.len() - newest.len()) as u64);
    assert!(count("reads", "caught_up") >= 1);
    let closed: u64 = ["slow_consumer", "write_timeout", "overload"]
        .map(|reason| [("listener", "channels"), ("reason", reason)])
        .iter()
        .map(|labels| metrics.count("weir_connections_closed_total", labels))
        .sum();
    assert_eq!(closed, 1, "the one whose namespace says so");
}
