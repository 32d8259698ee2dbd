//! weir, read aloud.

mod allocator;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Parser;
use weir::app::App;
use weir::args::{Args, Command, TokenCommand};
use weir::config::{Config, Surroundings, print};
use weir::probe;
use weir::signals::Signals;
use weir::telemetry;
use weir::token;

/// How long lines of the log are waited for when weir cannot start.
const LAST_WORDS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command() {
        Command::PrintConfig => return write(&print::default_config()),
        Command::Probe { url, timeout } => return told(&url, probe::probe(&url, timeout)),
        Command::Check | Command::Token(_) | Command::Serve => {}
    }
    let config = match Config::load(args.config.as_deref(), &Surroundings::here()) {
        Ok(config) => config,
        Err(faults) => return faults.report(), // all of them at once
    };
    match args.command() {
        Command::Check | Command::PrintConfig | Command::Probe { .. } => {
            write(&print::summary(&config))
        }
        Command::Token(command) => {
            let channels = &config.channels;
            let outcome = match command {
                TokenCommand::Make(make) => token::make(channels, &make, SystemTime::now())
                    .map(|token| format!("{token}\n")),
                TokenCommand::Check { token } => token::check(channels, &token),
            };
            outcome.map_or_else(|error| failed(&error), |text| write(&text))
        }
        Command::Serve => match serve(config, args.config) {
            Ok(code) => code,
            Err(error) => failed(&error),
        },
    }
}

fn serve(config: Config, file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let signals = Signals::install().context("signals")?;
    let telemetry = telemetry::init(&config.logs, &config.traces)?;
    let log = telemetry.queue.clone();
    // Every port is open and nothing is accepted between the two; the value is the exit code.
    let ended = App::bind(config, file, telemetry).and_then(|app| app.run(signals));
    if ended.is_err() {
        log.flush(LAST_WORDS);
    }
    ended
}

/// Says why a probe failed; one that did not has nothing to say.
fn told(url: &probe::Url, outcome: Result<(), probe::ProbeError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&anyhow::Error::new(error).context(url.to_string())),
    }
}

/// Prints the chain of causes once.
fn failed(error: &anyhow::Error) -> ExitCode {
    // Standard error is where this would be told, so nobody is told when it fails.
    writeln!(io::stderr(), "weir: {error:#}").ok();
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
