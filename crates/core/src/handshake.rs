//! What comes before the first byte of a listener's wire: the TLS handshake, under the one deadline
//! of `timeouts.handshake`. Touches no table, no session and no HTTP.

use std::io;
use std::pin::Pin;
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
use crate::tls::{HandshakeResult, ListenerTls, TlsInfo, TlsSocket, TlsVersion, principal};
use crate::transport::Socket;

/// Input of a peer that is discarded after its handshake failed, so that it can read why.
const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// What the connections of one listener go through before its wire.
#[derive(Clone)]
pub(crate) struct Handshake {
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
}

impl Handshake {
    /// Whether there is nothing to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.tls.is_none()
    }

    /// Runs it. What failed is closed when this returns.
    ///
    /// # Errors
    /// Why the connection ended.
    ///
    /// # Cancel safety
    /// Dropping it drops the socket; the handshake is then not counted.
    pub(crate) async fn run(
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

/// The TLS handshake.
async fn accept(
    tls: &ListenerTls,
    socket: TcpStream,
    patience: &Patience<'_>,
) -> Result<TlsStream<TcpStream>, HandshakeResult> {
    let accepting = TlsAcceptor::from(tls.settings.config()).accept(socket).into_fallible();
    let ended = tokio::select! { biased;
        () = patience.force.cancelled() => return Err(HandshakeResult::Stopped),
        ended = timeout_at(patience.deadline, accepting) => ended,
    };
    match ended {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((error, socket))) => {
            tracing::debug!(%error, "TLS handshake failed");
            linger(socket, patience).await;
            Err(HandshakeResult::of(&error))
        }
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

fn info(stream: &TlsStream<TcpStream>) -> TlsInfo {
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
    Tls(Box<TlsStream<TcpStream>>),
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
                let socket = TlsSocket::new(bare(socket)?, tls, early);
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
