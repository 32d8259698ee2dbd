//! The second seam: what a connection reads from and writes to. TCP, TLS on it, and an in-memory pipe
//! for simulation and for measuring a million sessions. Knows nothing of messages.

mod pipe;

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use socket2::SockRef;

pub(crate) use self::pipe::{Edges, TouchedPipe, TouchedPipes};
pub use self::pipe::{PipePeer, PipeSocket, pipe};
use crate::tls::TlsSocket;

/// A non-blocking byte stream. "Not now" is [`io::ErrorKind::WouldBlock`].
pub trait Transport {
    /// Reads what is there; 0 is the peer's end of stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else ends the connection.
    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes from all of `bufs` in one call, as much as fits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits; anything else ends the connection.
    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Says that our side ends, where a transport has words for it: TLS has. Asked again, it says
    /// what is left of it.
    ///
    /// # Errors
    /// `WouldBlock` when not all of it fits; anything else ends the connection.
    fn say_end(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Ends our side of the stream; what was written is still delivered.
    ///
    /// # Errors
    /// Those of the socket, for example when the peer has reset it.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Makes the drop that follows a reset: nothing that waits in the socket is delivered.
    fn reset_on_drop(&mut self);

    /// Whether bytes that a write took are not with the kernel yet. A bare socket has none such.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Gives the kernel what a write took and it did not.
    ///
    /// # Errors
    /// `WouldBlock` when not all of it fits; anything else ends the connection.
    fn try_flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether a read has something to tell though no edge will say so: an end that was met behind
    /// the bytes of the read before.
    fn has_unread(&self) -> bool {
        false
    }
}

impl Transport for mio::net::TcpStream {
    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read(buf)
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match bufs {
            // `send` is cheaper than `writev` with one slice.
            [one] => self.write(one),
            many => self.write_vectored(many),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn reset_on_drop(&mut self) {
        // A failure leaves an ordinary close, which is safe.
        if let Err(error) = SockRef::from(&*self).set_linger(Some(std::time::Duration::ZERO)) {
            tracing::debug!(%error, "SO_LINGER not set");
        }
    }
}

/// A socket of the table, over TCP or over whatever else a poll watches.
pub enum Socket<S: Transport = mio::net::TcpStream> {
    /// Bytes as they are.
    Plain(S),
    /// TLS, with its state beside the table: a plain connection does not pay for its room.
    Tls(Box<TlsSocket<S>>),
}

impl<S: Transport> Socket<S> {
    /// The socket below, for the poll.
    pub(crate) fn base_mut(&mut self) -> &mut S {
        match self {
            Self::Plain(plain) => plain,
            Self::Tls(tls) => tls.socket_mut(),
        }
    }
}

impl<S: Transport> Transport for Socket<S> {
    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.try_read(buf),
            Self::Tls(tls) => tls.try_read(buf),
        }
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.try_write_vectored(bufs),
            Self::Tls(tls) => tls.try_write_vectored(bufs),
        }
    }

    fn say_end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(plain) => plain.say_end(),
            Self::Tls(tls) => tls.say_end(),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(plain) => plain.shutdown_write(),
            Self::Tls(tls) => tls.shutdown_write(),
        }
    }

    fn reset_on_drop(&mut self) {
        match self {
            Self::Plain(plain) => plain.reset_on_drop(),
            Self::Tls(tls) => tls.reset_on_drop(),
        }
    }

    fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_unsent(),
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    fn has_unread(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_unread(),
        }
    }
}
