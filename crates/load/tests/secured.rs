//! The generator in TLS, as its users start it, against a server of a few lines with a certificate
//! of the test's own.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

#[test]
fn lines_in_tls_are_echoed_and_counted() {
    let server = Server::start("echo");
    let output = server.run("echo", &["--depth", "4"]);
    let report = report(&output);
    assert_eq!((&report["errors"], &report["tls"]), (&0.into(), &true.into()), "{report}");
    assert!(report["messages"].as_u64() > Some(50), "{report}");
}

#[test]
fn a_server_that_nobody_trusted_vouches_for_is_not_spoken_to() {
    let (server, other) = (Server::start("mistrust"), Server::start("other"));
    let output = Server { ca: other.ca.clone(), ..server }.run("echo", &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("invalid peer certificate"), "{said}");
}

#[test]
fn handshakes_are_whole_unless_sessions_are_to_be_taken_up_again() {
    let server = Server::start("resume");
    let whole = report(&server.run("handshakes", &[]));
    assert!(whole["full"].as_u64() > Some(10), "{whole}");
    assert_eq!((&whole["resumed"], &whole["failed"]), (&0.into(), &serde_json::json!({})));
    let resumed = report(&server.run("handshakes", &["--resume"]));
    assert!(resumed["resumed"].as_u64() > Some(10), "{resumed}");
    assert!(resumed["full"].as_u64() < Some(5), "the warm-up has had all first ones: {resumed}");
}

#[test]
fn a_storm_waits_for_everybody_but_those_that_stall() {
    let server = Server::start("storm");
    let storm = report(&server.run("handshakes", &["--storm", "--stalled", "2"]));
    let storms = storm["storms"].as_array().map_or(0, Vec::len) as u64;
    assert!(storms > 0, "{storm}");
    assert_eq!(storm["full"].as_u64(), Some(storms * 3), "{storm}");
}

/// A thread for each connection.
struct Server {
    address: SocketAddr,
    ca: PathBuf,
}

impl Server {
    fn start(name: &str) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(authority, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("vouched for");
        let ca = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-ca.pem"));
        std::fs::write(&ca, issuer.pem()).expect("writable");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .expect("a good certificate");
        config.ticketer = aws_lc_rs::Ticketer::new().expect("a ticketer");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let config = Arc::clone(&config);
                let connection = ServerConnection::new(config).expect("a connection");
                // Peers that stall or do not trust us end in an error, as they should.
                thread::spawn(move || echo(StreamOwned::new(connection, stream)));
            }
        });
        Self { address, ca }
    }

    fn run(&self, what: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir-load"));
        command.args([what, "--addr", &self.address.to_string(), "--connections", "5"]);
        command.arg("--tls").arg("--ca").arg(&self.ca);
        command.args(["--warmup", "200ms", "--duration", "300ms"]).args(more);
        command.output().expect("the generator starts")
    }
}

fn echo(stream: StreamOwned<ServerConnection, std::net::TcpStream>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        reader.get_mut().write_all(line.as_bytes())?;
        line.clear();
    }
    reader.get_mut().conn.send_close_notify();
    reader.get_mut().flush()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no report; {}", String::from_utf8_lossy(&output.stderr)))
}
