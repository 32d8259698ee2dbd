//! The `weir.toml` of a test: the harness' own defaults, and what the test says beside them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A configuration being written.
#[derive(Clone, Debug)]
pub struct Settings {
    ops_address: String,
    sections: BTreeMap<String, String>,
    listeners: BTreeMap<String, String>,
    route: String,
    /// More keys of the route, under its name.
    route_keys: String,
    tables: String,
}

impl Default for Settings {
    /// Three listeners that echo, on free ports, and shutdown stages that do not wait long.
    fn default() -> Self {
        let mut settings = Self {
            ops_address: String::new(),
            sections: BTreeMap::from([("ops".to_owned(), String::new())]),
            listeners: BTreeMap::new(),
            route: ECHO.to_owned(),
            route_keys: String::new(),
            tables: String::new(),
        };
        for (name, keys) in LISTENERS {
            settings.listener(name, keys);
        }
        settings.ops_address("127.0.0.1:0");
        settings.section("logs", r#"format = "json""#);
        settings
    }
}

const LISTENERS: [(&str, &str); 3] = [
    ("lines", "wire = \"lines\"\nroute = \"main\""),
    ("frames", "wire = \"length\"\nprefix = \"u32be\"\nroute = \"main\""),
    ("http", "wire = \"http\""),
];

/// Kept apart from the listener's keys, which must come before its tables.
const PATHS: &str = r#"
[[listeners.paths]]
path = "/ws"
kind = "websocket"
route = "main"
[[listeners.paths]]
path = "/echo"
kind = "post"
route = "main"
"#;

const ECHO: &str = r#"
[[routes]]
name = "main"
kind = "echo"
exit = "exit"
"#;

const SHUTDOWN: &str = r#"unready = "100ms"
drain = "2s"
force = "2s"
flush = "2s"
"#;

impl Settings {
    /// Adds keys to a section.
    pub fn section(&mut self, name: &str, keys: &str) {
        let section = self.sections.entry(name.to_owned()).or_default();
        section.push_str(keys);
        section.push('\n');
    }

    /// Puts the side port at this address.
    pub fn ops_address(&mut self, address: &str) {
        self.ops_address = address.to_owned();
    }

    /// Adds keys to a listener, which is a new one when the name is.
    pub fn listener(&mut self, name: &str, keys: &str) {
        let listener = self.listeners.entry(name.to_owned()).or_default();
        listener.push_str(keys);
        listener.push('\n');
    }

    /// Adds keys to the listeners' route.
    pub fn route(&mut self, keys: &str) {
        self.route_keys.push_str(keys);
        self.route_keys.push('\n');
    }

    /// Adds whole tables.
    pub fn tables(&mut self, text: &str) {
        self.tables.push_str(text);
        self.tables.push('\n');
    }

    /// Makes the listeners' route one that asks `path` of an upstream with these keys.
    pub fn asking(&mut self, path: &str, keys: &str) {
        self.route = format!(
            "[[routes]]\nname = \"main\"\nkind = \"upstream\"\nupstream = \"backend\"\n\
             method = \"POST\"\npath = \"{path}\"\ncontent_type = \"text/plain\"\n\
             [[upstreams]]\nname = \"backend\"\n{keys}\n"
        );
    }

    /// The whole file.
    pub fn to_toml(&self) -> String {
        let mut toml = String::new();
        let mut write = |name: &str, keys: &str| {
            writeln!(toml, "[{name}]\n{keys}").expect("a String takes everything");
        };
        for (name, keys) in &self.sections {
            match name.as_str() {
                "ops" => write(name, &format!("address = \"{}\"\n{keys}", self.ops_address)),
                _ => write(name, keys),
            }
        }
        if !self.sections.contains_key("shutdown") {
            write("shutdown", SHUTDOWN);
        }
        for (name, keys) in &self.listeners {
            let paths = if keys.contains("\"http\"") { PATHS } else { "" };
            let address = "address = \"127.0.0.1:0\"";
            write("[listeners]", &format!("name = \"{name}\"\n{address}\n{keys}{paths}"));
        }
        let name = "name = \"main\"\n";
        let route = self.route.replacen(name, &format!("{name}{}", self.route_keys), 1);
        toml + &route + &self.tables
    }
}
