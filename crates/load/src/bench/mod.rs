//! `weir-load bench`: weir beside its peers, in one run, interleaved. It starts servers and the
//! generator's other commands as processes and does the arithmetic; it generates no load itself.

mod client;
mod collector;
mod collectors;
mod fanout;
mod looking;
mod peers;
mod scale;
mod server;
mod side_port;
mod speed;
mod summary;
mod tls;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use crate::args::parse_duration;
use crate::wire::Wire;

use self::client::Cell;

/// What `weir-load bench` is to do.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// What to measure [default: speed]
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum What {
    /// Processor time a message, against every peer
    Speed,
    /// What stages, logs and traces cost, the side port under load, and collectors that fail
    Looking,
    /// Very many idle connections, and a drain of all of them
    Scale,
    /// Processor time and time of a delivery to very many subscribers, against every peer
    Fanout,
    /// What subscribers that read 1 KB a second cost those who keep up, under each policy
    Slow,
    /// What TLS costs: idle connections, messages, handshakes beside nginx's, and a storm of them
    Tls,
}

/// Where things are and how long to measure.
#[derive(Args, Clone, Debug)]
struct Settings {
    /// weir, release build
    #[arg(long, global = true, default_value = "target/release/weir")]
    weir: PathBuf,
    /// weir's configuration
    #[arg(long, global = true, default_value = "crates/load/bench.toml")]
    config: PathBuf,
    /// The peers' sources
    #[arg(long, global = true, default_value = "crates/load/peers")]
    peers: PathBuf,
    /// The Rust peers, release build
    #[arg(long, global = true, default_value = "target/peers/release")]
    rust_peers: PathBuf,
    /// A virtual environment for the Python peers, made if it is not there
    #[arg(long, global = true, default_value = "target/bench-venv")]
    venv: PathBuf,
    /// A folder for the packages of the Node peers, made if it is not there
    #[arg(long, global = true, default_value = "target/bench-node")]
    node: PathBuf,
    /// Where runs and the servers' logs are written
    #[arg(long, global = true, default_value = "target/bench")]
    output: PathBuf,
    /// Runs of each server in each cell
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Connections, one cell of the table for each
    #[arg(long, global = true, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Messages under way on a connection, one cell for each
    #[arg(long, global = true, value_delimiter = ',')]
    depth: Vec<u16>,
    /// Length of the measured window
    #[arg(long, global = true, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Only servers whose name has one of these in it
    #[arg(long, global = true, value_delimiter = ',')]
    only: Vec<String>,
    /// A smoke test: few, short runs, counted whatever else is running
    #[arg(long, global = true)]
    quick: bool,
    /// Keep the server on the first processor and the generator on the second
    #[arg(long, global = true)]
    pin: bool,
}

/// Runs one of the benchmarks and prints its tables as Markdown.
///
/// # Errors
/// When something cannot be started or an answer was wrong. A missed target is no error.
pub(crate) fn main(args: &BenchArgs) -> Result<()> {
    let settings = &args.settings;
    std::fs::create_dir_all(&settings.output)?;
    ensure!(
        settings.weir.is_file(),
        "{} is not there: build it first (make bench does)",
        settings.weir.display()
    );
    match args.what.unwrap_or(What::Speed) {
        What::Speed => speed::run(settings),
        What::Looking => looking::run(settings),
        What::Scale => scale::run(settings),
        What::Fanout => fanout::run(settings),
        What::Slow => fanout::slow::run(settings),
        What::Tls => tls::run(settings),
    }
}

impl Settings {
    /// The cells of one wire's table.
    fn cells(&self, wire: Wire) -> Vec<Cell> {
        self.cells_unless_given(wire, if self.quick { &[100] } else { &[100, 1000] })
    }

    /// The same, with these numbers of connections by default.
    fn cells_unless_given(&self, wire: Wire, connections: &[usize]) -> Vec<Cell> {
        let connections: &[usize] =
            if self.connections.is_empty() { connections } else { &self.connections };
        let depths: &[u16] = if self.depth.is_empty() { &[1, 16] } else { &self.depth };
        let of_depth = |&depth: &u16| {
            connections.iter().map(move |&connections| Cell { wire, connections, depth })
        };
        depths.iter().flat_map(of_depth).collect()
    }

    fn rounds(&self, default: u32) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { default })
    }

    fn duration(&self) -> Duration {
        let default = if self.quick { 400 } else { 2500 };
        self.duration.unwrap_or(Duration::from_millis(default))
    }

    fn warmup(&self) -> Duration {
        Duration::from_millis(if self.quick { 100 } else { 500 })
    }

    /// Writes all runs of a benchmark as JSON, for whoever wants other arithmetic.
    fn save(&self, name: &str, runs: &impl serde::Serialize) -> Result<()> {
        let path = self.output.join(name).with_extension("json");
        std::fs::write(&path, serde_json::to_vec_pretty(runs)?)
            .with_context(|| path.display().to_string())
    }
}

/// One line on the machine, since figures mean nothing without it.
fn machine() -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| {
        let line = info.lines().find(|line| line.starts_with("model name"))?.to_owned();
        Some(line.split_once(": ")?.1.to_owned())
    });
    let kernel = std::fs::read_to_string(Path::new("/proc/sys/kernel/osrelease"));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{} × {}, Linux {}, server and generator on one machine over loopback",
        cores,
        model.as_deref().unwrap_or("unknown processor"),
        kernel.as_deref().unwrap_or("unknown").trim()
    )
}
