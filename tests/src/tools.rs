//! Programs that are not ours, run as a user would run them, and the files of this repository.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::wait::within;

/// Longest that a foreign program may take: a browser's first start on a busy machine.
const PROGRAM: Duration = Duration::from_secs(180);

/// The root of the repository.
///
/// # Panics
///
/// Never: the crate lies in a folder of it.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// A file of the repository as text.
///
/// # Panics
///
/// When it cannot be read.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What `make test` installs beside the sources: `node_modules`, `venv`.
pub fn tools() -> PathBuf {
    repository().join("tests/.tools")
}

/// Compares `actual` with a file under `tests/golden`, or writes it there when `UPDATE_GOLDEN`
/// is set.
///
/// # Panics
///
/// When they differ; the message says how to accept the difference.
#[track_caller]
pub fn golden(name: &str, actual: &str) {
    golden_file(&format!("tests/golden/{name}"), actual);
}

/// Like [`golden`], for a file anywhere in the repository.
///
/// # Panics
///
/// When they differ; the message says how to accept the difference.
#[track_caller]
pub fn golden_file(name: &str, actual: &str) {
    let path = repository().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("the repository is writable");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = first_difference(&expected, actual);
    assert!(differs.is_none(), "{name}: {}; `make golden`?", differs.expect("is some"));
}

fn first_difference(expected: &str, actual: &str) -> Option<String> {
    let (mut left, mut right) = (expected.lines(), actual.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => {
                let line = |text: Option<&str>| text.unwrap_or("(no line)").to_owned();
                return Some(format!("line {number} was {:?}, is {:?}", line(a), line(b)));
            }
        }
    }
    None
}

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Its output when it succeeded.
    ///
    /// # Panics
    ///
    /// When it failed.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a shell command with `input` as its standard input, and waits for its end.
///
/// # Panics
///
/// When it cannot be started or does not end within a minute.
pub async fn shell(command: &str, input: &str) -> Finished {
    let mut bash = Command::new("bash");
    bash.args(["-c", command]).current_dir(repository());
    run(bash, input).await
}

/// YAML documents as JSON values, read by PyYAML.
///
/// # Panics
///
/// When the text is not YAML.
pub async fn yaml(text: &str) -> Vec<Value> {
    const READ: &str = "import json, sys, yaml; \
                        json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout, default=str)";
    let json = python(&["-c", READ], text).await.succeeded();
    serde_json::from_str(&json).expect("what Python wrote is JSON")
}

/// Runs the Python that `make test` has given its packages.
///
/// # Panics
///
/// When it cannot be started or does not end within a minute.
pub async fn python(arguments: &[&str], input: &str) -> Finished {
    let mut python = Command::new(tools().join("venv/bin/python"));
    python.args(arguments).current_dir(repository());
    run(python, input).await
}

/// Runs a program with `input` as its standard input, and waits for its end.
///
/// # Panics
///
/// When it cannot be started or does not end within a minute.
pub async fn run(mut command: Command, input: &str) -> Finished {
    let what = format!("{:?} to end", command.as_std());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let feed = async {
        // A program that ends without reading its input is no fault of the input's.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
    };
    let (_, output) =
        within(&what, PROGRAM, async { tokio::join!(feed, child.wait_with_output()) }).await;
    let output = output.expect("a child that can be waited for");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
