//! Recovery is exact: subscribers that are cut in every way, while backends publish, end with the
//! whole of each stream, or are told that they do not have it, and then only when it could not be. A
//! third of them each come as lines of JSON, as JSON over WebSocket and as Protobuf over WebSocket.

mod chance;
mod ledger;
mod link;
mod protobuf;
mod publishers;
mod subscriber;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use weir_tests::tcp::free_address;
use weir_tests::wait::within;
use weir_tests::{Gateway, http};

use chance::Chance;
use ledger::Ledger;
use link::{Addresses, Transport};
use subscriber::{Outcome, Subscriber};

const SUBSCRIBERS: u64 = 1_000;
const PUBLISHERS: u64 = 50;
/// How long it is published and cut between two restarts.
const PHASE: Duration = Duration::from_secs(5);
/// Longest wait for everybody to have everything once nothing is published any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Channels whose histories reach over every outage, over short ones only, and one whose
/// publications are so big that a subscriber which does not read is soon too far behind.
const LONG: u64 = 30;
const SHORT: u64 = 15;
const LOUD: &str = "loud:speaker";

/// What the histories of each kind keep, in publications.
fn history_size(channel: &str) -> u64 {
    match channel.split_once(':').expect("a namespace").0 {
        "long" => 1_000,
        "short" => 5,
        _ => 250,
    }
}

fn namespace(name: &str) -> String {
    let size = history_size(&format!("{name}:"));
    format!(
        "[[channels.namespaces]]\nname = \"{name}\"\nhistory_size = {size}\nhistory_ttl = \"10m\"\n\
         allow_recovery = true\nforce_recovery = true\nforce_positioning = true\n\
         allow_subscribe_for_client = true\nallow_subscribe_for_anonymous = true\n"
    )
}

async fn gateway(Addresses { lines, web }: Addresses) -> Gateway {
    Gateway::start()
        .limits("outbox_bytes_max = \"64KiB\"")
        .shutdown("unready = \"0s\"\ndrain = \"1s\"\nforce = \"1s\"\nflush = \"1s\"")
        .tables(&format!(
            "[[listeners]]\nname = \"channels\"\naddress = \"{lines}\"\nwire = \"lines\"\n\
             route = \"channels\"\n\
             [[listeners]]\nname = \"web\"\naddress = \"{web}\"\nwire = \"http\"\n\
             [[listeners.paths]]\npath = \"/api/*\"\nkind = \"post\"\nroute = \"api\"\n\
             [[listeners.paths]]\npath = \"/connection/websocket\"\nkind = \"websocket\"\n\
             route = \"channels\"\n\
             [[routes]]\nname = \"channels\"\nkind = \"channels\"\n\
             [[routes]]\nname = \"api\"\nkind = \"channels_api\"\n\
             [channels]\nallow_anonymous_connect_without_token = true\n"
        ))
        .tables(&["long", "short", "loud"].map(namespace).concat())
        .await
}

#[tokio::test]
async fn subscribers_that_are_cut_lose_and_double_nothing_unless_they_are_told_so() {
    let to = Addresses { lines: free_address(), web: free_address() };
    let mut running = gateway(to).await;
    let ledger = Arc::new(Ledger::default());
    let (end, ended) = watch::channel(false);
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS {
        let chance = Chance::new(number);
        publishers.spawn(publishers::publish(
            to.web,
            number,
            chance,
            ledger.clone(),
            ended.clone(),
        ));
    }
    let mut subscribers = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let subscriber = Subscriber::new(to, number, ledger.clone(), ended.clone());
        subscribers.spawn(subscriber.run());
    }

    let mut too_slow = 0;
    for last in [false, false, true] {
        sleep(PHASE).await;
        let action = [("action", "disconnected")];
        let metrics = running.metrics().await;
        too_slow += metrics.count("weir_channels_slow_consumers_total", &action);
        if !last {
            // A drain: everybody is sent away and comes back to streams that have begun anew.
            running.signal(Signal::TERM);
            // 1: those that do not read had to be cut.
            assert!([0, 1].contains(&running.exit_code().await));
            running = gateway(to).await;
        }
    }
    end.send_replace(true);
    within("the publishers to end", PATIENCE, publishers.join_all()).await;
    ledger.close(&tops(to.web).await);
    let outcomes = within("everybody to have everything", PATIENCE, subscribers.join_all()).await;

    println!("{} published, {too_slow} too slow", ledger.published());
    // Whatever was not exact has failed in its subscriber. Here: that all of it happened, each way.
    for transport in Transport::ALL {
        let of = outcomes.iter().filter(|(one, _)| *one == transport).map(|(_, outcome)| outcome);
        let total = of.fold(Outcome::default(), Outcome::plus);
        println!("{transport:?}: {total:?}");
        assert!(total.heard > 15_000, "{transport:?}: {total:?}");
        assert!(total.recovered > 300 && total.caught_up > 300, "{transport:?}: {total:?}");
        assert!(total.too_late > 3 && total.begun_anew > 300, "{transport:?}: {total:?}");
    }
    assert!(too_slow > 10, "{too_slow} overflowed");
}

/// Where each stream ends: channel, epoch and offset.
async fn tops(web: SocketAddr) -> Vec<(String, String, u64)> {
    let mut tops = Vec::new();
    for channel in publishers::channels() {
        let body = format!(r#"{{"channel":"{channel}"}}"#);
        let reply = http::post(web, "/api/history", body.as_bytes()).await.json();
        let result = &reply["result"];
        let epoch = result["epoch"].as_str().expect("an epoch").to_owned();
        tops.push((channel, epoch, result["offset"].as_u64().unwrap_or(0)));
    }
    tops
}
