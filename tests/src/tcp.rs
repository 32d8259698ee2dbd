//! Peers over TCP, or TLS on it: what every peer can do with its socket, and the two that speak
//! lines and length-prefixed messages.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::stream::Stream;
use crate::tls::TlsClient;
use crate::wait::{SOON, within};

/// How weir ended a connection, as its peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A FIN after the last byte.
    Closed,
    /// A reset.
    Reset,
}

/// A socket and what has been read from it but not taken.
#[derive(Debug)]
pub struct Peer {
    stream: Stream,
    buffer: Vec<u8>,
    ended: Option<Ending>,
}

/// An address that was free a moment ago, so that a weir that starts again is found where it was.
///
/// # Panics
///
/// When loopback has no free port.
pub fn free_address() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address")
}

impl Peer {
    /// Connects from any address.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub async fn connect(address: SocketAddr) -> Self {
        let connecting = TcpStream::connect(address);
        Self::opened(within("a TCP connection", SOON, connecting).await.expect("connects"))
    }

    /// Connects, unless nobody listens there now.
    pub async fn try_connect(address: SocketAddr) -> Option<Self> {
        let connecting = TcpStream::connect(address);
        Some(Self::opened(within("a TCP connection", SOON, connecting).await.ok()?))
    }

    /// Connects from one of the loopback addresses.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub async fn connect_from(from: IpAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("a loopback address");
        let connecting = socket.connect(address);
        Self::opened(within("a TCP connection", SOON, connecting).await.expect("connects"))
    }

    /// Connects with a receive buffer as small as the kernel allows, so that a peer that does not
    /// read is felt early.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
        let connecting = socket.connect(address);
        Self::opened(within("a TCP connection", SOON, connecting).await.expect("connects"))
    }

    fn opened(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream: Stream::Tcp(stream), buffer: Vec::new(), ended: None }
    }

    /// Ends the plain part: from here on it speaks TLS, with this name asked for.
    ///
    /// # Errors
    ///
    /// That of the handshake.
    ///
    /// # Panics
    ///
    /// When the handshake takes too long.
    pub async fn over_tls(self, client: &TlsClient, name: &str) -> std::io::Result<Self> {
        let stream = client.handshake(self.stream.into_tcp(), name).await?;
        Ok(Self { stream: Stream::Tls(Box::new(stream)), buffer: Vec::new(), ended: None })
    }

    /// This end's address.
    ///
    /// # Panics
    ///
    /// When the socket is not connected.
    pub fn local(&self) -> SocketAddr {
        self.stream.tcp().local_addr().expect("a connected socket")
    }

    /// Sends all of `bytes`. A failure is not told: the next read shows it.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await;
    }

    /// Sends all of `bytes` and says whether the kernel took them.
    ///
    /// # Panics
    ///
    /// When weir does not take them within [`SOON`].
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        within("weir to read", SOON, sent).await.is_ok()
    }

    /// Sends `bytes` for as long as weir takes them, and says how many it took. Stops after `quiet`
    /// without room.
    pub async fn send_until_stuck(&mut self, bytes: &[u8], quiet: Duration) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match tokio::time::timeout(quiet, self.stream.write(&bytes[sent..])).await {
                Ok(Ok(count)) => sent += count,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        sent
    }

    /// Sends `bytes` one at a time, each in a segment of its own.
    pub async fn send_split(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(&[*byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// Shuts the writing side: weir sees the end of what it reads.
    ///
    /// # Panics
    ///
    /// When the socket is gone already.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("an open socket");
    }

    /// Sends `message` again and again as fast as weir takes it, and reads as fast as it answers,
    /// until aborted. Ends by itself when weir ends the connection.
    pub fn flood(self, message: Vec<u8>) -> JoinHandle<()> {
        let packet = message.repeat(100);
        let (mut reader, mut writer) = tokio::io::split(self.stream);
        tokio::spawn(async move {
            let send = async { while writer.write_all(&packet).await.is_ok() {} };
            let mut scratch = vec![0; 64 * 1024];
            let receive = async { while matches!(reader.read(&mut scratch).await, Ok(1..)) {} };
            tokio::join!(send, receive);
        })
    }

    /// Ends with a reset instead of a FIN.
    ///
    /// # Panics
    ///
    /// When the socket option is refused.
    pub fn reset(self) {
        SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Plays dead: from now on the kernel drops every segment for this socket, so nothing is read
    /// and nothing is acknowledged, as if the cable had been cut.
    ///
    /// # Panics
    ///
    /// When the socket filter is refused.
    pub fn play_dead(&self) {
        // Classic BPF: `ret #0`, keep no byte of any segment.
        let drop_all = [SockFilter::new(0x06, 0, 0, 0)];
        SockRef::from(self.stream.tcp()).attach_filter(&drop_all).expect("SO_ATTACH_FILTER");
    }

    /// Takes what `parse` makes of the first bytes, once it makes something of them: a value and
    /// how many bytes it took. `None` when the connection ends before.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, it has taken nothing.
    ///
    /// # Panics
    ///
    /// When neither happens in time.
    pub async fn take_parsed<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Option<(T, usize)>,
    ) -> Option<T> {
        loop {
            if let Some((value, taken)) = parse(&self.buffer) {
                self.buffer.drain(..taken);
                return Some(value);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Takes exactly `count` bytes.
    ///
    /// # Panics
    ///
    /// When they do not come in time, or the connection ends before them.
    pub async fn take(&mut self, count: usize) -> Vec<u8> {
        let parse = |bytes: &[u8]| Some((bytes.get(..count)?.to_vec(), count));
        let taken = self.take_parsed(parse).await;
        taken.unwrap_or_else(|| panic!("{} of {count} bytes, then the end", self.buffer.len()))
    }

    /// Takes what comes up to and with `mark`, or `None` when the connection ends before it.
    ///
    /// # Panics
    ///
    /// When neither happens in time.
    pub async fn take_through(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        let parse = |bytes: &[u8]| {
            let end = bytes.windows(mark.len()).position(|window| window == mark)? + mark.len();
            Some((bytes[..end].to_vec(), end))
        };
        self.take_parsed(parse).await
    }

    /// Takes all that comes until the connection ends.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub async fn take_rest(&mut self) -> (Vec<u8>, Ending) {
        while self.fill().await {}
        (std::mem::take(&mut self.buffer), self.ended.expect("fill said that it ended"))
    }

    /// Waits for the end of the connection.
    ///
    /// # Panics
    ///
    /// When anything else comes, or nothing comes in time.
    pub async fn expect_end(&mut self) -> Ending {
        let (rest, ending) = self.take_rest().await;
        assert!(rest.is_empty(), "{:?} came before the end", String::from_utf8_lossy(&rest));
        ending
    }

    /// Waits for `quiet` and says whether nothing came and the connection stayed open.
    pub async fn stays_quiet(&mut self, quiet: Duration) -> bool {
        self.buffer.is_empty() && tokio::time::timeout(quiet, self.fill()).await.is_err()
    }

    /// Reads once; false at the end of the connection.
    async fn fill(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let read = self.stream.read_buf(&mut self.buffer);
        match within("weir to write or to close", SOON, read).await {
            Ok(0) => self.ended = Some(Ending::Closed),
            Ok(_) => return true,
            Err(_) => self.ended = Some(Ending::Reset),
        }
        false
    }
}

/// A peer that speaks lines.
#[derive(Debug)]
pub struct LinePeer {
    /// Its socket.
    pub peer: Peer,
}

impl LinePeer {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { peer: Peer::connect(address).await }
    }

    /// A message as bytes on this wire.
    pub fn encode(text: &str) -> Vec<u8> {
        format!("{text}\n").into_bytes()
    }

    /// Sends one line.
    pub async fn say(&mut self, text: &str) {
        self.peer.send(&Self::encode(text)).await;
    }

    /// The next line, without its end.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub async fn hear(&mut self) -> String {
        self.try_hear().await.expect("a line before the end of the connection")
    }

    /// The next line, or `None` when the connection ends before one.
    ///
    /// # Panics
    ///
    /// When the line is not UTF-8.
    pub async fn try_hear(&mut self) -> Option<String> {
        let mut line = self.peer.take_through(b"\n").await?;
        line.pop();
        Some(String::from_utf8(line).expect("a line of UTF-8"))
    }
}

/// A peer that speaks messages with a 4-byte big-endian length before each.
#[derive(Debug)]
pub struct FramePeer {
    /// Its socket.
    pub peer: Peer,
}

impl FramePeer {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { peer: Peer::connect(address).await }
    }

    /// A message as bytes on this wire.
    pub fn encode(text: &str) -> Vec<u8> {
        Self::encode_bytes(text.as_bytes())
    }

    /// A message as bytes on this wire.
    ///
    /// # Panics
    ///
    /// When it is over 4 GiB.
    pub fn encode_bytes(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a small message");
        [&length.to_be_bytes(), payload].concat()
    }

    /// Sends one message.
    pub async fn say(&mut self, text: &str) {
        self.peer.send(&Self::encode(text)).await;
    }

    /// The next message.
    ///
    /// # Panics
    ///
    /// When none comes, or one that is not UTF-8.
    pub async fn hear(&mut self) -> String {
        self.try_hear().await.expect("a message before the end of the connection")
    }

    /// The next message, or `None` when the connection ends before one.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    pub async fn try_hear(&mut self) -> Option<String> {
        let bytes = self.peer.take_parsed(Self::parse).await?;
        Some(String::from_utf8(bytes).expect("a message of UTF-8"))
    }

    /// The next message.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub async fn hear_bytes(&mut self) -> Vec<u8> {
        let taken = self.peer.take_parsed(Self::parse).await;
        taken.expect("a message before the end of the connection")
    }

    fn parse(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        Some((rest.get(..length)?.to_vec(), 4 + length))
    }
}
