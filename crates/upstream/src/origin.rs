//! One configured target, taken apart: `http(s)://host[:port]`. Nothing here resolves or connects.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderValue, Uri};
use rustls_pki_types::ServerName;

use crate::error::UpstreamBuildError;

/// Scheme, host and port of a configured target.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// As in the configuration: the `Host` header.
    pub(crate) authority: HeaderValue,
    /// The name that a certificate must have, also sent as SNI; `None` is plain HTTP.
    pub(crate) tls: Option<ServerName<'static>>,
    /// Where its addresses come from.
    pub(crate) host: Host,
}

/// An address, or a name that has addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Address(SocketAddr),
    Name(String, u16),
}

impl Origin {
    /// Takes a configured target apart.
    pub(crate) fn parse(target: &str) -> Result<Self, UpstreamBuildError> {
        Self::parts(target)
            .map_err(|fault| UpstreamBuildError::Target { target: target.to_owned(), fault })
    }

    fn parts(target: &str) -> Result<Self, &'static str> {
        let uri: Uri = target.parse().map_err(|_| "not a URL")?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err("the scheme is another"),
            None => return Err("there is no scheme"),
        };
        let authority = uri.authority().ok_or("there is no host")?;
        if authority.as_str().contains('@') {
            return Err("user names and passwords are not sent");
        }
        // A bare authority has the path "/" once it has a scheme.
        if uri.path() != "/" || uri.query().is_some() || target.ends_with('/') {
            return Err("paths belong to routes");
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if https => 443,
            Some("") => 80,
            rest => rest
                .and_then(|rest| rest.strip_prefix(':')?.parse().ok())
                .filter(|port| *port > 0)
                .ok_or("the port is wrong")?,
        };
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| "the host is wrong")?;
        let host = match name.parse::<IpAddr>() {
            Ok(address) => Host::Address(SocketAddr::new(address, port)),
            Err(_) => Host::Name(name.to_owned(), port),
        };
        let authority =
            HeaderValue::from_str(authority.as_str()).map_err(|_| "the host is wrong")?;
        Ok(Self { authority, tls: https.then_some(server_name), host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, expected: Result<(bool, Host), &str>) {
        let parsed = Origin::parts(target).map(|origin| (origin.tls.is_some(), origin.host));
        assert_eq!(parsed, expected, "{target}");
    }

    fn name(name: &str, port: u16) -> Host {
        Host::Name(name.to_owned(), port)
    }

    #[test]
    fn a_target_is_a_scheme_a_host_and_perhaps_a_port() {
        let address = |text: &str| Host::Address(text.parse().expect("an address"));
        check("http://127.0.0.1:9000", Ok((false, address("127.0.0.1:9000"))));
        check("http://[::1]:9000", Ok((false, address("[::1]:9000"))));
        check("http://backend", Ok((false, name("backend", 80))));
        check("https://backend.example", Ok((true, name("backend.example", 443))));
        check("https://backend.example:8443", Ok((true, name("backend.example", 8443))));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_wrong() {
        check("", Err("not a URL"));
        check("backend:9000", Err("there is no scheme"));
        check("ftp://backend", Err("the scheme is another"));
        check("http://backend/", Err("paths belong to routes"));
        check("http://backend/orders", Err("paths belong to routes"));
        check("http://backend?x=1", Err("paths belong to routes"));
        check("http://me:secret@backend", Err("user names and passwords are not sent"));
        check("http://backend:0", Err("the port is wrong"));
        check("http://backend:70000", Err("the port is wrong"));
        check("http://backend:", Err("the port is wrong"));
        check("http://back_end!:80", Err("the host is wrong"));
    }

    #[test]
    fn host_is_the_authority_as_it_was_written() {
        let origin = Origin::parts("https://Backend.example:8443").expect("a target");
        assert_eq!(origin.authority, "Backend.example:8443");
    }
}
