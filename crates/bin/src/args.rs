//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::probe::Url;
use crate::version;

/// weir: an observable real-time connection gateway.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    bin_name = "weir",
    version = version::LONG,
    about = "weir keeps TCP, WebSocket and HTTP connections open, moves their messages, and shows what it does.",
    after_help = "\
Start:        weir                             what it serves is in `weir print-config`
Try:          nc 127.0.0.1 7001                each line is answered; \"exit\" ends it
Look:         curl 127.0.0.1:6060/metrics      also /healthz /readyz /connections /config /log
Configure:    weir print-config > weir.toml    then change it, and `weir check`
Override:     WEIR_LIMITS__CONNECTIONS_MAX=1000 weir
Reload:       SIGHUP or POST /reload           curl -X POST 127.0.0.1:6060/reload
Stop:         SIGTERM or SIGINT drains; a second one closes what is left; a third ends at once

Exit codes:   0 stopped, nothing lost; 1 work was lost, or weir could not start or go on;
              2 a fault in the arguments or the configuration, and no port was bound"
)]
pub struct Args {
    /// The configuration file [default: weir.toml if it is there, else what is built in]
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What to do
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run until told to stop (what weir does without a command)
    #[default]
    Serve,
    /// Read the configuration and the environment, print every fault, and start nothing
    Check,
    /// Print every setting with its default and what it means, as a file that weir reads
    PrintConfig,
    /// Ask a running weir whether it is well: 0 when it answers 200 in time, else 1
    Probe {
        /// What to ask
        #[arg(long, default_value = "http://127.0.0.1:6060/healthz")]
        url: Url,
        /// Longest wait for the answer
        #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
        timeout: Duration,
    },
}

/// Whole seconds, at least one and at most a minute.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=60) => Ok(Duration::from_secs(seconds)),
        _ => Err("wanted 1 to 60".to_owned()),
    }
}

impl Args {
    /// The command, which is to serve when there is none.
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_declared_consistently() {
        <Args as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn the_file_may_stand_before_or_after_the_command() {
        for args in
            [["weir", "--config", "a.toml", "check"], ["weir", "check", "--config", "a.toml"]]
        {
            let args = Args::parse_from(args);
            assert_eq!(args.command(), Command::Check);
            assert_eq!(args.config, Some(PathBuf::from("a.toml")));
        }
        assert_eq!(Args::parse_from(["weir"]).command(), Command::Serve);
    }
}
