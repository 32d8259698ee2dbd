//! What the servers of `weir-load bench tls` are started with: an authority of the benchmark's own,
//! one certificate for all of them, and their configurations. They are written anew for each run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::{HTTP, LINES};
use crate::bench::Settings;
use crate::bench::peers::PEER_ADDRESS;

/// Where they are.
pub(super) struct Files {
    /// The authority's certificate.
    pub(super) ca: PathBuf,
    /// weir's configuration: the benchmarks' usual one, and a listener in TLS for each wire.
    pub(super) weir: PathBuf,
    /// The folder of nginx and its `nginx.conf`.
    pub(super) nginx: PathBuf,
}

impl Files {
    /// Writes all of them into the folder of the benchmark's output.
    ///
    /// # Errors
    /// When that is not possible, or the usual configuration is not there.
    pub(super) fn write(settings: &Settings) -> Result<Self> {
        let folder = std::path::absolute(settings.output.join("tls"))?;
        let files = Self {
            ca: folder.join("ca.pem"),
            weir: folder.join("weir.toml"),
            nginx: folder.join("nginx"),
        };
        std::fs::create_dir_all(&files.nginx).context("a folder for nginx")?;
        let certificate = folder.join("server.pem");
        let key = folder.join("server.key");
        vouch(&files.ca, &certificate, &key)?;
        let usual = std::fs::read_to_string(&settings.config)
            .with_context(|| settings.config.display().to_string())?;
        write(&files.weir, usual + &weir(&certificate, &key))?;
        write(&files.nginx.join("nginx.conf"), nginx(&certificate, &key))?;
        Ok(files)
    }
}

/// Makes the authority, and has it vouch for this machine's own address.
fn vouch(ca: &Path, certificate: &Path, key: &Path) -> Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let names = vec!["localhost".into(), PEER_ADDRESS.ip().to_string()];
    let pair = KeyPair::generate()?;
    let vouched = CertificateParams::new(names)?.signed_by(&pair, &issuer)?;
    write(ca, issuer.pem())?;
    write(certificate, vouched.pem())?;
    write(key, pair.serialize_pem())
}

fn write(path: &Path, text: String) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn weir(certificate: &Path, key: &Path) -> String {
    let tls = format!(
        "tls = {{ certificates = [{{ certificate = \"{}\", key = \"{}\" }}] }}",
        certificate.display(),
        key.display()
    );
    format!(
        r#"
[[listeners]]
name = "lines-tls"
address = "{LINES}"
wire = "lines"
route = "echo"
heartbeat = "heartbeat"
{tls}

[[listeners]]
name = "http-tls"
address = "{HTTP}"
wire = "http"
{tls}

[[listeners.paths]]
path = "/ws"
kind = "websocket"
route = "echo"
"#
    )
}

/// One process with one loop, as weir has one worker; what else is set is what weir has too: TLS 1.3,
/// tickets, and no log of what went well.
fn nginx(certificate: &Path, key: &Path) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    format!(
        r#"daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen {PEER_ADDRESS} ssl backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        ssl_session_tickets on;
        return 204;
    }}
}}
"#
    )
}
