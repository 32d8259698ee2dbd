//! Headers of a client that go nowhere, whatever a configuration says: one list for upstreams and hooks.

/// Those that belong to one connection, and those that weir itself sends.
const OWN: [&str; 14] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Beginnings of such names.
const OWN_PREFIXES: [&str; 4] = ["x-weir-", "x-forwarded-", "x-request-id", "sec-websocket-"];

/// Whether a header is weir's or the connection's own. `name` is in lower case.
pub(super) fn is_own(name: &str) -> bool {
    OWN.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
