//! `weir-load bench scale`: very many idle connections on weir, over WebSocket and then over TCP:
//! what each costs, whether memory comes back, and a drain that closes all of them.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::peers::{Peer, WEIR_OPS};
use super::server::Server;
use super::summary::{Target, table};
use super::{Settings, machine, side_port};
use crate::args::TargetArgs;
use crate::idle::{self, IdleArgs, IdleReport};
use crate::tls::TlsArgs;
use crate::wire::Wire;

const CONNECTIONS: usize = 19_000;
const CYCLES: u8 = 3;
const SETTLE: Duration = Duration::from_secs(2);
const HOLD: Duration = Duration::from_secs(60);
/// More than weir's own stages of a stop add up to.
const CLOSED_TIMEOUT: Duration = Duration::from_secs(60);
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);
const BYTES_MAX: f64 = 800.0;
/// Memory of the last cycle as a multiple of the second: what is more than this has not come back.
/// The first is no measure, because its closes fill the ring of the connections that ended last.
const GROWTH_MAX: f64 = 1.05;
const PEAK_MAX: f64 = 1.5;
const SIDE_PORT_MS_MAX: f64 = 50.0;

/// Measures and prints.
///
/// # Errors
/// When something cannot be started, or weir ends before it should.
pub(super) fn run(settings: &Settings) -> Result<()> {
    println!("# Idle connections\n\n{}.\n", machine());
    let mut reports = Vec::new();
    for wire in [Wire::Ws, Wire::Lines] {
        let (report, targets) = measure(settings, wire)?;
        println!("## {wire:?}, {} connections\n", report.connections);
        println!("{}", cycles(&report));
        println!("{}", drain(&report));
        targets.iter().for_each(|target| println!("{target}"));
        println!();
        reports.push(report);
    }
    settings.save("scale", &reports)
}

fn measure(settings: &Settings, wire: Wire) -> Result<(IdleReport, Vec<Target>)> {
    // Peers on lines answer no heartbeat: with the default idle timeout the last hold would end in
    // the middle of the drain, and both would be measured as one.
    let weir = Peer::weir(settings, wire).with("weir", &[("WEIR_TIMEOUTS__IDLE", "5m")]);
    let name = wire.to_possible_value().context("every wire has a name")?;
    let log = settings.output.join(format!("scale-{}.log", name.get_name()));
    let mut server = Server::start(weir.command(), weir.address, &log, None)?;
    let args = plan(settings, wire, &weir, server.pid());
    let mut slowest = 0.0_f64;
    let report = idle::run(&args, || {
        let answer = side_port::get(WEIR_OPS, "/connections")?;
        slowest = slowest.max(answer.took.as_secs_f64() * 1000.0);
        Ok(())
    })?;
    let status = server.wait(EXIT_TIMEOUT)?;
    println!("weir ended: {}\n", status.map_or("not in time".into(), |it| it.to_string()));
    let exit = status.and_then(|status| status.code()).map_or(f64::INFINITY, f64::from);
    let mut targets = targets(&report);
    let target = |what: &str, measured, max| Target { what: what.into(), measured, max };
    targets.push(target("slowest page of /connections, ms", slowest, SIDE_PORT_MS_MAX));
    targets.push(target("exit code", exit, 0.0));
    Ok((report, targets))
}

fn plan(settings: &Settings, wire: Wire, weir: &Peer, server_pid: u32) -> IdleArgs {
    let quick = settings.quick;
    let default = if quick { 1_000 } else { CONNECTIONS };
    let target = TargetArgs {
        wire,
        addr: weir.address.to_string(),
        path: "/ws".into(),
        tls: TlsArgs::default(),
    };
    IdleArgs {
        target,
        channels: None,
        connections: settings.connections.first().copied().unwrap_or(default),
        server_pid,
        hold: settings.duration.unwrap_or(if quick { Duration::from_secs(1) } else { HOLD }),
        settle: SETTLE,
        one_message: true,
        cycles: if quick { 2 } else { CYCLES },
        until_closed: Some(CLOSED_TIMEOUT),
        sigterm: true,
    }
}

fn cycles(report: &IdleReport) -> String {
    let head = [
        "cycle",
        "opened",
        "a second",
        "µs CPU each",
        "bytes each: open",
        "after a message",
        "after the rest",
        "resident MiB before",
        "answers",
        "idle CPU %",
        "heartbeats",
        "lost",
    ];
    let rows: Vec<_> = (1..)
        .zip(&report.cycles)
        .map(|(number, cycle)| {
            let optional = |value: Option<i64>| value.map_or("–".into(), |it| it.to_string());
            vec![
                format!("{number}"),
                cycle.opened.to_string(),
                format!("{:.0}", cycle.opened_per_second),
                format!("{:.1}", cycle.open_us_per_connection),
                cycle.bytes_per_connection_open.to_string(),
                optional(cycle.bytes_per_connection_after_message),
                cycle.bytes_per_connection_after_rest.to_string(),
                format!("{:.1}", cycle.resident_before as f64 / f64::from(1 << 20)),
                optional(cycle.right_answers.map(u64::cast_signed)),
                format!("{:.2}", cycle.idle_share * 100.0),
                (cycle.pings + cycle.unasked).to_string(),
                format!("{:?}", cycle.lost),
            ]
        })
        .collect();
    table(&head.map(String::from), &rows)
}

fn drain(report: &IdleReport) -> String {
    report.closing.as_ref().map_or_else(String::new, |closing| {
        format!(
            "Drain: first close {:.1} s after SIGTERM, last {:.1} s; by the second {:?}; {:?}; {} left.\n",
            closing.first_seconds,
            closing.last_seconds,
            closing.per_second,
            closing.ends,
            closing.left_open
        )
    })
}

fn targets(report: &IdleReport) -> Vec<Target> {
    let target = |what: &str, measured, max| Target { what: what.into(), measured, max };
    let mut targets = Vec::new();
    if let [first, second, .., last] = &*report.cycles {
        let worst = first
            .bytes_per_connection_open
            .max(first.bytes_per_connection_after_rest)
            .max(first.bytes_per_connection_after_message.unwrap_or(0));
        targets.push(target("resident bytes a connection", worst as f64, BYTES_MAX));
        let growth = last.resident_after_rest as f64 / second.resident_after_rest as f64;
        targets.push(target("memory of the last cycle / the second", growth, GROWTH_MAX));
        let asked = report.connections as f64;
        targets.push(target("connections not opened", asked - first.opened as f64, 0.0));
    }
    if let Some(closing) = &report.closing {
        targets.push(target("connections left by the drain", closing.left_open as f64, 0.0));
        targets.push(target(
            "most closes in a second / average",
            closing.peak_to_average,
            PEAK_MAX,
        ));
    }
    targets
}
