//! Addresses that failed often are answered late. A bounded map of decaying counts; it holds no
//! timer, and whoever is delayed waits elsewhere.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Addresses that are remembered. Beyond it those that have decayed make room; while there are none,
/// further ones are not slowed down.
const ADDRESSES_MAX: usize = 16_384;

/// The time in which a count decays from the bound to nothing.
const DECAY: Duration = Duration::from_secs(60);

/// The delay of the first answer past the bound; it doubles with each further failure.
const DELAY_FIRST: Duration = Duration::from_millis(100);

/// The longest delay.
pub const DELAY_MAX: Duration = Duration::from_secs(2);

/// Least time between two looks for decayed entries in a full map.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Counts the failures of addresses.
#[derive(Debug, Default)]
pub struct Slowdown {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: HashMap<IpAddr, Count>,
    swept: Option<Instant>,
}

/// A count that decays by what is free in a minute.
#[derive(Clone, Copy, Debug)]
struct Count {
    value: f64,
    at: Instant,
}

impl Slowdown {
    /// How long a verdict on this address is to be held back, when `free` failures a minute cost
    /// nothing; zero for most.
    pub fn delay(&self, address: IpAddr, free: u32, now: Instant) -> Duration {
        let state = self.state.lock();
        let Some(count) = state.failures.get(&network(address)) else { return Duration::ZERO };
        let over = count.decayed(free, now) - f64::from(free);
        if over < 0.0 {
            return Duration::ZERO;
        }
        DELAY_FIRST.mul_f64(over.min(10.0).exp2()).min(DELAY_MAX)
    }

    /// Counts a failure. Returns how many addresses are remembered.
    pub fn failed(&self, address: IpAddr, free: u32, now: Instant) -> usize {
        let mut state = self.state.lock();
        let key = network(address);
        if let Some(count) = state.failures.get_mut(&key) {
            // No further than the longest delay needs, so that it ends soon after the last one.
            let most = f64::from(free) * 2.0 + 5.0;
            *count = Count { value: (count.decayed(free, now) + 1.0).min(most), at: now };
            return state.failures.len();
        }
        if state.failures.len() >= ADDRESSES_MAX {
            state.sweep(free, now);
        }
        if state.failures.len() < ADDRESSES_MAX {
            state.failures.insert(key, Count { value: 1.0, at: now });
        }
        state.failures.len()
    }
}

impl State {
    fn sweep(&mut self, free: u32, now: Instant) {
        let recent = |at: Instant| now.saturating_duration_since(at) < SWEEP_INTERVAL;
        if !self.swept.is_some_and(recent) {
            self.swept = Some(now);
            self.failures.retain(|_, count| count.decayed(free, now) > 0.0);
        }
    }
}

impl Count {
    fn decayed(self, free: u32, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        (self.value - f64::from(free) * age / DECAY.as_secs_f64()).max(0.0)
    }
}

/// Whom a count is of: an IPv4 address, or the /64 that one IPv6 host has for itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use weir_core::clock;

    use super::*;

    const ANN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn fail(slowdown: &Slowdown, free: u32, address: IpAddr, times: u32, now: Instant) {
        for _ in 0..times {
            slowdown.failed(address, free, now);
        }
    }

    #[test]
    fn an_address_that_fails_often_is_answered_late_and_nobody_else() {
        let (slowdown, now) = (Slowdown::default(), clock::now());
        fail(&slowdown, 10, ANN, 9, now);
        assert_eq!(slowdown.delay(ANN, 10, now), Duration::ZERO);
        fail(&slowdown, 10, ANN, 1, now);
        assert_eq!(slowdown.delay(ANN, 10, now), DELAY_FIRST);
        fail(&slowdown, 10, ANN, 1, now);
        assert_eq!(slowdown.delay(ANN, 10, now), DELAY_FIRST * 2);
        fail(&slowdown, 10, ANN, 1000, now);
        assert_eq!(slowdown.delay(ANN, 10, now), DELAY_MAX);
        assert_eq!(slowdown.delay(BOB, 10, now), Duration::ZERO);
    }

    #[test]
    fn failures_are_forgotten_with_time() {
        let (slowdown, now) = (Slowdown::default(), clock::now());
        fail(&slowdown, 10, ANN, 1000, now);
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(slowdown.delay(ANN, 10, later(1)), DELAY_MAX);
        assert_eq!(slowdown.delay(ANN, 10, later(91)), Duration::ZERO);
    }

    #[test]
    fn hosts_of_one_ipv6_network_count_together() {
        let (slowdown, now) = (Slowdown::default(), clock::now());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        fail(&slowdown, 1, address("2001:db8::1"), 5, now);
        assert_ne!(slowdown.delay(address("2001:db8::ffff:2"), 1, now), Duration::ZERO);
        assert_eq!(slowdown.delay(address("2001:db8:0:1::1"), 1, now), Duration::ZERO);
        fail(&slowdown, 1, address("::ffff:192.0.2.1"), 5, now);
        assert_ne!(slowdown.delay(ANN, 1, now), Duration::ZERO);
    }

    #[test]
    fn the_map_is_bounded_and_makes_room_for_those_who_fail_now() {
        let (slowdown, now) = (Slowdown::default(), clock::now());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..ADDRESSES_MAX as u32 + 100 {
            assert!(slowdown.failed(address(n), 1, now) <= ADDRESSES_MAX);
        }
        let later = now + DECAY * 2;
        assert_eq!(slowdown.failed(ANN, 1, later), 1);
    }
}
