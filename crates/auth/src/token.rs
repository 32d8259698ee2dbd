//! A token as text, taken apart: the compact form of RFC 7515 within narrow bounds. What it says is
//! believed by nobody yet; keys and claims are looked at elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::refusal::TokenError;

/// Longest token, in bytes. Longer ones would not fit into a usual HTTP head anyway.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Deepest nesting of claims.
const CLAIMS_DEPTH_MAX: usize = 16;

/// Longest `kid`, in bytes.
const KEY_ID_BYTES_MAX: usize = 256;

/// A token of good form whose signature nobody has checked.
pub struct Unverified<'a> {
    /// The algorithm that its header names: a wish, not a fact.
    pub algorithm: Algorithm,
    /// The key that its header names.
    pub key_id: Option<String>,
    /// What is signed: the first two parts with their dot.
    pub message: &'a str,
    /// The signature, in base64.
    pub signature: &'a str,
    claims: &'a str,
}

/// What a token says. No `Debug`: whatever an issuer knows of somebody is in it.
pub struct Claims {
    /// By name.
    pub fields: Map<String, Value>,
    /// The same as it was signed, in JSON.
    pub json: Box<[u8]>,
}

/// Never shows the token: with its signature it is a credential.
impl std::fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unverified")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// The header's fields that matter (RFC 7515, section 4.1). Others are ignored, as it says; that
/// includes those that bring keys of their own (`jwk`, `jku`, `x5u`, `x5c`).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// When it is too long, not three parts of base64, or its header is not one that weir takes:
    /// an algorithm that it does not know (`none` among them), or an extension that must be
    /// understood (`crit`).
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let message = &token[..header.len() + 1 + claims.len()];
        let header: Header = parsed(&decoded(header)?)?;
        if header.crit.is_some()
            || header.kid.as_ref().is_some_and(|id| id.len() > KEY_ID_BYTES_MAX)
        {
            return Err(TokenError::Malformed);
        }
        let algorithm = header.alg.parse().map_err(|_| TokenError::Algorithm)?;
        Ok(Self { algorithm, key_id: header.kid, message, signature, claims })
    }

    /// The claims. Call it once the signature is good, so that only what a key holder wrote is read.
    ///
    /// # Errors
    /// When they are not an object in base64, or nested too deeply.
    pub fn claims(&self) -> Result<Claims, TokenError> {
        let json = decoded(self.claims)?;
        let fields: Map<String, Value> = parsed(&json)?;
        let shallow = fields.values().all(|value| fits(value, CLAIMS_DEPTH_MAX - 1));
        if shallow { Ok(Claims { fields, json: json.into() }) } else { Err(TokenError::Malformed) }
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn parsed<T: for<'de> Deserialize<'de>>(json: &[u8]) -> Result<T, TokenError> {
    serde_json::from_slice(json).map_err(|_| TokenError::Malformed)
}

/// Whether a value is nested at most this deep. It is walked no deeper than that.
fn fits(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|item| fits(item, depth - 1)),
        Value::Object(fields) => depth > 0 && fields.values().all(|item| fits(item, depth - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    fn check(token: &str, expected: Result<(), TokenError>) {
        let parsed = Unverified::parse(token).and_then(|token| token.claims());
        assert_eq!(parsed.map(|_| ()), expected, "{token}");
    }

    #[test]
    fn a_token_is_three_parts_of_base64_with_objects_in_the_first_two() {
        check(&token(r#"{"alg":"HS256"}"#, "{}"), Ok(()));
        check(&token(r#"{"alg":"HS256","kid":"a","typ":"JWT","jku":"http://x"}"#, "{}"), Ok(()));
        for bad in ["", ".", "..", "a.b", "a.b.c.d", "....", "é.é.é", "e30=.e30=.c2ln"] {
            check(bad, Err(TokenError::Malformed));
        }
        check(&token("[]", "{}"), Err(TokenError::Malformed));
        check(&token(r#"{"alg":"HS256"}"#, "[]"), Err(TokenError::Malformed));
        check(&token(r#"{"alg":"HS256"} x"#, "{}"), Err(TokenError::Malformed));
        check(&token(r#"{"alg":"HS256","alg":"none"}"#, "{}"), Err(TokenError::Malformed));
    }

    #[test]
    fn an_algorithm_that_is_not_known_is_refused_and_none_is_not_known() {
        for alg in ["none", "None", "NONE", "", "hs256", "HS1", "RSA-OAEP"] {
            let header = format!(r#"{{"alg":"{alg}"}}"#);
            check(&token(&header, "{}"), Err(TokenError::Algorithm));
        }
        check(&token(r#"{"typ":"JWT"}"#, "{}"), Err(TokenError::Malformed));
    }

    #[test]
    fn an_extension_that_must_be_understood_is_refused() {
        check(&token(r#"{"alg":"HS256","crit":["b64"]}"#, "{}"), Err(TokenError::Malformed));
    }

    #[test]
    fn a_token_is_never_shown() {
        let text = token(r#"{"alg":"HS256","kid":"main"}"#, r#"{"sub":"ann"}"#);
        let shown = format!("{:?}", Unverified::parse(&text).unwrap());
        assert_eq!(shown, "Unverified { algorithm: HS256, key_id: Some(\"main\"), .. }");
    }

    #[test]
    fn sizes_are_bounded() {
        let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        check(&token(r#"{"alg":"HS256"}"#, &deep(CLAIMS_DEPTH_MAX - 1)), Ok(()));
        let too_deep = deep(CLAIMS_DEPTH_MAX);
        check(&token(r#"{"alg":"HS256"}"#, &too_deep), Err(TokenError::Malformed));
        let key_id = "k".repeat(KEY_ID_BYTES_MAX + 1);
        let header = format!(r#"{{"alg":"HS256","kid":"{key_id}"}}"#);
        check(&token(&header, "{}"), Err(TokenError::Malformed));
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(TOKEN_BYTES_MAX));
        check(&token(r#"{"alg":"HS256"}"#, &long), Err(TokenError::Malformed));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_or_refused(text in "\\PC{0,200}") {
            if let Ok(token) = Unverified::parse(&text) {
                prop_assert!(text.starts_with(token.message));
                prop_assert!(text.ends_with(token.signature));
                prop_assert_eq!(text.len(), token.message.len() + 1 + token.signature.len());
            }
        }

        #[test]
        fn any_header_and_claims_are_read_or_refused(header in "\\PC{0,60}", claims in "\\PC{0,60}") {
            let text = token(&header, &claims);
            if let Ok(token) = Unverified::parse(&text) {
                drop(token.claims());
            }
        }
    }
}
