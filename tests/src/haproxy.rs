//! Debian's HAProxy in front of weir: one process, configured by the test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::wait::eventually;

/// A running HAProxy; killed when dropped.
#[derive(Debug)]
pub struct Haproxy {
    _child: Child,
    address: SocketAddr,
    file: PathBuf,
}

impl Haproxy {
    /// Starts one that listens on a free port. `mode` is `tcp` or `http`; `keys` are lines of its
    /// one section, such as `server a 127.0.0.1:7001 send-proxy`.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start(mode: &str, keys: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = free.local_addr().expect("a bound socket");
        drop(free);
        let name = format!("weir-tests-haproxy-{}-{number}.cfg", std::process::id());
        let file = std::env::temp_dir().join(name);
        let configuration = format!(
            "global\n    maxconn 4000\n\
             defaults\n    timeout connect 2s\n    timeout client 30s\n    timeout server 30s\n    \
             timeout tunnel 1h\n    mode {mode}\n\
             listen weir\n    bind {address}\n{keys}\n"
        );
        std::fs::write(&file, configuration).expect("the temporary folder is writable");
        let mut command = Command::new("haproxy");
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        // Not in the background: its death is the child's.
        command.args(["-db", "-q", "-f"]).arg(&file).stdin(Stdio::null());
        let child = command.kill_on_drop(true).spawn().expect("haproxy is installed");
        let haproxy = Self { _child: child, address, file };
        eventually("haproxy to listen", async || TcpStream::connect(address).await.ok()).await;
        haproxy
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        std::fs::remove_file(&self.file).ok();
    }
}
