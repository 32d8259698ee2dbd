//! What the kernel says about a process and the machine: processor time and resident memory.
//! Only Linux's `/proc` is read.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;
use serde::{Deserialize, Serialize};

/// Processor time of a process since it started, of all its threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessorTime {
    /// Seconds in user mode.
    pub(crate) user: f64,
    /// Seconds in the kernel.
    pub(crate) system: f64,
}

impl ProcessorTime {
    /// Reads `/proc/PID/stat`; the kernel counts in ticks, usually of 10 ms.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid} is gone"))?;
        parse_process(&stat).with_context(|| format!("cannot understand /proc/{pid}/stat"))
    }

    /// Seconds in either mode.
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

impl Sub for ProcessorTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// Seconds that all processors of the machine together were not idle since it started, time
/// stolen by its host included.
///
/// # Errors
/// When `/proc/stat` is not to be read.
pub(crate) fn machine_busy() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    parse_machine(&stat).context("cannot understand /proc/stat")
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// When the process is gone.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    // The roll-up is exact; VmRSS lags behind by some pages a processor.
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .with_context(|| format!("no Rss in {path}"))?;
    Ok(kib * 1024)
}

/// The most resident memory that a process has had, in bytes.
///
/// # Errors
/// When the process is gone.
pub(crate) fn resident_peak_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = kib.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no VmHWM in {path}"))? * 1024)
}

/// Processor time used over a span, by the server and by all that is neither it nor the generator.
pub(crate) struct Span {
    server: Option<u32>,
    server_from: ProcessorTime,
    own_from: Duration,
    machine_from: f64,
}

impl Span {
    /// Starts a span over the generator, and the server if its process is known.
    ///
    /// # Errors
    /// When the server is gone.
    pub(crate) fn start(server: Option<u32>) -> Result<Self> {
        Ok(Self {
            server,
            server_from: server.map_or(Ok(ProcessorTime::default()), ProcessorTime::of)?,
            own_from: crate::clock::processor_time(),
            machine_from: machine_busy()?,
        })
    }

    /// Ends the span: what the server, the generator, and all others used, in seconds.
    ///
    /// # Errors
    /// When the server is gone.
    pub(crate) fn end(self) -> Result<Spent> {
        let server = self.server.map_or(Ok(ProcessorTime::default()), ProcessorTime::of)?;
        let server = server - self.server_from;
        let own = (crate::clock::processor_time() - self.own_from).as_secs_f64();
        let machine = machine_busy()? - self.machine_from;
        let others = (machine - server.total() - own).max(0.0);
        Ok(Spent { server: self.server.map(|_| server), own, others })
    }
}

/// Processor seconds of a [`Span`].
pub(crate) struct Spent {
    /// The server's, if its process was known.
    pub(crate) server: Option<ProcessorTime>,
    /// The generator's.
    pub(crate) own: f64,
    /// Everything else's on the machine.
    pub(crate) others: f64,
}

fn parse_process(stat: &str) -> Option<ProcessorTime> {
    // The name in parentheses may hold anything, so count from behind it: state is field 3,
    // utime and stime are 14 and 15 (proc_pid_stat(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(14 - 3).map(|field| field.parse::<u64>().ok());
    let second = clock_ticks_per_second() as f64;
    Some(ProcessorTime {
        user: times.next()?? as f64 / second,
        system: times.next()?? as f64 / second,
    })
}

fn parse_machine(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Option<Vec<u64>> =
        fields.split_whitespace().map(|field| field.parse().ok()).collect();
    let &[user, nice, system, _idle, _iowait, interrupts, soft, stolen, ..] = &*ticks? else {
        return None;
    };
    let busy = user + nice + system + interrupts + soft + stolen;
    Some(busy as f64 / clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0";
        assert_eq!(parse_process(stat), Some(ProcessorTime { user: 2.5, system: 0.5 }));
    }

    #[test]
    fn idle_time_and_waiting_for_disks_are_not_busy() {
        assert_eq!(parse_machine("cpu  100 10 20 9999 888 1 2 3 0 0\ncpu0 1"), Some(1.36));
    }

    #[test]
    fn the_test_itself_has_memory_and_processor_time() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).expect("readable") > 100_000);
        assert!(resident_peak_bytes(pid).expect("readable") > 100_000);
        assert!(ProcessorTime::of(pid).is_ok() && machine_busy().expect("readable") > 0.0);
    }
}
