//! The addresses that calls can go to, each with its connections, its load and its breaker, and
//! the choice between them. Pure: no I/O, and time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::breaker::{Breaker, BreakerLimits, Gate};

/// Names one target for as long as the upstream lives; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TargetId(u64);

/// Names one connection for as long as the upstream lives; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Serial(pub(crate) u64);

/// One address of one configured origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TargetAddr {
    /// Index of the origin in the configured list.
    pub(crate) origin: usize,
    /// Where to connect.
    pub(crate) address: SocketAddr,
}

/// A connection that nobody uses.
#[derive(Debug)]
pub(crate) struct Idle<C> {
    pub(crate) serial: Serial,
    pub(crate) handle: C,
    pub(crate) since: Instant,
}

/// One address and what goes on with it.
#[derive(Debug)]
pub(crate) struct Target<C> {
    pub(crate) addr: TargetAddr,
    pub(crate) breaker: Breaker,
    /// Connections from the start of connecting until the socket is closed.
    pub(crate) live: u32,
    /// Calls that have been granted and have not ended.
    pub(crate) in_flight: u32,
    /// Longest unused first.
    pub(crate) idle: VecDeque<Idle<C>>,
    /// No longer among the addresses: what runs ends, nothing new begins.
    pub(crate) retired: bool,
}

impl<C> Target<C> {
    /// Takes the idle connections that have been unused for `timeout`.
    pub(crate) fn take_expired(&mut self, timeout: Duration, now: Instant) -> Vec<Idle<C>> {
        let expired = self.idle.iter().take_while(|idle| idle.since + timeout <= now).count();
        self.idle.drain(..expired).collect()
    }

    /// Takes an idle connection by its name.
    pub(crate) fn take_idle(&mut self, serial: Serial) -> Option<Idle<C>> {
        let place = self.idle.iter().position(|idle| idle.serial == serial)?;
        self.idle.remove(place)
    }
}

/// How a call could get a connection to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// An idle connection is there.
    Reuse,
    /// There is room for a new one.
    Connect,
    /// There will be room once an idle connection to another target is closed.
    Evict,
}

/// What a call that looks for a target finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This one, so.
    Target(TargetId, Gate, Way),
    /// Every connection that is allowed is busy.
    AllBusy,
    /// No target lets a call through.
    AllShut,
    /// There is no target.
    Nowhere,
}

/// Every target, in the order in which they became known.
#[derive(Debug)]
pub(crate) struct Targets<C> {
    map: BTreeMap<TargetId, Target<C>>,
    next: u64,
    last_chosen: TargetId,
    breaker: BreakerLimits,
}

impl<C> Targets<C> {
    pub(crate) fn new(breaker: BreakerLimits) -> Self {
        Self { map: BTreeMap::new(), next: 1, last_chosen: TargetId(0), breaker }
    }

    pub(crate) fn get_mut(&mut self, id: TargetId) -> Option<&mut Target<C>> {
        self.map.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TargetId, &Target<C>)> {
        self.map.iter().map(|(id, target)| (*id, target))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Target<C>> {
        self.map.values_mut()
    }

    /// Targets that calls can go to, shut ones included.
    pub(crate) fn current(&self) -> impl Iterator<Item = (TargetId, &Target<C>)> {
        self.iter().filter(|(_, target)| !target.retired)
    }

    /// Makes `addresses` the addresses of an origin. A target that stays keeps its state.
    pub(crate) fn set_addresses(&mut self, origin: usize, addresses: &[SocketAddr]) {
        for target in self.map.values_mut().filter(|target| target.addr.origin == origin) {
            target.retired = !addresses.contains(&target.addr.address);
        }
        for address in addresses {
            let addr = TargetAddr { origin, address: *address };
            if self.map.values().any(|target| target.addr == addr) {
                continue;
            }
            self.map.insert(
                TargetId(self.next),
                Target {
                    addr,
                    breaker: Breaker::new(self.breaker),
                    live: 0,
                    in_flight: 0,
                    idle: VecDeque::new(),
                    retired: false,
                },
            );
            self.next += 1;
        }
        self.forget_retired();
    }

    /// Forgets the retired targets that nothing refers to any more.
    pub(crate) fn forget_retired(&mut self) {
        self.map.retain(|_, target| !target.retired || target.live > 0 || target.in_flight > 0);
    }

    /// Chooses the target with the fewest calls in flight. Between equals, one that waits for its
    /// probe comes first (else a busy pool would never learn that it is back), one that needs
    /// another's connection closed comes last, and the rest take turns.
    pub(crate) fn choose(
        &self,
        connections_per_target_max: u32,
        room_in_total: bool,
        avoid: Option<TargetId>,
        now: Instant,
    ) -> Choice {
        let idle_anywhere: usize = self.map.values().map(|target| target.idle.len()).sum();
        let mut nothing = Choice::Nowhere;
        let mut best = None;
        for (id, target) in self.current().filter(|(id, _)| Some(*id) != avoid) {
            let gate = target.breaker.gate(now);
            if gate == Gate::Shut {
                if nothing == Choice::Nowhere {
                    nothing = Choice::AllShut;
                }
                continue;
            }
            nothing = Choice::AllBusy;
            let way = if !target.idle.is_empty() {
                Way::Reuse
            } else if target.live >= connections_per_target_max {
                continue;
            } else if room_in_total {
                Way::Connect
            } else if idle_anywhere > 0 {
                Way::Evict
            } else {
                continue;
            };
            let tie = match (gate, way) {
                (Gate::Probe, _) => 0,
                (_, Way::Reuse | Way::Connect) => 1,
                (_, Way::Evict) => 2,
            };
            let rank = (target.in_flight, tie, id <= self.last_chosen, id);
            if best.as_ref().is_none_or(|(least, _)| rank < *least) {
                best = Some((rank, Choice::Target(id, gate, way)));
            }
        }
        best.map_or(nothing, |(_, choice)| choice)
    }

    /// Notes that a call went to a target, so that the next one begins its turn after it.
    pub(crate) fn chosen(&mut self, id: TargetId) {
        self.last_chosen = id;
    }

    /// The target with the connection that has been idle longest.
    pub(crate) fn longest_idle(&mut self) -> Option<&mut Target<C>> {
        self.map
            .values_mut()
            .filter(|target| !target.idle.is_empty())
            .min_by_key(|target| target.idle.front().map(|idle| idle.since))
    }
}
