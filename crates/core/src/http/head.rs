//! A complete request head, checked strictly: what follows it, or the rule that it breaks.
//! It looks at framing and form only; paths, origins and keys are looked at later.

use http::Uri;
use http::uri::Authority;
use httparse::{EMPTY_HEADER, Header};

use super::gate::GateLimits;
use super::refusal::Refusal;

/// What a good head says about the bytes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// The next request.
    Nothing,
    /// A body of this many bytes, at least one.
    Length(usize),
    /// A body in chunks.
    Chunked,
    /// The next request, or WebSocket frames if the upgrade is taken.
    Upgrade,
}

/// Checks a head that ends with its empty line. Every LF in it has its CR already.
pub(super) fn check(head: &[u8], limits: &GateLimits) -> Result<Follows, Refusal> {
    check_line_ends(head)?;
    let mut fields = vec![EMPTY_HEADER; limits.headers_max];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Refusal::Malformed("head")),
        Err(error) => return Err(refusal_of(error, limits)),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Refusal::Malformed("request line"));
    };
    let is_http_11 = version == 1;
    let fields = &*request.headers;
    let host = host(fields, is_http_11)?;
    check_target(method, target, host)?;
    let follows = framing(fields, is_http_11, limits)?;
    match (follows, is_http_11 && method == "GET" && offers_websocket(fields)) {
        (follows, false) => Ok(follows),
        (Follows::Nothing, true) => Ok(Follows::Upgrade),
        (_, true) => Err(Refusal::Malformed("body in an upgrade")),
    }
}

/// Checks the trailers of a chunked body, which end with an empty line.
pub(super) fn check_trailers(section: &[u8], limits: &GateLimits) -> Result<(), Refusal> {
    check_line_ends(section)?;
    let mut fields = vec![EMPTY_HEADER; limits.headers_max];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete(_)) => Ok(()),
        Ok(httparse::Status::Partial) => Err(Refusal::Malformed("trailers")),
        Err(error) => Err(refusal_of(error, limits)),
    }
}

/// A bare CR ends a line for some readers and not for others (RFC 9112, section 2.2).
fn check_line_ends(section: &[u8]) -> Result<(), Refusal> {
    let bare = memchr::memchr_iter(b'\r', section).any(|at| section.get(at + 1) != Some(&b'\n'));
    if bare { Err(Refusal::Malformed("CR without LF")) } else { Ok(()) }
}

fn refusal_of(error: httparse::Error, limits: &GateLimits) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders { max: limits.headers_max },
        httparse::Error::HeaderName => Refusal::Malformed("field name"),
        httparse::Error::HeaderValue => Refusal::Malformed("field value"),
        httparse::Error::NewLine => Refusal::Malformed("line end"),
        httparse::Error::Version => Refusal::Malformed("version is not HTTP/1.1 or HTTP/1.0"),
        httparse::Error::Token | httparse::Error::Status => Refusal::Malformed("request line"),
    }
}

fn values<'a>(fields: &'a [Header<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value)
}

/// Exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0 (RFC 9112, section 3.2).
fn host<'a>(fields: &'a [Header<'a>], is_http_11: bool) -> Result<Option<&'a str>, Refusal> {
    let mut hosts = values(fields, "host");
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) if !is_http_11 => return Ok(None),
        (None, _) => return Err(Refusal::Malformed("no Host")),
        (Some(_), Some(_)) => return Err(Refusal::Malformed("more than one Host")),
    };
    let host = std::str::from_utf8(host).map_err(|_| Refusal::Malformed("Host"))?;
    let is_authority = host.parse::<Authority>().is_ok() && !host.contains('@');
    if is_authority { Ok(Some(host)) } else { Err(Refusal::Malformed("Host")) }
}

/// Origin form, absolute form with the authority of `Host`, or `*` for OPTIONS (RFC 9112,
/// section 3.2). CONNECT is for proxies.
fn check_target(method: &str, target: &str, host: Option<&str>) -> Result<(), Refusal> {
    if method == "CONNECT" {
        return Err(Refusal::Malformed("CONNECT is not served"));
    }
    let bad = Err(Refusal::Malformed("request target"));
    if target == "*" {
        return if method == "OPTIONS" { Ok(()) } else { bad };
    }
    // A fragment never belongs here, and the parser would drop it.
    let Ok(uri) = target.parse::<Uri>() else { return bad };
    if target.contains('#') {
        return bad;
    }
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if target.starts_with('/') => Ok(()),
        (Some("http" | "https"), Some(authority))
            if host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_str())) =>
        {
            Ok(())
        }
        _ => bad,
    }
}

/// The one rule of where a body ends (RFC 9112, section 6). Whatever two readers could read in two
/// ways is refused, also where the RFC leaves a choice.
fn framing(
    fields: &[Header<'_>],
    is_http_11: bool,
    limits: &GateLimits,
) -> Result<Follows, Refusal> {
    let mut encodings = values(fields, "transfer-encoding");
    let mut lengths = values(fields, "content-length");
    let (encoding, length) = (encodings.next(), lengths.next());
    if encodings.next().is_some() {
        return Err(Refusal::Malformed("more than one Transfer-Encoding"));
    }
    if lengths.next().is_some() {
        return Err(Refusal::Malformed("more than one Content-Length"));
    }
    match (encoding, length) {
        (None, None) => Ok(Follows::Nothing),
        (Some(_), Some(_)) => Err(Refusal::Malformed("Content-Length beside Transfer-Encoding")),
        (Some(_), None) if !is_http_11 => Err(Refusal::Malformed("Transfer-Encoding in HTTP/1.0")),
        (Some(encoding), None) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(Follows::Chunked),
        (Some(_), None) => Err(Refusal::Malformed("Transfer-Encoding is not chunked")),
        (None, Some(length)) => match declared(length)? {
            0 => Ok(Follows::Nothing),
            length if length > limits.body_bytes_max => {
                Err(Refusal::BodyTooBig { max: limits.body_bytes_max })
            }
            length => Ok(Follows::Length(length)),
        },
    }
}

/// Digits only. A number too long to hold is over every limit.
fn declared(value: &[u8]) -> Result<usize, Refusal> {
    match std::str::from_utf8(value) {
        Ok(digits) if !digits.is_empty() && value.iter().all(u8::is_ascii_digit) => {
            Ok(digits.parse().unwrap_or(usize::MAX))
        }
        _ => Err(Refusal::Malformed("Content-Length")),
    }
}

/// Whether the head offers to speak WebSocket from here on (RFC 6455, section 4.1).
fn offers_websocket(fields: &[Header<'_>]) -> bool {
    let names = |name, token: &str| {
        values(fields, name)
            .flat_map(|value| value.split(|b| *b == b','))
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    names("connection", "upgrade") && names("upgrade", "websocket")
}
