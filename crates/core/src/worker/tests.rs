//! One worker over in-memory pipes, time moved by hand.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::asks::AskSpawner;
use super::{Bench, Control, HANGUPS_MAX, Mailbox, Worker};
use crate::admission::{Admission, AdmissionLimits};
use crate::clock;
use crate::close::CloseReason;
use crate::connection::NewConnection;
use crate::context::{ConnId, RequestId};
use crate::door::Introduction;
use crate::ends::Ends;
use crate::limits::{Limits, Timeouts};
use crate::local::{Address, Delivery, Local, Note, Post, Terms, Wake};
use crate::metrics::{ConnectionRecord, CoreMetrics, SiteLabels};
use crate::poll::PipePoll;
use crate::service::{
    Actions, Answer, Goodbye, Message, MessageKind, Opening, Pings, Response, Service, Session,
    Ticket,
};
use crate::site::{Site, SiteWire};
use crate::transport::{PipePeer, PipeSocket, Socket, pipe};
use crate::wire::lines::{EmptyLines, Options, UnfinishedLine};

/// Echoes; `ask` waits for an answer first, `say` for one that is said ahead of others, `never` for
/// none, and `exit` ends.
struct Echo;

impl Service for Echo {
    fn route(&self) -> &str {
        "echo"
    }

    fn open(&self, _: &Opening<'_>) -> Box<dyn Session> {
        Box::new(EchoSession { tickets: 0 })
    }
}

struct EchoSession {
    tickets: u64,
}

impl Session for EchoSession {
    fn on_message(
        &mut self,
        message: Message<'_>,
        _: &RequestId,
        _: Instant,
        actions: &mut Actions,
    ) {
        match message.payload {
            b"exit" => actions.close(CloseReason::Exit),
            b"ask" => {
                self.tickets += 1;
                actions.ask(
                    Ticket(self.tickets),
                    Box::pin(async {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        Ok(Response { status: 200, body: bytes::Bytes::from_static(b"answer") })
                    }),
                );
            }
            b"never" => {
                actions.ask(Ticket(u64::MAX), Box::pin(std::future::pending()));
            }
            b"say" => {
                self.tickets += 1;
                let said = Response { status: 204, body: bytes::Bytes::new() };
                actions.ask(Ticket(self.tickets), Box::pin(std::future::ready(Ok(said))));
            }
            other => actions.reply(message.kind, &[other]),
        }
    }

    fn on_answer(
        &mut self,
        _: Ticket,
        answer: Answer,
        _: &RequestId,
        _: Instant,
        actions: &mut Actions,
    ) {
        match answer {
            Ok(response) if response.status == 204 => actions.say(MessageKind::Text, &[b"said"]),
            Ok(response) => actions.reply(MessageKind::Text, &[&response.body]),
            Err(_) => {}
        }
    }
}

struct World {
    worker: Worker<PipePoll>,
    opens: mpsc::Sender<NewConnection<Socket<PipeSocket>>>,
    control: mpsc::Sender<Control>,
    metrics: Arc<CoreMetrics>,
    admission: Arc<Admission>,
    ends: Arc<Ends>,
    now: Instant,
    runtime: tokio::runtime::Runtime,
    ids: u64,
}

fn world(limits: Limits, timeouts: Timeouts) -> World {
    world_of(Arc::new(Echo), limits, timeouts)
}

fn world_of(service: Arc<dyn Service>, limits: Limits, timeouts: Timeouts) -> World {
    let lines =
        Options { text: true, empty: EmptyLines::Skip, unfinished: UnfinishedLine::Deliver };
    world_over(SiteWire::Lines(lines), service, limits, timeouts)
}

fn world_over(
    wire: SiteWire,
    service: Arc<dyn Service>,
    limits: Limits,
    timeouts: Timeouts,
) -> World {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let now = clock::now();
    let site = Site {
        listener: "lines".into(),
        index: 0,
        cells: 0,
        wire,
        service,
        limits,
        timeouts,
        heartbeat: None,
        farewell: Some("bye".into()),
        unless_json: None,
    };
    let labels = SiteLabels { listener: "lines".into(), route: "echo".into() };
    let metrics = CoreMetrics::new(vec!["lines".into()], vec![labels], 1, 100);
    let admission = Admission::new(AdmissionLimits {
        connections_max: 100,
        per_address_max: None,
        per_second_max: None,
        per_listener_max: vec![None],
    });
    let (control, control_lane) = mpsc::channel(8);
    let (opens, opens_lane) = mpsc::channel(64);
    let (answers, answers_lane) = mpsc::channel(64);
    let asks = AskSpawner::new(runtime.handle().clone(), TaskTracker::new(), answers);
    let bench = Bench::new(vec![site].into(), metrics.worker(0), asks, true, now);
    let mailbox = Mailbox { control: control_lane, opens: opens_lane, answers: answers_lane };
    let ends = Arc::new(Ends::new(false));
    let load = Arc::new(AtomicUsize::new(0));
    let worker = Worker::new(PipePoll::new(), bench, mailbox, Arc::clone(&ends), load, now);
    World { worker, opens, control, metrics, admission, ends, now, runtime, ids: 0 }
}

impl World {
    fn connect(&mut self, capacity: usize) -> PipePeer {
        let (socket, peer) = pipe(capacity);
        self.ids += 1;
        let id = ConnId::from_raw(self.ids);
        let address = "127.0.0.1:9".parse().unwrap();
        let permit = self.admission.admit(0, std::net::IpAddr::from([127, 0, 0, 1]), self.now);
        let new = NewConnection {
            socket: Socket::Plain(socket),
            site: 0,
            id,
            peer: address,
            permit: permit.unwrap(),
            record: ConnectionRecord::open(&self.metrics, 0),
            early: Vec::new(),
            request: None,
            request_id: RequestId::Message { conn: id, seq: 0 },
            accepted: self.now,
            tls: None,
            handshake: None,
            introduction: Introduction::default(),
        };
        assert!(self.opens.try_send(new).is_ok());
        peer
    }

    fn turns(&mut self, n: usize) {
        for _ in 0..n {
            let _progress = self.worker.turn(self.now).unwrap();
        }
    }

    /// Moves time by whole seconds, with turns in between as the tick makes them.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.now += Duration::from_millis(100);
            self.turns(2);
        }
    }

    fn reasons(&self) -> Vec<CloseReason> {
        self.ends.newest().iter().map(|end| end.reason).collect()
    }
}

fn calm() -> Timeouts {
    Timeouts { idle: None, ping_interval: None, ..Timeouts::default() }
}

#[test]
fn many_lines_in_one_read_are_answered_in_one_write() {
    let mut world = world(Limits::default(), calm());
    let peer = world.connect(1 << 20);
    world.turns(1);
    peer.send(b"one\ntwo\r\nthr");
    world.turns(1);
    assert_eq!(peer.receive(99), b"one\ntwo\n");
    peer.send(b"ee\n");
    world.turns(1);
    assert_eq!(peer.receive(99), b"three\n");
}

#[test]
fn a_half_close_keeps_its_replies_and_its_last_line() {
    let mut world = world(Limits::default(), calm());
    let peer = world.connect(1 << 20);
    peer.send(b"one\nlast");
    peer.shutdown_write();
    world.turns(3);
    assert_eq!(peer.receive(99), b"one\nlast\n");
    assert!(peer.at_end());
    assert_eq!(world.reasons(), [CloseReason::PeerClosed]);
    assert_eq!(world.admission.open(), 0);
}

#[test]
fn those_who_stay_wait_for_few_of_many_who_hang_up_at_once() {
    let mut world = world(Limits::default(), calm());
    let leaving: Vec<PipePeer> = (0..60).map(|_| world.connect(1 << 20)).collect();
    world.turns(1);
    let staying = world.connect(1 << 20);
    world.turns(1);
    leaving.iter().for_each(PipePeer::shutdown_write);
    staying.send(b"still here\n");
    world.turns(1);
    assert_eq!(staying.receive(99), b"still here\n");
    assert_eq!(world.reasons().len(), HANGUPS_MAX);
    // Nothing new happens on their sockets: the worker goes on by itself.
    world.turns(3);
    assert_eq!(world.reasons(), vec![CloseReason::PeerClosed; 60]);
}

#[test]
fn replies_keep_the_order_of_requests_whatever_finishes_first() {
    let mut world = world(Limits::default(), calm());
    let peer = world.connect(1 << 20);
    peer.send(b"ask\nsecond\nexit\n");
    world.turns(2);
    assert_eq!(peer.receive(99), b"");
    world.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(30)).await });
    world.turns(3);
    assert_eq!(peer.receive(99), b"answer\nsecond\n");
    peer.shutdown_write();
    world.turns(2);
    assert_eq!(world.reasons(), [CloseReason::Exit]);
}

#[test]
fn a_line_over_its_limit_is_refused_by_name_after_what_was_owed() {
    let limits = Limits { message_bytes_max: 8, ..Limits::default() };
    let mut world = world(limits, calm());
    let peer = world.connect(1 << 20);
    peer.send(b"fine\n123456789\nnever\n");
    world.turns(2);
    let text = "fine\nerror: message over limits.message_bytes_max = 8 bytes\n";
    assert_eq!(peer.receive(999), text.as_bytes());
    peer.shutdown_write();
    world.turns(2);
    assert_eq!(world.reasons(), [CloseReason::MessageTooBig]);
}

#[test]
fn a_peer_that_does_not_read_holds_a_bounded_outbox_and_is_cut_by_the_write_timeout() {
    let limits = Limits { outbox_bytes_max: 4096, ..Limits::default() };
    let mut world = world(limits, calm());
    let peer = world.connect(512);
    let line = [b'x'; 99];
    for _ in 0..200 {
        peer.send(&line);
        peer.send(b"\n");
        world.turns(1);
    }
    assert_eq!(world.reasons(), []);
    world.pass(12);
    assert_eq!(world.reasons(), [CloseReason::WriteTimeout]);
    assert!(peer.is_reset());
}

#[test]
fn a_slow_sender_is_cut_and_a_quiet_peer_is_cut_and_both_are_told() {
    let timeouts = Timeouts { read: Duration::from_secs(3), ..calm() };
    let mut slow = world(Limits::default(), timeouts);
    let peer = slow.connect(1 << 20);
    slow.turns(1);
    for _ in 0..6 {
        peer.send(b"x");
        slow.pass(1);
    }
    assert_eq!(peer.receive(99), b"error: read timeout\n");

    let timeouts = Timeouts { idle: Some(Duration::from_secs(5)), ..calm() };
    let mut quiet = world(Limits::default(), timeouts);
    let peer = quiet.connect(1 << 20);
    quiet.pass(4);
    peer.send(b"awake\n");
    quiet.pass(4);
    assert_eq!(peer.receive(99), b"awake\n");
    quiet.pass(3);
    assert_eq!(peer.receive(99), b"error: idle timeout\n");
    // It does not close its side: the linger is bounded.
    quiet.pass(3);
    assert_eq!(quiet.reasons(), [CloseReason::IdleTimeout]);
}

#[test]
fn the_message_rate_holds_reading_back_and_loses_nothing() {
    let limits = Limits { messages_per_second_max: Some(10), ..Limits::default() };
    let mut world = world(limits, calm());
    let peer = world.connect(1 << 20);
    for n in 0..35 {
        peer.send(format!("{n}\n").as_bytes());
    }
    world.turns(5);
    let count = |bytes: Vec<u8>| bytes.iter().filter(|b| **b == b'\n').count();
    assert_eq!(count(peer.receive(9999)), 10);
    world.pass(1);
    assert_eq!(count(peer.receive(9999)), 10);
    world.pass(3);
    assert_eq!(count(peer.receive(9999)), 15);
}

#[test]
fn a_drain_says_farewell_at_its_pace() {
    let mut world = world(Limits::default(), calm());
    let peers: Vec<_> = (0..10).map(|_| world.connect(4096)).collect();
    world.turns(2);
    assert!(world.control.try_send(Control::Drain(Duration::from_secs(10))).is_ok());
    world.pass(5);
    let told = peers.iter().filter(|peer| peer.receive(99) == b"bye\n").count();
    assert!((4..=6).contains(&told), "{told} of 10 half way through");
    world.pass(8);
    assert_eq!(world.metrics.closed_for(CloseReason::Drained), 10);
    assert_eq!(world.worker.len(), 0);
    assert_eq!(world.admission.open(), 0);
}

#[test]
fn who_comes_while_it_drains_is_told_to_go_within_the_window() {
    let mut world = world(Limits::default(), calm());
    let mut peers: Vec<_> = (0..4).map(|_| world.connect(4096)).collect();
    world.turns(2);
    assert!(world.control.try_send(Control::Drain(Duration::from_secs(10))).is_ok());
    world.pass(5);
    drop(peers.drain(..2));
    world.turns(2);
    // Into places that the drain has passed, and one behind all of them.
    peers.extend((0..3).map(|_| world.connect(4096)));
    world.turns(2);
    world.pass(5);
    assert!(peers.iter().all(|peer| peer.receive(99) == b"bye\n"));
}

#[test]
fn a_drain_answers_what_was_read_before_it() {
    let limits = Limits { in_flight_max: 1, ..Limits::default() };
    let mut world = world(limits, calm());
    let peer = world.connect(4096);
    peer.send(b"ask\nask\nlast\n");
    world.turns(2);
    assert!(world.control.try_send(Control::Drain(Duration::ZERO)).is_ok());
    for _ in 0..4 {
        world.pass(1);
        world.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    }
    assert_eq!(peer.receive(99), b"answer\nanswer\nlast\nbye\n");
    assert_eq!(world.metrics.closed_for(CloseReason::Drained), 1);
}

#[test]
fn an_answer_that_fills_no_slot_gives_it_up_though_an_earlier_one_is_waited_for() {
    let limits = Limits { in_flight_max: 2, ..Limits::default() };
    let mut world = world(limits, calm());
    let peer = world.connect(4096);
    peer.send(b"never\n");
    for _ in 0..5 {
        peer.send(b"say\n");
        world.turns(2);
        world.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        world.turns(2);
        assert_eq!(peer.receive(99), b"said\n");
    }
    assert!(world.control.try_send(Control::Force).is_ok());
    world.turns(1);
}

#[test]
fn force_closes_whoever_is_left() {
    let mut world = world(Limits::default(), calm());
    let _peers: Vec<_> = (0..3).map(|_| world.connect(64)).collect();
    world.turns(2);
    assert!(world.control.try_send(Control::Force).is_ok());
    world.turns(1);
    assert_eq!(world.reasons(), [CloseReason::Forced; 3]);
}

#[test]
fn a_connection_at_rest_stays_within_its_budget() {
    let size = size_of::<crate::connection::Connection<crate::transport::Socket>>();
    assert!(size <= 248, "a connection takes {size} bytes of the table");
}

#[test]
fn answers_that_one_slow_answer_held_back_do_not_make_a_slow_consumer() {
    let limits = Limits { outbox_bytes_max: 20, ..Limits::default() };
    let mut world = world(limits, calm());
    let peer = world.connect(16);
    peer.send(b"ask\nask\nask\nask\n");
    world.turns(2);
    world.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    let mut received = Vec::new();
    for _ in 0..20 {
        world.turns(2);
        received.extend(peer.receive(99));
    }
    assert_eq!(received, b"answer\nanswer\nanswer\nanswer\n");
    assert_eq!(world.reasons(), []);
}

#[test]
fn what_is_cut_in_the_middle_is_reset() {
    let mut world = world(Limits::default(), calm());
    let peer = world.connect(8);
    peer.send(b"longer\n");
    world.turns(2);
    peer.send(b"longer\n");
    peer.shutdown_write();
    world.turns(4);
    world.pass(12);
    assert_eq!(world.reasons(), [CloseReason::WriteTimeout]);
    assert!(peer.is_reset());
}

/// What the sessions of [`Shared`] share: who is there, and what is to be said to all of them.
#[derive(Default)]
struct Audience {
    present: Vec<Address>,
    waiting: Vec<bytes::Bytes>,
    /// Who was told what came of deliveries.
    outcomes: Vec<Delivery>,
    events: Arc<Mutex<Vec<&'static str>>>,
}

impl Local for Audience {
    fn written(&mut self, _: Instant) {
        self.events.lock().push("written");
    }

    fn turn(&mut self, now: Instant, post: &mut dyn Post) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let frame = self.waiting.remove(0);
        if &frame[..] == b"timed\n" {
            post.delivered(now, self.present.len() as u64);
        }
        for to in &self.present {
            let delivery = post.deliver(*to, &frame, 1, Terms::STRICT);
            self.outcomes.push(delivery);
            match &frame[..] {
                b"note\n" => post.tell(*to, Box::new("noted")),
                b"leave\n" => post.close(*to, CloseReason::Disconnected),
                _ => {}
            }
        }
        !self.waiting.is_empty()
    }
}

/// Says each message to everybody; "later" is told of the time.
struct Shared {
    wake: Arc<Mutex<Option<Wake>>>,
}

struct SharedSession {
    wake: Arc<Mutex<Option<Wake>>>,
}

impl Service for Shared {
    fn route(&self) -> &str {
        "echo"
    }

    fn open(&self, _: &Opening<'_>) -> Box<dyn Session> {
        Box::new(SharedSession { wake: Arc::clone(&self.wake) })
    }
}

impl SharedSession {
    fn note(actions: &mut Actions, event: &'static str) {
        let audience = actions.local::<Audience>().expect("it was given");
        audience.events.lock().push(event);
    }
}

impl Session for SharedSession {
    fn on_open(&mut self, _: Instant, actions: &mut Actions) {
        let address = actions.address().expect("it is in a table");
        actions.local::<Audience>().expect("it was given").present.push(address);
    }

    fn on_message(
        &mut self,
        message: Message<'_>,
        _: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        if message.payload == b"later" {
            return actions.wake_at(Some(now + Duration::from_secs(3)));
        }
        if message.payload == b"room" {
            return actions.await_room();
        }
        let frame = [message.payload, b"\n"].concat().into();
        actions.local::<Audience>().expect("it was given").waiting.push(frame);
        self.wake.lock().as_ref().expect("it was given").wake();
        actions.say(MessageKind::Text, &[b"o", b"k"]);
    }

    fn on_answer(&mut self, _: Ticket, _: Answer, _: &RequestId, _: Instant, _: &mut Actions) {}

    fn on_note(&mut self, note: Note, _: Instant, actions: &mut Actions) {
        assert_eq!(note.downcast_ref(), Some(&"noted"));
        Self::note(actions, "note");
        actions.say(MessageKind::Text, &[b"noted"]);
    }

    fn on_time(&mut self, _: Instant, actions: &mut Actions) {
        actions.say(MessageKind::Text, &[b"time"]);
    }

    fn on_room(&mut self, _: Instant, actions: &mut Actions) {
        Self::note(actions, "room");
    }

    fn on_close(&mut self, _: CloseReason, _: Instant, actions: &mut Actions) {
        Self::note(actions, "close");
    }

    fn goodbye(&self, _: CloseReason) -> Goodbye {
        Goodbye::Message(bytes::Bytes::from_static(b"farewell"), MessageKind::Text)
    }
}

/// A world whose sessions share an [`Audience`], and what it has seen.
fn shared(limits: Limits) -> (World, Arc<Mutex<Vec<&'static str>>>) {
    let slot = Arc::new(Mutex::new(None));
    let service = Arc::new(Shared { wake: Arc::clone(&slot) });
    let mut world = world_of(service, limits, calm());
    let audience = Audience::default();
    let events = Arc::clone(&audience.events);
    let (wake, wakes) = Wake::new();
    *slot.lock() = Some(wake);
    world.worker = world.worker.with_local(Box::new(audience), wakes);
    (world, events)
}

#[test]
fn what_one_says_reaches_all_in_the_same_turn_behind_its_own_answer() {
    let (mut world, _) = shared(Limits::default());
    let peers: Vec<_> = (0..3).map(|_| world.connect(1 << 20)).collect();
    world.turns(1);
    peers[0].send(b"hello\nagain\n");
    world.turns(2);
    assert_eq!(peers[0].receive(99), b"ok\nok\nhello\nagain\n");
    assert_eq!(peers[1].receive(99), b"hello\nagain\n");
    assert_eq!(peers[2].receive(99), b"hello\nagain\n");
}

#[test]
fn a_full_outbox_is_told_once_it_has_room_again() {
    let (mut world, events) = shared(Limits { outbox_bytes_max: 16, ..Limits::default() });
    let (speaker, slow) = (world.connect(1 << 20), world.connect(4));
    world.turns(1);
    for line in [&b"twelve bytes\n"[..], b"no room here\n", b"nor here\n"] {
        speaker.send(line);
        world.turns(3);
    }
    assert_eq!(*events.lock(), [""; 0]);
    let mut received = Vec::new();
    for _ in 0..9 {
        received.extend(slow.receive(4));
        world.turns(2);
    }
    assert_eq!(received, b"twelve bytes\n");
    assert_eq!(*events.lock(), ["room"]);
    assert!(speaker.receive(99).ends_with(b"nor here\n"));
}

#[test]
fn who_awaits_room_and_has_it_is_told_in_another_turn() {
    let (mut world, events) = shared(Limits::default());
    let peer = world.connect(1 << 20);
    world.turns(1);
    peer.send(b"room\n");
    world.turns(3);
    assert_eq!(*events.lock(), ["room"]);
    assert_eq!(peer.receive(99), b"");
}

#[test]
fn a_session_is_told_what_was_noted_of_the_time_and_of_its_end() {
    let (mut world, events) = shared(Limits::default());
    let peer = world.connect(1 << 20);
    world.turns(1);
    peer.send(b"note\nlater\n");
    world.turns(2);
    assert_eq!(peer.receive(99), b"ok\nnote\nnoted\n");
    world.pass(2);
    assert_eq!(peer.receive(99), b"");
    world.pass(2);
    assert_eq!(peer.receive(99), b"time\n");
    peer.send(b"leave\n");
    world.turns(2);
    assert_eq!(peer.receive(99), b"ok\nleave\nfarewell\n");
    peer.shutdown_write();
    world.turns(2);
    assert_eq!(*events.lock(), ["note", "close"]);
    assert_eq!(world.reasons(), [CloseReason::Disconnected]);
}

#[test]
fn a_turn_is_written_when_all_that_it_was_delivered_to_have_had_their_write() {
    let (mut world, events) = shared(Limits::default());
    let mut peers = Vec::new();
    for _ in 0..80 {
        peers.push(world.connect(1 << 20));
        world.turns(1);
    }
    let stuck = world.connect(1);
    world.turns(1);
    peers[0].send(b"timed\n");
    world.turns(1);
    let told = peers[1..].iter().filter(|peer| peer.receive(99) == b"timed\n").count();
    assert!((60..79).contains(&told), "64 are written to in a turn: {told}");
    assert_eq!(*events.lock(), [""; 0]);
    world.turns(1);
    assert_eq!(*events.lock(), ["written"]);
    peers[0].send(b"untimed\ntimed\ntimed\n");
    world.turns(20);
    assert_eq!(*events.lock(), ["written"; 3], "nobody waits for a full socket");
    drop(stuck);
}

/// Wants pings of the wire.
struct Pinged;

impl Service for Pinged {
    fn route(&self) -> &str {
        "echo"
    }

    fn open(&self, _: &Opening<'_>) -> Box<dyn Session> {
        Box::new(PingedSession)
    }
}

struct PingedSession;

impl Session for PingedSession {
    fn pings(&self) -> Option<Pings> {
        Some(Pings { interval: Duration::from_secs(5), pong: Duration::from_secs(2) })
    }

    fn on_message(&mut self, _: Message<'_>, _: &RequestId, _: Instant, _: &mut Actions) {}

    fn on_answer(&mut self, _: Ticket, _: Answer, _: &RequestId, _: Instant, _: &mut Actions) {}
}

#[test]
fn a_session_that_wants_pings_of_the_wire_has_them_and_its_peer_must_answer() {
    let service = Arc::new(Pinged);
    let mut world = world_over(SiteWire::WebSocket, service, Limits::default(), calm());
    let peer = world.connect(1 << 20);
    world.turns(1);
    world.pass(4);
    assert_eq!(peer.receive(99), b"");
    world.pass(2);
    assert_eq!(peer.receive(99), [0x89, 0]);
    // A pong, masked with nothing.
    peer.send(&[0x8a, 0x80, 0, 0, 0, 0]);
    world.pass(5);
    assert_eq!(peer.receive(99), [0x89, 0]);
    world.pass(4);
    assert_eq!(peer.receive(99)[..1], [0x88], "a Close frame");
}
