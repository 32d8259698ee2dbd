//! Identities: keys and rules for tokens, API keys, and which doors a route has.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderName, Uri};
use serde_json::Value as Json;
use weir_auth::{ClaimPattern, Door, Key, KeyError, PemKind};
use zeroize::Zeroizing;

use super::Config;
use super::faults::Faults;
use super::headers;
use super::raw::{Auto, Raw, Refused, Setting, choices};
use super::section::{Section, Table, section};
use super::units::{Grace, Size};
use super::values::{Line, Name, Target};

section! {
    /// Who somebody is: what tokens must say, and how failures are answered. Which routes ask for it
    /// is their own key "auth".
    pub struct AuthKeys {
        /// A token must be for one of these ("aud"). Empty: that is not looked at.
        pub audience: Vec<Line> = [];
        /// A token must be for somebody whose whole name matches this regular expression.
        pub audience_regex: Option<ClaimPattern> = "off";
        /// A token must be by this one ("iss"). "off": that is not looked at.
        pub issuer: Option<Line> = "off";
        /// A token must be by somebody whose whole name matches this regular expression.
        pub issuer_regex: Option<ClaimPattern> = "off";
        /// How far weir's clock and that of an issuer may be apart.
        pub leeway: Grace = "30s";
        /// Whether a token must have an end ("exp").
        pub expiry_required: bool = true;
        /// What becomes of a connection when its token expires: "close" or "keep".
        pub expired: Expired = "close";
        /// The claim that names the principal.
        pub principal_claim: Line = "sub";
        /// Failures a minute after which every answer to an address comes late, by at most 2 s.
        pub failures_per_address: Option<u32> = 10;
    }
}

section! {
    /// A set of public keys that somebody else publishes, for tokens. Keys that are listed are used
    /// beside it.
    pub struct JwksKeys {
        /// Where it is: "https://id.example.com/.well-known/jwks.json".
        pub url: Option<JwksUrl> = "off";
        /// How often it is fetched again. A key that is not known makes weir look at once.
        pub refresh_interval: std::time::Duration = "10m";
        /// Least time between two fetches, whatever strangers show.
        pub refresh_interval_min: std::time::Duration = "10s";
        /// How long the last good set is used while its source is down.
        pub age_max: std::time::Duration = "24h";
        /// Most keys in it; a bigger set is refused.
        pub keys_max: usize = 64;
        /// Largest set.
        pub response_bytes_max: Size = "256KiB";
        /// Longest wait for it.
        pub request_timeout: std::time::Duration = "5s";
        /// PEM file of the certificates that it is checked with. "off": the system's.
        pub ca_file: Option<PathBuf> = "off";
    }
}

section! {
    /// A key that tokens are checked with.
    pub struct TokenKeyKeys {
        /// Its name: the "kid" of tokens that it has signed. Tokens without one are tried with all.
        pub name: Name, like "main";
        /// "hmac": a shared secret. "rsa", "ecdsa" (P-256, P-384), "eddsa" (Ed25519): a public key.
        /// It decides which algorithms a token may use.
        pub algorithm: KeyAlgorithm, like "hmac";
        /// The secret, or the public key in PEM. "file:/path" reads it from a file.
        pub key: SecretSource, like "file:/etc/weir/token.key";
        /// When it stops being one, in seconds since 1970: while another replaces it.
        pub until: Option<UnixTime> = "off";
    }
}

section! {
    /// An API key.
    pub struct ApiKeyKeys {
        /// Whose it is: the principal.
        pub name: Name, like "meter-7";
        /// The key, at least 16 visible ASCII characters. "file:/path" reads it from a file.
        pub key: SecretSource, like "file:/etc/weir/meter-7.key";
    }
}

/// A time of day, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixTime(pub SystemTime);

impl Setting for UnixTime {
    fn wanted() -> String {
        "a time in seconds since 1970".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let seconds = raw.integer().and_then(|seconds| u64::try_from(seconds).ok());
        let time = seconds.and_then(|s| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(s)));
        time.map(Self).ok_or(Refused::Shape)
    }

    fn show(&self) -> Json {
        self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().into()
    }
}

impl Setting for ClaimPattern {
    fn wanted() -> String {
        "a regular expression such as \"https://[a-z]+[.]example[.]com\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let text = raw.text().filter(|text| !text.is_empty()).ok_or(Refused::Shape)?;
        Self::new(text).map_err(|error| Refused::Because(format!("{raw} is {error}")))
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

/// What becomes of a connection whose token expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// It is closed.
    Close,
    /// It stays.
    Keep,
}

choices!(Expired { "close" => Expired::Close, "keep" => Expired::Keep });

/// The kind of a key, by its name in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// A shared secret.
    Hmac,
    /// An RSA public key.
    Rsa,
    /// A public key on P-256 or P-384.
    Ecdsa,
    /// An Ed25519 public key.
    EdDsa,
}

choices!(KeyAlgorithm {
    "hmac" => KeyAlgorithm::Hmac,
    "rsa" => KeyAlgorithm::Rsa,
    "ecdsa" => KeyAlgorithm::Ecdsa,
    "eddsa" => KeyAlgorithm::EdDsa,
});

choices!(Door { "token" => Door::Token, "api_key" => Door::ApiKey, "mtls" => Door::Mtls });

/// The doors of a route. Empty: it is open to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doors(pub Vec<Door>);

impl Setting for Doors {
    fn wanted() -> String {
        "\"none\", \"token\", \"api_key\", \"mtls\", or a list of the last three".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        if raw.text() == Some("none") {
            return Ok(Self(Vec::new()));
        }
        let one = raw.text().filter(|text| !text.contains(','));
        let mut doors = match one {
            // A list of the three without "none" would be a misleading answer to a misspelt one.
            Some(_) => vec![Door::read(raw).map_err(|refused| match refused {
                Refused::Because(text) => {
                    Refused::Because(text.replacen("one of ", "one of \"none\", ", 1))
                }
                Refused::Shape => Refused::Shape,
            })?],
            None => Vec::<Door>::read(raw)?,
        };
        doors.dedup();
        if doors.is_empty() { Err(Refused::Shape) } else { Ok(Self(doors)) }
    }

    fn show(&self) -> Json {
        if self.0.is_empty() { "none".into() } else { self.0.show() }
    }
}

/// Where a key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl {
    /// The server.
    pub target: Target,
    /// The path there.
    pub path: PathAndQuery,
}

impl Setting for JwksUrl {
    fn wanted() -> String {
        "a URL such as \"https://id.example.com/.well-known/jwks.json\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let uri: Uri = raw.text().and_then(|text| text.parse().ok()).ok_or(Refused::Shape)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(Refused::Shape);
        };
        let target = Target::read(&Raw::Text(format!("{scheme}://{authority}")))
            .map_err(|_| Refused::Shape)?;
        let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        Ok(Self { target, path })
    }

    fn show(&self) -> Json {
        format!("{}{}", self.target, self.path).into()
    }
}

/// A secret, or the file that it is in. Never shown, but for the name of the file.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// As it stands in the configuration.
    Inline(Zeroizing<String>),
    /// In a file, without the line end that it may have.
    File(PathBuf),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("[redacted]"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Setting for SecretSource {
    const SECRET: bool = true;

    fn wanted() -> String {
        "a secret, or \"file:\" and the path of the file that it is in".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Shape)?;
        match text.strip_prefix("file:") {
            Some("") => Err(Refused::Shape),
            Some(path) => Ok(Self::File(path.into())),
            None if text.trim().is_empty() => Err(Refused::Shape),
            None => Ok(Self::Inline(Zeroizing::new(text.to_owned()))),
        }
    }

    fn show(&self) -> Json {
        match self {
            Self::Inline(_) => "[redacted]".into(),
            Self::File(path) => format!("file:{}", path.display()).into(),
        }
    }
}

impl SecretSource {
    /// The secret itself.
    ///
    /// # Errors
    /// Why its file cannot be read, as the text of a fault.
    pub fn load(&self) -> Result<Zeroizing<String>, String> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => {
                    let text = Zeroizing::new(text);
                    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
                }
                Err(error) => Err(format!("cannot read {}: {error}", path.display())),
            },
        }
    }
}

/// Headers of a handshake that may go to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardHeader(pub HeaderName);

/// Headers that carry credentials, which are for weir and not for an upstream.
const CREDENTIALS: [&str; 2] = ["authorization", "x-api-key"];

impl Setting for ForwardHeader {
    fn wanted() -> String {
        "the name of a header that clients may set for an upstream, such as \"user-agent\""
            .to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Shape)?.to_ascii_lowercase();
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| Refused::Shape)?;
        if headers::is_own(&text) || CREDENTIALS.contains(&&*text) {
            return Err(Refused::Because(format!(
                "\"{text}\" is never forwarded: it is a credential, or weir's or the connection's own"
            )));
        }
        Ok(Self(name))
    }

    fn show(&self) -> Json {
        self.0.as_str().into()
    }
}

/// The name of the key set: a label, and the name of its own upstream.
pub const KEY_SET: &str = "auth.jwks";

/// All of `[auth]`.
#[derive(Clone)]
pub struct Auth {
    /// What stands once.
    pub keys: AuthKeys,
    /// The key set.
    pub jwks: JwksKeys,
    /// Keys for tokens, loaded.
    pub token_keys: Vec<Arc<Key>>,
    /// API keys, loaded: principal and key.
    pub api_keys: Vec<(Name, Zeroizing<String>)>,
    /// All of it as `/config` shows it.
    pub(super) shown: Json,
    /// Tables of keys that could not be read: then nobody knows which doors work.
    faulty: bool,
}

impl Auth {
    /// Takes `[auth]` out of the root. Files are read, so that a bad one is a fault.
    pub(super) fn read(root: &mut Table<'_>) -> Self {
        let mut table = root.table_or_empty("auth");
        let jwks: JwksKeys = table.section("jwks").expect("no key of it is required");
        let (token_tables, api_tables) = (table.tables("keys"), table.tables("api_keys"));
        super::checks::names(&token_tables);
        super::checks::names(&api_tables);
        let keys = AuthKeys::read(&mut table).expect("no key of it is required");
        table.finish(&[AuthKeys::KEYS], &[]);
        let count = token_tables.len() + api_tables.len();
        let mut shown = keys.show();
        shown.insert("jwks".to_owned(), jwks.show().into());
        let (token_keys, token_shown) = read_all(token_tables, |keys| token_key(keys, false));
        let (api_keys, api_shown) = read_all(api_tables, api_key);
        shown.insert("keys".to_owned(), token_shown);
        shown.insert("api_keys".to_owned(), api_shown);
        let faulty = token_keys.len() + api_keys.len() < count;
        Self { keys, jwks, token_keys, api_keys, shown: shown.into(), faulty }
    }

    /// What a door lacks to let anybody in, as the text of a fault.
    pub(super) fn lacks(&self, door: Door) -> Option<&'static str> {
        if self.faulty {
            return None;
        }
        match door {
            Door::Token if self.token_keys.is_empty() && self.jwks.url.is_none() => {
                Some("\"token\" lets nobody in without [[auth.keys]] or auth.jwks.url")
            }
            Door::ApiKey if self.api_keys.is_empty() => {
                Some("\"api_key\" lets nobody in without [[auth.api_keys]]")
            }
            Door::Token | Door::ApiKey | Door::Mtls => None,
        }
    }
}

/// Never shows a key.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown)
    }
}

/// Reads each table; keeps what is good of them, and what `/config` shows.
pub(super) fn read_all<S: Section, T>(
    tables: Vec<Table<'_>>,
    load: impl Fn(&S) -> Result<T, String>,
) -> (Vec<T>, Json) {
    let (mut loaded, mut shown) = (Vec::new(), Vec::new());
    for mut table in tables {
        let keys = S::read(&mut table);
        let (path, faults): (String, &Faults) = (table.key("key"), table.faults());
        table.finish(&[S::KEYS], &[]);
        let Some(keys) = keys else { continue };
        shown.push(Json::from(keys.show()));
        match load(&keys) {
            Ok(value) => loaded.push(value),
            Err(text) => faults.add(&path, text),
        }
    }
    (loaded, shown.into())
}

/// Loads a key for tokens, of which a shared secret may be short only where that is said.
pub(super) fn token_key(keys: &TokenKeyKeys, short_secrets: bool) -> Result<Arc<Key>, String> {
    let key = keys.key.load()?;
    let pem = |kind| Key::from_pem(&keys.name, kind, key.as_bytes());
    let key = match keys.algorithm {
        KeyAlgorithm::Hmac if short_secrets => Ok(Key::from_any_secret(&keys.name, key.as_bytes())),
        KeyAlgorithm::Hmac => Key::from_secret(&keys.name, key.as_bytes()),
        KeyAlgorithm::Rsa => pem(PemKind::Rsa),
        KeyAlgorithm::Ecdsa => pem(PemKind::Ecdsa),
        KeyAlgorithm::EdDsa => pem(PemKind::EdDsa),
    };
    let key = key.map(|key| match keys.until {
        Some(UnixTime(end)) => key.until(end),
        None => key,
    });
    key.map(Arc::new).map_err(|error: KeyError| format!("the value is {error}"))
}

/// Shortest API key.
const API_KEY_BYTES_MIN: usize = 16;

fn api_key(keys: &ApiKeyKeys) -> Result<(Name, Zeroizing<String>), String> {
    let key = keys.key.load()?;
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if visible && key.len() >= API_KEY_BYTES_MIN {
        Ok((keys.name.clone(), key))
    } else {
        Err(format!("the value is not at least {API_KEY_BYTES_MIN} visible ASCII characters"))
    }
}

impl Config {
    /// Routes that are open only because nobody said otherwise, and that others than this machine
    /// reach: a line each, for a configuration whose listeners are another's.
    pub fn open_by_mistake(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for listener in self.listeners.iter().filter(|one| !one.keys.address.ip().is_loopback()) {
            for (_, name) in listener.routes("") {
                let mut named = self.routes.iter().filter(|route| route.keys.name == *name);
                if named.any(|route| matches!(route.keys.auth, Auto::Auto)) {
                    let (listener, address) = (&listener.keys.name, listener.keys.address);
                    lines.push(format!(
                        "routes.{name}.auth: missing, and until a restart listener \"{listener}\" \
                         is on {address}"
                    ));
                }
            }
        }
        lines
    }
}

impl Auto<Doors> {
    /// The doors that a route has.
    pub fn doors(&self) -> &[Door] {
        match self {
            Self::Auto => &[],
            Self::Set(doors) => &doors.0,
        }
    }
}
