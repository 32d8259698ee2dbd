//! Who may ask: host names against DNS rebinding, the bearer token beyond loopback, and no
//! changes on behalf of another site's page. It does not know what a route does.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{
    AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode, Uri};

use crate::options::{OpsOptions, Token};
use crate::reply::Refusal;
use crate::router::Access;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The rules of one bound port.
#[derive(Debug)]
pub(crate) struct Guard {
    hosts: Vec<String>,
    token: Option<Token>,
    loopback: bool,
}

impl Guard {
    /// The rules of `options` for a port that is bound to `bound`.
    pub(crate) fn new(options: &OpsOptions, bound: IpAddr) -> Self {
        Self {
            hosts: options.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            token: options.token.clone(),
            loopback: bound.to_canonical().is_loopback(),
        }
    }

    /// Whether a request with this head may reach a route with this access.
    ///
    /// # Errors
    /// 400 without exactly one `Host`, 403 for a foreign name, a missing configuration or another
    /// site's page, 401 for a missing or wrong token.
    pub(crate) fn check(
        &self,
        access: Access,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        if access == Access::Open {
            return Ok(());
        }
        let host = self.host(uri, headers)?;
        self.token(headers)?;
        same_site(method, host, headers)
    }

    /// The one `Host`, when its name is one of ours. A page on a name that an attacker points at
    /// this address has that name here.
    fn host<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refusal::bad_request("a request has exactly one Host"));
        };
        let host = host.to_str().map_err(|_| Refusal::bad_request("the Host is not ASCII"))?;
        let named = uri.authority().map(|authority| authority.as_str());
        match named.into_iter().chain([host]).find(|host| !self.knows(name(host))) {
            None => Ok(host),
            Some(foreign) => Err(Refusal::forbidden(format!(
                "the host {foreign:?} is not a loopback name, an IP address or one of ops.hosts"
            ))),
        }
    }

    fn knows(&self, name: &str) -> bool {
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let is_literal = match literal {
            Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
            None => name.parse::<IpAddr>().is_ok(),
        };
        let name = name.to_ascii_lowercase();
        is_literal
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.hosts.contains(&name)
    }

    fn token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            return match self.loopback {
                true => Ok(()),
                false => Err(Refusal::forbidden(
                    "the side port is not on loopback: set ops.token to open this route",
                )),
            };
        };
        let mut given = headers.get_all(AUTHORIZATION).iter();
        match (given.next().and_then(bearer), given.next()) {
            (Some(presented), None) if token.matches(presented) => Ok(()),
            _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized")
                .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        }
    }
}

/// The host of `host[:port]`, brackets kept.
fn name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Refuses what a page of another site sends in the name of the one who looks at it. Programs
/// that are no browsers send neither header. A reader may follow a link to a page of ours.
fn same_site(method: &Method, host: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.as_bytes());
    let followed = reads && text(SEC_FETCH_MODE) == Some(b"navigate");
    let ours = match text(SEC_FETCH_SITE) {
        None | Some(b"same-origin" | b"none") => true,
        Some(_) => followed,
    };
    let origin_is_ours = reads
        || text(ORIGIN).is_none_or(|origin| {
            let authority = origin.strip_prefix(b"http://").or(origin.strip_prefix(b"https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_bytes()))
        });
    match ours && origin_is_ours {
        true => Ok(()),
        false => Err(Refusal::forbidden("asked by a page of another site")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    const ANYWHERE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    fn guard(bound: IpAddr, token: Option<&str>) -> Guard {
        let mut options = OpsOptions::new((bound, 0).into());
        options.hosts = vec!["Weir.Internal".to_owned()];
        options.token = token.map(Token::new);
        Guard::new(&options, bound)
    }

    fn check(guard: &Guard, method: Method, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (name.parse().expect("a name"), HeaderValue::from_str(value).expect("a value"))
            })
            .collect::<Vec<(HeaderName, HeaderValue)>>();
        let mut map = HeaderMap::new();
        headers.into_iter().for_each(|(name, value)| {
            map.append(name, value);
        });
        let uri = uri.parse().expect("a uri");
        guard
            .check(Access::Guarded, &method, &uri, &map)
            .map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_names_that_nobody_else_can_point_here_are_answered() {
        let guard = guard(LOOPBACK, None);
        for (host, expected) in [
            ("localhost", 200),
            ("LOCALHOST:6060", 200),
            ("weir.localhost:6060", 200),
            ("127.0.0.1:6060", 200),
            ("10.1.2.3", 200),
            ("[::1]:6060", 200),
            ("[::1]", 200),
            ("weir.internal:6060", 200),
            ("WEIR.INTERNAL", 200),
            ("", 403),
            ("rebound.example", 403),
            ("localhost.example", 403),
            ("notlocalhost", 403),
            ("127.0.0.1.example:6060", 403),
            ("[localhost]", 403),
            ("localhost:6060:6060", 403),
            ("localhost@rebound.example", 403),
        ] {
            assert_eq!(
                check(&guard, Method::GET, "/config", &[("host", host)]),
                expected,
                "{host}"
            );
        }
        let absolute = "http://rebound.example/config";
        assert_eq!(check(&guard, Method::GET, absolute, &[("host", "localhost")]), 403);
        assert_eq!(check(&guard, Method::GET, "/config", &[]), 400);
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(check(&guard, Method::GET, "/config", &twice), 400);
    }

    #[test]
    fn beyond_loopback_the_token_is_needed_and_without_one_nothing_opens() {
        let host = ("host", "10.1.2.3");
        let bare = guard(ANYWHERE, None);
        assert_eq!(check(&bare, Method::GET, "/config", &[host]), 403);
        let token = guard(ANYWHERE, Some("open-sesame"));
        for (value, expected) in [
            ("Bearer open-sesame", 200),
            ("bearer open-sesame", 200),
            ("Bearer open-sesam", 401),
            ("Bearer ", 401),
            ("Bearer", 401),
            ("Basic open-sesame", 401),
            ("open-sesame", 401),
        ] {
            let headers = [host, ("authorization", value)];
            assert_eq!(check(&token, Method::GET, "/config", &headers), expected, "{value}");
        }
        let twice = [host, ("authorization", "Bearer open-sesame"), ("authorization", "Bearer x")];
        assert_eq!(check(&token, Method::GET, "/config", &twice), 401);
        assert_eq!(check(&token, Method::GET, "/config", &[host]), 401);
        let mapped = guard("::ffff:127.0.0.1".parse().expect("an address"), None);
        assert_eq!(check(&mapped, Method::GET, "/config", &[host]), 200);
    }

    #[test]
    fn a_page_of_another_site_changes_nothing_and_starts_nothing() {
        let guard = guard(LOOPBACK, None);
        let host = ("host", "localhost:6060");
        for (header, reads, changes) in [
            (("x-nothing", ""), 200, 200),
            (("sec-fetch-site", "same-origin"), 200, 200),
            (("sec-fetch-site", "none"), 200, 200),
            (("sec-fetch-site", "same-site"), 403, 403),
            (("sec-fetch-site", "cross-site"), 403, 403),
            (("origin", "http://localhost:6060"), 200, 200),
            (("origin", "http://localhost:3000"), 200, 403),
            (("origin", "null"), 200, 403),
        ] {
            assert_eq!(check(&guard, Method::GET, "/config", &[host, header]), reads, "{header:?}");
            assert_eq!(
                check(&guard, Method::POST, "/drain", &[host, header]),
                changes,
                "{header:?}"
            );
        }
        let link = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(check(&guard, Method::GET, "/config", &link), 200);
        assert_eq!(check(&guard, Method::POST, "/drain", &link), 403);
    }
}
