//! Who is compared in a fan-out, how each is started, and how the generator speaks to it.

use std::fs;
use std::path::{Path, absolute};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::bench::Settings;
use crate::bench::peers::{self, PEER_PORT, Peer};
use crate::channels;
use crate::fanout::Protocol;
use crate::wire::Wire;

/// A server and what is spoken to it.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    /// The server.
    pub(super) peer: Peer,
    protocol: Protocol,
    /// Where subscribers and publishers upgrade.
    paths: [&'static str; 2],
}

/// weir's name in tables, and that of its second run of a round, which shows the noise.
pub(super) const WEIR: &str = "weir";
pub(super) const AGAIN: &str = "weir again";

impl Contender {
    /// weir with channels that everybody may publish into.
    pub(super) fn weir(settings: &Settings, name: &str) -> Self {
        let config = settings.peers.with_file_name("channels.toml");
        Self::configured(settings, name, &config, &[])
    }

    /// weir with another configuration, and settings from the environment.
    pub(super) fn configured(
        settings: &Settings,
        name: &str,
        config: &Path,
        environment: &[(&str, &str)],
    ) -> Self {
        let peer = Peer::weir(settings, Wire::Ws).configured_by(config).with(name, environment);
        Self { peer, protocol: Protocol::Channels, paths: [channels::PATH; 2] }
    }

    /// The arguments of `weir-load fanout` that say where it is and what is spoken.
    pub(super) fn arguments(&self) -> Vec<String> {
        let protocol = self.protocol.to_possible_value();
        let protocol = protocol.map_or_else(String::new, |value| value.get_name().to_owned());
        let [path, publish] = self.paths.map(String::from);
        let address = self.peer.address.to_string();
        let pairs = [
            ("--addr", address),
            ("--protocol", protocol),
            ("--path", path),
            ("--publish-path", publish),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    fn plain(peer: Peer) -> Self {
        Self { peer, protocol: Protocol::Plain, paths: ["/sub", "/pub"] }
    }
}

/// Everybody, in the order of a round: weir first, and last again.
///
/// # Errors
/// When one cannot be installed or its configuration not be written.
pub(super) fn all(settings: &Settings) -> Result<Vec<Contender>> {
    install(settings)?;
    peers::prepare_python(settings, "socketify, websockets")?;
    let python = |name, file| Contender::plain(peers::python_peer(settings, name, file));
    let others = [
        Contender::plain(nchan(settings)?),
        Contender { protocol: Protocol::Nats, ..Contender::plain(nats(settings)) },
        python("Python websockets", "websockets_broadcast.py"),
        Contender::plain(node(settings)),
        python("uWebSockets", "uwebsockets_publish.py"),
    ];
    let wanted = |contender: &Contender| {
        let name = &contender.peer.name;
        settings.only.is_empty() || settings.only.iter().any(|part| name.contains(part))
    };
    let weir = std::iter::once(Contender::weir(settings, WEIR));
    let again = std::iter::once(Contender::weir(settings, AGAIN));
    Ok(weir.chain(others.into_iter().filter(wanted)).chain(again).collect())
}

fn install(settings: &Settings) -> Result<()> {
    let mut install = Command::new(settings.peers.join("install.sh"));
    install.arg(&settings.node);
    let installed = install.status().with_context(|| format!("{install:?}"))?;
    ensure!(installed.success(), "{install:?} failed");
    Ok(())
}

fn nchan(settings: &Settings) -> Result<Peer> {
    let folder = absolute(settings.output.join("nchan"))?;
    fs::create_dir_all(&folder)?;
    let config = settings.peers.join("nchan.conf");
    fs::copy(&config, folder.join("nginx.conf")).with_context(|| config.display().to_string())?;
    Ok(Peer::nginx(&folder).with("nginx with nchan", &[]))
}

fn nats(settings: &Settings) -> Peer {
    let config = settings.peers.join("nats.conf");
    Peer::installed("nats-server", "nats-server", &["-c", &text(&config)])
}

fn node(settings: &Settings) -> Peer {
    let program = text(&settings.peers.join("ws_broadcast.cjs"));
    let packages = absolute(settings.node.join("node_modules"));
    let packages = text(&packages.unwrap_or_else(|_| settings.node.join("node_modules")));
    Peer::installed("Node ws", "node", &[&program, &PEER_PORT.to_string()])
        .with("Node ws", &[("NODE_PATH", &packages)])
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
