//! The servers of the comparison and how each is started. What they do is in `crates/load/peers`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::Settings;
use crate::tls::TlsArgs;
use crate::wire::Wire;

/// A server to measure.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its name in tables.
    pub(super) name: String,
    /// Where it listens.
    pub(super) address: SocketAddr,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// The authority that vouches for it, if it is spoken to in TLS.
    ca: Option<PathBuf>,
}

/// weir's addresses in `bench.toml`.
const WEIR_LINES: SocketAddr = local(7601);
const WEIR_HTTP: SocketAddr = local(7680);
/// Its side port there.
pub(super) const WEIR_OPS: SocketAddr = local(7660);
/// Where every other server is told to listen.
pub(super) const PEER_PORT: u16 = 7690;
/// The same as an address.
pub(super) const PEER_ADDRESS: SocketAddr = local(PEER_PORT);

/// An address of this machine alone.
pub(super) const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

impl Peer {
    /// weir as it is measured, on one wire.
    pub(super) fn weir(settings: &Settings, wire: Wire) -> Self {
        let address = if wire == Wire::Ws { WEIR_HTTP } else { WEIR_LINES };
        let config = settings.config.display().to_string();
        let arguments = vec!["--config".into(), config, "serve".into()];
        let (name, program) = ("weir".into(), settings.weir.clone());
        Self { name, address, program, arguments, environment: Vec::new(), ca: None }
    }

    /// nginx with the `nginx.conf` of this folder, which has it listen at [`PEER_ADDRESS`].
    pub(super) fn nginx(folder: &Path) -> Self {
        let folder = folder.display().to_string();
        let arguments = ["-p", &folder, "-c", "nginx.conf", "-e", "error.log"];
        Self::installed("nginx", "nginx", &arguments)
    }

    /// A server of the machine's own, which these arguments have listen at [`PEER_ADDRESS`].
    pub(super) fn installed(name: &str, program: &str, arguments: &[&str]) -> Self {
        // Debian keeps servers where only its administrator looks.
        let path = format!("{}:/usr/sbin", std::env::var_os("PATH").unwrap_or_default().display());
        Self {
            name: name.into(),
            address: PEER_ADDRESS,
            program: program.into(),
            arguments: arguments.iter().copied().map(String::from).collect(),
            environment: vec![("PATH".into(), path)],
            ca: None,
        }
    }

    /// The same with another configuration.
    pub(super) fn configured_by(mut self, config: &Path) -> Self {
        self.arguments[1] = config.display().to_string();
        self
    }

    /// The same where it speaks TLS.
    pub(super) fn in_tls(mut self, address: SocketAddr, ca: &Path) -> Self {
        self.address = address;
        self.ca = Some(ca.into());
        self
    }

    /// How it is spoken to in TLS, if it is.
    pub(super) fn tls(&self) -> TlsArgs {
        TlsArgs { tls: self.ca.is_some(), ca: self.ca.clone(), server_name: None }
    }

    /// The same under another name, with settings from the environment.
    pub(super) fn with(mut self, name: &str, environment: &[(&str, &str)]) -> Self {
        self.name = name.into();
        let owned = environment.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        self.environment.extend(owned);
        self
    }

    /// Starts it; nothing of this process's environment that is weir's own gets through.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (key, _) in std::env::vars_os() {
            if key.as_encoded_bytes().starts_with(b"WEIR_") {
                command.env_remove(key);
            }
        }
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// Everybody who is compared on this wire, weir first.
///
/// # Errors
/// When the program of one is missing.
pub(super) fn on(wire: Wire, settings: &Settings) -> Result<Vec<Peer>> {
    let rust = |name, program| rust_peer(settings, name, program);
    let python = |name, file| python_peer(settings, name, file);
    let all = match wire {
        Wire::Lines | Wire::Length => vec![
            rust("bare tokio", "tokio_lines"),
            python("uvloop", "uvloop_lines.py"),
            python("asyncio", "asyncio_lines.py"),
        ],
        Wire::Ws => vec![
            rust("fastwebsockets", "fastwebsockets_echo"),
            python("Python websockets", "websockets_echo.py"),
        ],
        // Nobody can echo on it.
        Wire::Sse => Vec::new(),
    };
    let wanted = |peer: &Peer| {
        settings.only.is_empty() || settings.only.iter().any(|part| peer.name.contains(part))
    };
    let weir = Peer::weir(settings, wire);
    let peers: Vec<_> = std::iter::once(weir).chain(all.into_iter().filter(wanted)).collect();
    for Peer { name, program, .. } in &peers {
        ensure!(
            program.is_file(),
            "{name}: {} is not there (make bench builds it)",
            program.display()
        );
    }
    Ok(peers)
}

/// Makes the virtual environment of the Python peers unless it is there and has these modules.
///
/// # Errors
/// When Python or a package cannot be had.
pub(super) fn prepare_python(settings: &Settings, modules: &str) -> Result<()> {
    let python = settings.venv.join("bin/python");
    let complete = || succeeds(Command::new(&python).args(["-c", &format!("import {modules}")]));
    if python.exists() && complete() {
        return Ok(());
    }
    eprintln!("making {}", settings.venv.display());
    let mut make = Command::new("python3");
    ensure!(succeeds(make.args(["-m", "venv"]).arg(&settings.venv)), "{make:?} failed");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    install.arg(settings.peers.join("requirements.txt"));
    ensure!(succeeds(&mut install), "{install:?} failed");
    ensure!(complete(), "the packages in {} cannot be imported", settings.venv.display());
    Ok(())
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
}

fn rust_peer(settings: &Settings, name: &str, program: &str) -> Peer {
    peer(name, settings.rust_peers.join(program), Vec::new())
}

/// A Python server of the peers' sources.
pub(super) fn python_peer(settings: &Settings, name: &str, file: &str) -> Peer {
    let source = settings.peers.join(file).display().to_string();
    peer(name, settings.venv.join("bin/python"), vec![source])
}

fn peer(name: &str, program: PathBuf, mut arguments: Vec<String>) -> Peer {
    arguments.push(PEER_PORT.to_string());
    let (name, address) = (name.to_owned(), PEER_ADDRESS);
    Peer { name, address, program, arguments, environment: Vec::new(), ca: None }
}
