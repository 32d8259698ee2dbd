//! Backends that publish through the server API and keep what they are told.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use weir_tests::Peer;
use weir_tests::http::HttpPeer;

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::{LONG, LOUD, SHORT};

/// The padding of what is published into [`LOUD`], and of the rest.
const BIG: usize = 16_000;
const SMALL: usize = 100;
/// Publishers that publish into [`LOUD`] only.
const LOUD_PUBLISHERS: u64 = 2;

/// Every channel there is.
pub(crate) fn channels() -> Vec<String> {
    let long = (0..LONG).map(|number| format!("long:{number}"));
    let short = (0..SHORT).map(|number| format!("short:{number}"));
    long.chain(short).chain([LOUD.to_owned()]).collect()
}

/// Publishes until it is the end. A weir that is away is asked again.
pub(crate) async fn publish(
    web: SocketAddr,
    number: u64,
    mut chance: Chance,
    ledger: Arc<Ledger>,
    ended: watch::Receiver<bool>,
) {
    let quiet = channels();
    let quiet = &quiet[..quiet.len() - 1];
    let mut peer = None;
    for count in 0.. {
        if *ended.borrow() {
            return;
        }
        let (channel, padding, pause) = if number < LOUD_PUBLISHERS {
            (LOUD, BIG, chance.millis(100, 300))
        } else {
            (&*quiet[chance.below(quiet.len() as u64) as usize], SMALL, chance.millis(100, 400))
        };
        let id = number * 1_000_000 + count;
        let padding = "x".repeat(padding);
        let body = format!(r#"{{"channel":"{channel}","data":{{"id":{id},"pad":"{padding}"}}}}"#);
        peer = say(peer, web, channel, id, &body, &ledger).await;
        sleep(pause).await;
    }
}

/// One publication; gives the connection back while it is good.
async fn say(
    peer: Option<HttpPeer>,
    web: SocketAddr,
    channel: &str,
    id: u64,
    body: &str,
    ledger: &Ledger,
) -> Option<HttpPeer> {
    let mut peer = match peer {
        Some(peer) => peer,
        // Nobody listens while weir starts again.
        None => HttpPeer::over(Peer::try_connect(web).await?, web),
    };
    peer.request("POST /api/publish", "", body.as_bytes()).await;
    let reply = peer.try_reply().await?;
    if reply.status != 200 {
        assert_eq!(reply.status, 503, "{}", reply.text());
        return None;
    }
    let answer: Value = reply.json();
    let (epoch, offset) = (answer["result"]["epoch"].as_str(), answer["result"]["offset"].as_u64());
    let (Some(epoch), Some(offset)) = (epoch, offset) else {
        panic!("not published: {answer}");
    };
    ledger.acknowledge(channel, epoch, offset, id);
    Some(peer)
}
