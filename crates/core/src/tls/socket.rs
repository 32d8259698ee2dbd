//! TLS as a [`Transport`] over another: what an open connection of the table reads and writes
//! through. Handshakes are over before; there is no clock and no queue here.
//!
//! Two things differ from a bare socket. Bytes that a write took may wait here, encrypted, until
//! the socket takes them: [`Transport::has_unsent`]. And the end of the stream may be known without
//! the socket having ended: [`Transport::has_unread`].

use std::io::{self, IoSlice, Read, Write};

use rustls::ServerConnection;

use crate::transport::Transport;

/// Plaintext that may be encrypted ahead of the socket: one whole record (RFC 8446, section 5.1).
/// What a peer does not take costs this much beyond its outbox.
pub(crate) const UNSENT_BYTES_MAX: usize = 16 * 1024;

/// Slices of one write that are looked at; the outbox offers no more.
const SLICES_MAX: usize = 64;

/// A socket of any kind with TLS on it.
pub struct TlsSocket<S: Transport> {
    socket: S,
    tls: ServerConnection,
    /// The peer's end was met, and a read has not told it yet.
    ended: bool,
    /// Nothing more is to be said, not even that the stream ends.
    silent: bool,
}

impl<S: Transport> TlsSocket<S> {
    /// Takes over after a handshake. What came right behind it is appended to `early`.
    pub fn new(socket: S, mut tls: ServerConnection, early: &mut Vec<u8>) -> Self {
        tls.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        // Appends what there is before it says that there is no more.
        let ended = match tls.reader().read_to_end(early) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        Self { socket, tls, ended, silent: false }
    }

    /// The socket below.
    pub(crate) fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Takes plaintext that is there already, until `buf` is full. The error is that of a stream
    /// that has no more for now (`WouldBlock`) or was cut (`UnexpectedEof`); `None` is its end.
    fn take(&mut self, buf: &mut [u8], read: &mut usize) -> io::Result<Option<()>> {
        while *read < buf.len() {
            match self.tls.reader().read(&mut buf[*read..])? {
                0 => return Ok(None),
                n => *read += n,
            }
        }
        Ok(Some(()))
    }

    /// Reads the socket once. True when it has nothing more for now.
    fn pull(&mut self) -> io::Result<bool> {
        let mut pull = Pull { socket: &mut self.socket, drained: false };
        match self.tls.read_tls(&mut pull) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        let drained = pull.drained;
        if let Err(error) = self.tls.process_new_packets() {
            // The alert that says what was wrong; the peer may be gone already.
            self.send().ok();
            self.silent = true;
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(drained)
    }

    /// Gives the socket what is encrypted.
    fn send(&mut self) -> io::Result<()> {
        let mut push = Push { socket: &mut self.socket };
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut push) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<S: Transport> Transport for TlsSocket<S> {
    /// Reads on until `buf` is full or the socket has no more, so that a short read means what it
    /// means on a bare socket.
    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        let mut drained = false;
        self.ended = false;
        let met = loop {
            match self.take(buf, &mut read) {
                Ok(Some(())) => return Ok(read),
                Ok(None) => break Ok(0),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break Err(error),
                Err(error) if drained => break Err(error),
                Err(_) => {}
            }
            match self.pull() {
                Ok(none_left) => drained = none_left,
                Err(error) => break Err(error),
            }
        };
        // An answer to what was read, such as that of a key update; a full socket has it wait.
        match self.send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && met.is_ok() => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
        match met {
            Err(error) if read > 0 => {
                self.ended = error.kind() != io::ErrorKind::WouldBlock;
                Ok(read)
            }
            Ok(_) if read > 0 => {
                self.ended = true;
                Ok(read)
            }
            end => end,
        }
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        // What was taken before goes first; as long as it does not fit, nothing more is taken.
        self.send()?;
        let mut copy = [IoSlice::new(&[]); SLICES_MAX];
        let count = bufs.len().min(SLICES_MAX);
        copy[..count].copy_from_slice(&bufs[..count]);
        let mut rest = &mut copy[..count];
        let mut taken = 0;
        while rest.iter().any(|slice| !slice.is_empty()) {
            let n = self.tls.writer().write_vectored(rest)?;
            taken += n;
            IoSlice::advance_slices(&mut rest, n);
            match self.send() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    fn say_end(&mut self) -> io::Result<()> {
        if !self.silent {
            self.silent = true;
            self.tls.send_close_notify();
        }
        self.send()
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self.say_end() {
            // A peer that has no room for 24 bytes more gets the FIN.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => self.socket.shutdown_write(),
        }
    }

    fn reset_on_drop(&mut self) {
        self.silent = true;
        self.socket.reset_on_drop();
    }

    fn has_unsent(&self) -> bool {
        self.tls.wants_write()
    }

    fn try_flush(&mut self) -> io::Result<()> {
        self.send()
    }

    fn has_unread(&self) -> bool {
        self.ended
    }
}

/// A peer that ended first is told of our end too (RFC 8446, section 6.1), if there is room.
impl<S: Transport> Drop for TlsSocket<S> {
    fn drop(&mut self) {
        if !self.silent {
            self.say_end().ok();
        }
    }
}

/// The socket as the TLS library reads it.
struct Pull<'a, S> {
    socket: &'a mut S,
    /// The socket gave less than it could have: it has no more for now.
    drained: bool,
}

impl<S: Transport> Read for Pull<'_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.socket.try_read(buf)?;
        self.drained = n > 0 && n < buf.len() && !self.socket.has_unread();
        Ok(n)
    }
}

/// The socket as the TLS library writes it.
struct Push<'a, S> {
    socket: &'a mut S,
}

impl<S: Transport> Write for Push<'_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.try_write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
