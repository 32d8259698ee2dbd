//! A whole world from one seed: two workers, one admission, clients and a drain, on one thread
//! and a clock that is moved by hand. What must hold while it runs is checked here, what must
//! hold at its end in `invariants`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use weir_core::admission::{AdmissionLimits, Refusal};
use weir_core::close::CloseReason;
use weir_core::context::ConnId;
use weir_core::limits::{Limits, Timeouts};
use weir_core::pipes::PipeEngine;
use weir_core::service::Service;
use weir_core::site::{Site, SiteWire};
use weir_core::wire::{length, lines};
use weir_pipeline::echo::Echo;
use weir_pipeline::template::Template;

use crate::client::{Client, FAREWELL, HEARTBEAT};
use crate::invariants;
use crate::ledger::{Ledger, Watched, address_of};
use crate::line::Line;
use crate::orders::Orders;
use crate::rng::Rng;
use crate::script::{ECHO_PREFIX, Faults, MESSAGE_BYTES_MAX, Route, Script};
use crate::time::SimClock;
use crate::wire::Wire;

/// Bound on an outbox, in bytes.
pub const OUTBOX_BYTES_MAX: usize = 8 * 1024;
/// What production reads at once.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Messages of one connection that may wait for an answer.
pub const IN_FLIGHT_MAX: usize = 8;
/// Longest leap of the clock: the sweep of production, and in a drain its tick.
const LEAP: Duration = Duration::from_secs(1);
const LEAP_IN_DRAIN: Duration = Duration::from_millis(100);
/// From the end of a drain's window to the force. What one read brought is still answered, and
/// that may be sixty asks of up to 3 s, eight at a time.
const DRAIN_GRACE: Duration = Duration::from_secs(25);
/// Turns at one instant, past which the world spins.
const TURNS_MAX: u32 = 20_000;
/// Task switches given to asks in each round.
const YIELDS: u32 = 4;

/// What became of one client.
pub struct Outcome {
    /// The client, when it was let in.
    pub client: Option<Client>,
    /// Why it was not.
    pub refused: Option<Refusal>,
    /// Its connection.
    pub conn: Option<ConnId>,
    /// Why and when its connection ended.
    pub end: Option<(CloseReason, Duration)>,
}

/// A world at work.
pub struct World {
    /// Its time.
    pub clock: SimClock,
    /// What its services saw.
    pub ledger: Ledger,
    /// What became of each client, in the order of their scripts.
    pub outcomes: Vec<Outcome>,
    /// When the drain begins.
    pub drain_at: Duration,
    /// The engine.
    pub engine: PipeEngine,
    waiting: Vec<(usize, Script, Rng)>,
    window: Duration,
    runtime: Runtime,
    ends_seen: u64,
}

impl World {
    /// Draws a world.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let faults = Faults::draw(&mut rng);
        let clients = rng.below(1..40);
        let (clock, ledger) = (SimClock::new(), Ledger::new(clients));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime of one thread needs nothing");
        let waiting = (0..clients)
            .map(|client| {
                let mut rng = rng.split();
                (client, Script::draw(&faults, &mut rng), rng)
            })
            .collect();
        let outcomes = (0..clients)
            .map(|_| Outcome { client: None, refused: None, conn: None, end: None })
            .collect();
        let drain_at = match faults.early_drain {
            true => rng.up_to(Duration::from_secs(15)),
            false => Duration::from_secs(60),
        };
        let connections_max = if rng.one_in(4) { clients.div_ceil(2) } else { 1000 };
        let admission = AdmissionLimits {
            connections_max,
            per_address_max: rng.one_in(2).then_some(1),
            per_second_max: None,
            per_listener_max: vec![None; SITES.len()],
        };
        let sites = sites(&clock, &ledger);
        let mut engine = PipeEngine::new(sites, 2, admission, runtime.handle(), clock.now());
        engine.read_at_most(rng.pick(&[50, 1000, READ_BYTES_MAX]));
        let window = Duration::from_secs(rng.pick(&[0, 2, 5]));
        Self { clock, ledger, outcomes, drain_at, engine, waiting, window, runtime, ends_seen: 0 }
    }

    /// Runs it to its end and checks every invariant.
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold, in words.
    pub fn run(mut self) -> Result<Self, String> {
        let force_at = self.drain_at + self.window + DRAIN_GRACE;
        let (mut drained, mut forced) = (false, false);
        while !(forced || drained && self.is_empty()) {
            let elapsed = self.clock.elapsed();
            if elapsed >= self.drain_at && !drained {
                self.engine.drain(self.window);
                drained = true;
            }
            if elapsed >= force_at {
                self.engine.force();
                forced = true;
            }
            self.settle()?;
            self.clock.advance(self.next_instant(force_at));
        }
        self.settle()?;
        invariants::at_the_end(&self)?;
        Ok(self)
    }

    /// Nobody is connected or will be.
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.engine.permits() == 0
    }

    fn next_instant(&self, force_at: Duration) -> Instant {
        let now = self.clock.now();
        let drains = self.clock.elapsed() >= self.drain_at;
        let leap = now + if drains { LEAP_IN_DRAIN } else { LEAP };
        let clients = self.outcomes.iter().filter_map(|outcome| outcome.client.as_ref());
        let starts = self.waiting.iter().map(|(_, script, _)| self.clock.at(script.start));
        let stages = [self.drain_at, force_at].map(|after| self.clock.at(after));
        clients
            .filter_map(|client| client.wakes_at(now))
            .chain(self.clock.next())
            .chain(starts)
            .chain(stages)
            .filter(|at| *at > now)
            .min()
            .map_or(leap, |at| at.min(leap))
    }

    /// Lets everything happen that can happen at this instant.
    fn settle(&mut self) -> Result<(), String> {
        let now = self.clock.now();
        let mut quiet = 0;
        for _ in 0..TURNS_MAX {
            let mut moved = self.connect();
            for (index, outcome) in self.outcomes.iter_mut().enumerate() {
                if let Some(client) = &mut outcome.client {
                    moved |= client
                        .step(now)
                        .map_err(|what| format!("client {index} {}: {what}", client.facts()))?;
                }
            }
            self.runtime.block_on(async {
                for _ in 0..YIELDS {
                    tokio::task::yield_now().await;
                }
            });
            moved |= self.engine.turn(now).map_err(|error| error.to_string())?;
            invariants::at_any_time(self)?;
            // An ask that ends at once takes a round to be asked and one to be answered.
            quiet = if moved { 0 } else { quiet + 1 };
            if quiet == 3 {
                self.note_ends();
                return invariants::when_quiet(self);
            }
        }
        Err(format!("the world spins at {:?}", self.clock.elapsed()))
    }

    fn connect(&mut self) -> bool {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let mut connected = false;
        for (index, script, mut rng) in self.waiting.extract_if(.., |(_, s, _)| s.start <= elapsed)
        {
            let (socket, line) = Line::draw(rng.one_in(3), &mut rng);
            let site = site_of(script.wire, script.route);
            let outcome = &mut self.outcomes[index];
            match self.engine.connect(socket, site, address_of(index), Vec::new(), now) {
                Ok(conn) => {
                    outcome.conn = Some(conn);
                    outcome.client = Some(Client::new(script, line, rng, now));
                }
                Err(refusal) => outcome.refused = Some(refusal),
            }
            connected = true;
        }
        connected
    }

    fn note_ends(&mut self) {
        let closed = self.engine.metrics().closed_total();
        if closed == self.ends_seen {
            return;
        }
        self.ends_seen = closed;
        let elapsed = self.clock.elapsed();
        for ended in self.engine.ended() {
            let outcome = self.outcomes.iter_mut().find(|one| one.conn == Some(ended.conn));
            if let Some(outcome) = outcome {
                outcome.end.get_or_insert((ended.reason, elapsed));
            }
        }
    }
}

/// The listeners of every world.
const SITES: [(Wire, Route); 6] = [
    (Wire::Lines, Route::Orders),
    (Wire::Lines, Route::Echo),
    (Wire::Length, Route::Orders),
    (Wire::Length, Route::Echo),
    (Wire::WebSocket, Route::Orders),
    (Wire::WebSocket, Route::Echo),
];

fn site_of(wire: Wire, route: Route) -> u16 {
    let place = SITES.iter().position(|site| *site == (wire, route));
    u16::try_from(place.expect("every pair is a site")).expect("few sites")
}

fn sites(clock: &SimClock, ledger: &Ledger) -> Vec<Site> {
    let template = Template::parse(&format!("{ECHO_PREFIX}{{message}}")).expect("a template");
    let echo = Echo::new("echo", template, Some("x".to_owned()));
    let orders = Orders { clock: clock.clone(), ledger: ledger.clone() };
    let orders: Arc<dyn Service> = Arc::new(Watched { service: orders, ledger: ledger.clone() });
    let echo: Arc<dyn Service> = Arc::new(Watched { service: echo, ledger: ledger.clone() });
    let site = |(index, (wire, route)): (usize, &(Wire, Route))| {
        let index = u16::try_from(index).expect("few sites");
        let line = |text: &'static str| (*wire == Wire::Lines).then(|| text.into());
        Site {
            listener: format!("{wire:?} {route:?}"),
            index,
            cells: index,
            wire: site_wire(*wire),
            service: Arc::clone(match route {
                Route::Orders => &orders,
                Route::Echo => &echo,
            }),
            limits: limits(),
            timeouts: timeouts(),
            heartbeat: line(HEARTBEAT),
            farewell: line(FAREWELL),
            unless_json: None,
        }
    };
    SITES.iter().enumerate().map(site).collect()
}

fn site_wire(wire: Wire) -> SiteWire {
    match wire {
        Wire::Lines => SiteWire::Lines(lines::Options {
            text: true,
            empty: lines::EmptyLines::Skip,
            unfinished: lines::UnfinishedLine::Drop,
        }),
        Wire::Length => SiteWire::Length { prefix: length::Prefix::U32Be, text: false },
        Wire::WebSocket => SiteWire::WebSocket,
    }
}

fn limits() -> Limits {
    Limits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        outbox_bytes_max: OUTBOX_BYTES_MAX,
        in_flight_max: IN_FLIGHT_MAX,
        ..Limits::default()
    }
}

/// Short ones, so that a minute sees each of them.
fn timeouts() -> Timeouts {
    Timeouts {
        handshake: Duration::from_secs(3),
        header: Duration::from_secs(3),
        read: Duration::from_secs(5),
        idle: Some(Duration::from_secs(20)),
        ping_interval: Some(Duration::from_secs(6)),
        pong: Duration::from_secs(3),
        write: Duration::from_secs(5),
        close: Duration::from_secs(1),
    }
}
