//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::config::raw::{Raw, Setting};
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
    /// Make tokens for clients of channels, and say what becomes of one
    #[command(subcommand)]
    Token(TokenCommand),
}

/// What to do with tokens.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum TokenCommand {
    /// Sign a token with a shared secret of the configuration, and print it
    Make(TokenMake),
    /// Check a token with the keys of the configuration: 0 when it is good, else 1 and why
    Check {
        /// The token
        token: String,
    },
}

/// What a token is to say.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct TokenMake {
    /// Whose it is; without one it is nobody's
    #[arg(long, default_value = "", hide_default_value = true)]
    pub user: String,
    /// The channel to subscribe to; without one it is a connection token
    #[arg(long)]
    pub channel: Option<String>,
    /// The only connection that may show it
    #[arg(long, requires = "channel", value_name = "ID")]
    pub client: Option<String>,
    /// How long it is good; "off": for ever
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = ttl)]
    pub ttl: Ttl,
    /// What others see of the client, in JSON
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub info: Option<Value>,
    /// What the client is told, in JSON
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub data: Option<Value>,
    /// The name of the secret that signs it; without one the first
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
}

/// How long a token is good; `None`: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(pub Option<Duration>);

/// A duration as the configuration has it, or "off".
fn ttl(text: &str) -> Result<Ttl, String> {
    let duration = Option::<Duration>::read(&Raw::Text(text.to_owned()));
    duration.map(Ttl).map_err(|_| format!("wanted {}", Option::<Duration>::wanted()))
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
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
