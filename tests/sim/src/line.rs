//! The client's end of a connection: a pipe, or TLS on one, with a real TLS client. What TLS does to
//! a transport is all here: records in pieces, bytes that are encrypted and wait, new keys, an end
//! of its own before the end of the stream.
//!
//! TLS draws random bytes that no seed commands. They change what the bytes are and never how many,
//! so a seed makes the same world again.

use std::io::{self, Read as _, Write};
use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weir_core::tls::TlsSocket;
use weir_core::transport::{PipePeer, PipeSocket, Socket, pipe};

use crate::rng::Rng;

/// Plaintext that a client encrypts at once, in bytes: what a record of it may bring to one read
/// beyond what lies in the pipe.
pub const RECORD_BYTES_MAX: usize = 2048;

/// The client's end.
pub enum Line {
    /// Bytes as they are.
    Plain(PipePeer),
    /// TLS.
    Tls(Box<TlsLine>),
}

/// TLS on a pipe, with the manners of one client.
pub struct TlsLine {
    pipe: PipePeer,
    tls: ClientConnection,
    rng: Rng,
    ending: Ending,
    /// Encrypted bytes that go into the pipe at once.
    drip: usize,
    /// Encrypts with new keys now and then, and asks the server to.
    renews_keys: bool,
    /// The side is to be ended as soon as all before it is sent.
    is_ending: bool,
}

/// How a client ends its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// As RFC 8446, section 6.1, has it: `close_notify`, then the end of the stream.
    Whole,
    /// `close_notify` alone: the stream stays open.
    Notice,
    /// The end of the stream alone, as if somebody had cut it.
    Cut,
}

impl Line {
    /// A connection whose handshakes are over: its two ends.
    pub fn draw(has_tls: bool, rng: &mut Rng) -> (Socket<PipeSocket>, Self) {
        let (socket, peer) = pipe(rng.pick(&[64, 2048, 8192]));
        if !has_tls {
            return (Socket::Plain(socket), Self::Plain(peer));
        }
        let (server, client) = shake_hands(rng);
        let mut early = Vec::new();
        let socket = TlsSocket::new(socket, server, &mut early);
        assert!(early.is_empty(), "nothing was said yet");
        let line = TlsLine {
            pipe: peer,
            tls: client,
            ending: rng.pick(&[Ending::Whole, Ending::Notice, Ending::Cut]),
            drip: rng.pick(&[23, 300, usize::MAX]),
            renews_keys: rng.one_in(2),
            is_ending: false,
            rng: rng.split(),
        };
        (Socket::Tls(Box::new(socket)), Self::Tls(Box::new(line)))
    }

    /// Takes as many of `bytes` as fit; returns how many.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Plain(pipe) => pipe.send(bytes),
            Self::Tls(line) => line.send(bytes),
        }
    }

    /// Sends more of what was taken before, if any of it fits; true when some did.
    pub fn push(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(line) => line.push(),
        }
    }

    /// Whether all that was taken is with the server.
    pub fn is_clear(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(line) => !line.tls.wants_write(),
        }
    }

    /// Appends what the server has said, from at most `most` bytes of the pipe. True when there were
    /// any, also when they say nothing yet.
    ///
    /// # Errors
    ///
    /// What no server may send, in words.
    pub fn receive(&mut self, most: usize, into: &mut Vec<u8>) -> Result<bool, String> {
        match self {
            Self::Plain(pipe) => {
                let bytes = pipe.receive(most);
                into.extend_from_slice(&bytes);
                Ok(!bytes.is_empty())
            }
            Self::Tls(line) => line.receive(most, into),
        }
    }

    /// Ends this side behind all that was sent.
    pub fn end(&mut self) {
        match self {
            Self::Plain(pipe) => pipe.shutdown_write(),
            Self::Tls(line) => {
                line.is_ending = true;
                line.push();
            }
        }
    }

    /// Breaks the connection.
    pub fn reset(&self) {
        self.pipe().reset();
    }

    /// Whether it was broken.
    pub fn is_reset(&self) -> bool {
        self.pipe().is_reset()
    }

    /// Whether the server has ended its side and all it said was taken.
    pub fn at_end(&self) -> bool {
        self.pipe().at_end()
    }

    /// Whether the end of the stream may be somebody's cut: the server has not said that it ends.
    pub fn is_cut(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            // Nothing new is processed: this asks for the state.
            Self::Tls(line) => {
                line.tls.process_new_packets().is_ok_and(|state| !state.peer_has_closed())
            }
        }
    }

    /// Whether it has TLS.
    pub fn has_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    fn pipe(&self) -> &PipePeer {
        match self {
            Self::Plain(pipe) => pipe,
            Self::Tls(line) => &line.pipe,
        }
    }
}

impl TlsLine {
    fn send(&mut self, bytes: &[u8]) -> usize {
        if self.tls.wants_write() {
            return 0;
        }
        if self.renews_keys && self.rng.one_in(8) {
            // TLS 1.2 has no such thing.
            self.tls.refresh_traffic_keys().ok();
        }
        let most = bytes.len().min(RECORD_BYTES_MAX);
        let taken = self.tls.writer().write(&bytes[..most]).unwrap_or(0);
        self.push();
        taken
    }

    fn push(&mut self) -> bool {
        if self.is_ending && self.ending != Ending::Cut {
            // Said once, however often it is asked for.
            self.tls.send_close_notify();
        }
        let mut drip = Drip { pipe: &self.pipe, room: self.drip, sent: 0 };
        while self.tls.wants_write() && self.tls.write_tls(&mut drip).is_ok() {}
        let sent = drip.sent > 0;
        if self.is_ending && !self.tls.wants_write() && self.ending != Ending::Notice {
            self.pipe.shutdown_write();
        }
        sent
    }

    fn receive(&mut self, most: usize, into: &mut Vec<u8>) -> Result<bool, String> {
        let bytes = self.pipe.receive(most);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).map_err(|error| format!("TLS takes no more: {error}"))?;
            self.tls.process_new_packets().map_err(|error| format!("no TLS: {error}"))?;
            // What there is; then "no more for now" or an end, which is asked for elsewhere.
            self.tls.reader().read_to_end(into).ok();
        }
        Ok(!bytes.is_empty())
    }
}

/// A pipe that takes only so much at once.
struct Drip<'a> {
    pipe: &'a PipePeer,
    room: usize,
    sent: usize,
}

impl Write for Drip<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.pipe.send(&buf[..buf.len().min(self.room - self.sent)]) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            sent => {
                self.sent += sent;
                Ok(sent)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both ends after a handshake of either version. The client cuts its records to a size of its own.
fn shake_hands(rng: &mut Rng) -> (ServerConnection, ClientConnection) {
    static SETTINGS: OnceLock<(Arc<ServerConfig>, [ClientConfig; 2])> = OnceLock::new();
    let (server, clients) = SETTINGS.get_or_init(settings);
    let mut client = clients[rng.below(0..clients.len())].clone();
    client.max_fragment_size = rng.pick(&[None, Some(64), Some(1000)]);
    let name = NAME.try_into().expect("a server name");
    let mut client = ClientConnection::new(Arc::new(client), name).expect("a client");
    let mut server = ServerConnection::new(Arc::clone(server)).expect("a server");
    let mut bytes = Vec::new();
    while server.wants_write() || client.wants_write() {
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory takes all");
        }
        for chunk in std::mem::take(&mut bytes).chunks(4096) {
            server.read_tls(&mut &chunk[..]).expect("memory gives all");
            server.process_new_packets().expect("a handshake");
        }
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("memory takes all");
        }
        for chunk in std::mem::take(&mut bytes).chunks(4096) {
            client.read_tls(&mut &chunk[..]).expect("memory gives all");
            client.process_new_packets().expect("a handshake");
        }
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    (server, client)
}

/// What the one server is called.
const NAME: &str = "weir.example";

fn settings() -> (Arc<ServerConfig>, [ClientConfig; 2]) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    let certificate: CertificateDer<'static> =
        params.self_signed(&key).expect("a certificate").der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS12, &TLS13])
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a pair");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("an authority");
    let clients = [&TLS12, &TLS13].map(|version| {
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        // A handshake is the same whatever was before it.
        client.resumption = Resumption::disabled();
        client
    });
    (Arc::new(server), clients)
}
