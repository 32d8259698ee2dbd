//! A script of commands over one worker and in-memory pipes: peers connect, say anything, read or
//! do not, end or break; time is moved, answers come or never do; at last everything is forced.
//!
//! Holds that nothing panics or spins, that no bound is passed, and that what was opened is closed.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Runtime;
use weir_core::admission::AdmissionLimits;
use weir_core::clock;
use weir_core::close::CloseReason;
use weir_core::context::RequestId;
use weir_core::limits::{Limits, Timeouts};
use weir_core::pipes::PipeEngine;
use weir_core::service::{
    Actions, Answer, AskError, Message, MessageKind, Opening, Response, Service, Session, Ticket,
};
use weir_core::site::{Site, SiteWire};
use weir_core::transport::{PipePeer, Socket, pipe};
use weir_core::wire::{length, lines};

const PEERS_MAX: usize = 8;
const MESSAGE_BYTES_MAX: usize = 64;
const OUTBOX_BYTES_MAX: usize = 256;
const IN_FLIGHT_MAX: usize = 4;
/// Turns after which a worker with nothing new to do must be idle.
const TURNS_MAX: usize = 1000;

/// Each command is a byte that says what, a byte that says to whom, and a byte of size; bytes to
/// send follow it.
pub fn session_script(data: &[u8]) {
    let mut script = data.iter().copied();
    let mut world = World::new();
    while let (Some(what), Some(whom), Some(size)) = (script.next(), script.next(), script.next()) {
        let whom = usize::from(whom) % PEERS_MAX;
        match what % 10 {
            0 => world.connect(whom, size),
            1 | 2 => {
                let bytes: Vec<u8> = script.by_ref().take(usize::from(size)).collect();
                world.send(whom, &bytes);
            }
            3 => world.with(whom, |peer| drop(peer.receive(usize::from(size)))),
            4 => world.with(whom, PipePeer::shutdown_write),
            5 => world.with(whom, PipePeer::reset),
            6 => world.peers[whom] = None,
            7 => world.now += Duration::from_millis(u64::from(size) * 100),
            8 => world.let_asks_run(),
            _ => world.engine.drain(Duration::from_millis(u64::from(size) * 20)),
        }
        world.settle();
    }
    world.engine.force();
    world.settle();
    let metrics = world.engine.metrics();
    assert_eq!(metrics.opened_total(), metrics.closed_total());
    assert_eq!(metrics.closed_for(CloseReason::Aborted), 0);
    assert_eq!((world.engine.permits(), world.engine.held().count()), (0, 0));
}

struct World {
    engine: PipeEngine,
    peers: [Option<PipePeer>; PEERS_MAX],
    now: Instant,
    runtime: Runtime,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("one thread");
        let now = clock::now();
        let admission = AdmissionLimits {
            connections_max: PEERS_MAX,
            per_address_max: None,
            per_second_max: None,
            per_listener_max: vec![None; 3],
        };
        let engine = PipeEngine::new(sites(), 1, admission, runtime.handle(), now);
        Self { engine, peers: Default::default(), now, runtime }
    }

    fn connect(&mut self, whom: usize, size: u8) {
        let (socket, peer) = pipe(1 + usize::from(size));
        let address = SocketAddr::from(([10, 0, 0, 1], 4242));
        let site = u16::from(size % 3);
        let early = vec![b'\n'; usize::from(size % 5)];
        // A refusal is an answer too: the peer's end stays, and is cut.
        let socket = Socket::Plain(socket);
        let connected = self.engine.connect(socket, site, address, early, self.now);
        self.peers[whom] = connected.is_ok().then_some(peer);
    }

    fn with(&self, whom: usize, act: impl FnOnce(&PipePeer)) {
        if let Some(peer) = &self.peers[whom] {
            act(peer);
        }
    }

    fn send(&mut self, whom: usize, mut bytes: &[u8]) {
        for _ in 0..bytes.len() {
            let Some(peer) = &self.peers[whom] else { return };
            let sent = peer.send(bytes);
            bytes = &bytes[sent..];
            if sent == 0 || bytes.is_empty() {
                return;
            }
            self.settle();
        }
    }

    fn let_asks_run(&self) {
        self.runtime.block_on(tokio::task::yield_now());
    }

    /// Turns until there is nothing left to do at this instant.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let busy = self.engine.turn(self.now).expect("a poll of pipes does not fail");
            for held in self.engine.held() {
                // A push may come on top of a reply; framing is at most 14 bytes each.
                let over = held.outbox_bytes > OUTBOX_BYTES_MAX + 2 * (MESSAGE_BYTES_MAX + 256);
                assert!(!over && held.in_flight <= IN_FLIGHT_MAX, "{held:?}");
            }
            if !busy {
                return;
            }
        }
        panic!("the worker spins");
    }
}

fn sites() -> Vec<Site> {
    let lines = lines::Options {
        text: true,
        empty: lines::EmptyLines::Deliver,
        unfinished: lines::UnfinishedLine::Deliver,
    };
    let length = SiteWire::Length { prefix: length::Prefix::U8, text: false };
    let service: Arc<dyn Service> = Arc::new(Script);
    let site = |(index, wire): (u16, SiteWire)| Site {
        listener: index.to_string(),
        index,
        cells: index,
        wire,
        service: Arc::clone(&service),
        limits: Limits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            outbox_bytes_max: OUTBOX_BYTES_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            messages_per_second_max: (index == 1).then_some(3),
            ..Limits::default()
        },
        timeouts: Timeouts::default(),
        heartbeat: Some("beat".into()),
        farewell: Some("bye".into()),
        unless_json: None,
    };
    (0..).zip([SiteWire::Lines(lines), length, SiteWire::WebSocket]).map(site).collect()
}

/// A service that does what the first byte of a message says.
struct Script;

impl Service for Script {
    fn route(&self) -> &str {
        "script"
    }

    fn open(&self, _: &Opening<'_>) -> Box<dyn Session> {
        Box::new(ScriptSession { tickets: 0 })
    }
}

struct ScriptSession {
    tickets: u64,
}

impl Session for ScriptSession {
    fn on_message(
        &mut self,
        message: Message<'_>,
        _: &RequestId,
        _: Instant,
        actions: &mut Actions,
    ) {
        match message.payload.first() {
            Some(b'a'..=b'f') => {
                self.tickets += 1;
                let polls = message.payload.len();
                actions.ask(Ticket(self.tickets), Box::pin(Countdown(polls)));
            }
            Some(b'n') => {
                self.tickets += 1;
                actions.ask(Ticket(self.tickets), Box::pin(std::future::pending()));
            }
            Some(b'p') => actions.push(Bytes::from_static(b"pushed"), MessageKind::Text),
            Some(b'q') => {}
            Some(b'x') => actions.close(CloseReason::Exit),
            _ => actions.reply(message.kind, &[message.payload]),
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
            Ok(response) => actions.reply(MessageKind::Binary, &[&response.body]),
            Err(_) => actions.close(CloseReason::InternalError),
        }
    }

    fn on_drain(&mut self, _: Instant, actions: &mut Actions) {
        actions.push(Bytes::from_static(b"soon"), MessageKind::Text);
    }
}

/// Ready after so many polls, or with an error at once when they are more than four.
struct Countdown(usize);

impl Future for Countdown {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        if self.0 > 4 {
            return Poll::Ready(Err(AskError::Failed));
        }
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                let body = Bytes::from_static(b"answer");
                Poll::Ready(Ok(Response { status: 200, body }))
            }
        }
    }
}
