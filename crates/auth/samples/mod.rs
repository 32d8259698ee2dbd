//! Keys and tokens that were made once, for what cannot sign: the fuzz target and the measurement.
//! Included by path, since no product needs them.

use std::time::{Duration, SystemTime};

use weir_auth::{Key, PemKind};

/// The shared secret of the key `hmac`.
pub const SECRET: &str = "a-sample-secret-that-anybody-may-know";

/// A token that is good.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The name of the key that has signed it.
    pub key: &'static str,
    /// What it was signed with.
    pub algorithm: &'static str,
    /// The token.
    pub token: &'static str,
}

/// Every key, by its name.
pub fn keys() -> Vec<Key> {
    let pem = |name, kind, pem: &str| {
        Key::from_pem(name, kind, pem.as_bytes()).expect("a key that was made for this")
    };
    vec![
        Key::from_secret("hmac", SECRET.as_bytes()).expect("long enough"),
        pem("rsa2048", PemKind::Rsa, include_str!("rsa2048.pem")),
        pem("rsa4096", PemKind::Rsa, include_str!("rsa4096.pem")),
        pem("rsa8192", PemKind::Rsa, include_str!("rsa8192.pem")),
        pem("p256", PemKind::Ecdsa, include_str!("p256.pem")),
        pem("p384", PemKind::Ecdsa, include_str!("p384.pem")),
        pem("ed25519", PemKind::EdDsa, include_str!("ed25519.pem")),
    ]
}

/// Every token.
pub fn samples() -> impl Iterator<Item = Sample> {
    include_str!("tokens.txt").lines().map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("three words a line");
        Sample { key: word(), algorithm: word(), token: word() }
    })
}

/// A time at which they are good.
pub fn good_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}
