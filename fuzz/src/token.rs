//! Credentials as strangers show them: each is taken apart and refused, unless a holder of a key has
//! signed just that.
//!
//! The first byte chooses what the rest is: a first message, headers, the parts of a token, a good
//! token and how it is changed, or claims that are signed as they are. weir-auth's tests include
//! this file too; it is no part of the library, which those of weir-core include.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use weir_auth::claims::PRINCIPAL_BYTES_MAX;
use weir_auth::credential::Credential;
use weir_auth::token::Unverified;
use weir_auth::{ApiKeys, ClaimRules, Key, Moment, Token, TokenError, Verifier};
use weir_core::clock;
use weir_core::service::Carrier;

#[path = "../../crates/auth/samples/mod.rs"]
pub mod samples;

use self::samples::Sample;

const API_KEY: &str = "a-sample-api-key-that-anybody-may-know";
const LEEWAY: Duration = Duration::from_secs(10);

struct World {
    verifier: Verifier,
    api_keys: ApiKeys,
    at: Moment,
    samples: Vec<Sample>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    // Big keys only take longer.
    let small = |key: &str| key != "rsa4096" && key != "rsa8192";
    let mut keys = samples::keys();
    keys.retain(|key| key.id().is_some_and(small));
    let rules = ClaimRules { leeway: LEEWAY, ..ClaimRules::default() };
    World {
        verifier: Verifier::new(rules, keys.into_iter().map(Arc::<Key>::new).collect(), None),
        api_keys: ApiKeys::new([("meter", API_KEY)]),
        at: Moment { now: clock::now(), wall: samples::good_time() },
        samples: samples::samples().filter(|sample| small(sample.key)).collect(),
    }
});

/// A credential.
pub fn token(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    match mode % 5 {
        0 => first_message(rest),
        1 => headers(rest),
        2 => parts(rest),
        3 => changed(rest),
        _ => signed(rest),
    }
}

fn first_message(payload: &[u8]) {
    if let Ok(credential) = Credential::of_message(payload) {
        shown(&credential);
    }
}

/// A line for each header, whose first byte chooses its name.
fn headers(lines: &[u8]) {
    let names = [AUTHORIZATION, HeaderName::from_static("x-api-key"), SEC_WEBSOCKET_PROTOCOL];
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_first() else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        headers.append(names[usize::from(*name) % names.len()].clone(), value);
    }
    for carrier in [Carrier::Http, Carrier::WebSocket] {
        if let Ok(credential) = Credential::of_request(&headers, None, carrier) {
            shown(&credential);
        }
    }
}

/// Header, claims and signature, which 0xff parts, as bytes.
fn parts(data: &[u8]) {
    let parts: Vec<String> =
        data.split(|byte| *byte == 0xff).map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    judge(&parts.join("."));
}

/// Which of the good tokens, then changes of four bytes: what to do, where (two bytes), with what.
fn changed(data: &[u8]) {
    let Some((which, changes)) = data.split_first() else { return };
    let samples = &WORLD.samples;
    let mut token = samples[usize::from(*which) % samples.len()].token.as_bytes().to_vec();
    let (changes, _) = changes.as_chunks::<4>();
    for [act, high, low, with] in changes {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % (token.len() + 1);
        match act % 6 {
            0 => token.insert(at, *with),
            1 => drop(token.drain(at..token.len().min(at + usize::from(*with)))),
            2 => token.truncate(at),
            3 => token.splice(at.., tail(*with, at)).for_each(drop),
            _ => {
                if let Some(byte) = token.get_mut(at) {
                    *byte = if act % 6 == 4 { *with } else { *byte ^ (1 << (with % 8)) };
                }
            }
        }
    }
    judge(&String::from_utf8_lossy(&token));
}

/// What another good token has from there on.
fn tail(which: u8, at: usize) -> Vec<u8> {
    let samples = &WORLD.samples;
    let other = samples[usize::from(which) % samples.len()].token.as_bytes();
    other.get(at..).unwrap_or_default().to_vec()
}

/// Claims that a holder of the shared secret has signed.
fn signed(claims: &[u8]) {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"hmac"}"#),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, samples::SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    match WORLD.verifier.verify(&format!("{message}.{signature}"), WORLD.at) {
        Ok(token) => believed(&token, claims),
        Err(error) => assert_ne!(error, TokenError::Signature),
    }
}

/// What is believed of claims is in them, and still true.
fn believed(token: &Token, claims: &[u8]) {
    let claims: Value = serde_json::from_slice(claims).expect("an object in JSON");
    assert_eq!(claims["sub"].as_str(), Some(&*token.principal));
    assert!((1..=PRINCIPAL_BYTES_MAX).contains(&token.principal.len()));
    assert!(!token.principal.contains(char::is_control));
    let wall = WORLD.at.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = |name: &str| claims.get(name).map(|time| time.as_f64().expect("a number"));
    let (now, leeway) = (wall.as_secs_f64(), LEEWAY.as_secs_f64());
    assert!(time("exp").expect("it is required") + leeway > now);
    for name in ["nbf", "iat"] {
        assert!(time(name).is_none_or(|from| from <= now + leeway));
    }
}

fn shown(credential: &Credential) {
    let (Credential::Token(text) | Credential::ApiKey(text) | Credential::Either(text)) =
        credential;
    if WORLD.api_keys.find(text).is_some() {
        assert_eq!(text.as_str(), API_KEY);
    }
    judge(text);
}

/// Nothing is good but what was signed. That of an ECDSA token has two signatures: whoever knows the
/// one knows the other (`s` and `n - s`), and says nothing new by it.
fn judge(text: &str) {
    if let Ok(token) = Unverified::parse(text) {
        // It is read before the signature here, so that any claims are.
        drop(token.claims());
    }
    let Ok(token) = WORLD.verifier.verify(text, WORLD.at) else { return };
    let said = |token: &str| token.rsplit_once('.').map(|(message, _)| message.to_owned());
    let mut samples = WORLD.samples.iter();
    let known = samples.any(|sample| match sample.algorithm {
        "ES256" | "ES384" => said(sample.token) == said(text),
        _ => sample.token == text,
    });
    assert!(known, "nobody has signed {text}");
    assert_eq!(&*token.principal, "ann");
}
