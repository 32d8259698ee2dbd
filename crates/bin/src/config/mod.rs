//! Configuration: the file or the built-in default, then the environment, then every fault at
//! once. After [`Config::load`] nothing is checked again.

pub mod auth;
pub mod changes;
pub mod channels;
mod checks;
pub mod client_tokens;
mod document;
pub mod environment;
mod faults;
mod headers;
pub mod hooks;
pub mod listener;
pub mod print;
mod publish;
pub mod raw;
mod reading;
pub mod route;
pub mod secret;
pub mod section;
pub mod sections;
pub mod tls;
pub mod traces;
pub mod units;
pub mod upstream;
pub mod values;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use weir_core::limits::{Limits, Timeouts};
use weir_core::tls::HandshakeLimits;

use self::auth::{Auth, AuthKeys, JwksKeys};
use self::channels::{ChannelLimitsKeys, ChannelOptionsKeys, Channels, ChannelsKeys};
use self::client_tokens::ClientTokenKeys;
pub use self::faults::Faults;
use self::faults::Places;
use self::hooks::HooksKeys;
use self::listener::Listener;
use self::reading::Reading;
use self::route::Route;
use self::section::{Key, Section};
use self::sections::{
    Health, LimitsKeys, Logs, Metrics, Network, Ops, Overload, RuntimeKeys, Shutdown, TimeoutsKeys,
};
use self::traces::{TracesKeys, TracesPlan};
use self::upstream::Upstream;
use crate::runtime::Machine;

/// The file that is read when no other is named and it is there.
pub const FILE: &str = "weir.toml";

/// The listeners and routes that weir has without a file.
const BUILT_IN: &str =
    concat!(include_str!("default.toml"), "\n", include_str!("default_channels.toml"));
/// Of it, what may stand many times, and the sections.
const BUILT_IN_LISTS: &str = include_str!("default.toml");
const BUILT_IN_CHANNELS: &str = include_str!("default_channels.toml");

/// A section that stands once.
#[derive(Debug)]
struct SectionInfo {
    name: &'static str,
    about: &'static str,
    keys: &'static [Key],
}

impl SectionInfo {
    const fn of<S: Section>(name: &'static str) -> Self {
        Self { name, about: S::ABOUT, keys: S::KEYS }
    }
}

/// The sections that stand once, in the order they are printed.
const SECTIONS: &[SectionInfo] = &[
    SectionInfo::of::<RuntimeKeys>("runtime"),
    SectionInfo::of::<LimitsKeys>("limits"),
    SectionInfo::of::<TimeoutsKeys>("timeouts"),
    SectionInfo::of::<Overload>("overload"),
    SectionInfo::of::<Network>("network"),
    SectionInfo::of::<Ops>("ops"),
    SectionInfo::of::<Health>("health"),
    SectionInfo::of::<Logs>("logs"),
    SectionInfo::of::<Metrics>("metrics"),
    SectionInfo::of::<TracesKeys>("traces"),
    SectionInfo::of::<Shutdown>("shutdown"),
    SectionInfo::of::<AuthKeys>("auth"),
    SectionInfo::of::<JwksKeys>("auth.jwks"),
    SectionInfo::of::<ChannelsKeys>("channels"),
    SectionInfo::of::<ChannelLimitsKeys>("channels.limits"),
    SectionInfo::of::<ChannelOptionsKeys>("channels.without_namespace"),
    SectionInfo::of::<HooksKeys>("channels.hooks"),
    SectionInfo::of::<ClientTokenKeys>("channels.token"),
    SectionInfo::of::<JwksKeys>("channels.token.jwks"),
    SectionInfo::of::<ClientTokenKeys>("channels.subscription_token"),
    SectionInfo::of::<JwksKeys>("channels.subscription_token.jwks"),
];

/// The lists of tables.
const LISTS: [&str; 3] = ["listeners", "routes", "upstreams"];

/// Everything a user can set, valid and plain.
#[derive(Debug)]
pub struct Config {
    /// Where it came from: the file's name, or that it is built in.
    pub source: String,
    /// Threads.
    pub runtime: Runtime,
    /// Caps on a connection.
    pub limits: Limits,
    /// Caps on how many there are.
    pub admission: Admission,
    /// Caps on TLS handshakes.
    pub handshakes: HandshakeLimits,
    /// Bytes that all outboxes hold together.
    pub outboxes_bytes_max: Option<usize>,
    /// Waits for a peer.
    pub timeouts: Timeouts,
    /// What is done when memory or time run out.
    pub overload: Overload,
    /// The memory that weir may use; `None`: as much as it likes.
    pub memory_max: Option<u64>,
    /// What stands between peers and weir.
    pub network: Network,
    /// At least one, with names and addresses of their own.
    pub listeners: Vec<Listener>,
    /// Every route that is named, and perhaps more.
    pub routes: Vec<Route>,
    /// Every upstream that is named, and perhaps more.
    pub upstreams: Vec<Upstream>,
    /// The side port.
    pub ops: Ops,
    /// Health.
    pub health: Health,
    /// Logs.
    pub logs: Logs,
    /// Metrics.
    pub metrics: Metrics,
    /// Traces.
    pub traces: TracesPlan,
    /// The stages of a stop.
    pub shutdown: Shutdown,
    /// Identities.
    pub auth: Auth,
    /// Channels.
    pub channels: Channels,
    /// What works and is probably not meant, a line each.
    pub warnings: Vec<String>,
    /// All of it as `/config` shows it: in effect, with secrets redacted.
    pub shown: Json,
    /// A fingerprint of each setting as it was written, secrets included, for [`changes`].
    written: changes::Written,
}

/// How many threads there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Event loops, at least 1.
    pub workers: usize,
    /// Threads of the service runtime, at least 1.
    pub service_threads: usize,
}

/// How many connections there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// At once.
    pub connections_max: u32,
    /// At once from one address.
    pub connections_per_address_max: Option<u32>,
    /// New ones a second.
    pub connections_per_second_max: Option<u32>,
}

/// What a configuration is read in: the environment and the machine. An argument, for tests.
#[derive(Debug)]
pub struct Surroundings {
    /// The `WEIR_` variables, and those of OpenTelemetry.
    pub variables: Vec<(String, String)>,
    /// Cores, memory and open files.
    pub machine: Machine,
}

impl Surroundings {
    /// Those of this process.
    pub fn here() -> Self {
        Self { variables: environment::variables(), machine: Machine::detect() }
    }
}

impl Config {
    /// Reads `file`; without one `weir.toml` if it is there, else the built-in default.
    ///
    /// # Errors
    ///
    /// Every fault in the file and the environment.
    pub fn load(file: Option<&Path>, surroundings: &Surroundings) -> Result<Self, Faults> {
        let default = Path::new(FILE);
        match file.map(PathBuf::from).or_else(|| default.exists().then(|| default.into())) {
            None => Self::read("built-in default", BUILT_IN, surroundings),
            Some(path) => {
                let name = path.display().to_string();
                match std::fs::read_to_string(&path) {
                    Ok(text) => Self::read(&name, &text, surroundings),
                    Err(error) => {
                        let faults = Faults::at(Places::in_file(&name));
                        faults.add_at_line(None, format!("cannot be read: {error}"));
                        Err(faults)
                    }
                }
            }
        }
    }

    /// Reads the text of a file that is called `name`.
    ///
    /// # Errors
    ///
    /// Every fault in the text and the environment.
    pub fn read(name: &str, text: &str, surroundings: &Surroundings) -> Result<Self, Faults> {
        let (reading, faults) = Reading::merge(name, text, &surroundings.variables)?;
        match reading.finish(name, &surroundings.machine, &faults) {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }
}
