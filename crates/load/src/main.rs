//! weir's load generator and benchmark driver: one event loop on one thread, for any server that
//! speaks the same wires. It shares no code with weir, so that neither hides the other's mistakes.

mod args;
mod clock;
mod echo;
mod fleet;
mod histogram;
mod pace;
mod procfs;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "weir-load", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send messages to an echo server, check every answer, measure
    Echo(echo::EchoArgs),
}

fn main() -> ExitCode {
    fleet::raise_open_files();
    let outcome = match Cli::parse().command {
        Command::Echo(args) => echo::main(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
