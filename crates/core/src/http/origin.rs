//! Which pages may open a WebSocket or a stream: the `Origin` check. Pure; what a browser sends is its
//! input.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

/// Whether these headers are not of a page, or of one that is allowed. Several origins, or one that
/// is no text, cannot be judged.
pub(super) fn is_allowed(headers: &HeaderMap, origins: &Origins) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut values = headers.get_all(ORIGIN).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(origin), None) => {
            origin.to_str().is_ok_and(|origin| origins.allow(Some(origin), host))
        }
        (Some(_), Some(_)) => false,
    }
}

/// The origins that a path takes.
///
/// A request without `Origin` is not from a browser's page and is taken always: the check protects
/// users from foreign pages, not weir from clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Any origin, `null` too.
    any: bool,
    /// The origin whose host and port are those of the request's `Host`.
    same_host: bool,
    /// Exactly these, in lower case, without a trailing slash.
    listed: Vec<String>,
}

impl Origins {
    /// Origins from their configured form: `"same-host"`, `"*"`, or an origin such as
    /// `"https://app.example.com"`.
    pub fn new<T: AsRef<str>>(allowed: impl IntoIterator<Item = T>) -> Self {
        let mut origins = Self::default();
        for entry in allowed {
            match entry.as_ref() {
                "*" => origins.any = true,
                "same-host" => origins.same_host = true,
                origin => origins.listed.push(normal(origin)),
            }
        }
        origins
    }

    /// Only pages of the host itself: the default.
    pub fn same_host() -> Self {
        Self { same_host: true, ..Self::default() }
    }

    /// Whether no page is allowed.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a page of `origin` may connect to `host`, the value of the request's `Host`.
    pub(super) fn allow(&self, origin: Option<&str>, host: &str) -> bool {
        let Some(origin) = origin else { return true };
        let origin = normal(origin);
        self.any
            || self.listed.contains(&origin)
            || (self.same_host && is_of_host(&origin, &host.to_ascii_lowercase()))
    }
}

/// Origins are compared in lower case and without the port that their scheme implies (RFC 6454,
/// sections 4 and 6.2).
fn normal(origin: &str) -> String {
    let origin = origin.trim_end_matches('/').to_ascii_lowercase();
    match origin.split_once("://") {
        Some((scheme, authority)) => format!("{scheme}://{}", without_port(scheme, authority)),
        None => origin,
    }
}

fn is_of_host(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(scheme, authority)| {
        matches!(scheme, "http" | "https") && authority == without_port(scheme, host)
    })
}

fn without_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return authority,
    };
    authority.strip_suffix(port).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(allowed: &[&str], origin: Option<&str>, expected: bool) {
        let origins = Origins::new(allowed);
        assert_eq!(origins.allow(origin, "Gate.example.com:8080"), expected, "{origin:?}");
    }

    #[test]
    fn a_page_of_the_same_host_and_port_may_connect() {
        check(&["same-host"], Some("http://gate.example.com:8080"), true);
        check(&["same-host"], Some("https://GATE.example.com:8080"), true);
        check(&["same-host"], Some("http://gate.example.com"), false);
        check(&["same-host"], Some("http://evil-gate.example.com:8080"), false);
        check(&["same-host"], Some("http://gate.example.com:8080.evil.com"), false);
        check(&["same-host"], Some("ftp://gate.example.com:8080"), false);
        check(&["same-host"], Some("gate.example.com:8080"), false);
        check(&["same-host"], Some(""), false);
        check(&["same-host"], Some("null"), false);
    }

    #[test]
    fn a_port_that_the_scheme_implies_is_no_difference() {
        let origins = Origins::same_host();
        assert!(origins.allow(Some("http://a.example"), "a.example:80"));
        assert!(origins.allow(Some("http://a.example:80"), "a.example"));
        assert!(origins.allow(Some("https://a.example"), "a.example:443"));
        assert!(!origins.allow(Some("https://a.example"), "a.example:80"));
        assert!(origins.allow(Some("http://[::1]:8080"), "[::1]:8080"));
    }

    #[test]
    fn a_client_that_is_no_page_may_connect() {
        check(&[], None, true);
        check(&["same-host"], None, true);
    }

    #[test]
    fn a_star_allows_every_page_even_an_opaque_one() {
        check(&["*"], Some("null"), true);
        check(&["*"], Some("https://elsewhere.example"), true);
    }

    #[test]
    fn a_listed_origin_is_matched_whole() {
        let listed = &["https://app.example.com"];
        check(listed, Some("https://app.example.com"), true);
        check(listed, Some("https://app.example.com:443"), true);
        check(listed, Some("http://app.example.com"), false);
        check(listed, Some("https://app.example.com.evil.com"), false);
        check(listed, Some("http://gate.example.com:8080"), false);
    }
}
