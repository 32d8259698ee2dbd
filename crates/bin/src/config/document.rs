//! The file as text: which line each key stands on, and what its lists' tables are called.
//! The values themselves are read through the `config` crate.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// The keys of a file and the lines they stand on.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// The line of each key, table and list item, by its path.
    pub(super) lines: BTreeMap<String, usize>,
    /// The `name` of each table in a list at the root: ("listeners", 0) → "lines".
    pub(super) names: BTreeMap<(String, usize), String>,
}

impl Document {
    /// Indexes a file.
    ///
    /// # Errors
    ///
    /// Every place where it is not TOML, as line and message.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<(Option<usize>, String)>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let mut faults: Vec<_> = errors.iter().map(|e| syntax_fault(text, e)).collect();
            // What follows an error on its line is mostly its consequence.
            faults.dedup_by_key(|(line, _)| *line);
            return Err(faults);
        }
        let mut document = Self::default();
        document.index_table(text, "", root.get_ref());
        Ok(document)
    }

    fn index_table(&mut self, text: &str, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            self.lines.insert(path.clone(), line_at(text, key.span().start));
            self.index_value(text, &path, value);
        }
    }

    fn index_value(&mut self, text: &str, path: &str, value: &Spanned<DeValue<'_>>) {
        if let Some(table) = value.get_ref().as_table() {
            self.index_table(text, path, table);
        }
        for (i, item) in value.get_ref().as_array().into_iter().flatten().enumerate() {
            let item_path = format!("{path}[{i}]");
            self.lines.insert(item_path.clone(), line_at(text, item.span().start));
            self.index_value(text, &item_path, item);
            if let Some(name) = item.get_ref().get("name").and_then(|name| name.get_ref().as_str())
            {
                self.names.insert((path.to_owned(), i), name.to_owned());
            }
        }
    }
}

/// A syntax error as the line it is on and its message with the column.
fn syntax_fault(text: &str, error: &Error) -> (Option<usize>, String) {
    let Some(span) = error.span() else {
        return (None, error.message().to_owned());
    };
    let before = &text[..span.start.min(text.len())];
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (Some(line_at(text, span.start)), format!("column {column}: {}", error.message()))
}

/// The line that a byte offset is on, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
