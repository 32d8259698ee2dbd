//! The rows of the wire table that read the same on every wire, written once over [`Client`].
//! Each wire's test file names its rows; what differs between wires is tested there.

use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::{Gateway, Start};
use crate::http::HttpPeer;
use crate::kernel;
use crate::tcp::{FramePeer, LinePeer, Peer};
use crate::upstream::Upstream;
use crate::wait::eventually;
use crate::websocket::WebSocket;

/// A peer on one of the wires.
#[expect(async_fn_in_trait, reason = "the tests run on one thread")]
pub trait Client: Sized {
    /// The harness' listener for this wire.
    const LISTENER: &'static str;

    /// Opens a connection over this socket.
    async fn open(peer: Peer, gateway: &Gateway) -> Self;

    /// Connects to a gateway that refuses, and gives what it says of the reason.
    async fn refused(gateway: &Gateway) -> String;

    /// A message as bytes on this wire.
    fn encode(text: &str) -> Vec<u8>;

    /// The next message, or `None` when weir ends the connection before one.
    async fn try_hear(&mut self) -> Option<String>;

    /// The final error that weir sends before it ends the connection, which is awaited too.
    async fn told(&mut self) -> String;

    /// The socket.
    fn peer(&mut self) -> &mut Peer;

    /// The socket alone.
    fn into_peer(self) -> Peer;

    /// Opens a connection.
    async fn join(gateway: &Gateway) -> Self {
        Self::open(Peer::connect(gateway.address(Self::LISTENER)).await, gateway).await
    }

    /// Sends one message.
    async fn say(&mut self, text: &str) {
        self.peer().send(&Self::encode(text)).await;
    }

    /// The next message.
    async fn hear(&mut self) -> String {
        self.try_hear().await.expect("a message before the end of the connection")
    }

    /// Sends one message and expects it back.
    async fn echo(&mut self, text: &str) {
        self.say(text).await;
        assert_eq!(self.hear().await, text);
    }
}

impl Client for LinePeer {
    const LISTENER: &'static str = "lines";

    async fn open(peer: Peer, _: &Gateway) -> Self {
        Self { peer }
    }

    async fn refused(gateway: &Gateway) -> String {
        Self::join(gateway).await.told().await
    }

    fn encode(text: &str) -> Vec<u8> {
        Self::encode(text)
    }

    async fn try_hear(&mut self) -> Option<String> {
        self.try_hear().await
    }

    async fn told(&mut self) -> String {
        error_of(self.hear().await, &mut self.peer).await
    }

    fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}

impl Client for FramePeer {
    const LISTENER: &'static str = "frames";

    async fn open(peer: Peer, _: &Gateway) -> Self {
        Self { peer }
    }

    async fn refused(gateway: &Gateway) -> String {
        Self::join(gateway).await.told().await
    }

    fn encode(text: &str) -> Vec<u8> {
        Self::encode(text)
    }

    async fn try_hear(&mut self) -> Option<String> {
        self.try_hear().await
    }

    async fn told(&mut self) -> String {
        error_of(self.hear().await, &mut self.peer).await
    }

    fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}

impl Client for WebSocket {
    const LISTENER: &'static str = "http";

    async fn open(peer: Peer, gateway: &Gateway) -> Self {
        let http = HttpPeer::over(peer, gateway.address(Self::LISTENER));
        Self::upgrade(http, "/ws", "").await.expect("an upgrade")
    }

    async fn refused(gateway: &Gateway) -> String {
        let http = HttpPeer::connect(gateway.address(Self::LISTENER)).await;
        let reply = Self::upgrade(http, "/ws", "").await.expect_err("a refusal");
        assert_eq!(reply.status, 503);
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        reply.text().to_owned()
    }

    fn encode(text: &str) -> Vec<u8> {
        Self::encode(text)
    }

    async fn try_hear(&mut self) -> Option<String> {
        self.try_hear().await
    }

    async fn told(&mut self) -> String {
        self.expect_close().await.1
    }

    fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}

/// Errors on plain wires begin with a word of their own, so that a reader can tell them.
async fn error_of(message: String, peer: &mut Peer) -> String {
    let text = message.strip_prefix("error: ");
    let text = text.unwrap_or_else(|| panic!("not an error: {message:?}")).to_owned();
    peer.expect_end().await;
    text
}

/// Timeouts that hold still while another one is tested.
const CALM: &str = "ping_interval = \"off\"\n";

fn calm(timeouts: &str) -> Start {
    Gateway::start().timeouts(&format!("{CALM}{timeouts}"))
}

/// Messages that come in one packet are each answered, in order.
pub async fn sticky<C: Client>() {
    let gateway = Gateway::start().await;
    let mut client = C::join(&gateway).await;
    let texts = (0..100).map(|n| format!("message {n}")).collect::<Vec<_>>();
    let packet = texts.iter().flat_map(|text| C::encode(text)).collect::<Vec<_>>();
    client.peer().send(&packet).await;
    for text in &texts {
        assert_eq!(&client.hear().await, text);
    }
}

/// A message that comes byte by byte is one message.
pub async fn split<C: Client>() {
    let gateway = Gateway::start().await;
    let mut client = C::join(&gateway).await;
    for text in ["one byte at a time", "żółw, 鱼, 🐟"] {
        client.peer().send_split(&C::encode(text)).await;
        assert_eq!(client.hear().await, text);
    }
}

/// The largest message that is allowed is answered.
pub async fn largest<C: Client>() {
    let gateway = Gateway::start().limits("message_bytes_max = 100000").await;
    C::join(&gateway).await.echo(&"x".repeat(100_000)).await;
}

/// A peer that shuts its writing side gets every reply it is owed, then the end.
pub async fn half_close<C: Client>() {
    let upstream = Upstream::start(Duration::from_millis(300)).await;
    let gateway = Gateway::start().answered_by(upstream.address(), "").await;
    let mut client = C::join(&gateway).await;
    for n in 0..5 {
        client.say(&format!("{n}")).await;
    }
    client.peer().half_close().await;
    for n in 0..5 {
        assert_eq!(client.hear().await, format!("answer: {n}"));
    }
    client.peer().take_rest().await;
    gateway.wait_for_closed(C::LISTENER, "peer_closed", 1).await;
}

/// Replies come in the order of the requests, whatever finished first.
pub async fn order<C: Client>() {
    let upstream = Upstream::start(Duration::from_millis(20)).await;
    let gateway = Gateway::start().answered_by(upstream.address(), "").await;
    let mut client = C::join(&gateway).await;
    let packet = (0..40).flat_map(|n| C::encode(&format!("{n}"))).collect::<Vec<_>>();
    client.peer().send(&packet).await;
    for n in 0..40 {
        assert_eq!(client.hear().await, format!("answer: {n}"));
    }
}

/// The exit word ends the connection after the replies before it; what follows is not read.
pub async fn exit<C: Client>() {
    let gateway = Gateway::start().await;
    let mut client = C::join(&gateway).await;
    let packet = ["first", "second", "exit", "never"].map(C::encode).concat();
    client.peer().send(&packet).await;
    assert_eq!(client.hear().await, "first");
    assert_eq!(client.hear().await, "second");
    gateway.wait_for_closed(C::LISTENER, "exit", 1).await;
    let (rest, _) = client.peer().take_rest().await;
    assert!(!String::from_utf8_lossy(&rest).contains("never"), "{rest:?}");
}

/// A peer that begins a message and does not end it is cut at the read timeout, and told.
pub async fn slow_sender<C: Client>() {
    let gateway = calm("read = \"1s\"").await;
    let mut client = C::join(&gateway).await;
    client.echo("in time").await;
    let message = C::encode("unfinished");
    client.peer().send(&message[..message.len() - 1]).await;
    assert_eq!(client.told().await, "read timeout");
    gateway.wait_for_closed(C::LISTENER, "read_timeout", 1).await;
}

/// A byte now and then does not save a slow sender: the deadline is the message's.
pub async fn trickle<C: Client>() {
    let gateway = calm("read = \"1s\"").await;
    let mut client = C::join(&gateway).await;
    let message = C::encode(&"x".repeat(100));
    let begun = Instant::now();
    for byte in &message[..message.len() - 1] {
        if !client.peer().try_send(&[*byte]).await || begun.elapsed() > Duration::from_secs(4) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gateway.wait_for_closed(C::LISTENER, "read_timeout", 1).await;
}

/// A peer that says nothing is cut at the idle timeout, and told.
pub async fn idle<C: Client>() {
    let gateway = calm("idle = \"1s\"").await;
    let mut client = C::join(&gateway).await;
    client.echo("still here").await;
    assert_eq!(client.told().await, "idle timeout");
    gateway.wait_for_closed(C::LISTENER, "idle_timeout", 1).await;
}

/// Behind a cut cable nothing is acknowledged: the kernel's probes find it, and weir forgets it.
pub async fn dead_peer<C: Client>() {
    let keys = "keepalive = \"1s\"\nuser_timeout = \"2s\"";
    let gateway = calm("idle = \"off\"").listener(C::LISTENER, keys).await;
    let mut client = C::join(&gateway).await;
    client.echo("alive").await;
    client.peer().play_dead();
    gateway.wait_for_closed(C::LISTENER, "peer_reset", 1).await;
    gateway.wait_for_open(C::LISTENER, 0).await;
}

/// One connection more than the limit is refused, told why, counted; a place that is given back is
/// given out again.
pub async fn one_too_many<C: Client>() {
    let gateway = Gateway::start().limits("connections_max = 3").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = C::join(&gateway).await;
        client.echo("in").await;
        clients.push(client);
    }
    let said = C::refused(&gateway).await;
    assert!(said.contains("refused: limits.connections_max reached"), "{said:?}");
    let refused = [("listener", C::LISTENER), ("reason", "total")];
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_connections_refused_total", &refused), 1);
    assert_eq!(metrics.count("weir_connections_open", &[("listener", C::LISTENER)]), 3);

    for client in &mut clients {
        client.echo("not disturbed").await;
    }
    drop(clients.pop());
    gateway.wait_for_open(C::LISTENER, 2).await;
    C::join(&gateway).await.echo("in again").await;
}

/// A reset in the middle of a message is one connection's end and nobody else's.
pub async fn reset<C: Client>() {
    let gateway = Gateway::start().await;
    let mut bystander = C::join(&gateway).await;
    for _ in 0..10 {
        let mut client = C::join(&gateway).await;
        client.echo("whole").await;
        let message = C::encode("half");
        client.peer().send(&message[..message.len() - 2]).await;
        client.into_peer().reset();
    }
    gateway.wait_for_closed(C::LISTENER, "peer_reset", 10).await;
    bystander.echo("not disturbed").await;
}

/// A peer that asks and never reads is cut, and has cost no more than its bounds.
pub async fn slow_reader<C: Client>() {
    let gateway = calm("write = \"2s\"").limits("outbox_bytes_max = \"256KiB\"").await;
    let before = kernel::resident_bytes(gateway.pid());
    let narrow = Peer::connect_narrow(gateway.address(C::LISTENER)).await;
    let mut client = C::open(narrow, &gateway).await;
    let packet = C::encode(&"x".repeat(60_000)).repeat(1_000);
    client.peer().send_until_stuck(&packet, Duration::from_secs(1)).await;

    let name = "weir_connections_closed_total";
    let metrics = gateway
        .wait_for("the slow reader to be cut", |m| m.count(name, &[("listener", C::LISTENER)]) == 1)
        .await;
    let cut = |reason| metrics.count(name, &[("listener", C::LISTENER), ("reason", reason)]);
    assert_eq!(cut("slow_consumer") + cut("write_timeout"), 1);
    let grown = kernel::resident_bytes(gateway.pid()).saturating_sub(before);
    assert!(grown < 12 << 20, "one slow reader cost {grown} bytes");
}

/// A peer at full speed beside 1,000 quiet ones on the same event loop: each of these is answered
/// without delay.
pub async fn flood<C: Client>() {
    let gateway = Gateway::start().section("runtime", "workers = 1").await;
    let mut quiet = Vec::new();
    for _ in 0..1_000 {
        quiet.push(C::join(&gateway).await);
    }
    let flooder = C::join(&gateway).await.into_peer().flood(C::encode(&"x".repeat(128)));
    gateway
        .wait_for("the flood", |metrics| {
            metrics.count("weir_messages_received_total", &[("listener", C::LISTENER)]) > 10_000
        })
        .await;

    let mut waits = Vec::new();
    for client in &mut quiet {
        let asked = Instant::now();
        client.echo("quiet").await;
        waits.push(asked.elapsed());
    }
    assert!(!flooder.is_finished(), "the flooder was cut");
    flooder.abort();
    waits.sort();
    let (median, p99) = (waits[500], waits[990]);
    assert!(median < Duration::from_millis(50), "the median wait is {median:?}");
    assert!(p99 < Duration::from_millis(250), "the 99th of 100 waits is {p99:?}");
}

/// More messages in flight than allowed: the socket is not read, nothing is lost.
pub async fn in_flight_bound<C: Client>() {
    let upstream = Upstream::start(Duration::from_millis(50)).await;
    let start = Gateway::start().limits("in_flight_max = 4");
    let gateway = start.answered_by(upstream.address(), "").await;
    let mut client = C::join(&gateway).await;
    let packet = (0..20).flat_map(|n| C::encode(&format!("{n}"))).collect::<Vec<_>>();
    client.peer().send(&packet).await;
    eventually("the first calls", async || (upstream.received().len() >= 4).then_some(())).await;
    assert!(upstream.received().len() <= 8, "{} calls at once", upstream.received().len());
    for n in 0..20 {
        assert_eq!(client.hear().await, format!("answer: {n}"));
    }
}

/// A rate over its limit is answered by not reading: slower, but nothing is lost.
pub async fn message_rate<C: Client>() {
    let gateway = Gateway::start().limits("messages_per_second_max = 20").await;
    let mut client = C::join(&gateway).await;
    let packet = (0..60).flat_map(|n| C::encode(&format!("{n}"))).collect::<Vec<_>>();
    let begun = Instant::now();
    client.peer().send(&packet).await;
    for n in 0..60 {
        assert_eq!(client.hear().await, format!("{n}"));
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1_500), "60 messages at 20 a second took {took:?}");
}
