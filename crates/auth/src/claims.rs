//! What the claims of a token must say (RFC 7519, section 4.1), with the time as an argument.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::claim_pattern::ClaimPattern;
use crate::refusal::TokenError;

/// Longest name of a principal, in bytes. It goes into headers and log lines.
pub const PRINCIPAL_BYTES_MAX: usize = 256;

/// What is asked of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRules {
    /// A token must be for one of these. Empty: its `aud` is not looked at.
    pub audience: Vec<String>,
    /// A token must be for somebody of this pattern.
    pub audience_regex: Option<ClaimPattern>,
    /// A token must be by this one. `None`: its `iss` is not looked at.
    pub issuer: Option<String>,
    /// A token must be by somebody of this pattern.
    pub issuer_regex: Option<ClaimPattern>,
    /// How far two clocks may be apart.
    pub leeway: Duration,
    /// Whether a token must have an `exp`.
    pub expiry_required: bool,
    /// The claim that names the principal.
    pub principal_claim: String,
    /// Whether a token must name one. Where it need not, a token without it is of somebody whose name
    /// is empty.
    pub principal_required: bool,
}

impl Default for ClaimRules {
    fn default() -> Self {
        Self {
            audience: Vec::new(),
            audience_regex: None,
            issuer: None,
            issuer_regex: None,
            leeway: Duration::from_secs(30),
            expiry_required: true,
            principal_claim: "sub".to_owned(),
            principal_required: true,
        }
    }
}

/// What a good token says.
#[derive(Clone, PartialEq)]
pub struct Token {
    /// Who it is about: at most [`PRINCIPAL_BYTES_MAX`] bytes without control characters. Empty only
    /// where [`ClaimRules::principal_required`] is off.
    pub principal: Arc<str>,
    /// When it stops being good, the leeway included.
    pub expires: Option<SystemTime>,
    /// Everything it says.
    pub claims: Map<String, Value>,
    /// The same as it was signed, in JSON: for who must not change a byte of it.
    pub json: Box<[u8]>,
}

/// Names the principal and no other claim: they are whatever an issuer knows of somebody.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("principal", &self.principal)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl ClaimRules {
    /// Checks the claims of a token whose signature is good. Gives its principal and its end.
    pub(crate) fn check(
        &self,
        claims: &Map<String, Value>,
        now: SystemTime,
    ) -> Result<(Arc<str>, Option<SystemTime>), TokenError> {
        let expires = self.expiry(claims, now)?;
        for name in ["nbf", "iat"] {
            if time(claims, name)?.is_some_and(|from| from > now + self.leeway) {
                return Err(TokenError::NotYetValid);
            }
        }
        let audience = claims.get("aud");
        let named = |name: &str| self.audience.iter().any(|ours| ours == name);
        if !self.audience.is_empty() && !is_for(audience, named) {
            return Err(TokenError::Audience);
        }
        if let Some(pattern) = &self.audience_regex
            && !is_for(audience, |name| pattern.matches(name))
        {
            return Err(TokenError::Audience);
        }
        let issuer = claims.get("iss").and_then(Value::as_str);
        let exact = self.issuer.as_deref().is_none_or(|ours| issuer == Some(ours));
        let matching = |pattern: &ClaimPattern| issuer.is_some_and(|name| pattern.matches(name));
        if !exact || !self.issuer_regex.as_ref().is_none_or(matching) {
            return Err(TokenError::Issuer);
        }
        Ok((self.principal(claims).ok_or(TokenError::Claims)?.into(), expires))
    }

    /// Whom the claims are about, when they may be about that.
    fn principal<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c str> {
        match claims.get(&self.principal_claim) {
            Some(Value::String(name)) if is_name(name) => Some(name),
            Some(Value::String(name)) if name.is_empty() && !self.principal_required => Some(""),
            None if !self.principal_required => Some(""),
            Some(_) | None => None,
        }
    }

    /// The end of the token's time, which has not come.
    fn expiry(
        &self,
        claims: &Map<String, Value>,
        now: SystemTime,
    ) -> Result<Option<SystemTime>, TokenError> {
        match time(claims, "exp")? {
            // A time that no clock shows is as good as none.
            Some(expires) => match expires.checked_add(self.leeway) {
                Some(end) if end <= now => Err(TokenError::Expired),
                end => Ok(end),
            },
            None if self.expiry_required => Err(TokenError::Claims),
            None => Ok(None),
        }
    }
}

/// Whether one of an `aud` is `ours`: it is a text or a list of them (RFC 7519, section 4.1.3).
fn is_for(audience: Option<&Value>, ours: impl Fn(&str) -> bool) -> bool {
    let ours = |value: &Value| value.as_str().is_some_and(&ours);
    match audience {
        Some(Value::Array(list)) => list.iter().any(ours),
        Some(one) => ours(one),
        None => false,
    }
}

/// Seconds since 1970, perhaps with a fraction (RFC 7519, section 2, NumericDate).
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0).ok_or(TokenError::Claims)?;
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| TokenError::Claims)?;
    SystemTime::UNIX_EPOCH.checked_add(since).map(Some).ok_or(TokenError::Claims)
}

/// Whether a text can be a principal's name: it must fit into a header and a log line.
pub fn is_name(text: &str) -> bool {
    (1..=PRINCIPAL_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn rules() -> ClaimRules {
        ClaimRules { leeway: Duration::from_secs(10), ..ClaimRules::default() }
    }

    fn check(rules: &ClaimRules, claims: Value, expected: Result<&str, TokenError>) {
        let Value::Object(map) = claims.clone() else { panic!("no object: {claims}") };
        let checked = rules.check(&map, at(1000)).map(|(principal, _)| principal.to_string());
        assert_eq!(checked, expected.map(str::to_owned), "{claims}");
    }

    #[test]
    fn a_token_is_good_from_nbf_to_exp_with_the_leeway_on_both_sides() {
        let ok = Ok("ann");
        check(&rules(), json!({"sub": "ann", "exp": 1001}), ok);
        check(&rules(), json!({"sub": "ann", "exp": 991}), ok);
        check(&rules(), json!({"sub": "ann", "exp": 990}), Err(TokenError::Expired));
        check(&rules(), json!({"sub": "ann", "exp": 990.5}), ok);
        check(&rules(), json!({"sub": "ann", "exp": 2000, "nbf": 1010}), ok);
        let early = Err(TokenError::NotYetValid);
        check(&rules(), json!({"sub": "ann", "exp": 2000, "nbf": 1011}), early);
        check(&rules(), json!({"sub": "ann", "exp": 2000, "iat": 1011}), early);
    }

    #[test]
    fn a_time_is_a_number_that_a_clock_can_show() {
        for exp in [json!("2000"), json!(null), json!(-1), json!([2000]), json!(1e300), json!({})] {
            check(&rules(), json!({"sub": "ann", "exp": exp}), Err(TokenError::Claims));
        }
        check(&rules(), json!({"sub": "ann", "exp": 2000, "nbf": "x"}), Err(TokenError::Claims));
    }

    #[test]
    fn a_token_without_an_end_is_good_only_where_that_is_allowed() {
        check(&rules(), json!({"sub": "ann"}), Err(TokenError::Claims));
        let lax = ClaimRules { expiry_required: false, ..rules() };
        check(&lax, json!({"sub": "ann"}), Ok("ann"));
        check(&lax, json!({"sub": "ann", "exp": 1}), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_for_or_by_somebody_else_is_refused() {
        let strict = ClaimRules {
            audience: vec!["weir".to_owned(), "gate".to_owned()],
            issuer: Some("https://id.example".to_owned()),
            ..rules()
        };
        let token =
            |aud: Value, iss: Value| json!({"sub": "ann", "exp": 2000, "aud": aud, "iss": iss});
        let issuer = json!("https://id.example");
        check(&strict, token(json!("weir"), issuer.clone()), Ok("ann"));
        check(&strict, token(json!(["other", "gate"]), issuer.clone()), Ok("ann"));
        for aud in [json!("other"), json!([]), json!(null), json!(7), json!({"weir": 1})] {
            check(&strict, token(aud, issuer.clone()), Err(TokenError::Audience));
        }
        for iss in [json!("https://id.example/"), json!(null), json!(["https://id.example"])] {
            check(&strict, token(json!("weir"), iss), Err(TokenError::Issuer));
        }
    }

    #[test]
    fn a_pattern_must_match_the_whole_of_an_audience_or_issuer() {
        let pattern = |text| Some(ClaimPattern::new(text).expect("a pattern"));
        let strict = ClaimRules {
            audience_regex: pattern("weir-[a-z]+"),
            issuer_regex: pattern("https://[a-z]+[.]example"),
            ..rules()
        };
        let token =
            |aud: Value, iss: Value| json!({"sub": "ann", "exp": 2000, "aud": aud, "iss": iss});
        let issuer = json!("https://id.example");
        check(&strict, token(json!("weir-eu"), issuer.clone()), Ok("ann"));
        check(&strict, token(json!(["x", "weir-us"]), issuer.clone()), Ok("ann"));
        for aud in [json!("weir-"), json!("my weir-eu"), json!("weir-eu2"), json!(null)] {
            check(&strict, token(aud, issuer.clone()), Err(TokenError::Audience));
        }
        for iss in [json!("https://id.example.net"), json!("x https://id.example"), json!(null)] {
            check(&strict, token(json!("weir-eu"), iss), Err(TokenError::Issuer));
        }
    }

    #[test]
    fn claims_are_never_shown() {
        let Value::Object(claims) = json!({"sub": "ann", "exp": 2000, "email": "ann@id.example"})
        else {
            unreachable!("it is an object")
        };
        let json = serde_json::to_vec(&claims).unwrap().into();
        let token = Token { principal: "ann".into(), expires: None, claims, json };
        assert!(!format!("{token:?}").contains("id.example"));
    }

    #[test]
    fn the_principal_is_a_short_text_without_control_characters() {
        let named = ClaimRules { principal_claim: "device".to_owned(), ..rules() };
        check(&named, json!({"device": "d-1", "sub": "x", "exp": 2000}), Ok("d-1"));
        for name in [json!(""), json!("a\r\nb"), json!(7), json!("x".repeat(257)), json!(null)] {
            check(&named, json!({"device": name, "exp": 2000}), Err(TokenError::Claims));
        }
        check(&named, json!({"sub": "x", "exp": 2000}), Err(TokenError::Claims));
    }

    #[test]
    fn a_token_without_a_principal_is_nobody_s_only_where_that_is_allowed() {
        let lax = ClaimRules { principal_required: false, ..rules() };
        check(&lax, json!({"exp": 2000}), Ok(""));
        check(&lax, json!({"sub": "", "exp": 2000}), Ok(""));
        check(&lax, json!({"sub": "ann", "exp": 2000}), Ok("ann"));
        for name in [json!("a\r\nb"), json!(7), json!("x".repeat(257)), json!(null)] {
            check(&lax, json!({"sub": name, "exp": 2000}), Err(TokenError::Claims));
        }
        check(&rules(), json!({"exp": 2000}), Err(TokenError::Claims));
    }
}
