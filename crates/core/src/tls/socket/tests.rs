//! TLS over an in-memory pipe that is as narrow as a test wants.

use rustls::ClientConnection;

use super::*;
use crate::tls::testing;
use crate::transport::{PipePeer, PipeSocket, pipe};

/// The client's end: a pipe, and TLS on it.
pub(crate) struct Client {
    pub(crate) pipe: PipePeer,
    pub(crate) tls: ClientConnection,
}

impl Client {
    /// Gives the pipe what fits of what is encrypted.
    pub(crate) fn send(&mut self) {
        struct Into<'a>(&'a PipePeer);
        impl Write for Into<'_> {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                match self.0.send(buf) {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    n => Ok(n),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        while self.tls.wants_write() && self.tls.write_tls(&mut Into(&self.pipe)).is_ok() {}
    }

    /// Encrypts and sends what fits.
    pub(crate) fn say(&mut self, plain: &[u8]) {
        self.tls.writer().write_all(plain).unwrap();
        self.send();
    }

    /// What the server has said, from at most `max` bytes of the pipe.
    pub(crate) fn hear(&mut self, max: usize) -> Vec<u8> {
        let bytes = self.pipe.receive(max);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).unwrap();
            self.tls.process_new_packets().unwrap();
        }
        let mut heard = Vec::new();
        // The end of what there is, or of the stream: either is all.
        self.tls.reader().read_to_end(&mut heard).ok();
        heard
    }
}

/// A connection whose handshake is over, through a pipe of `capacity` bytes each way, and what came
/// right behind the handshake.
pub(crate) fn connected(capacity: usize, eager: &[u8]) -> (TlsSocket<PipeSocket>, Client, Vec<u8>) {
    let (mut server, mut client) = testing::ends();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    while server.is_handshaking() || client.is_handshaking() {
        while client.wants_write() {
            client.write_tls(&mut to_server).unwrap();
        }
        if !client.is_handshaking() && !eager.is_empty() {
            client.writer().write_all(eager).unwrap();
            client.write_tls(&mut to_server).unwrap();
        }
        server.read_tls(&mut &to_server[..]).unwrap();
        to_server.clear();
        server.process_new_packets().unwrap();
        while server.wants_write() {
            server.write_tls(&mut to_client).unwrap();
        }
        while !to_client.is_empty() {
            let n = client.read_tls(&mut &to_client[..]).unwrap();
            to_client.drain(..n);
            client.process_new_packets().unwrap();
        }
    }
    let (socket, pipe) = pipe(capacity);
    let mut early = Vec::new();
    let socket = TlsSocket::new(socket, server, &mut early);
    (socket, Client { pipe, tls: client }, early)
}

fn would_block<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn what_came_right_behind_the_handshake_is_not_lost() {
    let (mut socket, _client, early) = connected(4096, b"at once");
    assert_eq!(early, b"at once");
    assert!(would_block(socket.try_read(&mut [0; 9])));
}

#[test]
fn a_short_read_means_that_the_socket_has_no_more() {
    let (mut socket, mut client, _) = connected(64 * 1024, b"");
    let mut buf = [0; 9];
    for n in 0..4 {
        client.say(format!("record {n}").as_bytes());
    }
    // The buffer is full though the record is not: there is more.
    assert_eq!(socket.try_read(&mut buf).unwrap(), 9);
    let mut rest = [0; 99];
    assert_eq!(socket.try_read(&mut rest).unwrap(), 23);
    assert!(would_block(socket.try_read(&mut rest)));
}

#[test]
fn a_record_in_pieces_is_no_input_until_it_is_whole() {
    let (mut socket, mut client, _) = connected(7, b"");
    client.say(b"whole");
    let mut buf = [0; 99];
    let mut reads = 0;
    let n = loop {
        match socket.try_read(&mut buf) {
            Ok(n) => break n,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        client.send();
        reads += 1;
        assert!(reads < 20);
    };
    assert_eq!(&buf[..n], b"whole");
    assert!(reads > 2);
}

#[test]
fn an_end_behind_the_last_bytes_is_told_without_an_edge() {
    let (mut socket, mut client, _) = connected(4096, b"");
    client.say(b"last");
    client.tls.send_close_notify();
    client.send();
    let mut buf = [0; 99];
    assert_eq!(socket.try_read(&mut buf).unwrap(), 4);
    assert!(socket.has_unread());
    assert_eq!(socket.try_read(&mut buf).unwrap(), 0);
}

#[test]
fn a_fin_without_the_end_of_tls_is_a_cut() {
    let (mut socket, mut client, _) = connected(4096, b"");
    client.say(b"transfer 10");
    client.pipe.shutdown_write();
    let mut buf = [0; 99];
    assert_eq!(socket.try_read(&mut buf).unwrap(), 11);
    let error = socket.try_read(&mut buf).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn what_was_taken_and_not_sent_waits_here_and_is_bounded() {
    let (mut socket, mut client, _) = connected(100, b"");
    let big = [b'x'; 100_000];
    let taken = socket.try_write_vectored(&[IoSlice::new(&big)]).unwrap();
    assert_eq!(taken, UNSENT_BYTES_MAX);
    assert!(socket.has_unsent());
    // No more is taken as long as it does not fit.
    assert!(would_block(socket.try_write_vectored(&[IoSlice::new(&big)])));
    let mut heard = Vec::new();
    while socket.has_unsent() {
        heard.extend(client.hear(100));
        let flushed = socket.try_flush();
        assert!(flushed.is_ok() || would_block(flushed));
    }
    heard.extend(client.hear(100));
    assert_eq!(heard, &big[..taken]);
}

#[test]
fn an_end_that_does_not_fit_is_said_when_there_is_room() {
    let (mut socket, mut client, _) = connected(30, b"");
    assert_eq!(socket.try_write_vectored(&[IoSlice::new(b"last")]).unwrap(), 4);
    assert!(would_block(socket.say_end()));
    assert!(would_block(socket.say_end()));
    let mut heard = Vec::new();
    for _ in 0..9 {
        heard.extend(client.hear(7));
        socket.say_end().ok();
    }
    assert_eq!(heard, b"last");
    assert!(!socket.has_unsent());
    assert!(client.tls.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn the_end_is_said_once_also_to_a_peer_that_ended_first() {
    let (socket, mut client, _) = connected(4096, b"");
    drop(socket);
    client.hear(4096);
    let state = client.tls.process_new_packets().unwrap();
    assert!(state.peer_has_closed());
}

#[test]
fn bytes_that_are_no_tls_end_it() {
    let (mut socket, client, _) = connected(4096, b"");
    client.pipe.send(b"GET / HTTP/1.1\r\n\r\n");
    let error = socket.try_read(&mut [0; 99]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
