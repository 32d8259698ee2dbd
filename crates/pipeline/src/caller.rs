//! Whom an upstream is called for: what weir says of a connection in headers of its own. What a
//! client sends under these names never gets here; only the headers that a route lists do.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use weir_core::context::ConnId;
use weir_core::service::Opening;

/// Who speaks, as its tokens, key or certificate said.
const PRINCIPAL: HeaderName = HeaderName::from_static("x-weir-principal");
/// The connection's id.
const CONNECTION: HeaderName = HeaderName::from_static("x-weir-connection");
/// The path that the client asked weir for.
const PATH: HeaderName = HeaderName::from_static("x-weir-path");
/// The client's address.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// One connection, as upstreams are told of it. Small: an idle connection keeps it.
pub(crate) struct Caller {
    conn: ConnId,
    address: IpAddr,
    principal: Option<Arc<str>>,
    path: Option<Arc<str>>,
    forwarded: Option<Box<HeaderMap>>,
}

impl Caller {
    /// The caller that a connection is, with those of its headers that `forward` names.
    pub(crate) fn of(opening: &Opening<'_>, forward: &[HeaderName]) -> Self {
        let mut forwarded = HeaderMap::new();
        if let Some(headers) = opening.headers {
            for name in forward {
                for value in headers.get_all(name) {
                    forwarded.append(name.clone(), value.clone());
                }
            }
        }
        Self {
            conn: opening.conn,
            address: opening.peer.ip().to_canonical(),
            principal: opening.principal.map(|principal| Arc::clone(&principal.name)),
            path: opening.path.cloned(),
            forwarded: (!forwarded.is_empty()).then(|| Box::new(forwarded)),
        }
    }

    /// The headers of a request made for it.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = self.forwarded.as_deref().cloned().unwrap_or_default();
        let mut set = |name, value: Option<String>| {
            // What cannot be a header is left out: an upstream must not take half of it for all.
            match value.map(|value| HeaderValue::from_bytes(value.as_bytes())) {
                Some(Ok(value)) => drop(headers.insert(name, value)),
                Some(Err(_)) | None => drop(headers.remove(name)),
            }
        };
        set(PRINCIPAL, self.principal.as_deref().map(str::to_owned));
        set(CONNECTION, Some(self.conn.to_string()));
        set(PATH, self.path.as_deref().map(str::to_owned));
        set(FORWARDED_FOR, Some(self.address.to_string()));
        headers
    }
}

#[cfg(test)]
mod tests {
    use weir_core::context::RequestId;
    use weir_core::door::Principal;
    use weir_core::service::Carrier;

    use super::*;

    fn headers(sent: &[(&'static str, &'static str)], principal: Option<&str>) -> Vec<String> {
        let mut map = HeaderMap::new();
        for (name, value) in sent {
            map.append(*name, HeaderValue::from_static(value));
        }
        let conn = ConnId::from_raw(7);
        let path = Arc::from("/ws");
        let principal = principal.map(|name| Principal { name: name.into(), expires: None });
        let opening = Opening {
            conn,
            peer: ([192, 0, 2, 9], 4242).into(),
            listener: "http",
            carrier: Carrier::WebSocket,
            wire: None,
            request_id: &RequestId::Message { conn, seq: 0 },
            tls: None,
            principal: principal.as_ref(),
            path: Some(&path),
            headers: Some(&map),
            query: None,
        };
        let forward = [http::header::USER_AGENT, PRINCIPAL];
        let told = Caller::of(&opening, &forward).headers();
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
        };
        let mut told: Vec<String> = told.iter().map(line).collect();
        told.sort();
        told
    }

    const ALWAYS: [&str; 3] =
        ["x-forwarded-for: 192.0.2.9", "x-weir-connection: 0000000000000007", "x-weir-path: /ws"];

    #[test]
    fn an_upstream_is_told_of_the_connection_and_of_the_headers_that_are_listed() {
        let mut expected = ALWAYS.map(str::to_owned).to_vec();
        expected.insert(0, "user-agent: curl".to_owned());
        expected.push("x-weir-principal: ann".to_owned());
        assert_eq!(headers(&[("user-agent", "curl"), ("cookie", "c")], Some("ann")), expected);
    }

    #[test]
    fn what_a_client_says_of_itself_in_weirs_names_is_not_passed_on() {
        let forged = [
            ("x-weir-principal", "root"),
            ("x-weir-connection", "0"),
            ("x-weir-path", "/admin"),
            ("x-forwarded-for", "127.0.0.1"),
        ];
        assert_eq!(headers(&forged, None), ALWAYS);
    }
}
