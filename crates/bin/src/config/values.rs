//! The kinds of text that settings are made of: names, lines, paths, origins, targets.
//! Each is checked where it is read, so that nobody has to check it again.

use std::fmt;
use std::net::Ipv6Addr;
use std::ops::Deref;
use std::path::PathBuf;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Uri};
use serde_json::Value as Json;
use tracing_subscriber::EnvFilter;
use weir_core::network::{Cidr, CidrError};
use weir_core::wire::length::Prefix;
use weir_core::wire::lines::{EmptyLines, UnfinishedLine};
use weir_pipeline::template::Template;

use super::raw::{Raw, Refused, Setting, choices};

/// Declares a text type: what is wanted, and the test that a text passes.
macro_rules! text {
    ($(#[$meta:meta])* $name:ident, $wanted:literal, $fits:expr) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Setting for $name {
            fn wanted() -> String {
                $wanted.to_owned()
            }

            fn read(raw: &Raw) -> Result<Self, Refused> {
                let fits: fn(&str) -> bool = $fits;
                let text = raw.text().filter(|text| fits(text)).ok_or(Refused::Shape)?;
                Ok(Self(text.to_owned()))
            }

            fn show(&self) -> Json {
                self.0.as_str().into()
            }
        }
    };
}

text!(
    /// The name of a listener, a route or an upstream. A metric label, so it is short.
    Name,
    "a name of 1 to 64 letters, digits, \"-\", \"_\" or \".\"",
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    }
);

text!(
    /// One line of text, without its line feed.
    Line,
    "one line of text without a line break",
    |text| !text.is_empty() && !text.contains(['\r', '\n'])
);

text!(
    /// A path that HTTP requests are matched with, without query: exact, unless it ends in `/*`.
    HttpPath,
    "a path such as \"/ws\", without query or fragment",
    |text| text.starts_with('/')
        && !text.contains(['?', '#'])
        && text.parse::<PathAndQuery>().is_ok_and(|parsed| parsed.as_str() == text)
);

text!(
    /// A host name that the side port answers to besides loopback names and IP literals.
    HostName,
    "a host name without port, such as \"weir.internal\"",
    |text| !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
);

text!(
    /// Directives of a log filter.
    Filter,
    "a log filter such as \"info\" or \"info,weir_upstream=debug\"",
    |text| !text.trim().is_empty() && EnvFilter::try_new(text).is_ok()
);

choices!(EmptyLines { "skip" => EmptyLines::Skip, "deliver" => EmptyLines::Deliver });
choices!(UnfinishedLine { "drop" => UnfinishedLine::Drop, "deliver" => UnfinishedLine::Deliver });
choices!(Prefix {
    "u8" => Prefix::U8,
    "u16be" => Prefix::U16Be,
    "u16le" => Prefix::U16Le,
    "u32be" => Prefix::U32Be,
    "u32le" => Prefix::U32Le,
    "varint" => Prefix::Varint,
    "octet_counting" => Prefix::OctetCounting,
});

/// Implements [`Setting`] for a type that a text is parsed into.
macro_rules! parsed {
    ($type:ty, $wanted:literal, $parse:expr, $show:expr) => {
        impl Setting for $type {
            fn wanted() -> String {
                $wanted.to_owned()
            }

            fn read(raw: &Raw) -> Result<Self, Refused> {
                let parse: fn(&str) -> Option<Self> = $parse;
                raw.text().and_then(parse).ok_or(Refused::Shape)
            }

            fn show(&self) -> Json {
                let show: fn(&Self) -> String = $show;
                show(self).into()
            }
        }
    };
}

parsed!(
    Method,
    "a method that has a body: \"POST\", \"PUT\" or \"PATCH\"",
    |text| [Self::POST, Self::PUT, Self::PATCH].into_iter().find(|method| method == text),
    Self::to_string
);

parsed!(
    HeaderValue,
    "a content type such as \"text/plain\"",
    |text| text.contains('/').then(|| Self::from_str(text).ok()).flatten(),
    |value| String::from_utf8_lossy(value.as_bytes()).into_owned()
);

parsed!(
    PathAndQuery,
    "a path such as \"/orders\" or \"/orders?from=weir\"",
    |text| text.starts_with('/').then(|| text.parse().ok()).flatten(),
    Self::to_string
);

parsed!(PathBuf, "the path of a file", |text| (!text.is_empty()).then(|| text.into()), |path| path
    .display()
    .to_string());

impl Setting for Cidr {
    fn wanted() -> String {
        "a network such as \"10.0.0.0/8\" or \"2001:db8::/32\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Shape)?;
        text.parse().map_err(|error: CidrError| Refused::Because(format!("{raw} {error}")))
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

/// A reply's template and the text it was made of.
#[derive(Clone, Debug)]
pub struct Reply {
    text: String,
    /// The parts.
    pub template: Template,
}

/// The text it was made of.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Setting for Reply {
    fn wanted() -> String {
        "a template such as \"received: {message}\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Shape)?.to_owned();
        match Template::parse(&text) {
            Ok(template) => Ok(Self { text, template }),
            Err(error) => Err(Refused::Because(error.to_string())),
        }
    }

    fn show(&self) -> Json {
        self.text.as_str().into()
    }
}

/// Whose pages may open a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The origin's host is the request's Host.
    SameHost,
    /// Anyone.
    Any,
    /// This one, as browsers write it: scheme, host, and a port that is not the scheme's.
    Exact(String),
}

impl Origin {
    /// As the file writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::SameHost => "same-host",
            Self::Any => "*",
            Self::Exact(origin) => origin,
        }
    }
}

parsed!(
    Origin,
    "\"same-host\", \"*\" or an origin such as \"https://app.example.com\"",
    |text| match text {
        "same-host" => Some(Self::SameHost),
        "*" => Some(Self::Any),
        _ => base(text).map(|_| Self::Exact(text.to_ascii_lowercase())),
    },
    |origin| origin.as_str().to_owned()
);

/// One server that an upstream's calls go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether it is spoken to over TLS.
    pub https: bool,
    /// A DNS name or an IP address; an IPv6 address without brackets.
    pub host: String,
    /// The port, given or the scheme's.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

parsed!(
    Target,
    "an address such as \"http://127.0.0.1:9000\" or \"https://orders.internal\", without a path",
    base,
    Self::to_string
);

/// A scheme, a host and perhaps a port, and nothing else.
fn base(text: &str) -> Option<Target> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?.as_str();
    let https = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let bare = text.len() == uri.scheme_str()?.len() + "://".len() + authority.len();
    if !bare || authority.contains('@') {
        return None;
    }
    let host = uri.host()?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ipv6) => ipv6.parse::<Ipv6Addr>().ok()?.to_string(),
        None => host.to_ascii_lowercase(),
    };
    let port = match authority.strip_prefix(uri.host()?)?.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None if https => 443,
        None => 80,
    };
    (!host.is_empty() && port > 0).then_some(Target { https, host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Option<String> {
        let setting = T::read(&Raw::Text(text.to_owned())).ok()?;
        Some(setting.show().as_str().expect("a text").to_owned())
    }

    fn check<T: Setting>(good: &[(&str, &str)], bad: &[&str]) {
        for (text, shown) in good {
            assert_eq!(read::<T>(text).as_deref(), Some(*shown), "{text:?}");
        }
        for text in bad {
            assert_eq!(read::<T>(text), None, "{text:?}");
        }
    }

    #[test]
    fn targets_are_a_scheme_a_host_and_a_port() {
        check::<Target>(
            &[
                ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
                ("https://Orders.internal", "https://orders.internal:443"),
                ("http://[::1]:80", "http://[::1]:80"),
            ],
            &[
                "127.0.0.1:9000",
                "ftp://host",
                "http://host/path",
                "http://host/",
                "http://user@host",
                "http://host:0",
                "http://host:99999",
                "http://",
                "",
            ],
        );
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        check::<Origin>(
            &[
                ("same-host", "same-host"),
                ("*", "*"),
                ("https://App.example.com", "https://app.example.com"),
            ],
            &["app.example.com", "https://app.example.com/", "null"],
        );
    }

    #[test]
    fn names_keep_their_case_and_are_short() {
        check::<Name>(
            &[("Quotes-EU_1.a", "Quotes-EU_1.a")],
            &["", "a b", "a/b", "é", &"x".repeat(65)],
        );
    }

    #[test]
    fn paths_are_matched_exactly() {
        check::<HttpPath>(&[("/ws", "/ws"), ("/", "/")], &["ws", "/ws?a=1", "/a b", "/a#b", ""]);
    }

    #[test]
    fn a_filter_is_checked_before_it_is_used() {
        check::<Filter>(
            &[("info,weir_core=debug", "info,weir_core=debug")],
            &["", "weir=loud", "info,,=,"],
        );
    }
}
