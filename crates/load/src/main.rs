//! weir's load generator and benchmark driver: one event loop on one thread, for any server that
//! speaks the same wires. It shares no code with weir, so that neither hides the other's mistakes.

mod args;
mod bench;
mod channels;
mod clock;
mod demo;
mod echo;
mod fanout;
mod fleet;
mod handshakes;
mod histogram;
mod idle;
mod pace;
mod procfs;
mod tls;
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
    /// Publish to very many WebSocket subscribers, check every delivery, measure
    Fanout(fanout::FanoutArgs),
    /// Hold very many idle connections, measure what they cost and how they are closed
    Idle(idle::IdleArgs),
    /// Make TLS handshakes again and again, or very many at once, measure what they cost
    Handshakes(handshakes::HandshakesArgs),
    /// Feed the demo page: sensors and a chat over raw TCP, quotes over the server API
    Demo(demo::DemoArgs),
    /// Measure weir beside its peers and print tables
    Bench(bench::BenchArgs),
    /// A process of `idle`
    #[command(hide = true)]
    IdlePart(idle::PartArgs),
}

fn main() -> ExitCode {
    fleet::raise_open_files();
    let outcome = match Cli::parse().command {
        Command::Echo(args) => echo::main(&args),
        Command::Fanout(args) => fanout::main(&args),
        Command::Idle(args) => idle::main(&args),
        Command::Handshakes(args) => handshakes::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::IdlePart(args) => idle::part_main(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
