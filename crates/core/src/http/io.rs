//! The socket as hyper sees it: reads come through the gate, writes go straight through.
//! It holds no deadline; it says where the conversation stands.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::HttpTraffic;
use super::exchange::{Exchange, Phase};
use super::gate::{Gate, Part, Step};
use super::refusal::Refusal;

/// Bytes that one read of the socket may bring.
const READ_BYTES: usize = 8 * 1024;

/// A socket behind the gate.
pub(super) struct GatedIo<S> {
    socket: S,
    gate: Gate,
    /// What was read: first what has passed the gate, then what has not.
    inbox: BytesMut,
    passed: usize,
    peer_closed: bool,
    exchange: Arc<Exchange>,
    traffic: Arc<dyn HttpTraffic>,
}

impl<S> GatedIo<S> {
    pub(super) fn new(
        socket: S,
        gate: Gate,
        exchange: Arc<Exchange>,
        traffic: Arc<dyn HttpTraffic>,
    ) -> Self {
        let inbox = BytesMut::new();
        Self { socket, gate, inbox, passed: 0, peer_closed: false, exchange, traffic }
    }

    /// The bare socket, and what was read of it and has not gone on.
    pub(super) fn into_parts(self) -> (S, Bytes) {
        (self.socket, self.inbox.freeze())
    }

    fn take(&mut self, n: usize) {
        self.inbox.advance(n);
        self.traffic.bytes_received(n as u64);
    }
}

impl<S: AsyncRead + Unpin> GatedIo<S> {
    /// Lets the next bytes pass. `Ready(false)`: none will pass any more.
    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if self.exchange.refusal().is_some() {
                return Poll::Ready(Ok(false));
            }
            match self.gate.step(&self.inbox) {
                Step::Skip { taken } => self.take(taken),
                Step::Head { taken, body, upgrade } => {
                    self.passed = taken;
                    self.exchange.head_passed(body, upgrade);
                    return Poll::Ready(Ok(true));
                }
                Step::Body { taken, last } => {
                    self.passed = taken;
                    self.exchange.enter(if last { Phase::Answer } else { Phase::Body });
                    return Poll::Ready(Ok(true));
                }
                Step::Withheld if self.exchange.declined() => self.gate.declined(),
                // Woken by the answer, which comes in this task.
                Step::Withheld => return Poll::Pending,
                Step::Refused(refusal) => self.exchange.refuse(refusal),
                Step::More if self.peer_closed => {
                    if self.phase() == Phase::Idle {
                        return Poll::Ready(Ok(false));
                    }
                    self.exchange.refuse(Refusal::Unfinished);
                }
                Step::More => {
                    self.exchange.enter(self.phase());
                    ready!(self.poll_fill(cx))?;
                }
            }
        }
    }

    fn phase(&self) -> Phase {
        match self.gate.part() {
            Part::Body => Phase::Body,
            Part::Head if self.inbox.is_empty() => Phase::Idle,
            Part::Head => Phase::Head,
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inbox.reserve(READ_BYTES);
        // Cancel safe and without state, so it can be made anew for each poll.
        let read = pin!(self.socket.read_buf(&mut self.inbox)).poll(cx);
        match read {
            Poll::Pending => {
                if self.inbox.is_empty() {
                    // A quiet connection holds no buffer here.
                    self.inbox = BytesMut::new();
                }
                Poll::Pending
            }
            Poll::Ready(Ok(0)) => {
                self.peer_closed = true;
                self.exchange.peer_closed();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => {
                self.exchange.failed();
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Read for GatedIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.passed > 0 || ready!(this.poll_pass(cx))? {
            let n = this.passed.min(buf.remaining());
            buf.put_slice(&this.inbox[..n]);
            this.passed -= n;
            this.take(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> GatedIo<S> {
    /// Notes what a write came to.
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(n)) => self.traffic.bytes_sent(*n as u64),
            Poll::Ready(Err(_)) => self.exchange.failed(),
            Poll::Pending => self.exchange.stalled(),
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> Write for GatedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// Hyper flushes once its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.exchange.flushed();
        Poll::Ready(Ok(()))
    }

    /// The socket outlives hyper: a refusal may be owed still.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
