//! `weir-load bench tls`: what TLS costs. Idle connections and messages beside plain ones, handshakes
//! beside nginx's, and how late open connections are served while thousands of handshakes wait.

mod files;
mod handshakes;
mod idle;
mod messages;
mod storm;

use std::net::SocketAddr;

use anyhow::Result;

use self::files::Files;
use super::peers::{Peer, local};
use super::{Settings, machine};
use crate::wire::Wire;

/// weir's addresses in TLS, in the configuration that [`Files`] writes.
const LINES: SocketAddr = local(7602);
const HTTP: SocketAddr = local(7681);
/// weir's cap on handshakes in progress: its default, told in the report. No load but the storm
/// comes near it.
const HANDSHAKES_MAX: &str = "256";

/// Measures and prints.
///
/// # Errors
/// When something cannot be started or an answer was wrong.
pub(super) fn run(settings: &Settings) -> Result<()> {
    let files = Files::write(settings)?;
    println!("# TLS\n");
    println!("{}.", machine());
    println!("Keys and signatures of every server: ECDSA P-256, one certificate in the chain.");
    println!(
        "weir: limits.tls_handshakes_max = {HANDSHAKES_MAX}, \
         limits.tls_handshakes_per_second_max = \"off\" (the defaults).\n"
    );
    idle::run(settings, &files)?;
    messages::run(settings, &files)?;
    handshakes::run(settings, &files)?;
    storm::run(settings, &files)
}

/// weir on one wire, plain and in TLS: one process could serve both.
fn weir(settings: &Settings, files: &Files, wire: Wire) -> [Peer; 2] {
    let limits = [
        ("WEIR_LIMITS__TLS_HANDSHAKES_MAX", HANDSHAKES_MAX),
        ("WEIR_LIMITS__TLS_HANDSHAKES_PER_SECOND_MAX", "off"),
    ];
    let weir = Peer::weir(settings, wire).configured_by(&files.weir);
    let address = if wire == Wire::Ws { HTTP } else { LINES };
    let secured = weir.clone().in_tls(address, &files.ca);
    [weir.with("plain", &limits), secured.with("TLS", &limits)]
}
