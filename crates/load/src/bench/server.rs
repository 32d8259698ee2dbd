//! A server under test: started fresh, waited for until it accepts, killed when dropped.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::clock;

/// Longer than any server here needs; Python's imports are the slowest.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A running server.
pub(super) struct Server {
    child: Child,
}

impl Server {
    /// Starts `command` and waits until it accepts connections at `address`. What it prints goes
    /// to `log`. With `core` it may only run there.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not accept in time.
    pub(super) fn start(
        mut command: Command,
        address: SocketAddr,
        log: &Path,
        core: Option<usize>,
    ) -> Result<Self> {
        if TcpStream::connect(address).is_ok() {
            bail!("something else is listening at {address}");
        }
        let output = File::create(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let name = format!("{command:?}");
        let child = pinned(core, || command.spawn()).with_context(|| name.clone())?;
        let mut server = Self { child };
        let deadline = clock::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended with {status}: see {}", log.display());
            }
            if clock::now() >= deadline {
                bail!("{name} does not accept at {address}: see {}", log.display());
            }
            sleep(LOOK_INTERVAL);
        }
        Ok(server)
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends by itself; `None` when it has not within `timeout`.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let deadline = clock::now() + timeout;
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || clock::now() >= deadline {
                return Ok(status);
            }
            sleep(LOOK_INTERVAL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; either way it must not stay behind.
        self.child.kill().and_then(|()| self.child.wait()).map_or_else(drop, drop);
    }
}

/// Runs `spawn` so that the process it starts may only run on `core`.
pub(super) fn pinned<T>(
    core: Option<usize>,
    spawn: impl FnOnce() -> std::io::Result<T>,
) -> std::io::Result<T> {
    let Some(core) = core else { return spawn() };
    // A child inherits what its parent may use when it is started.
    let all = rustix::thread::sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one)?;
    let spawned = spawn();
    sched_setaffinity(None, &all)?;
    spawned
}
