//! What backends are told of a connection beside what is asked: the headers of its handshake that are
//! passed on, its address, and what its token or its connect hook has said of it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use weir_core::service::Opening;

use super::HookOptions;
use crate::protocol::{Map, Text};

/// The client's address.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// One connection, as backends are told of it. Only kept where there are hooks.
pub(crate) struct Caller {
    address: IpAddr,
    headers: HeaderMap,
    /// JSON that no client sees (protocol, section 1.15).
    pub(crate) meta: Option<Box<[u8]>>,
}

impl Caller {
    /// The caller that a connection is.
    pub(crate) fn of(opening: &Opening<'_>, options: &HookOptions) -> Self {
        let mut headers = HeaderMap::new();
        for name in &options.forward_headers {
            let values = opening.headers.into_iter().flat_map(|all| all.get_all(name));
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
        Self { address: opening.peer.ip().to_canonical(), headers, meta: None }
    }

    /// Takes the headers that a client says to have, of those that may be said. What its handshake had
    /// stays.
    pub(crate) fn emulate(&mut self, said: &Map<'_, Text<'_>>, options: &HookOptions) {
        for (name, value) in &said.0 {
            let mut known = options.forward_emulated_headers.iter();
            let known = known.find(|known| known.as_str().eq_ignore_ascii_case(name));
            let (Some(name), Ok(value)) = (known, HeaderValue::from_bytes(value.as_bytes())) else {
                continue;
            };
            self.headers.entry(name).or_insert(value);
        }
    }

    /// The headers of a call made for it.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        if let Ok(address) = HeaderValue::try_from(self.address.to_string()) {
            headers.insert(FORWARDED_FOR, address);
        }
        headers
    }
}
