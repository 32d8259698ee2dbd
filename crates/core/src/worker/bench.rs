//! What a worker lends to the connection whose turn it is: buffers, sites, counters, the clock.
//! One of each a worker, so that an idle connection owns none.

use std::sync::Arc;
use std::time::Instant;

use super::asks::AskSpawner;
use super::table::Key;
use crate::clock::Tick;
use crate::connection::{Handshakes, Lent, READ_BYTES_MAX};
use crate::local::{Address, Local};
use crate::metrics::{Stopwatch, WorkerCells};
use crate::service::Actions;
use crate::site::Site;
use crate::trace::{Sampler, Tracing};

/// One batch in so many is timed in detail.
const SAMPLE: u32 = 16;

pub(crate) struct Bench {
    pub(crate) sites: Arc<[Site]>,
    pub(crate) cells: Arc<WorkerCells>,
    asks: AskSpawner,
    actions: Actions,
    scratch: Box<[u8]>,
    watch: Stopwatch,
    sampler: Sampler,
    pub(crate) handshakes: Handshakes,
    stages: bool,
    batches: u32,
    origin: Instant,
    now: Instant,
    tick: Tick,
}

impl Bench {
    pub(crate) fn new(
        sites: Arc<[Site]>,
        cells: Arc<WorkerCells>,
        asks: AskSpawner,
        stages: bool,
        now: Instant,
    ) -> Self {
        Self {
            sites,
            cells,
            asks,
            actions: Actions::default(),
            scratch: vec![0; READ_BYTES_MAX].into_boxed_slice(),
            watch: Stopwatch::start(now, stages),
            sampler: Sampler::new(Tracing::off()),
            handshakes: Handshakes::new(),
            stages,
            batches: 0,
            origin: now,
            now,
            tick: Tick::default(),
        }
    }

    /// Traces the messages that are sampled.
    pub(crate) fn traced(mut self, tracing: &Arc<Tracing>) -> Self {
        self.actions = Actions::traced(tracing);
        self.sampler = Sampler::new(Arc::clone(tracing));
        self
    }

    /// Has this for the worker's sessions to share.
    pub(crate) fn put_local(&mut self, local: Box<dyn Local>) {
        self.actions.set_local(local);
    }

    /// Takes it out for its turn.
    pub(crate) fn take_local(&mut self) -> Option<Box<dyn Local>> {
        self.actions.take_local()
    }

    /// Reads at most this many bytes at once from now on: as if much more came than a turn takes.
    pub(crate) fn read_at_most(&mut self, bytes: usize) {
        self.scratch = vec![0; bytes.clamp(1, READ_BYTES_MAX)].into_boxed_slice();
    }

    /// A turn begins: `now` is its time for everything but stages.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.now = now;
        self.tick = Tick::at(self.origin, now);
        self.watch = Stopwatch::start(now, self.stages);
    }

    /// A stage boundary between two kinds of work of one turn.
    pub(crate) fn boundary(&mut self) {
        self.watch.mark();
    }

    pub(crate) fn tick(&self) -> Tick {
        self.tick
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn stages(&self) -> bool {
        self.stages
    }

    pub(crate) fn lend(&mut self, key: Key, site: u16, may_linger: bool) -> Lent<'_> {
        // What one reply made huge does not stay: an idle worker keeps one read's worth.
        if self.actions.out.capacity() > 4 * READ_BYTES_MAX {
            self.actions.out = Vec::new();
        }
        self.actions.out.clear();
        self.actions.out_messages = 0;
        self.actions.out_traces.clear();
        self.actions.set_address(Address::new(key));
        self.actions.set_backlog(false);
        self.batches = self.batches.wrapping_add(1);
        let site = &self.sites[usize::from(site)];
        Lent {
            key,
            site,
            cells: &self.cells.sites[usize::from(site.cells)],
            worker: &self.cells,
            asks: &self.asks,
            actions: &mut self.actions,
            scratch: &mut self.scratch,
            now: self.now,
            tick: self.tick,
            sample: self.stages && self.batches.is_multiple_of(SAMPLE),
            watch: &mut self.watch,
            sampler: &mut self.sampler,
            handshakes: &self.handshakes,
            may_linger,
        }
    }
}
