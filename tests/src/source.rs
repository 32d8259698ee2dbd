//! weir's sources, read as text for what they say to the outside.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The levels of a log line, as macros of `tracing`; the last is one inside another macro.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "$level"];

/// Every source file under a folder.
///
/// # Panics
///
/// When the folder cannot be read.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The names of the fields of every log line in a source, its tests aside.
pub fn log_fields(source: &str) -> BTreeSet<String> {
    let code = source.split("\nmod tests {").next().unwrap_or_default();
    let mut fields = BTreeSet::new();
    for (at, call) in code.match_indices("tracing::") {
        let Some((level, inside)) = code[at + call.len()..].split_once("!(") else { continue };
        if LEVELS.contains(&level) {
            let arguments = arguments(inside);
            let named = arguments.iter().take_while(|argument| !argument.starts_with('"'));
            fields.extend(named.map(|argument| field(argument)));
        }
    }
    fields
}

/// The name in `name`, `%name`, `?name` and `name = value`.
fn field(argument: &str) -> String {
    let bare = argument.trim_start_matches(['%', '?']);
    bare.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '.').collect()
}

/// The arguments of a call, up to the bracket that closes it.
fn arguments(inside: &str) -> Vec<String> {
    let (mut all, mut depth, mut quoted) = (vec![String::new()], 0, false);
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        all.last_mut().expect("there is one").push(c);
    }
    all.iter().map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_however_they_are_written() {
        let source = r#"
            tracing::info!(conn = %self.id, %error, ?within, count = f(1, 2), "a, {b}");
            tracing::$level!(
                plain,
                text = "one, two",
                "done"
            );
            tracing::debug!("nothing, but words");
            mod tests {
        "#;
        let fields = log_fields(source).into_iter().collect::<Vec<_>>();
        assert_eq!(fields, ["conn", "count", "error", "plain", "text", "within"]);
    }
}
