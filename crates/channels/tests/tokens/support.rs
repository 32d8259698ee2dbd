//! What the tests of tokens share: keys, a signer, and a set of tokens whose refusals can be read.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use prometheus::Registry;
use serde_json::Value;
use weir_auth::{ClaimRules, Key, Moment, RemoteKeys, Verifier};
use weir_channels::tokens::{TokenMetrics, Tokens};
use weir_core::clock;

#[allow(dead_code, reason = "of the samples only some are looked at")]
#[path = "../../../auth/samples/mod.rs"]
mod samples;

pub const SECRET: &str = "a-shared-secret-that-nobody-must-see";

/// The wall clock of these tests, in seconds.
pub const NOW: u64 = 1_800_000_000;

pub fn at() -> Moment {
    Moment { now: clock::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW) }
}

/// Tokens, and the registry that they count in.
pub struct World {
    pub tokens: Tokens,
    registry: Registry,
}

impl World {
    /// With [`SECRET`] for both kinds.
    pub fn new() -> Self {
        Self::with(keys(SECRET), None, false)
    }

    pub fn with(connection: Vec<Key>, subscription: Option<Vec<Key>>, insecure: bool) -> Self {
        let subscription = subscription.map(|keys| verifier(keys, None));
        Self::of(verifier(connection, None), subscription, insecure)
    }

    pub fn with_key_set(connection: Vec<Key>, set: Arc<RemoteKeys>) -> Self {
        Self::of(verifier(connection, Some(set)), None, false)
    }

    fn of(connection: Arc<Verifier>, subscription: Option<Arc<Verifier>>, insecure: bool) -> Self {
        let registry = Registry::new();
        let metrics = TokenMetrics::register(&registry).expect("registered once");
        let tokens = Tokens::new(connection, subscription, insecure, metrics);
        Self { tokens, registry }
    }

    /// How often a token of this kind was refused for this reason. The series is there from the
    /// beginning.
    pub fn refused(&self, kind: &str, reason: &str) -> u64 {
        let families = self.registry.gather();
        let mut series = families.iter().flat_map(|family| family.get_metric());
        let found = series.find(|metric| {
            let labels = metric.get_label().iter().map(|label| label.value());
            labels.eq([kind, reason])
        });
        found.expect("every series exists").get_counter().get_value() as u64
    }
}

pub fn keys(secret: &str) -> Vec<Key> {
    vec![Key::from_secret("main", secret.as_bytes()).expect("long enough")]
}

fn verifier(keys: Vec<Key>, set: Option<Arc<RemoteKeys>>) -> Arc<Verifier> {
    let rules = ClaimRules {
        leeway: Duration::ZERO,
        expiry_required: false,
        principal_required: false,
        ..ClaimRules::default()
    };
    Arc::new(Verifier::new(rules, keys.into_iter().map(Arc::new).collect(), set))
}

pub fn sign(claims: &Value) -> String {
    sign_with(SECRET, claims)
}

pub fn sign_with(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), claims, &key).expect("a signature")
}

/// A key that was made once, and a token of ann's that it has signed.
pub fn sample(name: &str) -> (Key, String) {
    let key = samples::keys().into_iter().find(|key| key.id() == Some(name));
    let token = samples::samples().find(|sample| sample.key == name);
    (key.expect("a sample"), token.expect("a sample").token.to_owned())
}
