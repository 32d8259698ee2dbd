//! `weir probe`: asks a running weir over HTTP whether it is well, for images that have no shell
//! and no curl. It knows nothing of weir but a URL.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::{Duration, Instant};

use weir_core::clock;

/// Of an answer, no more is read than its status line may take.
const STATUS_LINE_BYTES_MAX: usize = 64;

/// What is asked: `http://HOST:PORT/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    authority: String,
    path: String,
}

/// Text that is no URL to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wanted http://HOST:PORT or http://HOST:PORT/PATH")]
pub struct UrlError;

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix("http://").ok_or(UrlError)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = authority.rsplit_once(':').ok_or(UrlError)?;
        let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || port.parse::<u16>().is_err() || !clean(authority) || !clean(path) {
            return Err(UrlError);
        }
        Ok(Self { authority: authority.to_owned(), path: format!("/{path}") })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// Why a probe says no.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The name does not resolve, nobody listens, or the answer does not come in time.
    #[error("no answer")]
    Io(#[from] io::Error),
    /// The name stands for no address.
    #[error("no address")]
    NoAddress,
    /// Another status than 200, or what is no HTTP.
    #[error("answered {0:?}")]
    Status(String),
}

/// Asks once; well is who answers 200 within `limit`, name look-up aside.
///
/// # Errors
///
/// Every other answer, and none.
pub fn probe(url: &Url, limit: Duration) -> Result<(), ProbeError> {
    let deadline = clock::now() + limit;
    let address = url.authority.to_socket_addrs()?.next().ok_or(ProbeError::NoAddress)?;
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let Url { authority, path } = url;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_BYTES_MAX {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let mut chunk = [0; STATUS_LINE_BYTES_MAX];
        match stream.read(&mut chunk)? {
            0 => break,
            n => line.extend_from_slice(&chunk[..n]),
        }
    }
    let line = String::from_utf8_lossy(&line);
    let line = line.lines().next().unwrap_or_default();
    match line.strip_prefix("HTTP/1.1 ") {
        Some(status) if status.split(' ').next() == Some("200") => Ok(()),
        _ => Err(ProbeError::Status(line.to_owned())),
    }
}

/// The time until `deadline`; an error when it has passed.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(clock::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A probe of a server that reads a request and answers so, or not at all.
    fn asked(answer: Option<&'static str>) -> Result<(), ProbeError> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/healthz", listener.local_addr().expect("it is bound"));
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("a probe");
            let mut request = [0; 256];
            let n = peer.read(&mut request).expect("a request");
            assert!(request[..n].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            match answer {
                Some(answer) => peer.write_all(answer.as_bytes()).expect("it listens"),
                // Until it has given up.
                None => drop(peer.read(&mut request)),
            }
        });
        let outcome = probe(&url.parse().expect("a URL"), Duration::from_millis(200));
        server.join().expect("the server ends");
        outcome
    }

    #[test]
    fn well_is_who_answers_200_in_time() {
        assert!(asked(Some("HTTP/1.1 200 OK\r\n\r\n")).is_ok());
        let unwell = asked(Some("HTTP/1.1 503 Service Unavailable\r\n\r\n")).expect_err("503");
        assert_eq!(unwell.to_string(), "answered \"HTTP/1.1 503 Service Unavailable\"");
        assert!(matches!(asked(Some("SSH-2.0\r\n")), Err(ProbeError::Status(_))));
        assert!(matches!(asked(Some("")), Err(ProbeError::Status(_))));
        assert!(matches!(asked(None), Err(ProbeError::Io(_))));
    }

    #[test]
    fn urls_have_a_host_and_a_port() {
        for (text, shown) in [
            ("http://127.0.0.1:6060/healthz", "http://127.0.0.1:6060/healthz"),
            ("http://[::1]:6060", "http://[::1]:6060/"),
            ("http://localhost:6060/a/b?c", "http://localhost:6060/a/b?c"),
        ] {
            assert_eq!(text.parse::<Url>().expect("a URL").to_string(), shown);
        }
        for text in ["https://a:1/", "http://a/", "http://:1/", "http://a:1/\r\nX: y", "a:1", ""] {
            assert_eq!(text.parse::<Url>(), Err(UrlError), "{text}");
        }
    }
}
