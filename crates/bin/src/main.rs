//! weir, read aloud.

mod allocator;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir::app::App;
use weir::args::{Args, Command};
use weir::config::{Config, Surroundings, print};
use weir::telemetry;

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
        Command::Serve => match serve(config) {
            Ok(code) => code,
            Err(error) => failed(&error),
        },
    }
}

fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let telemetry = telemetry::init(&config.logs)?;
    // Every port is open and nothing is accepted between the two; the value is the exit code.
    App::bind(config, telemetry)?.run()
}

/// Prints the chain of causes once.
fn failed(error: &anyhow::Error) -> ExitCode {
    let text = format!("weir: {error:#}\n");
    if io::stderr().write_all(text.as_bytes()).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::FAILURE
}

/// Writes to standard output. A reader that has gone away is no failure of ours.
fn write(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
