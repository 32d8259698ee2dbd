//! What this process needs of its machine for many connections: local addresses and open files.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Local addresses enough for `count` connections to one loopback target, starting with
/// 127.0.`block`.1; none if the target is elsewhere. Ports of connections closed a moment ago are not
/// to be had again, so each round of many connections takes a block of its own.
pub(crate) fn loopback_sources(target: SocketAddr, count: usize, block: u8) -> Vec<Ipv4Addr> {
    const PER_SOURCE: usize = 5_000;
    if count <= PER_SOURCE || !matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        return Vec::new();
    }
    let sources = count.div_ceil(PER_SOURCE).min(250) as u8;
    (1..=sources).map(|host| Ipv4Addr::new(127, 0, block, host)).collect()
}

/// Raises this process's limit of open files as far as it goes, and returns it.
pub(crate) fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    let now = setrlimit(Resource::Nofile, raised).map_or(before.current, |()| before.maximum);
    now.unwrap_or(u64::MAX)
}
