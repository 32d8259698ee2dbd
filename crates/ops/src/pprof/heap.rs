//! The heap profile: jemalloc's sampling, switched on for a while, and its dump read back. Which
//! allocator the process has is decided elsewhere; without jemalloc's there is nothing to take.

#![expect(unsafe_code, reason = "mallctl is untyped: each name is read and written as its type")]

use std::ffi::CString;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{MemfdFlags, memfd_create};
use tikv_jemalloc_ctl::raw;
use tokio::time::Instant;

use super::profile::{Profile, Sample, ValueKind};

/// Why no heap profile can be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeapError {
    #[error("this process's allocator takes no heap profiles (jemalloc with prof:true does)")]
    Unavailable,
    #[error("jemalloc refused: {0}")]
    Allocator(#[from] tikv_jemalloc_ctl::Error),
    #[error("the dump cannot be read: {0}")]
    Dump(#[from] io::Error),
    #[error("the dump cannot be understood at line {line:?}")]
    Format { line: String },
}

/// Whether this process's allocator takes heap profiles.
pub(super) fn is_available() -> bool {
    // SAFETY: "opt.prof" is a bool (jemalloc(3)).
    unsafe { raw::read(b"opt.prof\0") }.unwrap_or(false)
}

/// Heap sampling that is on. At most one exists, by the slot of `Profiles`.
pub(super) struct HeapSampling {
    was_on: bool,
    started: Instant,
}

impl HeapSampling {
    /// Switches sampling on.
    pub(super) fn start() -> Result<Self, HeapError> {
        if !is_available() {
            return Err(HeapError::Unavailable);
        }
        // SAFETY: "prof.active" is a bool (jemalloc(3)).
        let was_on = unsafe { raw::read(b"prof.active\0") }?;
        set_active(true)?;
        Ok(Self { was_on, started: Instant::now() })
    }

    /// Whether the process samples all the time, as its operator asked.
    pub(super) fn was_on(&self) -> bool {
        self.was_on
    }

    /// Takes the profile of what is held now, then switches sampling off.
    pub(super) fn stop(self, since: SystemTime) -> Result<Profile, HeapError> {
        let dump = dump()?;
        parse(&dump, since, self.started.elapsed())
    }
}

impl Drop for HeapSampling {
    fn drop(&mut self) {
        if self.was_on {
            return;
        }
        // Forgets the samples too, so that the next profile has only its own.
        if let Err(error) = set_active(false).and_then(|()| forget()) {
            tracing::error!(%error, "heap sampling cannot be switched off");
        }
    }
}

fn set_active(active: bool) -> Result<(), tikv_jemalloc_ctl::Error> {
    // SAFETY: "prof.active" is a bool (jemalloc(3)).
    unsafe { raw::write(b"prof.active\0", active) }
}

fn forget() -> Result<(), tikv_jemalloc_ctl::Error> {
    // SAFETY: "prof.lg_sample" and "prof.reset" are a size_t (jemalloc(3)).
    unsafe {
        raw::read::<usize>(b"prof.lg_sample\0").and_then(|rate| raw::write(b"prof.reset\0", rate))
    }
}

/// jemalloc's dump, by way of a file in memory: a container may have no place to write to.
fn dump() -> Result<String, HeapError> {
    let file = memfd_create("weir-heap", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut file = std::fs::File::from(file);
    let path =
        CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(io::Error::other)?;
    // SAFETY: "prof.dump" is a C string (jemalloc(3)), which lives until the call returns.
    unsafe { raw::write(b"prof.dump\0", path.as_ptr()) }?;
    let mut dump = String::new();
    file.rewind()?;
    file.read_to_string(&mut dump)?;
    Ok(dump)
}

/// Reads the form `heap_v2/<bytes between samples>`, then for each stack a line `@ <addresses>`
/// and a line `t*: <objects>: <bytes> [<objects ever>: <bytes ever>]`, up to `MAPPED_LIBRARIES`.
fn parse(dump: &str, since: SystemTime, duration: Duration) -> Result<Profile, HeapError> {
    let bad = |line: &str| HeapError::Format { line: line.to_owned() };
    let mut lines = dump.lines().take_while(|line| !line.starts_with("MAPPED_LIBRARIES"));
    let first = lines.next().unwrap_or_default();
    let rate: u64 = first
        .strip_prefix("heap_v2/")
        .and_then(|rate| rate.parse().ok())
        .ok_or_else(|| bad(first))?;
    let mut samples = Vec::new();
    let mut stack = None;
    for line in lines {
        if let Some(addresses) = line.strip_prefix('@') {
            stack = Some(addresses_of(addresses).ok_or_else(|| bad(line))?);
        } else if let Some(counts) = line.trim_start().strip_prefix("t*:")
            && let Some(stack) = stack.take()
        {
            let (objects, bytes) = counts_of(counts).ok_or_else(|| bad(line))?;
            samples.push(Sample { stack, values: scaled(objects, bytes, rate), thread: None });
        }
    }
    let space = ValueKind { name: "inuse_space", unit: "bytes" };
    Ok(Profile {
        kinds: [ValueKind { name: "inuse_objects", unit: "count" }, space],
        samples,
        period: (ValueKind { name: "space", unit: "bytes" }, rate.cast_signed()),
        since,
        duration,
        comments: Vec::new(),
    })
}

fn addresses_of(text: &str) -> Option<Vec<usize>> {
    let address = |word: &str| usize::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    // Inside the call, not behind it.
    text.split_ascii_whitespace().map(|word| Some(address(word)?.saturating_sub(1))).collect()
}

fn counts_of(text: &str) -> Option<(u64, u64)> {
    let (objects, rest) = text.split_once(':')?;
    let bytes = rest.trim_start().split_ascii_whitespace().next()?;
    Some((objects.trim().parse().ok()?, bytes.parse().ok()?))
}

/// What the samples stand for. An object of `s` bytes is sampled with probability
/// 1 - exp(-s / rate), so that small ones stand for many.
fn scaled(objects: u64, bytes: u64, rate: u64) -> [i64; 2] {
    if objects == 0 || rate <= 1 {
        return [objects.cast_signed(), bytes.cast_signed()];
    }
    let size = bytes as f64 / objects as f64;
    let scale = 1.0 / (1.0 - (-size / rate as f64).exp());
    [(objects as f64 * scale) as i64, (bytes as f64 * scale) as i64]
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "heap_v2/524288\n\
        \x20 t*: 3: 1049600 [0: 0]\n\
        \x20 t0: 3: 1049600 [0: 0]\n\
        @ 0x5f86da8 0x5f5a1dc\n\
        \x20 t*: 1: 1048576 [0: 0]\n\
        \x20 t0: 1: 1048576 [0: 0]\n\
        @ 0x100\n\
        \x20 t*: 2: 1024 [0: 0]\n\
        \n\
        MAPPED_LIBRARIES:\n\
        @ 0x1\n";

    #[test]
    fn a_dump_becomes_stacks_with_what_their_samples_stand_for() {
        let profile = parse(DUMP, SystemTime::UNIX_EPOCH, Duration::ZERO).expect("a profile");
        assert_eq!(profile.samples.len(), 2);
        assert_eq!(profile.samples[0].stack, [0x5f86da7, 0x5f5a1db]);
        let [objects, bytes] = profile.samples[0].values;
        assert_eq!(objects, 1);
        assert!((1_200_000..1_230_000).contains(&bytes), "{bytes}");
        let [objects, bytes] = profile.samples[1].values;
        assert!(
            (2_040..2_060).contains(&objects),
            "512 bytes are sampled once in 1,024: {objects}"
        );
        assert!((1_040_000..1_060_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_dump_of_another_form_is_refused() {
        for dump in
            ["", "heap profile: 1", "heap_v2/x", "heap_v2/1\n@ zz\n", "heap_v2/1\n@ 0x1\nt*: z\n"]
        {
            assert!(parse(dump, SystemTime::UNIX_EPOCH, Duration::ZERO).is_err(), "{dump:?}");
        }
    }
}
