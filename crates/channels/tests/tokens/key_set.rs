//! Tokens whose keys somebody else publishes: a key that is not known yet, and a set that is not
//! there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use prometheus::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use weir_auth::{AuthMetrics, KeySetLimits, RemoteKeys};
use weir_channels::protocol::codes::ErrorCode;
use weir_channels::tokens::{Reason, Verdict};
use weir_upstream::{Upstream, UpstreamMetrics, UpstreamOptions};

use crate::support::{World, at, keys, sample};
use crate::{ANN, CONNECT, INVALID, SUBSCRIBE};

/// The public key of the sample `ed25519`, published under its name.
const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"ed25519","use":"sig",
    "x":"T-XyweVFwPw8mqqxES3YelHYCfbbLhKFV3py-THNhkA"}]}"#;

/// A server that publishes [`SET`] to everybody who asks.
async fn publisher() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    TaskTracker::new().spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
            if peer.read(&mut request).await.is_ok() {
                let answer = format!("{head} {}\r\n\r\n{SET}", SET.len());
                peer.write_all(answer.as_bytes()).await.ok();
            }
        }
    });
    address
}

fn key_set(address: SocketAddr) -> Arc<RemoteKeys> {
    let registry = Registry::new();
    let options = UpstreamOptions {
        name: "channels.token.jwks".to_owned(),
        targets: vec![format!("http://{address}")],
        breaker_failures: None,
        ..UpstreamOptions::default()
    };
    let metrics = UpstreamMetrics::register(&registry).expect("registered once");
    let upstream = Upstream::new(options, &metrics, &TaskTracker::new(), &Handle::current());
    let limits = KeySetLimits {
        refresh_interval: Duration::from_secs(600),
        refresh_interval_min: Duration::from_secs(60),
        age_max: Duration::from_secs(3600),
        keys_max: 8,
    };
    let metrics = AuthMetrics::register(&registry).expect("registered once");
    let path = PathAndQuery::from_static("/jwks.json");
    let upstream = upstream.expect("good options");
    RemoteKeys::new(upstream, path, limits, metrics.jwks("channels.token.jwks"))
}

#[tokio::test]
async fn a_key_that_is_not_known_is_asked_for_outside_of_the_event_loops() {
    let world = World::with_key_set(Vec::new(), key_set(publisher().await));
    let (_, token) = sample("ed25519");
    assert!(world.tokens.connection(&token, CONNECT, at()).is_none(), "the set may have the key");
    let checked = world.tokens.connection_later(&token, CONNECT).await.expect("it has");
    assert_eq!(&*checked.user, "ann");
    let again = world.tokens.connection(&token, CONNECT, at()).expect("the key is known");
    assert_eq!(&*again.expect("good").user, "ann");
    // Asked for again at the bounded rate, and until then it is an unknown key.
    let (_, stranger) = sample("p256");
    let refused = world.tokens.connection(&stranger, CONNECT, at()).expect("nothing to ask");
    assert_eq!(refused.expect_err("unknown").verdict(), INVALID);
}

#[tokio::test]
async fn while_a_key_set_is_away_a_client_is_told_to_try_again_and_not_to_stay_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = listener.local_addr().expect("an address");
    drop(listener);
    let world = World::with_key_set(keys(crate::support::SECRET), key_set(nobody));
    let (_, token) = sample("ed25519");
    let refused = world.tokens.connection_later(&token, CONNECT).await.expect_err("no key");
    assert_eq!(refused.reason, Reason::KeysUnavailable);
    assert_eq!(refused.verdict(), Verdict::Error(ErrorCode::Internal));
    let refused = world.tokens.subscription_later(&token, ANN, SUBSCRIBE).await.expect_err("none");
    assert_eq!(refused.verdict(), Verdict::Error(ErrorCode::Internal));
    // The keys that are listed need nobody.
    let token = crate::sign(&serde_json::json!({"sub": "ann"}));
    assert!(world.tokens.connection(&token, CONNECT, at()).expect("a quick check").is_ok());
    assert_eq!(world.refused("connection", "keys_unavailable"), 1);
    assert_eq!(world.refused("subscription", "keys_unavailable"), 1);
}
