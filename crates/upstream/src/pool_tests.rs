use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(weir_core::clock::now) + Duration::from_millis(millis)
}

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], n))
}

fn limits(per_target: u32, total: u32, queue: usize) -> PoolLimits {
    PoolLimits {
        connections_per_target_max: per_target,
        connections_max: total,
        queue_max: queue,
        idle_timeout: Duration::from_secs(60),
        breaker: BreakerLimits { failures: NonZeroU32::new(2), open: Duration::from_secs(5) },
    }
}

/// A pool with targets at ports 1 to `targets`; connections and waiters are numbers.
fn pool(limits: PoolLimits, targets: u16) -> Pool<Serial, u32> {
    let mut pool = Pool::new(limits, [0]);
    let addresses: Vec<_> = (1..=targets).map(address).collect();
    pool.set_addresses(0, &addresses, at(0));
    pool
}

fn granted(acquired: Acquired<Serial>) -> Grant<Serial> {
    match acquired {
        Acquired::Granted(grant) => grant,
        Acquired::Waits(ticket) => panic!("waits as {ticket:?}"),
        Acquired::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn take(pool: &mut Pool<Serial, u32>, millis: u64) -> Grant<Serial> {
    granted(pool.acquire(|| 0, at(millis)))
}

/// The call went well and its connection is kept.
fn give_back(pool: &mut Pool<Serial, u32>, grant: &Grant<Serial>, millis: u64) {
    let back = Some((grant.serial, grant.serial));
    pool.end(grant.target, grant.gate, Verdict::Success, back, at(millis));
}

/// The call failed and its connection is closed.
fn fail(pool: &mut Pool<Serial, u32>, grant: &Grant<Serial>, millis: u64) {
    pool.closed(grant.target, grant.serial, at(millis));
    pool.end(grant.target, grant.gate, Verdict::Failure, None, at(millis));
}

fn answers(pool: &mut Pool<Serial, u32>) -> Vec<(u32, Result<Grant<Serial>, Refusal>)> {
    pool.take_effects().answer
}

#[test]
fn a_connection_that_came_back_is_used_again() {
    let mut pool = pool(limits(2, 2, 0), 1);
    let first = take(&mut pool, 0);
    assert_eq!(first.reuse, None);
    give_back(&mut pool, &first, 1);
    assert_eq!(take(&mut pool, 2).reuse, Some(first.serial));
}

#[test]
fn the_target_with_the_fewest_calls_in_flight_is_next() {
    let mut pool = pool(limits(9, 9, 0), 2);
    let ports: Vec<_> = (0..4).map(|_| take(&mut pool, 0).addr.address.port()).collect();
    assert_eq!(ports, [1, 2, 1, 2]);
}

#[test]
fn a_connection_counts_until_its_socket_is_closed() {
    let mut pool = pool(limits(1, 9, 1), 1);
    let first = take(&mut pool, 0);
    assert!(matches!(pool.acquire(|| 7, at(0)), Acquired::Waits(_)));
    pool.end(first.target, first.gate, Verdict::Unknown, None, at(1));
    assert!(answers(&mut pool).is_empty(), "the call is over but the socket is open");
    pool.closed(first.target, first.serial, at(2));
    assert!(matches!(&answers(&mut pool)[..], [(7, Ok(_))]));
}

#[test]
fn the_queue_is_bounded_and_first_come_first_served() {
    let mut pool = pool(limits(1, 1, 2), 1);
    let first = take(&mut pool, 0);
    for waiter in [1, 2] {
        assert!(matches!(pool.acquire(|| waiter, at(0)), Acquired::Waits(_)));
    }
    let third = pool.acquire(|| 3, at(0));
    assert!(matches!(third, Acquired::Refused(Refusal::QueueFull { waiting: 2 })));
    give_back(&mut pool, &first, 1);
    let (waiter, grant) = answers(&mut pool).pop().expect("the connection went on");
    assert_eq!(waiter, 1);
    give_back(&mut pool, &grant.expect("granted"), 2);
    assert!(matches!(&answers(&mut pool)[..], [(2, Ok(_))]));
}

#[test]
fn a_waiter_that_gave_up_is_passed_over() {
    let mut pool = pool(limits(1, 1, 2), 1);
    let first = take(&mut pool, 0);
    let Acquired::Waits(ticket) = pool.acquire(|| 1, at(0)) else { panic!("waits") };
    assert!(matches!(pool.acquire(|| 2, at(0)), Acquired::Waits(_)));
    pool.give_up(ticket);
    give_back(&mut pool, &first, 1);
    assert!(matches!(&answers(&mut pool)[..], [(2, Ok(_))]));
}

#[test]
fn an_idle_connection_makes_room_for_a_target_with_less_to_do() {
    let mut pool = pool(limits(2, 2, 1), 2);
    pool.set_addresses(0, &[address(1)], at(0));
    let (busy, idle) = (take(&mut pool, 0), take(&mut pool, 0));
    give_back(&mut pool, &idle, 1);
    pool.set_addresses(0, &[address(1), address(2)], at(2));
    assert!(matches!(pool.acquire(|| 7, at(3)), Acquired::Waits(_)));
    let effects = pool.take_effects();
    assert_eq!(effects.close, [idle.serial]);
    assert!(effects.answer.is_empty(), "not before the socket is closed");
    pool.closed(idle.target, idle.serial, at(4));
    let (_, grant) = answers(&mut pool).pop().expect("served");
    let grant = grant.expect("granted");
    assert_eq!(grant.addr.address, address(2));
    assert_ne!(grant.target, busy.target);
}

#[test]
fn between_equals_nobodys_connection_is_closed() {
    let mut pool = pool(limits(1, 1, 1), 2);
    let first = take(&mut pool, 0);
    give_back(&mut pool, &first, 1);
    for millis in 2..10 {
        let again = take(&mut pool, millis);
        assert_eq!(again.serial, first.serial);
        give_back(&mut pool, &again, millis);
    }
}

#[test]
fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let mut pool = pool(limits(2, 2, 0), 1);
    let (first, second) = (take(&mut pool, 0), take(&mut pool, 0));
    give_back(&mut pool, &first, 0);
    give_back(&mut pool, &second, 10_000);
    pool.sweep(at(59_999));
    assert!(pool.take_effects().close.is_empty());
    pool.sweep(at(60_000));
    assert_eq!(pool.take_effects().close, [first.serial]);
    assert_eq!(take(&mut pool, 60_001).serial, second.serial);
}

#[test]
fn a_connection_that_ends_while_idle_is_not_granted_again() {
    let mut pool = pool(limits(1, 1, 0), 1);
    let first = take(&mut pool, 0);
    pool.ended(first.target, first.serial, at(0));
    assert!(pool.take_effects().close.is_empty(), "it belongs to a call");
    give_back(&mut pool, &first, 1);
    pool.ended(first.target, first.serial, at(2));
    assert_eq!(pool.take_effects().close, [first.serial]);
    pool.closed(first.target, first.serial, at(3));
    assert_eq!(take(&mut pool, 4).reuse, None);
}

#[test]
fn when_every_breaker_is_open_calls_fail_at_once_and_waiters_too() {
    let mut pool = pool(limits(1, 2, 5), 2);
    let grants = [take(&mut pool, 0), take(&mut pool, 0)];
    assert!(matches!(pool.acquire(|| 1, at(0)), Acquired::Waits(_)));
    for grant in &grants {
        pool.end(grant.target, grant.gate, Verdict::Failure, None, at(0));
    }
    for grant in &grants {
        pool.closed(grant.target, grant.serial, at(0));
        let (waiter, next) = answers(&mut pool).pop().expect("served");
        fail(&mut pool, &next.expect("granted"), 1);
        assert!(matches!(
            pool.acquire(|| waiter, at(1)),
            Acquired::Waits(_) | Acquired::Refused(_)
        ));
    }
    let refused = pool.acquire(|| 2, at(2));
    assert!(matches!(refused, Acquired::Refused(Refusal::BreakersOpen { targets: 2 })));
    assert_eq!(pool.figures().waiting, 0);
    assert_eq!(pool.figures().breakers_open, 2);
}

#[test]
fn an_open_breaker_is_probed_by_one_call_when_its_time_is_over() {
    let mut pool = pool(limits(4, 4, 5), 1);
    for _ in 0..2 {
        let grant = take(&mut pool, 0);
        fail(&mut pool, &grant, 0);
    }
    let probe = take(&mut pool, 5_000);
    assert_eq!(probe.gate, Gate::Probe);
    assert!(matches!(pool.acquire(|| 1, at(5_000)), Acquired::Refused(_)));
    give_back(&mut pool, &probe, 5_001);
    assert_eq!(take(&mut pool, 5_002).serial, probe.serial);
    let to: Vec<_> = pool.take_effects().transitions.iter().map(|(_, to)| *to).collect();
    assert_eq!(to, [Transition::Open, Transition::HalfOpen, Transition::Closed]);
}

#[test]
fn a_breaker_that_opens_closes_the_idle_connections_of_its_target() {
    let mut pool = pool(limits(4, 4, 0), 1);
    let (kept, one, two) = (take(&mut pool, 0), take(&mut pool, 0), take(&mut pool, 0));
    give_back(&mut pool, &kept, 0);
    fail(&mut pool, &one, 1);
    fail(&mut pool, &two, 1);
    assert_eq!(pool.take_effects().close, [kept.serial]);
}

#[test]
fn a_probe_is_due_before_equals_even_if_it_needs_room() {
    let mut pool = pool(limits(1, 1, 5), 2);
    for _ in 0..2 {
        let grant = take(&mut pool, 0);
        assert_eq!(grant.addr.address, address(1));
        fail(&mut pool, &grant, 0);
        let other = take(&mut pool, 0);
        assert_eq!(other.addr.address, address(2));
        pool.closed(other.target, other.serial, at(0));
        pool.end(other.target, other.gate, Verdict::Unknown, None, at(0));
    }
    let other = take(&mut pool, 1);
    give_back(&mut pool, &other, 1);
    pool.take_effects();
    assert!(matches!(pool.acquire(|| 7, at(5_000)), Acquired::Waits(_)));
    assert_eq!(pool.take_effects().close, [other.serial]);
    pool.closed(other.target, other.serial, at(5_001));
    let (_, grant) = answers(&mut pool).pop().expect("served");
    assert_eq!(grant.expect("granted").gate, Gate::Probe);
}

#[test]
fn an_address_that_goes_keeps_its_calls_and_loses_its_idle_connections() {
    let mut pool = pool(limits(2, 2, 0), 1);
    let (idle, busy) = (take(&mut pool, 0), take(&mut pool, 0));
    give_back(&mut pool, &idle, 0);
    pool.set_addresses(0, &[address(9)], at(1));
    assert_eq!(pool.take_effects().close, [idle.serial]);
    pool.closed(idle.target, idle.serial, at(2));
    give_back(&mut pool, &busy, 3);
    assert_eq!(pool.take_effects().close, [busy.serial]);
    pool.closed(busy.target, busy.serial, at(4));
    assert_eq!(take(&mut pool, 5).addr.address, address(9));
}

#[test]
fn before_the_first_resolution_calls_wait_and_after_a_failed_one_they_fail() {
    let mut pool: Pool<Serial, u32> = Pool::new(limits(1, 1, 5), [0]);
    assert!(matches!(pool.acquire(|| 1, at(0)), Acquired::Waits(_)));
    pool.resolution_failed(0, at(1));
    assert!(matches!(&answers(&mut pool)[..], [(1, Err(Refusal::Unresolved))]));
    let refused = pool.acquire(|| 2, at(2));
    assert!(matches!(refused, Acquired::Refused(Refusal::Unresolved)));
    pool.set_addresses(0, &[address(1)], at(3));
    pool.resolution_failed(0, at(4));
    take(&mut pool, 5);
}

#[test]
fn a_closed_pool_serves_its_waiters_and_nobody_else() {
    let mut pool = pool(limits(1, 1, 5), 1);
    let first = take(&mut pool, 0);
    assert!(matches!(pool.acquire(|| 1, at(0)), Acquired::Waits(_)));
    pool.close(at(1));
    assert!(matches!(pool.acquire(|| 2, at(1)), Acquired::Refused(Refusal::Closed)));
    give_back(&mut pool, &first, 2);
    let (_, grant) = answers(&mut pool).pop().expect("served");
    give_back(&mut pool, &grant.expect("granted"), 3);
    assert_eq!(pool.take_effects().close, [first.serial]);
    assert!(!pool.is_drained());
    pool.closed(first.target, first.serial, at(4));
    assert!(pool.is_drained());
}

/// One step of the world around a pool. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Acquire,
    AcquireElsewhere(usize),
    /// A call ends well and its connection is kept.
    Keep(usize),
    /// A call ends and its connection starts to close.
    Break(usize, bool),
    /// A socket that was told to close is closed.
    Closed(usize),
    /// A peer closes an idle connection.
    PeerCloses(usize),
    GiveUp(usize),
    Addresses(u16),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Acquire),
        1 => any::<usize>().prop_map(Step::AcquireElsewhere),
        4 => any::<usize>().prop_map(Step::Keep),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(n, failed)| Step::Break(n, failed)),
        4 => any::<usize>().prop_map(Step::Closed),
        1 => any::<usize>().prop_map(Step::PeerCloses),
        1 => any::<usize>().prop_map(Step::GiveUp),
        1 => (0_u16..16).prop_map(Step::Addresses),
        1 => (0_u64..40_000).prop_map(Step::Pass),
    ]
}

/// The world outside: it knows only what the pool has said, and checks every word.
struct World {
    pool: Pool<Serial, u32>,
    limits: PoolLimits,
    now: u64,
    /// Every connection whose socket is open, as this side sees it.
    open: BTreeMap<Serial, TargetId>,
    calls: Vec<Grant<Serial>>,
    closing: Vec<Serial>,
    /// Waiters in the order of their arrival.
    queue: Vec<(u32, Ticket)>,
    arrivals: u32,
}

impl World {
    fn new(limits: PoolLimits) -> Self {
        Self {
            pool: pool(limits, 3),
            limits,
            now: 0,
            open: BTreeMap::new(),
            calls: Vec::new(),
            closing: Vec::new(),
            queue: Vec::new(),
            arrivals: 0,
        }
    }

    fn granted(&mut self, grant: Grant<Serial>) {
        match grant.reuse {
            Some(handle) => {
                assert_eq!(handle, grant.serial);
                assert_eq!(self.open.get(&grant.serial), Some(&grant.target));
                assert!(!self.closing.contains(&grant.serial), "a closing connection was granted");
            }
            None => assert_eq!(self.open.insert(grant.serial, grant.target), None),
        }
        let twice = self.calls.iter().any(|call| call.serial == grant.serial);
        assert!(!twice, "two calls on one connection");
        self.calls.push(grant);
    }

    fn apply(&mut self, step: &Step) {
        let now = at(self.now);
        match *step {
            Step::Acquire => {
                let name = self.arrivals;
                self.arrivals += 1;
                match self.pool.acquire(|| name, now) {
                    // The queue may have been served in the same breath, so FIFO is checked
                    // after its answers.
                    Acquired::Granted(grant) => {
                        self.settle();
                        assert!(self.queue.is_empty(), "somebody was passed");
                        self.granted(grant);
                    }
                    Acquired::Waits(ticket) => self.queue.push((name, ticket)),
                    Acquired::Refused(Refusal::QueueFull { waiting }) => {
                        assert_eq!(waiting, self.limits.queue_max);
                    }
                    Acquired::Refused(Refusal::BreakersOpen { .. } | Refusal::Unresolved) => {}
                    Acquired::Refused(Refusal::Closed) => panic!("nobody closed it"),
                }
            }
            Step::AcquireElsewhere(n) if !self.calls.is_empty() => {
                let avoid = self.calls[n % self.calls.len()].target;
                let grant = self.pool.acquire_elsewhere(avoid, now);
                self.settle();
                if let Some(grant) = grant {
                    assert_ne!(grant.target, avoid);
                    assert!(self.queue.is_empty(), "somebody was passed");
                    self.granted(grant);
                }
            }
            Step::Keep(n) if !self.calls.is_empty() => {
                let call = self.calls.swap_remove(n % self.calls.len());
                let back = Some((call.serial, call.serial));
                self.pool.end(call.target, call.gate, Verdict::Success, back, now);
            }
            Step::Break(n, failed) if !self.calls.is_empty() => {
                let call = self.calls.swap_remove(n % self.calls.len());
                let verdict = if failed { Verdict::Failure } else { Verdict::Unknown };
                self.closing.push(call.serial);
                self.pool.end(call.target, call.gate, verdict, None, now);
            }
            Step::Closed(n) if !self.closing.is_empty() => {
                let serial = self.closing.swap_remove(n % self.closing.len());
                let target = self.open.remove(&serial).expect("it was open");
                self.pool.closed(target, serial, now);
            }
            Step::PeerCloses(n) => {
                let idle: Vec<_> = self.idle();
                if !idle.is_empty() {
                    let serial = idle[n % idle.len()];
                    self.pool.ended(self.open[&serial], serial, now);
                }
            }
            Step::GiveUp(n) if !self.queue.is_empty() => {
                let (_, ticket) = self.queue.remove(n % self.queue.len());
                self.pool.give_up(ticket);
            }
            Step::Addresses(bits) => {
                let addresses: Vec<_> = (0..4)
                    .filter(|bit| bits & (1 << bit) != 0)
                    .map(|bit| address(bit + 1))
                    .collect();
                self.pool.set_addresses(0, &addresses, now);
            }
            Step::Pass(millis) => {
                self.now += millis;
                self.pool.sweep(at(self.now));
            }
            Step::AcquireElsewhere(_)
            | Step::Keep(_)
            | Step::Break(..)
            | Step::Closed(_)
            | Step::GiveUp(_) => {}
        }
        self.settle();
        self.check();
    }

    fn idle(&self) -> Vec<Serial> {
        let busy = |serial: &Serial| self.calls.iter().any(|call| call.serial == *serial);
        let is_idle = |serial: &&Serial| !busy(serial) && !self.closing.contains(serial);
        self.open.keys().filter(is_idle).copied().collect()
    }

    /// Carries out what the pool asked for.
    fn settle(&mut self) {
        let effects = self.pool.take_effects();
        self.closing.extend(effects.close);
        for (waiter, answer) in effects.answer {
            let (first, _) = self.queue.remove(0);
            assert_eq!(waiter, first, "not first come, first served");
            if let Ok(grant) = answer {
                self.granted(grant);
            }
        }
    }

    fn check(&self) {
        let limits = self.limits;
        assert!(self.open.len() <= limits.connections_max as usize, "over the total");
        let mut by_target: BTreeMap<TargetId, u32> = BTreeMap::new();
        for target in self.open.values() {
            *by_target.entry(*target).or_default() += 1;
        }
        assert!(by_target.values().all(|live| *live <= limits.connections_per_target_max));
        let figures = self.pool.figures();
        assert_eq!(figures.connections, self.open.len());
        assert_eq!(figures.idle, self.idle().len());
        assert_eq!(figures.waiting, self.queue.len());
        assert!(figures.waiting <= limits.queue_max);
        if !self.queue.is_empty() {
            match self.pool.choose(None, at(self.now)) {
                Choice::AllBusy => {}
                Choice::Target(_, _, Way::Evict) => {
                    assert!(!self.closing.is_empty(), "nothing will wake the head of the queue");
                }
                choice @ (Choice::Target(..) | Choice::AllShut | Choice::Nowhere) => {
                    panic!("the head of the queue could be answered: {choice:?}")
                }
            }
        }
    }

    /// Ends everything that runs, until nothing does.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            if !self.closing.is_empty() {
                self.apply(&Step::Closed(0));
            } else if !self.calls.is_empty() {
                self.apply(&Step::Keep(0));
            } else {
                return;
            }
        }
        panic!("it does not come to an end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn limits_hold_nobody_is_passed_and_no_waiter_is_lost(
        per_target in 1_u32..4,
        total in 1_u32..7,
        queue in 0_usize..6,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(limits(per_target, total, queue));
        for step in &steps {
            world.apply(step);
        }
        world.drain();
        prop_assert!(world.queue.is_empty(), "a waiter was lost");
        world.pool.close(at(world.now));
        world.settle();
        world.drain();
        prop_assert!(world.pool.is_drained());
        prop_assert_eq!(world.pool.figures(), PoolFigures {
            breakers_open: world.pool.figures().breakers_open,
            ..PoolFigures::default()
        });
    }
}
