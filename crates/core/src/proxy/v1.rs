//! Version 1: one line of text (section 2.1 of the specification).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ProxyError, Step, V1_BYTES_MAX};

pub(super) const BEGINNING: &[u8] = b"PROXY ";

const MALFORMED: ProxyError = ProxyError::MalformedV1;

/// Looks at bytes that begin like version 1.
pub(super) fn step(bytes: &[u8]) -> Result<Step, ProxyError> {
    let within = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if bytes.len() < V1_BYTES_MAX { Ok(Step::More) } else { Err(MALFORMED) };
    };
    let line = within[..end].strip_suffix(b"\r").ok_or(MALFORMED)?;
    let line = std::str::from_utf8(line).map_err(|_| MALFORMED)?;
    let rest = line.strip_prefix("PROXY ").ok_or(MALFORMED)?;
    let source = if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        // Whatever follows must be ignored.
        None
    } else {
        Some(source(rest)?)
    };
    Ok(Step::Header { taken: end + 1, source })
}

/// `TCP4 source destination source-port destination-port`, each separated by one space.
fn source(rest: &str) -> Result<SocketAddr, ProxyError> {
    let mut words = rest.split(' ');
    let mut word = || words.next().ok_or(MALFORMED);
    let family = word()?;
    let (from, to) = (word()?, word()?);
    let from_port = port(word()?)?;
    // Where it was sent is checked, and nothing that weir asks for.
    port(word()?)?;
    if words.next().is_some() {
        return Err(MALFORMED);
    }
    let address = |text: &str| -> Result<IpAddr, ProxyError> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| MALFORMED),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| MALFORMED),
            _ => Err(MALFORMED),
        }
    };
    address(to)?;
    Ok(SocketAddr::new(address(from)?, from_port))
}

/// A decimal number without sign and without leading zeros.
fn port(text: &str) -> Result<u16, ProxyError> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(MALFORMED)
}
