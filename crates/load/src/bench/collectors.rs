//! A part of `weir-load bench looking`: what messages wait when the collector of traces is well, dead,
//! hanging or refusing, beside no traces at all. At a fixed rate, so that only waiting differs.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::Settings;
use super::client;
use super::collector::{Collector, Manner};
use super::peers::{Peer, WEIR_OPS};
use super::server::Server;
use super::side_port;
use super::summary::{Spread, Target, table};
use crate::clock;
use crate::echo::EchoReport;
use crate::wire::Wire;

const ROUNDS: u32 = 5;
const WIRE: Wire = Wire::Lines;
const CONNECTIONS: usize = 100;
/// Messages a second: a sixth of what one event loop does with them.
const RATE: u64 = 20_000;
/// What waits for the collector is at its bound within the first second.
const QUEUE_MAX: &str = "16";
/// Longer than `traces.export_timeout`: by then a batch has failed or was taken.
const TOLD_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// One run: what the messages of a whole life of weir waited.
#[derive(Clone, Debug, Serialize)]
struct Waited {
    /// The state of the collector; `off` is without traces.
    traces: &'static str,
    /// Mean of weir's own histogram of messages.
    mean_us: f64,
    /// Of the generator: from when a message was due to its answer.
    p50_us: f64,
    /// The same.
    p99_us: f64,
    /// Processors used by what is neither weir nor the generator.
    other_cores: f64,
}

/// A figure of a run.
type Figure = fn(&Waited) -> f64;

const FIGURES: [(&str, Figure); 3] =
    [("weir's mean", |run| run.mean_us), ("p50", |run| run.p50_us), ("p99", |run| run.p99_us)];

/// Measures, prints, and gives what must hold: with no collector is a message slower than without
/// traces by more than two runs without traces differ.
///
/// # Errors
/// When something cannot be started, an answer was wrong, or spans did not meet the fate that the
/// collector had in store for them.
pub(super) fn run(settings: &Settings) -> Result<Vec<Target>> {
    let rounds = settings.rounds(ROUNDS);
    println!("## A collector that is well, dead, hanging or refusing\n");
    println!("Lines, {CONNECTIONS} connections, {RATE} messages a second; rounds: {rounds}.");
    println!("Each state between two runs without traces, as a ratio to the mean of these two.");
    println!("`off` is one of two neighbours without traces to the other: the noise.");
    println!("`*`: something else took processor time in a run.\n");
    let collectors = Manner::ALL.into_iter().map(|manner| Ok((manner, Collector::of(manner)?)));
    let collectors = collectors.collect::<Result<Vec<_>>>()?;
    let all: Vec<_> = (0..rounds).map(|_| round(settings, &collectors)).collect::<Result<_>>()?;
    println!("{}", table(&head(), &rows(&all)));
    settings.save("collectors", &all)?;
    Ok(targets(&all))
}

/// Off, a state, off, the next state, and so on, off.
fn round(settings: &Settings, collectors: &[(Manner, Collector)]) -> Result<Vec<Waited>> {
    let mut runs = vec![once(settings, None)?];
    for (manner, collector) in collectors {
        runs.push(once(settings, Some((*manner, collector)))?);
        runs.push(once(settings, None)?);
    }
    Ok(runs)
}

fn once(settings: &Settings, traced: Option<(Manner, &Collector)>) -> Result<Waited> {
    let name = traced.map_or("off", |(manner, _)| manner.as_str());
    let mut peer = Peer::weir(settings, WIRE);
    if let Some((_, collector)) = traced {
        let endpoint = format!("http://{}", collector.address);
        let keys = [
            ("WEIR_TRACES__ENDPOINT", endpoint.as_str()),
            ("WEIR_TRACES__PROTOCOL", "http"),
            ("WEIR_TRACES__RATIO", "1"),
            ("WEIR_TRACES__QUEUE_MAX", QUEUE_MAX),
        ];
        peer = peer.with(&format!("weir, collector {name}"), &keys);
    }
    let log = settings.output.join(format!("collector-{name}.log"));
    let waited = measure(settings, &peer, name, traced.map(|(manner, _)| manner), &log)
        .with_context(|| format!("collector: {name}"))?;
    let Waited { mean_us, p50_us, p99_us, .. } = waited;
    eprintln!("collector {name:9}: mean {mean_us:6.2} µs, p50 {p50_us:4.0}, p99 {p99_us:5.0}");
    Ok(waited)
}

fn measure(
    settings: &Settings,
    peer: &Peer,
    name: &'static str,
    manner: Option<Manner>,
    log: &Path,
) -> Result<Waited> {
    let server = Server::start(peer.command(), peer.address, log, None)?;
    let mut command = client::echo(settings, peer, WIRE, CONNECTIONS, server.pid())?;
    let child = command.args(["--rate", &RATE.to_string()]).spawn()?;
    let report: EchoReport = client::report_of(child.wait_with_output()?, log)?;
    let metrics = match manner {
        Some(manner) => told(manner)?,
        None => side_port::get(WEIR_OPS, "/metrics")?.body,
    };
    let [sum, count] =
        ["sum", "count"].map(|part| total(&metrics, &format!("weir_message_seconds_{part}"), ""));
    ensure!(count > 0.0, "no message is in weir's own histogram");
    Ok(Waited {
        traces: name,
        mean_us: sum / count * 1e6,
        p50_us: report.latency_us.p50,
        p99_us: report.latency_us.p99,
        other_cores: report.other_cores,
    })
}

/// The metrics, once they say that spans met the fate that this collector has in store for them.
fn told(manner: Manner) -> Result<String> {
    let deadline = clock::now() + TOLD_TIMEOUT;
    loop {
        let metrics = side_port::get(WEIR_OPS, "/metrics")?.body;
        let spans =
            |result| total(&metrics, "weir_trace_spans_total", &format!("result=\"{result}\""));
        let (taken, lost) = (spans("exported"), spans("failed") + spans("dropped"));
        let (wanted, other) = if manner == Manner::Live { (taken, 0.0) } else { (lost, taken) };
        ensure!(other == 0.0, "spans were exported to a collector that takes none");
        if wanted > 0.0 {
            return Ok(metrics);
        }
        ensure!(clock::now() < deadline, "weir does not tell what became of its spans");
        sleep(LOOK_INTERVAL);
    }
}

/// The sum of a family's samples that have this label.
fn total(metrics: &str, name: &str, label: &str) -> f64 {
    let samples = metrics.lines().filter(|line| line.contains(label)).filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest.rsplit_once(' ')?.1;
        rest.starts_with(['{', ' ']).then(|| value.parse::<f64>().ok())?
    });
    samples.sum()
}

/// A state as a ratio to its two neighbours without traces, round by round.
fn ratios(all: &[Vec<Waited>], manner: Manner, of: Figure) -> Option<Spread> {
    let at = 1 + 2 * manner as usize;
    let ratio =
        |runs: &Vec<Waited>| of(&runs[at]) / f64::midpoint(of(&runs[at - 1]), of(&runs[at + 1]));
    Spread::of(all.iter().map(ratio))
}

/// Every run without traces as a ratio to the one before it.
fn noise(all: &[Vec<Waited>], of: Figure) -> Option<Spread> {
    let neighbours =
        all.iter().flat_map(|runs| runs.iter().step_by(2).zip(runs.iter().skip(2).step_by(2)));
    Spread::of(neighbours.map(|(before, after)| of(after) / of(before)))
}

fn head() -> Vec<String> {
    let figures = FIGURES.iter().flat_map(|(name, _)| [format!("{name}, µs"), "/ off".into()]);
    std::iter::once("collector".into()).chain(figures).collect()
}

fn rows(all: &[Vec<Waited>]) -> Vec<Vec<String>> {
    let print = |spread: Option<Spread>| spread.map_or("–".into(), |spread| spread.to_string());
    let row = |name: &str, ratio: &dyn Fn(Figure) -> Option<Spread>| {
        let runs = || all.iter().flatten().filter(|run| run.traces == name);
        let disturbed = runs().any(|run| run.other_cores >= client::OTHER_CORES_MAX);
        let columns = FIGURES
            .iter()
            .flat_map(|&(_, of)| [print(Spread::of(runs().map(of))), print(ratio(of))]);
        let name = format!("{name}{}", if disturbed { " *" } else { "" });
        std::iter::once(name).chain(columns).collect()
    };
    let off = row("off", &|of| noise(all, of));
    let states =
        Manner::ALL.into_iter().map(|manner| row(manner.as_str(), &|of| ratios(all, manner, of)));
    std::iter::once(off).chain(states).collect()
}

fn targets(all: &[Vec<Waited>]) -> Vec<Target> {
    let target = |manner: Manner, (name, of): (&str, Figure)| {
        Some(Target {
            what: format!("collector {} / no traces, {name}", manner.as_str()),
            measured: ratios(all, manner, of)?.median,
            // In the digits that are printed.
            max: (noise(all, of)?.max * 1000.0).round() / 1000.0,
        })
    };
    let each = |manner| FIGURES.into_iter().filter_map(move |figure| target(manner, figure));
    Manner::ALL.into_iter().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_summed_over_its_series_and_no_other_is() {
        let page = "# HELP a_sum x\na_sum{l=\"1\",r=\"x\"} 0.5\na_sum{l=\"2\",r=\"y\"} 2\n\
                    a_sum_more{l=\"1\"} 9\na_count 3\n";
        assert_eq!(total(page, "a_sum", ""), 2.5);
        assert_eq!(total(page, "a_sum", "r=\"y\""), 2.0);
        assert_eq!(total(page, "a_count", ""), 3.0);
        assert_eq!(total(page, "b", ""), 0.0);
    }

    #[test]
    fn a_state_is_compared_with_both_its_neighbours_and_off_with_off() {
        let run = |traces, mean_us| Waited {
            traces,
            mean_us,
            p50_us: 1.0,
            p99_us: 1.0,
            other_cores: 0.0,
        };
        let mut runs = vec![run("off", 10.0)];
        for (manner, mean, off) in [
            (Manner::Live, 22.0, 12.0),
            (Manner::Dead, 12.0, 12.0),
            (Manner::Hanging, 12.0, 12.0),
            (Manner::Refusing, 12.0, 6.0),
        ] {
            runs.extend([run(manner.as_str(), mean), run("off", off)]);
        }
        let all = [runs];
        let mean: Figure = |run| run.mean_us;
        assert_eq!(ratios(&all, Manner::Live, mean).unwrap().median, 2.0);
        let noise = noise(&all, mean).unwrap();
        assert_eq!((noise.min, noise.max), (0.5, 1.2));
    }
}
