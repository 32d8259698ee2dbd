//! A connection's bytes, in TLS or as they are. Reads fill the buffer as far as there is anything,
//! so that a short read means the same on both.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::{ClientConnection, HandshakeKind};

use crate::tls::Tls;

/// One connection's socket, and TLS on it if there is any.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<Secured>),
}

/// TLS on a socket.
pub(super) struct Secured {
    socket: TcpStream,
    tls: ClientConnection,
}

/// How a handshake went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shaken {
    /// Whether an earlier session was taken up again.
    pub(crate) resumed: bool,
    /// Version, key exchange and cipher suite.
    pub(crate) negotiated: String,
}

impl Stream {
    /// Puts TLS on a socket if it is wanted.
    pub(super) fn new(socket: TcpStream, tls: Option<&Tls>) -> Result<Self, rustls::Error> {
        Ok(match tls {
            None => Self::Plain(socket),
            Some(tls) => Self::Tls(Box::new(Secured { socket, tls: tls.connection()? })),
        })
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(secured) => &mut secured.socket,
        }
    }

    /// Sends half of the first message of the handshake, and nothing ever after.
    pub(super) fn stall(&mut self) -> io::Result<()> {
        let Self::Tls(secured) = self else { return Ok(()) };
        let mut hello = Vec::new();
        secured.tls.write_tls(&mut hello)?;
        secured.socket.write_all(&hello[..hello.len() / 2])
    }

    /// How the handshake went; `None` while it is under way, and without TLS.
    pub(super) fn shaken(&self) -> Option<Shaken> {
        let Self::Tls(secured) = self else { return None };
        let tls = &secured.tls;
        let group = tls.negotiated_key_exchange_group();
        let suite = tls.negotiated_cipher_suite().filter(|_| !tls.is_handshaking())?;
        let group = group.map_or("no group".into(), |group| format!("{:?}", group.name()));
        Some(Shaken {
            resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
            negotiated: format!("{:?}, {group}", suite.suite()),
        })
    }

    /// Whether a handshake is under way.
    pub(super) fn is_shaking(&self) -> bool {
        matches!(self, Self::Tls(secured) if secured.tls.is_handshaking())
    }

    /// Reads until `buf` is full or there is no more; goes on with a handshake meanwhile.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(secured) => secured.read(buf),
        }
    }

    /// Writes what the socket takes. TLS takes everything, and sends its rest with
    /// [`Stream::flush`].
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(secured) => {
                secured.tls.writer().write_all(bytes)?;
                secured.send()?;
                Ok(bytes.len())
            }
        }
    }

    /// Sends what TLS has left over; the first message of a handshake is that at its start.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(secured) => secured.send(),
        }
    }

    /// Says that no more comes.
    pub(super) fn shutdown(&mut self) -> io::Result<()> {
        if let Self::Tls(secured) = self {
            secured.tls.send_close_notify();
            secured.send()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }
}

impl Secured {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        let mut drained = false;
        loop {
            match self.tls.reader().read(&mut buf[filled..]) {
                // The end is met again by the next read.
                Ok(0) => return Ok(filled),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Cut off without TLS' own end; to a load that is an end like another.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(filled),
                Err(error) => return Err(error),
            }
            if filled == buf.len() || (drained && filled > 0) {
                return Ok(filled);
            }
            match self.pull() {
                Ok(short) => drained = short,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && filled > 0 => {
                    return Ok(filled);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the socket once and says whether it had less than there was room for.
    fn pull(&mut self) -> io::Result<bool> {
        let mut once = Once { socket: &mut self.socket, short: false };
        self.tls.read_tls(&mut once)?;
        let short = once.short;
        let processed = self.tls.process_new_packets();
        // The next message of a handshake, or the alert that says what was wrong.
        let sent = self.send();
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        sent.map(|()| short)
    }

    fn send(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A socket that notes whether its last read was a short one.
struct Once<'a> {
    socket: &'a mut TcpStream,
    short: bool,
}

impl Read for Once<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(buf)?;
        self.short = read < buf.len();
        Ok(read)
    }
}
