//! The TCP socket under a connection. It knows what HTTP's layer does not tell: that the target
//! had closed before a request was written, and whether any of the request was.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP socket that counts what is written, and looks before it writes when it is told to.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TcpStream,
    facts: Arc<Facts>,
}

/// What is known of a socket that is in somebody else's hands.
#[derive(Clone, Debug)]
pub(crate) struct SocketView(Arc<Facts>);

/// Read and written by one request after the other, which are handed over by channels: relaxed.
#[derive(Debug, Default)]
struct Facts {
    written: AtomicU64,
    look: AtomicBool,
}

impl SocketView {
    /// Bytes written so far, those of TLS included.
    pub(crate) fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Makes the next write fail, without a byte being sent, if the target has closed by then.
    ///
    /// The event loop may not have told yet: a close can lie in the socket while the connection
    /// still counts as idle, and a request written now would be lost without a trace.
    pub(crate) fn look_before_next_write(&self) {
        self.0.look.store(true, Ordering::Relaxed);
    }
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, facts: Arc::new(Facts::default()) }
    }

    pub(crate) fn view(&self) -> SocketView {
        SocketView(Arc::clone(&self.facts))
    }

    /// One `recv` that takes nothing. What may wait to be read here is left to the layers above.
    fn look(&self) -> io::Result<()> {
        if !self.facts.look.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        match SockRef::from(&self.tcp).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Err(io::ErrorKind::ConnectionAborted.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn count(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &result {
            self.facts.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        result
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.look()?;
        let result = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.count(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.look()?;
        let result = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.count(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
