//! One run: a fresh server, the generator beside it, and whether the run counts.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Settings;
use super::peers::Peer;
use super::server::{Server, pinned};
use crate::echo::EchoReport;
use crate::wire::Wire;

/// A load that servers are compared under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cell {
    /// How messages are told apart.
    pub(super) wire: Wire,
    /// Connections.
    pub(super) connections: usize,
    /// Messages under way on each.
    pub(super) depth: u16,
}

/// What one run gave.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    /// The server's name.
    pub(super) server: String,
    /// The load.
    pub(super) cell: Cell,
    /// Whether nothing else took processor time that could have disturbed it.
    pub(super) counts: bool,
    /// What the generator measured.
    pub(super) report: EchoReport,
}

/// A run counts when everything but server and generator used less than this many processors.
pub(super) const OTHER_CORES_MAX: f64 = 0.3;
/// A run that does not count is repeated at most so often.
pub(super) const ATTEMPTS: u32 = 4;

/// Runs `peer` under `cell` until a run counts, at most [`ATTEMPTS`] times, and returns the last.
///
/// # Errors
/// When something cannot be started or an answer was wrong.
pub(super) fn run(settings: &Settings, peer: &Peer, cell: Cell) -> Result<Run> {
    let attempts = if settings.quick { 1 } else { ATTEMPTS };
    for attempt in 1.. {
        let report = measure(settings, peer, cell)
            .with_context(|| format!("{} under {cell:?}", peer.name))?;
        let counts = report.other_cores < OTHER_CORES_MAX;
        eprintln!("{}", progress(peer, cell, &report, counts));
        if counts || attempt >= attempts {
            return Ok(Run { server: peer.name.clone(), cell, counts, report });
        }
    }
    unreachable!("the last attempt returns")
}

fn measure(settings: &Settings, peer: &Peer, cell: Cell) -> Result<EchoReport> {
    let log = settings.output.join(peer.name.replace(' ', "-")).with_extension("log");
    let core = |number| settings.pin.then_some(number);
    let server = Server::start(peer.command(), peer.address, &log, core(0))?;
    let mut command = generator(settings, peer, cell, server.pid())?;
    let child = pinned(core(1), || command.spawn()).context("cannot start the generator")?;
    report_of(child.wait_with_output()?, &log)
}

/// The generator's command for this load, its output piped.
///
/// # Errors
/// When this program does not know its own path.
pub(super) fn generator(
    settings: &Settings,
    peer: &Peer,
    cell: Cell,
    server_pid: u32,
) -> Result<Command> {
    let mut command = echo(settings, peer, cell.wire, cell.connections, server_pid)?;
    command.args(["--depth", &cell.depth.to_string()]);
    Ok(command)
}

/// The generator's command but for its loop: `--depth` or `--rate`. Its output is piped.
///
/// # Errors
/// When this program does not know its own path.
pub(super) fn echo(
    settings: &Settings,
    peer: &Peer,
    wire: Wire,
    connections: usize,
    server_pid: u32,
) -> Result<Command> {
    let wire = wire.to_possible_value().context("every wire has a name")?;
    let millis = |length: std::time::Duration| format!("{}ms", length.as_millis());
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("echo")
        .args(["--wire", wire.get_name(), "--addr", &peer.address.to_string()])
        .args(peer.tls().arguments())
        .args(["--connections", &connections.to_string()])
        .args(["--server-pid", &server_pid.to_string()])
        .args(["--duration", &millis(settings.duration())])
        .args(["--warmup", &millis(settings.warmup())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Reads the generator's report from what it printed.
///
/// # Errors
/// When it failed, or an answer was wrong.
pub(super) fn report_of<R: DeserializeOwned>(output: Output, log: &Path) -> Result<R> {
    ensure!(
        output.status.success(),
        "the generator failed: {} (the server's log is {})",
        String::from_utf8_lossy(&output.stderr).trim(),
        log.display()
    );
    serde_json::from_slice(&output.stdout).context("the generator's report")
}

fn progress(peer: &Peer, cell: Cell, report: &EchoReport, counts: bool) -> String {
    let us = report.server.as_ref().map_or(f64::NAN, |server| server.us_per_message);
    let repeated =
        if counts { String::new() } else { format!(", others {:.2}", report.other_cores) };
    let limit = if report.client_was_the_limit { ", the generator was the limit" } else { "" };
    format!(
        "{:22} {:4} connections, depth {:2}: {us:7.3} µs/message, p99 {:.0} µs{repeated}{limit}",
        peer.name, cell.connections, cell.depth, report.latency_us.p99
    )
}
