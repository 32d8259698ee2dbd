//! What a peer shows to prove who it is, and where it shows it: headers of a request, or the first
//! message of a connection without headers.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName};
use weir_core::http::query::value;
use weir_core::service::Carrier;
use zeroize::Zeroizing;

use crate::token::TOKEN_BYTES_MAX;

/// The header of an API key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The field of an API key in a query.
pub const QUERY_KEY: &str = "api_key";

/// What the token follows in an entry of `Sec-WebSocket-Protocol`, for browsers.
const PROTOCOL_PREFIX: &str = "weir.token.";

/// A credential that somebody shows. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token.
    Token(Zeroizing<String>),
    /// An API key.
    ApiKey(Zeroizing<String>),
    /// A first message, which may be either.
    Either(Zeroizing<String>),
}

/// Never shows the credential.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token([redacted])",
            Self::ApiKey(_) => "ApiKey([redacted])",
            Self::Either(_) => "Either([redacted])",
        })
    }
}

/// Why there is no credential to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// None was shown.
    Nothing,
    /// More than one was shown, so that nobody can say which one counts.
    TooMuch,
}

impl Credential {
    /// The credential of a request: among its headers, or an API key in this query, as
    /// [`QUERY_KEY`]. Queries end up in logs and histories, so only routes whose protocol has a key
    /// there show theirs.
    ///
    /// # Errors
    /// When there is none, or more than one. A header that is no text shows nothing.
    pub fn of_request(
        headers: &HeaderMap,
        query: Option<&str>,
        carrier: Carrier,
    ) -> Result<Self, Shown> {
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let authorizations = headers.get_all(AUTHORIZATION).iter().filter_map(text);
        let mut found: Vec<Self> = authorizations.filter_map(|value| of_scheme(&value)).collect();
        let keys = headers.get_all(X_API_KEY).iter().filter_map(text);
        found.extend(keys.map(|key| Self::ApiKey(Zeroizing::new(key))));
        if let Some(key) = query.and_then(|query| value(query, QUERY_KEY)) {
            // What is no text is no key.
            let key = String::from_utf8(key).unwrap_or_default();
            found.push(Self::ApiKey(Zeroizing::new(key)));
        }
        if carrier == Carrier::WebSocket {
            let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(text);
            for protocol in protocols.flat_map(|list| {
                list.split(',').map(|entry| entry.trim().to_owned()).collect::<Vec<_>>()
            }) {
                let token = protocol.strip_prefix(PROTOCOL_PREFIX);
                found.extend(token.map(|token| Self::Token(Zeroizing::new(token.to_owned()))));
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            (Some(_), false) => Err(Shown::TooMuch),
            (None, _) => Err(Shown::Nothing),
        }
    }

    /// The credential that the first message of a connection is.
    ///
    /// # Errors
    /// When it is empty. One that is no text, or too long to be a credential, is one that nobody
    /// knows.
    pub fn of_message(payload: &[u8]) -> Result<Self, Shown> {
        if payload.is_empty() {
            return Err(Shown::Nothing);
        }
        let text = (payload.len() <= TOKEN_BYTES_MAX).then(|| std::str::from_utf8(payload).ok());
        Ok(Self::Either(Zeroizing::new(text.flatten().unwrap_or_default().to_owned())))
    }
}

/// The credential of an `Authorization` header, when weir knows its scheme. Schemes have no case
/// (RFC 9110, section 11.1).
fn of_scheme(value: &str) -> Option<Credential> {
    let (scheme, rest) = value.split_once(' ')?;
    let credential = Zeroizing::new(rest.trim_matches(' ').to_owned());
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(Credential::Token(credential))
    } else if scheme.eq_ignore_ascii_case("apikey") {
        Some(Credential::ApiKey(credential))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(
        carrier: Carrier,
        headers: &[(&'static str, &str)],
        expected: Result<(&str, &str), Shown>,
    ) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let found = Credential::of_request(&map, None, carrier);
        let found = found.as_ref().map_err(|shown| *shown).map(|found| match found {
            Credential::Token(text) => ("token", text.as_str()),
            Credential::ApiKey(text) => ("api_key", text.as_str()),
            Credential::Either(text) => ("either", text.as_str()),
        });
        assert_eq!(found, expected, "{headers:?}");
    }

    #[test]
    fn a_credential_comes_in_one_of_three_headers() {
        let http = Carrier::Http;
        check(http, &[("authorization", "Bearer a.b.c")], Ok(("token", "a.b.c")));
        check(http, &[("authorization", "bEARER  a.b.c ")], Ok(("token", "a.b.c")));
        check(http, &[("authorization", "ApiKey k")], Ok(("api_key", "k")));
        check(http, &[("x-api-key", "k")], Ok(("api_key", "k")));
        check(http, &[("authorization", "Basic dTpw")], Err(Shown::Nothing));
        check(http, &[("authorization", "a.b.c")], Err(Shown::Nothing));
        check(http, &[], Err(Shown::Nothing));
    }

    #[test]
    fn a_browser_shows_its_token_as_a_subprotocol() {
        let offers = [("sec-websocket-protocol", "weir, weir.token.a.b.c")];
        check(Carrier::WebSocket, &offers, Ok(("token", "a.b.c")));
        check(Carrier::Http, &offers, Err(Shown::Nothing));
        let alone = [("sec-websocket-protocol", "weir")];
        check(Carrier::WebSocket, &alone, Err(Shown::Nothing));
        let two = [("sec-websocket-protocol", "weir"), ("sec-websocket-protocol", "weir.token.x")];
        check(Carrier::WebSocket, &two, Ok(("token", "x")));
    }

    #[test]
    fn two_credentials_are_none() {
        let both = [("authorization", "Bearer a.b.c"), ("x-api-key", "k")];
        check(Carrier::Http, &both, Err(Shown::TooMuch));
        let twice = [("authorization", "Bearer a.b.c"), ("authorization", "Bearer a.b.c")];
        check(Carrier::Http, &twice, Err(Shown::TooMuch));
    }

    #[test]
    fn a_key_in_a_query_counts_only_where_one_looks_there() {
        let headers = HeaderMap::new();
        let found = |query| Credential::of_request(&headers, query, Carrier::Http);
        let key = |text: &str| Ok(Credential::ApiKey(Zeroizing::new(text.to_owned())));
        assert_eq!(found(Some("a=b&api_key=k%2Bx")), key("k+x"));
        assert_eq!(found(Some("api_key=%ff")), key(""));
        assert_eq!(found(Some("key=k")), Err(Shown::Nothing));
        assert_eq!(found(None), Err(Shown::Nothing));
        let mut both = HeaderMap::new();
        both.insert(X_API_KEY, HeaderValue::from_static("k"));
        let found = Credential::of_request(&both, Some("api_key=k"), Carrier::Http);
        assert_eq!(found, Err(Shown::TooMuch));
    }

    #[test]
    fn a_first_message_is_a_credential_as_it_is() {
        assert_eq!(Credential::of_message(b""), Err(Shown::Nothing));
        let either = |text: &str| Ok(Credential::Either(Zeroizing::new(text.to_owned())));
        assert_eq!(Credential::of_message(b" k "), either(" k "));
        assert_eq!(Credential::of_message(b"\xff"), either(""));
        assert_eq!(Credential::of_message(&[b'k'; TOKEN_BYTES_MAX + 1]), either(""));
    }

    #[test]
    fn credentials_are_never_shown() {
        let credential = Credential::of_message(b"hunter2").unwrap();
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
