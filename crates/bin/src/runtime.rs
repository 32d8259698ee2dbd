//! What the machine gives this process: cores, memory and open files, from the cgroup where there
//! is one. Also makes the runtimes. Decides no policy: limits are config's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Runtime;

/// What there is to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores, by affinity and by the cgroup's quota rounded up; at least 1.
    pub cores: usize,
    /// The cgroup's memory limit in bytes; `None` when it has none.
    pub memory_bytes: Option<u64>,
    /// The hard limit of open files.
    pub open_files: u64,
}

/// Open files that are kept for everything but connections and upstreams: the side port's
/// connections (64), refusals that linger (up to 64), listeners, event queues of the runtimes and
/// workers, pipes, the log, name lookups, a profile's files.
const FILES_RESERVED: u64 = 256;

/// Most connections that are derived from the open-file limit. Containers often have a limit of
/// 2^30, which says nothing about what the machine can hold.
const CONNECTIONS_DERIVED_MAX: u64 = 1_000_000;

impl Machine {
    /// Looks at the machine as it is now.
    pub fn detect() -> Self {
        let cgroups = Cgroups::of_this_process();
        let affinity = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
        let affinity = usize::try_from(affinity).unwrap_or(1);
        let quota = cgroups.cores().unwrap_or(usize::MAX);
        Self {
            cores: affinity.min(quota).max(1),
            memory_bytes: cgroups.memory_bytes(),
            open_files: open_files_hard(),
        }
    }

    /// How many connections the open-file limit allows beside `upstream_files` and the reserve.
    pub fn connections_room(&self, upstream_files: usize) -> u32 {
        let taken = FILES_RESERVED.saturating_add(upstream_files as u64);
        let room = self.open_files.saturating_sub(taken).min(CONNECTIONS_DERIVED_MAX);
        u32::try_from(room).unwrap_or(u32::MAX)
    }
}

/// Raises the limit of open files to its hard limit, and returns that.
///
/// # Errors
///
/// The kernel's refusal; the soft limit is as it was.
pub fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(open_files_hard())
}

/// The hard limit of open files; where it is "unlimited", the kernel's own.
fn open_files_hard() -> u64 {
    let most = || fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok();
    getrlimit(Resource::Nofile).maximum.or_else(most).unwrap_or(1024)
}

/// The runtime of accept loops and upstream calls.
///
/// # Errors
///
/// Threads or event queues could not be made.
pub fn service(runtime: &Runtime) -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(runtime.service_threads)
        .thread_name("weir-service")
        .enable_all()
        .build()
}

/// The cgroup folders that limit this process: its own and all above it, version 2 and 1.
#[derive(Debug, Default)]
struct Cgroups {
    v2: Vec<PathBuf>,
    v1_cpu: Vec<PathBuf>,
    v1_memory: Vec<PathBuf>,
}

impl Cgroups {
    fn of_this_process() -> Self {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::parse(&text, Path::new("/sys/fs/cgroup"))
    }

    /// Reads lines of the form `id:controllers:path`; version 2 has no controllers.
    fn parse(text: &str, root: &Path) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            if controllers.is_empty() {
                found.v2 = lineage(root, path);
            } else if controllers.split(',').any(|controller| controller == "cpu") {
                found.v1_cpu = lineage(&root.join(controllers), path);
                found.v1_cpu.extend(lineage(&root.join("cpu"), path));
            } else if controllers == "memory" {
                found.v1_memory = lineage(&root.join("memory"), path);
            }
        }
        found
    }

    /// The least CPU quota, rounded up to whole cores.
    fn cores(&self) -> Option<usize> {
        let v2 = self.v2.iter().filter_map(|folder| {
            let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some((quota.parse().ok()?, period.parse().ok()?))
        });
        let v1 = self.v1_cpu.iter().filter_map(|folder| {
            let quota = number(&folder.join("cpu.cfs_quota_us"))?;
            Some((quota, number(&folder.join("cpu.cfs_period_us"))?))
        });
        let quotas = v2.chain(v1).filter(|(_, period)| *period > 0);
        let cores = quotas.map(|(quota, period): (u64, u64)| quota.div_ceil(period)).min();
        cores.map(|cores| usize::try_from(cores).unwrap_or(usize::MAX))
    }

    /// What counts towards the limit of the innermost cgroup, less the page cache that is not in
    /// use (`inactive_file`).
    fn memory_used(&self) -> Option<u64> {
        let v2 = self.v2.iter().map(|folder| (folder.join("memory.current"), folder));
        let v1 = self.v1_memory.iter().map(|folder| (folder.join("memory.usage_in_bytes"), folder));
        let (used, folder) =
            v2.chain(v1).find_map(|(file, folder)| Some((number(&file)?, folder)))?;
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let cache = stat.lines().find_map(|line| {
            let (key, value) = line.split_once(' ')?;
            ["inactive_file", "total_inactive_file"].contains(&key).then(|| value.parse().ok())?
        });
        Some(used.saturating_sub(cache.unwrap_or(0)))
    }

    /// The least memory limit. Version 1 writes "none" as a number near 2^63.
    fn memory_bytes(&self) -> Option<u64> {
        let v2 = self.v2.iter().filter_map(|folder| number(&folder.join("memory.max")));
        let v1 = self.v1_memory.iter();
        let v1 = v1.filter_map(|folder| number(&folder.join("memory.limit_in_bytes")));
        v2.chain(v1).filter(|bytes| *bytes < 1 << 60).min()
    }
}

/// Measures the memory of this process.
#[derive(Debug)]
pub struct MemoryMeter {
    /// Folders of the cgroup, from its own up.
    cgroups: Cgroups,
}

impl MemoryMeter {
    /// A meter of this process, and of the cgroup that it is in now.
    #[expect(clippy::new_without_default, reason = "it looks at the machine")]
    pub fn new() -> Self {
        Self { cgroups: Cgroups::of_this_process() }
    }

    /// Bytes in use: those resident, and with `cgroup` all that counts towards the cgroup's limit
    /// if it is more. That has what the kernel holds for sockets, and not the page cache that it
    /// would give back.
    pub fn used(&self, cgroup: bool) -> u64 {
        let resident = resident_bytes().unwrap_or(0);
        let counted = if cgroup { self.cgroups.memory_used() } else { None };
        resident.max(counted.unwrap_or(0))
    }
}

fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The folder of a cgroup and those above it, down from `root`. In a container the folder itself
/// is often not to be seen, and the root is the container's own.
fn lineage(root: &Path, path: &str) -> Vec<PathBuf> {
    let inner = Path::new(path.trim_start_matches('/'));
    inner.ancestors().map(|inner| root.join(inner)).collect()
}

/// The number in a file; `None` when there is no file or it says "max" or -1.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cgroup folders with these files, and the limits that are read from them.
    fn check(
        name: &str,
        lines: &str,
        files: &[(&str, &str)],
        cores: Option<usize>,
        memory: Option<u64>,
    ) {
        let root = std::env::temp_dir().join(format!("weir-cgroup-{}-{name}", std::process::id()));
        for (file, text) in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("make a folder");
            fs::write(file, text).expect("write a file");
        }
        let cgroups = Cgroups::parse(lines, &root);
        assert_eq!((cgroups.cores(), cgroups.memory_bytes()), (cores, memory), "{name}");
        fs::remove_dir_all(root).expect("remove the folder");
    }

    #[test]
    fn the_tightest_limit_of_a_cgroup_and_those_above_it_counts() {
        let files = [
            ("pod/cpu.max", "150000 100000\n"),
            ("pod/memory.max", "max\n"),
            ("pod/weir/cpu.max", "max 100000\n"),
            ("pod/weir/memory.max", "268435456\n"),
        ];
        check("v2", "0::/pod/weir\n", &files, Some(2), Some(268_435_456));
    }

    #[test]
    fn version_1_is_read_too_and_its_none_is_no_limit() {
        let files = [
            ("cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        check("v1", "4:memory:/a\n3:cpu,cpuacct:/a\n0::/\n", &files, Some(1), None);
        let unlimited = [("cpu/cpu.cfs_quota_us", "-1"), ("cpu/cpu.cfs_period_us", "100000")];
        check("v1-none", "3:cpu:/a\n", &unlimited, None, None);
    }

    #[test]
    fn connections_leave_room_for_everything_else() {
        let machine = |open_files| Machine { cores: 1, memory_bytes: None, open_files };
        assert_eq!(machine(20_000).connections_room(64), 19_680);
        assert_eq!(machine(256).connections_room(0), 0);
        assert_eq!(machine(1 << 30).connections_room(0), 1_000_000);
    }
}
