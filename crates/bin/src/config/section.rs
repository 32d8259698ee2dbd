//! A section of the configuration: its keys with their docs, types and defaults in one place.
//! `weir print-config`, the reader, the fault texts and `/config` all come from that one place.

use std::collections::BTreeMap;

use config::{FileFormat, Format, Value, ValueKind};
use serde_json::Value as Json;

use super::faults::{Faults, did_you_mean};
use super::raw::{Raw, Setting};

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What it does, as lines of text.
    pub doc: &'static str,
    /// Its default, or for a required key an example, as the file writes it.
    pub default: &'static str,
    /// Whether it has no default.
    pub required: bool,
}

/// A struct that is read from a table; made by [`section!`].
pub trait Section: Sized {
    /// What the section is about, as lines of text.
    const ABOUT: &'static str;
    /// Its keys, in the order they are printed.
    const KEYS: &'static [Key];

    /// Takes this section's keys out of a table and notes every fault. A key with a fault has its
    /// default, so that the rest can be checked too; `None` when a required key is missing or bad.
    fn read(table: &mut Table<'_>) -> Option<Self>;

    /// The settings as `/config` shows them: in effect, with secrets redacted.
    fn show(&self) -> serde_json::Map<String, Json>;
}

/// Declares a section: a struct whose doc comments are the reference that `weir print-config`
/// prints. `= default` is what a key is when nobody sets it; `like example` makes it required.
macro_rules! section {
    ($(#[doc = $about:literal])+ pub struct $name:ident {
        $($(#[doc = $doc:literal])+ pub $key:ident: $type:ty $(= $default:tt)? $(, like $example:tt)?;)*
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $type,)*
        }

        impl $crate::config::section::Section for $name {
            const ABOUT: &'static str = concat!($($about, "\n"),+);
            const KEYS: &'static [$crate::config::section::Key] = &[
                $($crate::config::section::Key {
                    name: stringify!($key),
                    doc: concat!($($doc, "\n"),+),
                    default: concat!($(stringify!($default))? $(stringify!($example))?),
                    required: section!(@required $(like $example)?),
                },)*
            ];

            fn read(_table: &mut $crate::config::section::Table<'_>) -> Option<Self> {
                let mut _keys = Self::KEYS.iter();
                $(let $key = _table.take::<$type>(_keys.next()?);)*
                Some(Self { $($key: $key?,)* })
            }

            fn show(&self) -> serde_json::Map<String, serde_json::Value> {
                let mut _shown = serde_json::Map::new();
                $(_shown.insert(
                    stringify!($key).to_owned(),
                    $crate::config::raw::Setting::show(&self.$key),
                );)*
                _shown
            }
        }
    };
    (@required) => { false };
    (@required like $example:tt) => { true };
}
pub(super) use section;

/// A table of the merged configuration, while its keys are being taken out of it.
#[derive(Debug)]
pub struct Table<'a> {
    /// Where it is: empty for the root, else `limits`, `listeners[1]`, `listeners[1].paths[0]`.
    pub(super) path: String,
    entries: BTreeMap<String, Value>,
    faults: &'a Faults,
}

impl<'a> Table<'a> {
    /// The table at `path`; a fault and an empty table when the value is something else.
    pub(super) fn new(path: String, value: Value, faults: &'a Faults) -> Self {
        let entries = match value.kind {
            ValueKind::Table(entries) => entries.into_iter().collect(),
            ValueKind::Nil => BTreeMap::new(),
            other @ (ValueKind::Boolean(_)
            | ValueKind::I64(_)
            | ValueKind::I128(_)
            | ValueKind::U64(_)
            | ValueKind::U128(_)
            | ValueKind::Float(_)
            | ValueKind::String(_)
            | ValueKind::Array(_)) => {
                let raw = Raw::new(&Value::new(None, other), false);
                faults.add(&path, format!("{raw} is not a table of settings"));
                BTreeMap::new()
            }
        };
        Self { path, entries, faults }
    }

    /// The path of a key of this table.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The faults this table notes into.
    pub(super) fn faults(&self) -> &'a Faults {
        self.faults
    }

    /// The setting of a key that stays there; `None` when it is missing or wrong, without a fault.
    pub(super) fn peek<T: Setting>(&self, name: &str) -> Option<T> {
        let loose = self.faults.is_variable(&self.key(name));
        T::read(&Raw::new(self.entries.get(name)?, loose)).ok()
    }

    /// Takes keys out without reading them, because nobody can say what they should be.
    pub(super) fn forget(&mut self, keys: &[&[Key]]) {
        self.entries.retain(|name, _| !keys.iter().copied().flatten().any(|key| key.name == name));
    }

    /// Takes a key out and reads it: its default when it is not there, or when it is wrong.
    pub(super) fn take<T: Setting>(&mut self, key: &Key) -> Option<T> {
        let path = self.key(key.name);
        let Some(value) = self.entries.remove(key.name) else {
            if key.required {
                self.faults.add(&path, format!("missing; it is {}", T::wanted()));
            }
            return default(key);
        };
        let raw = Raw::new(&value, self.faults.is_variable(&path));
        match T::read(&raw) {
            Ok(setting) => Some(setting),
            Err(refused) => {
                self.faults.add(&path, refused.text::<T>(&raw));
                default(key)
            }
        }
    }

    /// Takes a section out of this table.
    pub(super) fn section<S: Section>(&mut self, name: &str) -> Option<S> {
        let mut table = self.table_or_empty(name);
        let section = S::read(&mut table);
        table.finish(&[S::KEYS], &[]);
        section
    }

    /// Takes a table out of this table; `None` when it is not there.
    pub(super) fn table(&mut self, name: &str) -> Option<Self> {
        let value = self.entries.remove(name)?;
        Some(Self::new(self.key(name), value, self.faults))
    }

    /// Takes a table out of this one; it is empty when it is not there.
    pub(super) fn table_or_empty(&mut self, name: &str) -> Self {
        let value = self.entries.remove(name).unwrap_or_default();
        Self::new(self.key(name), value, self.faults)
    }

    /// Takes a list of tables out of this table.
    pub(super) fn tables(&mut self, name: &str) -> Vec<Self> {
        let path = self.key(name);
        let items = match self.entries.remove(name).map(|value| value.kind) {
            None => return Vec::new(),
            Some(ValueKind::Array(items)) => items,
            Some(_) => {
                let text = format!("is not a list of tables; write [[{name}]]");
                self.faults.add(&path, text);
                return Vec::new();
            }
        };
        let table = |(i, item)| Self::new(format!("{path}[{i}]"), item, self.faults);
        items.into_iter().enumerate().map(table).collect()
    }

    /// Notes every key that is left as unknown. `known` names the keys that may stand here;
    /// `elsewhere` those that may not, each with the condition under which they may.
    pub(super) fn finish(self, known: &[&[Key]], elsewhere: &[(&[Key], &str)]) {
        let names = || known.iter().copied().flatten().map(|key| key.name);
        for name in self.entries.keys() {
            let places = elsewhere.iter().filter(|(keys, _)| keys.iter().any(|k| k.name == name));
            let places: Vec<&str> = places.map(|(_, place)| *place).collect();
            let text = match places.as_slice() {
                [] => unknown("key", name, &names().collect::<Vec<_>>()),
                places => format!("only with {}", places.join(" or ")),
            };
            self.faults.add(&self.key(name), text);
        }
    }

    /// Notes every section that is left as unknown.
    pub(super) fn finish_root(self, known: &[&str]) {
        for name in self.entries.keys() {
            self.faults.add(name, unknown("section", name, known));
        }
    }
}

/// The text for a name that nobody knows: the nearest known one, or all of them.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match did_you_mean(name, known.iter().copied()) {
        near if near.is_empty() => format!("unknown {what}; known here: {}", known.join(", ")),
        near => format!("unknown {what}{near}"),
    }
}

/// What a key is when nobody sets it.
fn default<T: Setting>(key: &Key) -> Option<T> {
    if key.required {
        return None;
    }
    let table = FileFormat::Toml.parse(None, &format!("value = {}", key.default));
    let table = table.expect("the default of a key is TOML");
    let setting = T::read(&Raw::new(&table["value"], false));
    Some(setting.expect("the default of a key is of its type"))
}
