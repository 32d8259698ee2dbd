//! What the kernel says of a process and of a port: the other opinion that metrics are held to.

use std::fs;
use std::time::Duration;

/// Established connections whose local end is `port` on IPv4.
///
/// # Panics
///
/// When `/proc/net/tcp` cannot be read: the tests run on Linux.
pub fn established(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp is readable");
    let local = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[1].ends_with(&local) && fields[3] == ESTABLISHED)
        .count()
}

/// Resident memory of a process, in bytes.
///
/// # Panics
///
/// When the process is gone.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS is a field");
    let kibibytes = line.split_ascii_whitespace().nth(1).expect("VmRSS has a number");
    kibibytes.parse::<u64>().expect("VmRSS is a number") * 1024
}

/// Open file descriptors of a process.
///
/// # Panics
///
/// When the process is gone.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives").count()
}

/// CPU time that a process has used, user and system together, to a hundredth of a second.
///
/// # Panics
///
/// When the process is gone.
pub fn cpu_time(pid: u32) -> Duration {
    /// USER_HZ is 100 on every Linux that Debian builds.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // The name in parentheses may hold spaces: fields are counted behind it, from the state.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields = fields.split_ascii_whitespace().collect::<Vec<_>>();
    let ticks = |index: usize| fields[index].parse::<u32>().expect("a number of ticks");
    TICK * (ticks(11) + ticks(12))
}
