//! weir, read aloud.

mod allocator;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir::args::{Args, Command};
use weir::config::{Config, Surroundings, print};

fn main() -> ExitCode {
    let args = Args::parse();
    if args.command() == Command::PrintConfig {
        return write(&print::default_config());
    }
    let config = match Config::load(args.config.as_deref(), &Surroundings::here()) {
        Ok(config) => config,
        Err(faults) => return faults.report(), // all of them at once
    };
    match args.command() {
        Command::Check | Command::PrintConfig => write(&print::summary(&config)),
        Command::Serve => ExitCode::FAILURE,
    }
}

/// Writes to standard output. A reader that has gone away is no failure of ours.
fn write(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
