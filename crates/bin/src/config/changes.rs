//! What differs between two configurations, key by key, and which of it holds without a restart.
//! Nothing here applies a change.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use config::Value;
use serde_json::Value as Json;

use super::Config;
use super::raw::Auto;

/// Keys, and sections of keys, that are read once, when weir starts. All others are reloaded.
pub const RESTART: &[&str] = &[
    "runtime",
    "listeners",
    "ops",
    "health",
    "logs.format",
    "logs.queue_bytes_max",
    "logs.connections",
    "metrics",
    "traces.endpoint",
    "traces.protocol",
    "traces.ca_file",
    "traces.client_certificate",
    "traces.client_key",
    "traces.queue_max",
    "traces.export_timeout",
    "traces.service_name",
    "shutdown",
    "channels.limits",
];

/// How a redacted setting is shown.
const REDACTED: &str = "[redacted]";

/// What differs, as sorted key paths such as `routes.echo.reply`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that hold from now on.
    pub changed: Vec<String>,
    /// Keys that hold after a restart.
    pub restart: Vec<String>,
}

/// A fingerprint of each key that was set. It says of a secret whether it is another, and no more:
/// the hash is keyed, and the key never leaves the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(BTreeMap<String, u64>);

static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Written {
    /// The fingerprints of everything that the file and the environment set.
    pub(super) fn of(root: &Value) -> Self {
        let root: Json = root.clone().try_deserialize().unwrap_or_default();
        let leaves = leaves(&root).into_iter();
        Self(leaves.map(|(path, value)| (path, KEYED.hash_one(value.to_string()))).collect())
    }
}

impl Config {
    /// What is different in `new`.
    pub fn changes(&self, new: &Self) -> Changes {
        let (old_leaves, new_leaves) = (leaves(&self.shown), leaves(&new.shown));
        let mut differing: Vec<&String> = old_leaves
            .iter()
            .filter(|(path, value)| match new_leaves.get(*path) {
                Some(other) if is_secret(other) && is_secret(value) => {
                    self.written.0.get(*path) != new.written.0.get(*path)
                }
                other => other != Some(value),
            })
            .map(|(path, _)| path)
            .collect();
        differing.extend(new_leaves.keys().filter(|path| !old_leaves.contains_key(*path)));
        differing.sort();
        let mut changes = Changes::default();
        for path in differing.into_iter().filter(|path| *path != "source") {
            let list =
                if needs_restart(path) { &mut changes.restart } else { &mut changes.changed };
            list.push(path.clone());
        }
        changes
    }

    /// Takes over from `running` what only a restart changes.
    pub fn keep_fixed(&mut self, running: &Self) {
        self.runtime = running.runtime.clone();
        self.listeners = running.listeners.clone();
        self.ops = running.ops.clone();
        self.health = running.health.clone();
        self.logs = super::Logs { filter: self.logs.filter.clone(), ..running.logs.clone() };
        self.metrics = running.metrics.clone();
        let settings = self.traces.settings.clone();
        self.traces = super::TracesPlan { settings, ..running.traces.clone() };
        self.shutdown = running.shutdown.clone();
        self.channels.limits = running.channels.limits.clone();
        for path in RESTART {
            let pointer = format!("/{}", path.replace('.', "/"));
            if let (Some(shown), Some(old)) =
                (self.shown.pointer_mut(&pointer), running.shown.pointer(&pointer))
            {
                *shown = old.clone();
            }
            let of_it = |key: &str| key.strip_prefix(path).is_some_and(is_tail);
            self.written.0.retain(|key, _| !of_it(key));
            let old = running.written.0.iter().filter(|(key, _)| of_it(key));
            self.written.0.extend(old.map(|(key, value)| (key.clone(), *value)));
        }
    }

    /// Whether the memory limit is that of the cgroup.
    pub fn has_cgroup_limit(&self) -> bool {
        self.overload.memory_max == Some(Auto::Auto) && self.memory_max.is_some()
    }

    /// A number that is the same for two processes exactly when what they show of their
    /// configurations is: 48 bits, so that it fits into the number of a metric. Secrets are not in it.
    pub fn hash(&self) -> u64 {
        // The standard library promises no stable hash; FNV-1a is one (RFC 9923 describes it).
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        let mut leaves = leaves(&self.shown);
        leaves.remove("source");
        for (path, value) in leaves {
            path.hash(&mut hash);
            value.to_string().hash(&mut hash);
        }
        hash.finish() >> 16
    }
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn is_secret(value: &Json) -> bool {
    value.as_str() == Some(REDACTED)
}

/// Whether a change of this key, or of everything in this section, takes a restart.
pub(super) fn needs_restart(path: &str) -> bool {
    RESTART.iter().any(|fixed| path.strip_prefix(fixed).is_some_and(is_tail))
}

/// Whether what follows a key is its end or a key inside.
fn is_tail(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('.')
}

/// Every value that is no table and no list of tables, by its path. Tables of a list go by their
/// names, so that one more in front changes no path.
fn leaves(root: &Json) -> BTreeMap<String, Json> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![(String::new(), root)];
    while let Some((path, value)) = waiting.pop() {
        let inside =
            |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Json::Object(table) => {
                waiting.extend(table.iter().map(|(key, value)| (inside(key), value)));
            }
            Json::Array(items) if items.iter().any(Json::is_object) => {
                for (index, item) in items.iter().enumerate() {
                    let name = ["name", "path"].iter().find_map(|key| item.get(key)?.as_str());
                    let name = name.map_or_else(|| index.to_string(), str::to_owned);
                    waiting.push((inside(&name), item));
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                found.insert(path, value.clone());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Surroundings;
    use crate::runtime::Machine;

    const FILE: &str = r#"
        [limits]
        in_flight_max = 8
        [ops]
        token = "correct-horse-battery"
        [[listeners]]
        name = "lines"
        address = "127.0.0.1:7001"
        wire = "lines"
        route = "echo"
        [[routes]]
        name = "echo"
        kind = "echo"
        reply = "one"
    "#;

    fn read(text: &str) -> Config {
        let machine = Machine { cores: 2, memory_bytes: None, open_files: 20_000 };
        let surroundings = Surroundings { variables: Vec::new(), machine };
        Config::read("weir.toml", text, &surroundings).expect("a good file")
    }

    #[track_caller]
    fn check(changed_text: &str, changed: &[&str], restart: &[&str]) {
        let (old, new) = (read(FILE), read(changed_text));
        let changes = old.changes(&new);
        assert_eq!((changes.changed, changes.restart), (owned(changed), owned(restart)));
    }

    fn owned(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn a_change_is_told_by_its_key_and_by_when_it_holds() {
        check(FILE, &[], &[]);
        check(
            &FILE.replace("in_flight_max = 8", "in_flight_max = 9"),
            &["limits.in_flight_max"],
            &[],
        );
        check(&FILE.replace("\"one\"", "\"two\""), &["routes.echo.reply"], &[]);
        check(&FILE.replace("7001", "7009"), &[], &["listeners.lines.address"]);
        check(&FILE.replace("battery", "stapler"), &[], &["ops.token"]);
    }

    #[test]
    fn a_table_in_front_of_others_changes_only_itself() {
        let more = FILE
            .replace("[[routes]]", "[[routes]]\nname = \"drop\"\nkind = \"discard\"\n[[routes]]");
        check(
            &more,
            &[
                "routes.drop.auth",
                "routes.drop.kind",
                "routes.drop.name",
                "routes.drop.principals",
                "routes.drop.trace_field",
                "routes.drop.trace_prefix",
            ],
            &[],
        );
    }

    #[test]
    fn what_only_a_restart_changes_is_kept() {
        let old = read(FILE);
        let mut new = read(&FILE.replace("7001", "7009").replace("battery", "stapler"));
        new.keep_fixed(&old);
        assert_eq!(new.listeners[0].keys.address.port(), 7001);
        assert_eq!(new.shown, old.shown);
        assert_eq!(old.changes(&new), Changes::default());
    }

    #[test]
    fn the_hash_is_of_what_is_shown() {
        assert_eq!(read(FILE).hash(), read(&FILE.replace("battery", "stapler")).hash());
        assert_ne!(read(FILE).hash(), read(&FILE.replace("\"one\"", "\"two\"")).hash());
        assert!(read(FILE).hash() < 1 << 48);
    }
}
