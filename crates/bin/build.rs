//! Tells the program which commit, compiler and platform it was built with.

use std::process::Command;

fn main() {
    let git = |args: &[&str]| output(Command::new("git").args(args));
    let commit = match git(&["rev-parse", "--short=12", "HEAD"]) {
        // Outside of a checkout, such as a source archive.
        None => "unknown".to_owned(),
        Some(commit) => commit,
    };
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let rustc = output(Command::new(rustc).arg("--version")).unwrap_or_default();
    let rustc = rustc.split(" (").next().unwrap_or("rustc").to_owned();
    let target = std::env::var_os("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=BUILT_FROM_COMMIT={commit}");
    println!("cargo::rustc-env=BUILT_BY_RUSTC={rustc}");
    println!("cargo::rustc-env=BUILT_FOR_TARGET={}", target.to_string_lossy());
    // A commit, or a change of branch, writes this file.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}

/// What a command prints; `None` when it fails.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
