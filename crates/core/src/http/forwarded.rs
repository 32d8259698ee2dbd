//! Whom a request is from, by what trusted proxies add to its head. Pure.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use crate::network::Networks;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header in which proxies tell for whom they speak. One of them: a proxy passes the header that
/// it does not know on as its client wrote it, so believing both would believe the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// Neither is believed.
    Off,
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Who may say that a request is another's, and in which words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The proxies.
    pub proxies: Networks,
    /// Their header.
    pub header: ForwardedHeader,
}

impl Trust {
    /// The client that a request which came from `peer` is of: read from the right, the first
    /// address that is no proxy's. What cannot be read ends the walk, for it is not known who wrote
    /// what stands before it. A client without a port has port 0.
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let (name, read): (_, fn(&str) -> Option<SocketAddr>) = match self.header {
            ForwardedHeader::Off => return peer,
            ForwardedHeader::XForwardedFor => (X_FORWARDED_FOR, node),
            ForwardedHeader::Forwarded => (FORWARDED, element),
        };
        let mut client = peer;
        for value in headers.get_all(name).iter().rev() {
            let Ok(value) = value.to_str() else { return client };
            for entry in split(value, ',').into_iter().rev() {
                if !self.proxies.contain(client.ip()) {
                    return client;
                }
                let Some(told) = read(entry) else { return client };
                client = told;
            }
        }
        client
    }
}

/// An element of `Forwarded`: the node of its `for`, which stands once (RFC 7239, section 4).
fn element(text: &str) -> Option<SocketAddr> {
    let pairs = split(text, ';').into_iter().filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    match (named.next(), named.next()) {
        (Some((_, value)), None) => {
            let value = value.trim();
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            node(bare.unwrap_or(value))
        }
        _ => None,
    }
}

/// An address with or without a port; one of IPv6 with or without brackets. Names that hide who it
/// was (`unknown`, `_hidden`) are none.
fn node(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(canonical(address.ip(), address.port()));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok().map(|ip| canonical(ip, 0))
}

fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

/// The parts between separators that are not within quotes (RFC 9110, section 5.6.4).
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c: char| {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        } else if c == separator && !quoted {
            return true;
        }
        false
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(header: ForwardedHeader, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let proxies = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap());
        let trust = Trust { proxies: Networks::new(proxies.into()), header };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        trust.client(format!("{peer}:9").parse().unwrap(), &headers).to_string()
    }

    fn xff(peer: &str, lines: &[&str]) -> String {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        client(ForwardedHeader::XForwardedFor, peer, &lines)
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxys_is_the_client() {
        assert_eq!(xff("10.0.0.1", &["203.0.113.7"]), "203.0.113.7:0");
        assert_eq!(xff("10.0.0.1", &["1.1.1.1, 203.0.113.7, 10.0.0.2"]), "203.0.113.7:0");
        assert_eq!(xff("10.0.0.1", &["1.1.1.1", "203.0.113.7,10.0.0.2"]), "203.0.113.7:0");
        assert_eq!(xff("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3:0");
        assert_eq!(xff("10.0.0.1", &["203.0.113.7:4711"]), "203.0.113.7:4711");
        assert_eq!(xff("[2001:db8::1]", &["[2001:db9::7]:80"]), "[2001:db9::7]:80");
        assert_eq!(xff("10.0.0.1", &["2001:db9::7"]), "[2001:db9::7]:0");
        assert_eq!(xff("10.0.0.1", &[]), "10.0.0.1:9");
    }

    #[test]
    fn a_stranger_is_believed_nothing_and_what_cannot_be_read_ends_the_walk() {
        assert_eq!(xff("203.0.113.9", &["1.1.1.1"]), "203.0.113.9:9");
        assert_eq!(xff("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"]), "10.0.0.2:0");
        assert_eq!(xff("10.0.0.1", &["1.1.1.1,"]), "10.0.0.1:9");
        assert_eq!(
            client(ForwardedHeader::Off, "10.0.0.1", &[("x-forwarded-for", "1.1.1.1")]),
            "10.0.0.1:9"
        );
    }

    #[test]
    fn one_header_is_read_and_the_other_is_not() {
        let both = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2")];
        assert_eq!(client(ForwardedHeader::XForwardedFor, "10.0.0.1", &both), "1.1.1.1:0");
        assert_eq!(client(ForwardedHeader::Forwarded, "10.0.0.1", &both), "2.2.2.2:0");
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_writes_it() {
        let read =
            |line: &str| client(ForwardedHeader::Forwarded, "10.0.0.1", &[("forwarded", line)]);
        assert_eq!(read("For=\"[2001:db9:cafe::17]:4711\""), "[2001:db9:cafe::17]:4711");
        assert_eq!(read("for=192.0.2.60;proto=http;by=203.0.113.43"), "192.0.2.60:0");
        assert_eq!(read("by=\"a,b;for=9.9.9.9\"; for=192.0.2.43"), "192.0.2.43:0");
        assert_eq!(read("for=192.0.2.43, for=\"10.1.1.1:80\""), "192.0.2.43:0");
        assert_eq!(read("for=_hidden, for=10.0.0.2"), "10.0.0.2:0");
        assert_eq!(read("for=1.1.1.1;for=2.2.2.2"), "10.0.0.1:9");
        assert_eq!(read("proto=https"), "10.0.0.1:9");
    }
}
