//! What becomes of each connection of `weir-load handshakes`: when it began, how its handshake
//! went, how it ended. When the next one begins is not decided here.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;

use crate::clock;
use crate::fleet::{End, Fleet, Load, Shaken, Then};
use crate::histogram::Histogram;

/// What is counted since the window began.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) full: u64,
    pub(super) resumed: u64,
    /// What did not go as it should.
    pub(super) failed: BTreeMap<String, u64>,
    /// From the connect to the end of the handshake, in nanoseconds.
    pub(super) times: Histogram,
}

/// All connections.
pub(super) struct Shakes {
    /// How many of how many stall.
    stalled: (u64, u64),
    /// Whether a connection ends when its handshake is over.
    close: bool,
    /// When each began.
    began: Vec<Instant>,
    /// Places of connections that have ended.
    vacant: Vec<usize>,
    /// Those of a storm whose handshake is over, one way or another.
    through: u64,
    pub(super) counts: Counts,
    /// Suite and key exchange of the first.
    pub(super) negotiated: Option<String>,
    /// Seconds of each storm.
    pub(super) storms: Vec<f64>,
}

impl Shakes {
    pub(super) fn new(connections: u32, stalled: u32, close: bool) -> Self {
        Self {
            stalled: (stalled.into(), connections.into()),
            close,
            began: Vec::new(),
            vacant: Vec::new(),
            through: 0,
            counts: Counts::default(),
            negotiated: None,
            storms: Vec::new(),
        }
    }

    /// Begins one more.
    pub(super) fn dial(&mut self, fleet: &mut Fleet) -> Result<()> {
        let stalls = self.stalls(self.began.len());
        self.began.push(clock::now());
        fleet.dial(stalls)
    }

    /// Begins one for each that has ended.
    pub(super) fn redial(&mut self, fleet: &mut Fleet) -> Result<()> {
        for index in self.vacant.drain(..) {
            self.began[index] = clock::now();
            fleet.redial(index)?;
        }
        Ok(())
    }

    /// Those that stall are spread evenly among the others.
    fn stalls(&self, index: usize) -> bool {
        let (stalled, all) = self.stalled;
        let before = |index: u64| index * stalled / all;
        before(index as u64 + 1) > before(index as u64)
    }

    /// Whether everybody who does not stall is through.
    pub(super) fn all_are_through(&self) -> bool {
        let (stalled, all) = self.stalled;
        self.through >= all - stalled
    }

    /// Starts the window.
    pub(super) fn forget_counts(&mut self) {
        self.counts = Counts::default();
    }

    /// Forgets the connections, but not what was counted.
    pub(super) fn start_again(&mut self) {
        self.began.clear();
        self.vacant.clear();
        self.through = 0;
    }
}

impl Load for Shakes {
    fn on_open(&mut self, index: usize, shaken: Option<Shaken>, now: Instant) -> Then {
        let Some(shaken) = shaken else { return Then::Close };
        self.through += 1;
        let kind = if shaken.resumed { &mut self.counts.resumed } else { &mut self.counts.full };
        *kind += 1;
        self.counts.times.record((now - self.began[index]).as_nanos() as u64);
        self.negotiated.get_or_insert(shaken.negotiated);
        if self.close { Then::Close } else { Then::Stay }
    }

    fn on_message(&mut self, _: usize, _: &[u8], _: Instant, _: &mut Vec<u8>) {}

    fn on_end(&mut self, index: usize, end: End) {
        if end == End::Refused && !self.stalls(index) {
            self.through += 1;
        }
        if end != End::Fin {
            *self.counts.failed.entry(end.label()).or_default() += 1;
        }
        self.vacant.push(index);
    }
}
