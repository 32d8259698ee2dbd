//! Drives one connection: polls hyper, holds the deadlines, writes what hyper cannot (the refusal
//! of a head that it has not seen), and closes so that the last bytes arrive.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1::{self, Connection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, timeout};

use super::answer::Answerer;
use super::exchange::{Exchange, Phase, Standing, Upgrade};
use super::gate::{Gate, GateLimits};
use super::io::GatedIo;
use super::refusal::{self, Refusal};
use super::{CurrentSite, HttpEnd, HttpPeer, HttpSite};
use crate::close::CloseReason;
use crate::context::RequestId;

/// Most bytes that are read and dropped while a closing connection waits for the peer to close.
const LINGER_BYTES_MAX: usize = 64 * 1024;
/// The least that hyper wants to buffer.
const HYPER_BUFFER_MIN: usize = 16 * 1024;

/// Serves HTTP/1.1 on a socket until it is upgraded or closed.
///
/// Waits: `handshake` for the first head, `header` for a head that began, `read` for a body,
/// `idle` between requests, `write` for a response to be taken, `close` for the peer to close.
/// While an answer is awaited only the answer's own deadline holds.
///
/// # Cancel safety
/// Dropping it drops the socket and cancels the ask in flight.
pub async fn serve<S>(socket: S, current: CurrentSite, peer: HttpPeer) -> HttpEnd<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let site = current.get();
    let exchange = Arc::new(Exchange::new(Instant::now()));
    let gate = Gate::new(GateLimits {
        header_bytes_max: site.limits.header_bytes_max,
        headers_max: site.limits.headers_max,
        body_bytes_max: site.limits.message_bytes_max,
    });
    let io = GatedIo::new(socket, gate, Arc::clone(&exchange), Arc::clone(&peer.traffic));
    let of_age = site.limits.age_max(peer.conn).map(|age| Instant::now() + age);
    let answerer = Answerer {
        current,
        site: Arc::clone(&site),
        peer: peer.clone(),
        exchange: Arc::clone(&exchange),
        of_age,
    };
    let mut driver = Driver {
        hyper: http1::Builder::new()
            .half_close(true)
            // The driver's own deadlines hold.
            .header_read_timeout(None)
            .max_headers(site.limits.headers_max)
            .max_buf_size(site.limits.header_bytes_max.max(HYPER_BUFFER_MIN))
            .serve_connection(io, answerer),
        exchange,
        draining: false,
        of_age,
    };
    let ending = driver.run(&site, &peer).await;
    let parts = driver.hyper.into_parts();
    debug_assert!(parts.read_buf.is_empty(), "the gate passes no more than the head");
    let (socket, unread) = parts.io.into_parts();
    match ending {
        Ending::Upgrade(upgrade) => upgraded(socket, unread, upgrade),
        Ending::Stream { upgrade, words } => {
            let tail = Tail { socket, unread, site, peer };
            match tail.begin(&words).await {
                Ok(socket) => upgraded(socket, Bytes::new(), upgrade),
                Err(reason) => HttpEnd::Closed { reason },
            }
        }
        Ending::Close { words, reason, linger } => {
            let tail = Tail { socket, unread, site, peer };
            HttpEnd::Closed { reason: tail.close(&words, reason, linger).await }
        }
    }
}

/// Nothing of hyper is left on the connection.
fn upgraded<S>(socket: S, early: Bytes, upgrade: Upgrade) -> HttpEnd<S> {
    let Upgrade { path, request_id, client, handshake, introduction, stream } = upgrade;
    let introduction = Box::new(introduction);
    HttpEnd::Upgraded { socket, early, path, request_id, client, handshake, introduction, stream }
}

/// What the driver leaves to be done.
enum Ending {
    Upgrade(Upgrade),
    /// A stream was taken, and begins with these words.
    Stream {
        upgrade: Upgrade,
        words: Vec<u8>,
    },
    Close {
        /// What the peer is told that hyper has not told it.
        words: Vec<u8>,
        reason: CloseReason,
        /// Whether to wait for the peer to close too.
        linger: bool,
    },
}

impl Ending {
    fn quiet(reason: CloseReason) -> Self {
        Self::Close { words: Vec::new(), reason, linger: true }
    }

    fn abrupt(reason: CloseReason) -> Self {
        Self::Close { words: Vec::new(), reason, linger: false }
    }
}

/// What ends a wait of the driver.
enum Event {
    Forced,
    Done(hyper::Result<()>),
    /// A stream was taken, and hyper has nothing left to write.
    Streams(Vec<u8>),
    /// Draining, and nothing is owed.
    Drained,
    Late(Wait),
    DrainBegins,
}

/// A wait for the peer, by the name of its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Handshake,
    HandshakeHead,
    Header,
    Read,
    Idle,
    /// Between requests, for the connection to come of age.
    Age,
    Write,
}

struct Driver<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    hyper: Connection<GatedIo<S>, Answerer>,
    exchange: Arc<Exchange>,
    draining: bool,
    /// When it is to go, at its next rest.
    of_age: Option<Instant>,
}

impl<S> Driver<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn run(&mut self, site: &HttpSite, peer: &HttpPeer) -> Ending {
        let opened = peer.accepted;
        let mut timer = pin!(tokio::time::sleep_until(opened));
        loop {
            let draining = self.draining;
            // Force before all; then what hyper can do, so that a request which has come is seen
            // before the drain asks whether one has.
            let event = tokio::select! { biased;
                () = peer.stop.force.cancelled() => Event::Forced,
                event = poll_fn(|cx| self.poll(cx, timer.as_mut(), opened, site)) => event,
                () = peer.stop.drain.cancelled(), if !draining => Event::DrainBegins,
            };
            match event {
                Event::Forced => return Ending::abrupt(CloseReason::Forced),
                Event::Done(result) => return self.ending(result, site, peer),
                Event::Streams(words) => {
                    let upgrade = self.exchange.take_upgrade();
                    return upgrade.map_or_else(
                        || Ending::abrupt(CloseReason::InternalError),
                        |upgrade| Ending::Stream { upgrade, words },
                    );
                }
                Event::Drained => return Ending::quiet(peer.stop.reason()),
                Event::Late(Wait::Handshake) => {
                    return Ending::quiet(CloseReason::HandshakeTimeout);
                }
                Event::Late(Wait::Idle) => return Ending::quiet(CloseReason::IdleTimeout),
                Event::Late(Wait::Age) => return Ending::quiet(CloseReason::Aged),
                Event::Late(Wait::Write) => return Ending::abrupt(CloseReason::WriteTimeout),
                Event::Late(Wait::HandshakeHead) => self.exchange.refuse(Refusal::SlowHandshake),
                Event::Late(Wait::Header) => self.exchange.refuse(Refusal::SlowHead),
                Event::Late(Wait::Read) => self.exchange.refuse(Refusal::SlowBody),
                Event::DrainBegins => {
                    self.draining = true;
                    // The driver of the runtime looks at the sockets once more before the drain
                    // asks whether a request has begun.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        opened: Instant,
        site: &HttpSite,
    ) -> Poll<Event> {
        let mut done = Pin::new(&mut self.hyper).poll(cx);
        if matches!(done, Poll::Ready(Ok(()))) && self.exchange.standing().stalled.is_some() {
            // When an upgrade was offered and the body broke, hyper ends without its last flush;
            // polled again it flushes.
            done = Pin::new(&mut self.hyper).poll(cx);
        }
        if let Poll::Ready(result) = done {
            return Poll::Ready(Event::Done(result));
        }
        if let Some(words) = self.exchange.take_first_words() {
            return Poll::Ready(Event::Streams(words));
        }
        let standing = self.exchange.standing();
        if self.draining && standing.is_idle() {
            return Poll::Ready(Event::Drained);
        }
        let mut next = wait(&standing, opened, site);
        if let Some(of_age) = self.of_age
            && standing.is_idle()
            && next.is_none_or(|(_, deadline)| of_age < deadline)
        {
            next = Some((Wait::Age, of_age));
        }
        let Some((wait, deadline)) = next else { return Poll::Pending };
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.poll(cx).map(|()| Event::Late(wait))
    }

    /// What is left to do once hyper is done.
    fn ending(&self, result: hyper::Result<()>, site: &HttpSite, peer: &HttpPeer) -> Ending {
        let outcome = self.exchange.outcome();
        if outcome.failed {
            return Ending::abrupt(CloseReason::PeerReset);
        }
        // Hyper is done with a 101 once it is flushed.
        if let (Ok(()), Some(upgrade)) = (&result, self.exchange.take_upgrade()) {
            return Ending::Upgrade(upgrade);
        }
        if let Some(refusal) = outcome.refusal {
            let reason = refusal.into();
            if outcome.told {
                return Ending::quiet(reason);
            }
            site.metrics.refused(refusal.status().as_u16());
            let id = RequestId::Message { conn: peer.conn, seq: outcome.requests + 1 };
            let words = refusal::last_words(refusal, &id);
            return Ending::Close { words, reason, linger: true };
        }
        match result {
            Ok(()) => {
                let reason = outcome.close.unwrap_or(CloseReason::PeerClosed);
                Ending::Close { words: Vec::new(), reason, linger: !outcome.peer_closed }
            }
            // Hyper has more rules than the gate; it has answered 400 itself.
            Err(error) if error.is_parse() => {
                site.metrics.refused(400);
                Ending::quiet(CloseReason::BadRequest)
            }
            Err(_) => Ending::abrupt(CloseReason::PeerReset),
        }
    }
}

/// The wait that runs now, and its deadline.
fn wait(standing: &Standing, opened: Instant, site: &HttpSite) -> Option<(Wait, Instant)> {
    let timeouts = &site.timeouts;
    if let Some(stalled) = standing.stalled {
        return Some((Wait::Write, stalled + timeouts.write));
    }
    if standing.refused {
        return None;
    }
    let handshake = opened + timeouts.handshake;
    match standing.phase {
        Phase::Idle if standing.first => Some((Wait::Handshake, handshake)),
        Phase::Idle => Some((Wait::Idle, standing.since + timeouts.idle?)),
        Phase::Head => {
            let header = standing.since + timeouts.header;
            if standing.first && handshake < header {
                Some((Wait::HandshakeHead, handshake))
            } else {
                Some((Wait::Header, header))
            }
        }
        Phase::Body => Some((Wait::Read, standing.since + timeouts.read)),
        Phase::Answer => None,
    }
}

/// A socket that hyper has given back, and what was read of it and not served.
struct Tail<S> {
    socket: S,
    unread: Bytes,
    site: Arc<HttpSite>,
    peer: HttpPeer,
}

impl<S> Tail<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Begins a stream. What came behind its request means nothing.
    async fn begin(mut self, words: &[u8]) -> Result<S, CloseReason> {
        self.peer.traffic.bytes_received(self.unread.len() as u64);
        self.say(words).await.map(|()| self.socket)
    }

    async fn close(mut self, words: &[u8], reason: CloseReason, linger: bool) -> CloseReason {
        self.peer.traffic.bytes_received(self.unread.len() as u64);
        let told = words.is_empty() || self.say(words).await.is_ok();
        if told && linger {
            self.linger().await;
        }
        reason
    }

    /// Writes all of it, within the write timeout, or says why that could not be.
    async fn say(&mut self, words: &[u8]) -> Result<(), CloseReason> {
        let write = async {
            self.socket.write_all(words).await?;
            self.socket.flush().await
        };
        let written = tokio::select! { biased;
            () = self.peer.stop.force.cancelled() => return Err(CloseReason::Forced),
            written = timeout(self.site.timeouts.write, write) => written,
        };
        match written {
            Ok(Ok(())) => {
                self.peer.traffic.bytes_sent(words.len() as u64);
                Ok(())
            }
            Ok(Err(_)) => Err(CloseReason::PeerReset),
            Err(_) => Err(CloseReason::WriteTimeout),
        }
    }

    /// Shuts the write side and reads on for a while: a close with unread input would reset the
    /// connection, and the peer could lose the answer.
    async fn linger(&mut self) {
        let traffic = &self.peer.traffic;
        let socket = &mut self.socket;
        let discard = async {
            if socket.shutdown().await.is_err() {
                return;
            }
            let mut scratch = vec![0; 4096];
            let mut left = LINGER_BYTES_MAX;
            while let Ok(n @ 1..) = socket.read(&mut scratch).await {
                traffic.bytes_received(n as u64);
                left = left.saturating_sub(n);
                if left == 0 {
                    return;
                }
            }
        };
        let patience: Duration = self.site.timeouts.close;
        tokio::select! { biased;
            () = self.peer.stop.force.cancelled() => {}
            _ = timeout(patience, discard) => {}
        }
    }
}

#[cfg(test)]
mod tests;
