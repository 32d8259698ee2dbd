//! What comes before the first byte of a listener's wire: the PROXY header, then TLS, under the one
//! deadline of `timeouts.handshake`. Touches no table, no session and no HTTP.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::close::CloseReason;
use crate::proxy::{self, ProxyError, Step};
use crate::tls::{
    HandshakeResult, Handshakes, ListenerTls, Paced, Steps, TlsInfo, TlsSocket, TlsVersion,
    principal,
};
use crate::transport::Socket;

/// Input of a peer that is discarded after its handshake failed, so that it can read why.
const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// How long a handshake has its place among those in progress. An honest one takes two round trips.
const IN_PROGRESS_MAX: Duration = Duration::from_secs(1);

/// How often the beginning of a stranger's first message is looked at, when it could be that of a
/// PROXY header.
const BEGINNING_INTERVAL: Duration = Duration::from_millis(100);

/// What the connections of one listener go through before its wire.
#[derive(Clone)]
pub(crate) struct Handshake {
    /// Whether trusted proxies send a PROXY header before all else.
    pub(crate) proxied: bool,
    /// TLS, where the listener has it.
    pub(crate) tls: Option<Arc<ListenerTls>>,
}

/// A connection whose handshake is over.
pub(crate) struct Shaken {
    pub(crate) stream: Stream,
    pub(crate) tls: Option<Arc<TlsInfo>>,
}

/// How long a handshake may take, and what cuts it.
pub(crate) struct Patience<'a> {
    /// `timeouts.handshake` after the accept.
    pub(crate) deadline: Instant,
    /// `timeouts.close`: how long a refused peer may take to read why.
    pub(crate) close: Duration,
    /// Everybody is closed now.
    pub(crate) force: &'a CancellationToken,
    /// Lets TLS begin.
    pub(crate) handshakes: &'a Handshakes,
    /// Lets TLS go on.
    pub(crate) steps: &'a Arc<Steps>,
}

impl Handshake {
    /// Whether there is nothing to be done.
    pub(crate) fn is_empty(&self) -> bool {
        !self.proxied && self.tls.is_none()
    }

    /// Reads the PROXY header of a peer that was `trusted` when it was accepted: the address of the client, `None` when it is that
    /// of the socket. Nothing behind the header is read.
    ///
    /// # Errors
    /// Why the connection ends: a header that is missing, malformed or from a stranger.
    pub(crate) async fn proxied(
        &self,
        socket: &mut TcpStream,
        peer: SocketAddr,
        trusted: bool,
        patience: &Patience<'_>,
    ) -> Result<Option<SocketAddr>, CloseReason> {
        if !self.proxied {
            return Ok(None);
        }
        let greeting = async {
            if trusted { header(socket).await } else { no_header(socket).await.map(|()| None) }
        };
        let greeted = tokio::select! { biased;
            () = patience.force.cancelled() => return Err(CloseReason::Forced),
            greeted = timeout_at(patience.deadline, greeting) => greeted,
        };
        match greeted {
            Ok(Ok(source)) => Ok(source),
            // A stranger that has said nothing yet may be waiting for us to speak.
            Err(_) if !trusted => Ok(None),
            Err(_) => Err(CloseReason::HandshakeTimeout),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "no good PROXY header");
                Err(error.into())
            }
        }
    }

    /// Runs TLS, where there is any. What failed is closed when this returns.
    ///
    /// # Errors
    /// Why the connection ended.
    ///
    /// # Cancel safety
    /// Dropping it drops the socket; the handshake is then not counted.
    pub(crate) async fn tls(
        &self,
        socket: TcpStream,
        patience: &Patience<'_>,
    ) -> Result<Shaken, CloseReason> {
        match &self.tls {
            None => Ok(Shaken { stream: Stream::Plain(socket), tls: None }),
            Some(tls) => {
                let ended = accept(tls, socket, patience).await;
                let result = ended.as_ref().err().copied().unwrap_or(HandshakeResult::Ok);
                tls.metrics.handshake(result);
                let stream = ended?;
                let info = Some(Arc::new(info(&stream)));
                Ok(Shaken { stream: Stream::Tls(Box::new(stream)), tls: info })
            }
        }
    }
}

/// Why a PROXY header is no good.
#[derive(Debug, thiserror::Error)]
enum GreetingError {
    /// The peer has ended its side before one was whole, as a balancer does that looks whether
    /// anybody listens.
    #[error("closed before a whole PROXY header")]
    Closed,
    /// The socket failed.
    #[error("socket failed")]
    Socket(#[from] io::Error),
    /// It is none, or a bad one.
    #[error(transparent)]
    Header(#[from] ProxyError),
    /// It is one, from a peer that is no trusted proxy.
    #[error("PROXY header of a stranger")]
    Stranger,
}

impl From<GreetingError> for CloseReason {
    fn from(error: GreetingError) -> Self {
        match error {
            GreetingError::Closed => Self::PeerClosed,
            GreetingError::Socket(_) => Self::PeerReset,
            GreetingError::Header(_) | GreetingError::Stranger => Self::ProtocolError,
        }
    }
}

/// Takes a PROXY header off the socket, and no byte more.
async fn header(socket: &mut TcpStream) -> Result<Option<SocketAddr>, GreetingError> {
    let mut header = Vec::new();
    loop {
        let before = header.len();
        header.resize(proxy::HEADER_BYTES_MAX, 0);
        // Looked at before it is taken: what follows the header belongs to TLS or to the wire.
        let seen = socket.peek(&mut header[before..]).await?;
        if seen == 0 {
            return Err(GreetingError::Closed);
        }
        header.truncate(before + seen);
        let (belongs, source) = match proxy::step(&header)? {
            Step::Header { taken, source } => (taken, Some(source)),
            Step::More => (header.len(), None),
        };
        socket.read_exact(&mut header[before..belongs]).await?;
        header.truncate(belongs);
        if let Some(source) = source {
            return Ok(source);
        }
    }
}

/// Looks at what a stranger sends first until it is clear that it is no PROXY header, and takes
/// nothing of it.
async fn no_header(socket: &TcpStream) -> Result<(), GreetingError> {
    let mut beginning = [0; proxy::V1_BYTES_MAX];
    loop {
        let seen = socket.peek(&mut beginning).await?;
        match proxy::step(&beginning[..seen]) {
            Err(ProxyError::NoHeader) => return Ok(()),
            Ok(Step::More) if seen == 0 => return Ok(()),
            // What is there stays there, so the socket would not wake us.
            Ok(Step::More) => tokio::time::sleep(BEGINNING_INTERVAL).await,
            Ok(Step::Header { .. })
            | Err(ProxyError::MalformedV1 | ProxyError::MalformedV2 | ProxyError::TooBig { .. }) => {
                return Err(GreetingError::Stranger);
            }
        }
    }
}

/// The TLS handshake.
async fn accept(
    tls: &ListenerTls,
    socket: TcpStream,
    patience: &Patience<'_>,
) -> Result<TlsStream<Paced>, HandshakeResult> {
    let accepting = async {
        // One that says nothing takes the place of nobody.
        socket.readable().await.map_err(|_| HandshakeResult::PeerClosed)?;
        let slot = patience.handshakes.begin(patience.deadline).await?;
        let socket = Paced::new(socket, patience.steps);
        let accepting = TlsAcceptor::from(tls.settings.config()).accept(socket).into_fallible();
        let mut accepting = pin!(accepting);
        if let Ok(ended) = timeout(IN_PROGRESS_MAX, &mut accepting).await {
            return Ok(ended);
        }
        let _aside = patience.handshakes.step_aside(slot);
        Ok(accepting.await)
    };
    let ended = tokio::select! { biased;
        () = patience.force.cancelled() => return Err(HandshakeResult::Stopped),
        ended = timeout_at(patience.deadline, accepting) => ended,
    };
    match ended {
        Ok(Ok(Ok(mut stream))) => {
            stream.get_mut().0.unpace();
            Ok(stream)
        }
        Ok(Ok(Err((error, socket)))) => {
            tracing::debug!(%error, "TLS handshake failed");
            linger(socket.into_inner(), patience).await;
            Err(HandshakeResult::of(&error))
        }
        Ok(Err(result)) => Err(result),
        Err(_) => Err(HandshakeResult::Timeout),
    }
}

/// A close with unread input would reset the connection, and the peer could lose the alert.
async fn linger(mut socket: TcpStream, patience: &Patience<'_>) {
    let discard = async {
        socket.shutdown().await?;
        let mut scratch = [0; 1024];
        let mut left = DISCARD_BYTES_MAX;
        while left > 0 {
            match socket.read(&mut scratch).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    tokio::select! { biased;
        () = patience.force.cancelled() => {}
        _ = timeout(patience.close, discard) => {}
    }
}

fn info(stream: &TlsStream<Paced>) -> TlsInfo {
    let (_, tls) = stream.get_ref();
    TlsInfo {
        version: match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::V1_2,
            // The settings know no other.
            Some(_) | None => TlsVersion::V1_3,
        },
        sni: tls.server_name().map(str::to_owned),
        principal: tls.peer_certificates().and_then(|chain| principal(chain.first()?)),
    }
}

/// A socket as tasks read and write it, with TLS on it or without.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<Paced>>),
}

impl Stream {
    /// The socket as the table reads and writes it. What came right behind the handshake is
    /// appended to `early`.
    ///
    /// # Errors
    /// Those of the runtime, when it does not let the socket go.
    pub(crate) fn into_socket(self, early: &mut Vec<u8>) -> io::Result<Socket> {
        let bare = |socket: TcpStream| socket.into_std().map(mio::net::TcpStream::from_std);
        match self {
            Self::Plain(socket) => bare(socket).map(Socket::Plain),
            Self::Tls(stream) => {
                let (socket, tls) = stream.into_inner();
                let socket = TlsSocket::new(bare(socket.into_inner())?, tls, early);
                Ok(Socket::Tls(Box::new(socket)))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => match Pin::new(&mut **stream).poll_read(cx, buf) {
                // Many peers end without TLS' own end. HTTP has lengths: it knows what is whole.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                other @ (Poll::Ready(_) | Poll::Pending) => other,
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
