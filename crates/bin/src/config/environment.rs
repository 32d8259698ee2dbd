//! `WEIR_SECTION__KEY` variables as a layer over the file. A table of a list is named by its name:
//! `WEIR_LISTENERS__HTTP__ADDRESS`. The only reader of the environment in weir is here.

use std::collections::BTreeMap;
use std::time::Duration;

use config::{ConfigError, Map, Source, Value};

use super::document::Document;
use super::faults::did_you_mean;
use super::section::unknown;
use super::{LISTS, SECTIONS, SectionInfo};

/// The variables that begin with `WEIR_` or `OTEL_`, as they are now.
///
/// A variable whose name or value is not Unicode is as it would be printed.
pub fn variables() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    let is_ours = |name: &str| name.starts_with(PREFIX) || name.starts_with(STANDARD);
    let mut ours: Vec<_> = all.filter(|(name, _)| is_ours(name)).collect();
    ours.sort();
    ours
}

/// How many of weir there are, when somebody says so.
pub fn replicas() -> Option<u32> {
    std::env::var_os(REPLICAS)?.to_str()?.parse().ok()
}

/// The service manager that started weir, as sd_notify(3) has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// The name of its socket: a path, or `@` and a name without a file.
    pub socket: String,
    /// How long it waits for a sign of life before it restarts weir; `None`: for ever.
    pub watchdog: Option<Duration>,
}

/// The service manager, when one has started weir and wants to be told.
pub fn manager() -> Option<Manager> {
    let text = |name: &str| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
    manager_of(text, std::process::id())
}

fn manager_of(variable: impl Fn(&str) -> Option<String>, this: u32) -> Option<Manager> {
    // A watchdog may be meant for another process, whose variables were inherited.
    let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(this));
    let micros = variable("WATCHDOG_USEC").filter(|_| ours).and_then(|text| text.parse().ok());
    let watchdog = micros.filter(|micros| *micros > 0).map(Duration::from_micros);
    Some(Manager { socket: variable("NOTIFY_SOCKET")?, watchdog })
}

const PREFIX: &str = "WEIR_";
const SEPARATOR: &str = "__";
/// What the variables of OpenTelemetry begin with: [`super::traces`] reads them.
const STANDARD: &str = "OTEL_";

/// How many of weir there are, as whoever starts them says.
const REPLICAS: &str = "WEIR_REPLICAS";

/// Variables that are no settings.
const RESERVED: [&str; 1] = [REPLICAS];

/// The settings of the environment by key path, each with its variable.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides {
    by_path: BTreeMap<String, (String, String)>,
}

impl Overrides {
    /// Finds the key that each variable sets. Returns the variables that set none too, each with
    /// what is wrong; those that Kubernetes makes for services are let through.
    pub(super) fn find(
        variables: &[(String, String)],
        document: &Document,
    ) -> (Self, Vec<(String, String)>) {
        let mut found = Self::default();
        let mut strangers = Vec::new();
        for (name, value) in variables {
            let foreign = name.starts_with(STANDARD) || is_service_link(name);
            if RESERVED.contains(&name.as_str()) || foreign {
                continue;
            }
            match path_of(name, document) {
                Ok(path) => {
                    found.by_path.insert(path, (name.clone(), value.clone()));
                }
                Err(text) => strangers.push((name.clone(), text)),
            }
        }
        (found, strangers)
    }

    /// The variable of each key path that is set.
    pub(super) fn variables(&self) -> BTreeMap<String, String> {
        self.by_path.iter().map(|(path, (name, _))| (path.clone(), name.clone())).collect()
    }
}

impl Source for Overrides {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let value = |(path, (name, value)): (&String, &(String, String))| {
            (path.clone(), Value::new(Some(&format!("env {name}")), value.clone()))
        };
        Ok(self.by_path.iter().map(value).collect())
    }
}

/// The path of the key that a variable sets.
fn path_of(variable: &str, document: &Document) -> Result<String, String> {
    let name = variable.strip_prefix(PREFIX).unwrap_or(variable).to_ascii_lowercase();
    let parts: Vec<&str> = name.split(SEPARATOR).collect();
    match parts.as_slice() {
        [section @ .., key] if known_section(section).is_some() => {
            let (section, known) = (section.join("."), known_section(section));
            let keys: Vec<&str> = known.into_iter().flat_map(|s| s.keys).map(|k| k.name).collect();
            if !keys.contains(key) {
                return Err(unknown(&format!("key of {section}"), key, &keys));
            }
            Ok(format!("{section}.{key}"))
        }
        [list, table, key] if LISTS.contains(list) && is_key(key) => {
            Ok(format!("{list}[{}].{key}", position(list, table, document)?))
        }
        _ => {
            let near = did_you_mean(variable, all_variables().iter().map(String::as_str));
            Err(format!("unknown variable; they are WEIR_SECTION__KEY{near}"))
        }
    }
}

/// The section that these parts of a variable's name say: `AUTH__JWKS` is `auth.jwks`.
fn known_section(parts: &[&str]) -> Option<&'static SectionInfo> {
    let name = parts.join(".");
    SECTIONS.iter().find(|known| known.name == name)
}

/// The place in its list of the table with this name; `-` and `.` in a name are `_` in a variable.
fn position(list: &str, table: &str, document: &Document) -> Result<usize, String> {
    let as_variable = |name: &str| name.to_ascii_lowercase().replace(['-', '.'], "_");
    let tables = document.names.iter().filter(|((of, _), _)| of == list);
    let matching = tables.clone().filter(|(_, name)| as_variable(name) == *table);
    match matching.map(|((_, i), _)| *i).collect::<Vec<_>>().as_slice() {
        [only] => Ok(*only),
        [] => {
            let names: Vec<&str> = tables.map(|(_, name)| name.as_str()).collect();
            Err(unknown(&format!("name in {list}"), table, &names))
        }
        _ => Err(format!("more than one name in {list} reads \"{table}\" in a variable")),
    }
}

/// Whether it could be a key, so that it means itself in a path.
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// Every variable that sets a key of a section.
fn all_variables() -> Vec<String> {
    let mut names = Vec::new();
    for section in SECTIONS {
        for key in section.keys {
            let section = section.name.replace('.', SEPARATOR);
            let name = format!("{PREFIX}{section}{SEPARATOR}{}", key.name);
            names.push(name.to_ascii_uppercase());
        }
    }
    names
}

/// Whether Kubernetes made the variable for a service called weir or weir-something, as it does in
/// every pod of a namespace: `WEIR_SERVICE_HOST`, `WEIR_PORT_7001_TCP_ADDR`.
fn is_service_link(name: &str) -> bool {
    if name.contains(SEPARATOR) {
        return false;
    }
    let words: Vec<&str> = name.split('_').skip(1).collect();
    let service = words.windows(2).any(|pair| matches!(pair, ["SERVICE", "HOST" | "PORT"]));
    let port =
        words.iter().position(|word| *word == "PORT").is_some_and(|at| match &words[at + 1..] {
            [] => true,
            [number, protocol, rest @ ..] => {
                number.bytes().all(|b| b.is_ascii_digit())
                    && matches!(*protocol, "TCP" | "UDP" | "SCTP")
                    && matches!(rest, [] | ["PROTO" | "PORT" | "ADDR"])
            }
            [_] => false,
        });
    service || port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_the_one_that_waits_for_this_process() {
        let read = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
            manager_of(|name| find(name).map(|(_, value)| (*value).to_owned()), 7)
        };
        let socket = ("NOTIFY_SOCKET", "/run/systemd/notify");
        let watchdog = ("WATCHDOG_USEC", "30000000");
        let seconds = |manager: Option<Manager>| {
            manager.expect("there is a socket").watchdog.map(|watchdog| watchdog.as_secs())
        };
        assert_eq!(read(&[watchdog]), None);
        assert_eq!(seconds(read(&[socket])), None);
        assert_eq!(seconds(read(&[socket, watchdog])), Some(30));
        assert_eq!(seconds(read(&[socket, watchdog, ("WATCHDOG_PID", "7")])), Some(30));
        assert_eq!(seconds(read(&[socket, watchdog, ("WATCHDOG_PID", "8")])), None);
        assert_eq!(seconds(read(&[socket, ("WATCHDOG_USEC", "0")])), None);
    }

    #[test]
    fn variables_that_kubernetes_makes_for_services_are_no_settings() {
        for name in [
            "WEIR_SERVICE_HOST",
            "WEIR_SERVICE_PORT_LINES",
            "WEIR_PORT",
            "WEIR_PORT_7001_TCP",
            "WEIR_PORT_7001_TCP_ADDR",
            "WEIR_OPS_PORT_6060_TCP_PROTO",
            "WEIR_OPS_SERVICE_PORT",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in ["WEIR_LIMITS__PORT", "WEIR_PORT_LINES", "WEIR_LIMITS", "WEIR_SERVICE"] {
            assert!(!is_service_link(name), "{name}");
        }
    }
}
