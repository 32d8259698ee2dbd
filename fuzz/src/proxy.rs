//! PROXY headers, offered whole and cut, and judged by writing what was read anew.

use std::net::SocketAddr;

use weir_core::proxy::{self, ProxyError, Step};

/// The first bytes of a connection.
pub fn proxy_header(data: &[u8]) {
    let whole = proxy::step(data);
    // What is decided stays decided, whatever comes behind; before, every byte belongs to it.
    let mut decided = None;
    for end in 0..=data.len() {
        let step = proxy::step(&data[..end]);
        match decided {
            Some(before) => assert_eq!(step, before, "changed at byte {end}"),
            None if step != Ok(Step::More) => decided = Some(step),
            None => assert!(end < proxy::HEADER_BYTES_MAX, "no end in sight"),
        }
    }
    assert_eq!(decided.unwrap_or(Ok(Step::More)), whole);
    match whole {
        Ok(Step::Header { taken, source }) => {
            assert!(taken <= data.len() && taken <= proxy::HEADER_BYTES_MAX);
            if let Some(source) = source {
                let again = written(source);
                let expected = Step::Header { taken: again.len(), source: Some(source) };
                assert_eq!(proxy::step(&again), Ok(expected));
            }
        }
        Ok(Step::More) => {}
        Err(ProxyError::TooBig { size, max }) => assert!(size > max),
        Err(ProxyError::NoHeader | ProxyError::MalformedV1 | ProxyError::MalformedV2) => {}
    }
}

/// The header of version 1 for this client.
fn written(source: SocketAddr) -> Vec<u8> {
    let (family, to) = if source.is_ipv4() { ("TCP4", "0.0.0.0") } else { ("TCP6", "::") };
    format!("PROXY {family} {} {to} {} 0\r\n", source.ip(), source.port()).into_bytes()
}
