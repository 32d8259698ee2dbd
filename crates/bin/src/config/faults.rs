//! What is wrong with a configuration: every fault, where it was set, and the nearest known name.
//! Nothing here knows what a setting means.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// A line of the file; `None` when it is about the file as a whole.
    File { name: String, line: Option<usize> },
    /// An environment variable.
    Variable(String),
}

/// One fault, printed as one line: place, key path, what is wrong and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    place: Place,
    path: String,
    text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { name, line: Some(line) } => write!(f, "{name}:{line}: ")?,
            Place::File { name, line: None } => write!(f, "{name}: ")?,
            Place::Variable(name) => write!(f, "env {name}: ")?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

/// Where each key was set, by its path (`listeners[1].address`).
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The file's name as the user wrote it.
    pub(super) file: String,
    /// The line of each key and table in the file.
    pub(super) lines: BTreeMap<String, usize>,
    /// The environment variable that sets a key.
    pub(super) variables: BTreeMap<String, String>,
}

impl Places {
    /// A file about whose keys nothing is known.
    pub(super) fn in_file(name: &str) -> Self {
        Self { file: name.to_owned(), ..Self::default() }
    }

    /// Where `path` was set; for a key that is missing, where its table begins.
    fn of(&self, path: &str) -> Place {
        if let Some(name) = self.variables.get(path) {
            return Place::Variable(name.clone());
        }
        let tables = std::iter::successors(Some(path), |path| {
            path.rfind(['.', '[']).map(|end| &path[..end])
        });
        let line = tables.filter_map(|path| self.lines.get(path)).next().copied();
        Place::File { name: self.file.clone(), line }
    }
}

/// Every fault that was found. Collected while reading, so that a user sees all of them at once.
#[derive(Debug, Default)]
pub struct Faults {
    places: Places,
    list: RefCell<Vec<Fault>>,
}

impl Faults {
    /// No faults yet, in settings that were set at these places.
    pub(super) fn at(places: Places) -> Self {
        Self { places, list: RefCell::default() }
    }

    /// Notes that the setting at `path` is wrong.
    pub(super) fn add(&self, path: &str, text: impl Into<String>) {
        let fault = Fault { place: self.places.of(path), path: path.to_owned(), text: text.into() };
        self.list.borrow_mut().push(fault);
    }

    /// Notes a fault at a line of the file that belongs to no key.
    pub(super) fn add_at_line(&self, line: Option<usize>, text: impl Into<String>) {
        let place = Place::File { name: self.places.file.clone(), line };
        self.list.borrow_mut().push(Fault { place, path: String::new(), text: text.into() });
    }

    /// Notes a fault of an environment variable that belongs to no key.
    pub(super) fn add_variable(&self, name: &str, text: impl Into<String>) {
        let place = Place::Variable(name.to_owned());
        self.list.borrow_mut().push(Fault { place, path: String::new(), text: text.into() });
    }

    /// Notes that settings contradict each other, at the first path. A setting that is wrong by
    /// itself contradicts nothing: its fault would only be told twice.
    pub(super) fn contradiction(&self, paths: &[&str], text: impl Into<String>) {
        let faulty = |path: &&str| self.list.borrow().iter().any(|fault| fault.path == **path);
        if !paths.iter().any(faulty) {
            self.add(paths[0], text);
        }
    }

    /// Whether the environment sets the key at `path`.
    pub(super) fn is_variable(&self, path: &str) -> bool {
        self.places.variables.contains_key(path)
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// Every fault as a line, in the order they are printed.
    pub fn lines(&self) -> Vec<String> {
        self.to_string().lines().map(str::to_owned).collect()
    }

    /// Prints every fault to standard error.
    ///
    /// Returns exit code 2: nothing was bound, and starting again will not help.
    pub fn report(&self) -> ExitCode {
        eprint!("{self}");
        ExitCode::from(2)
    }
}

/// One line for each fault: those of the file by line, then those of the environment.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = self.list.borrow().clone();
        list.sort();
        list.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

/// The known name that `name` was probably meant to be, as the end of a sentence: `; did you mean
/// "address"?`. Empty when none is near.
pub(super) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(&name.to_lowercase(), known);
    let scored = known.into_iter().map(|known| (distance(&known.to_lowercase()), known));
    match scored.min_by_key(|(distance, _)| *distance) {
        Some((distance, known)) if distance <= 1 + name.len() / 4 => {
            format!("; did you mean \"{known}\"?")
        }
        _ => String::new(),
    }
}
