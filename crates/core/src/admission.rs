//! Who may connect: a `Permit` or a `Refusal`. Limits in total, for each listener, for each
//! address and each second. Logs nothing for a single refusal; the metrics count them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::pressure::{Pressure, PressureCell};

/// Why a connection was refused. The name is the metric label and what the peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// `limits.connections_max` is reached.
    Total,
    /// The listener's own `connections_max` is reached.
    Listener,
    /// `limits.connections_per_address_max` is reached for this address.
    Address,
    /// `limits.connections_per_second_max` is reached.
    Rate,
    /// weir is draining.
    Draining,
    /// Memory or loop lag is over a threshold of `overload`.
    Overload,
}

impl Refusal {
    /// Every refusal, in order; `refusal as usize` is its index here.
    pub const ALL: [Self; 6] =
        [Self::Total, Self::Listener, Self::Address, Self::Rate, Self::Draining, Self::Overload];

    /// The metric label and the log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Listener => "listener",
            Self::Address => "address",
            Self::Rate => "rate",
            Self::Draining => "draining",
            Self::Overload => "overload",
        }
    }

    /// What the peer is told: names the limit.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Total => "refused: limits.connections_max reached",
            Self::Listener => "refused: the listener's connections_max reached",
            Self::Address => "refused: limits.connections_per_address_max reached",
            Self::Rate => "refused: limits.connections_per_second_max reached",
            Self::Draining => "refused: draining",
            Self::Overload => "refused: overloaded, try again later",
        }
    }
}

/// The caps of [`Admission`]. "Off" is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Open connections in total.
    pub connections_max: usize,
    /// Open connections from one address.
    pub per_address_max: Option<usize>,
    /// New connections a second, over all listeners, with one second's burst.
    pub per_second_max: Option<u32>,
    /// Open connections of each listener, by index.
    pub per_listener_max: Vec<Option<usize>>,
}

/// Shards of the address map: a lock is held for a few instructions.
const SHARDS: usize = 16;

/// Grants permits. The address map holds only addresses with open connections, so it is bounded by
/// `connections_max`; it is not kept at all while the per-address limit is off.
#[derive(Debug)]
pub struct Admission {
    limits: ArcSwap<AdmissionLimits>,
    total: AtomicUsize,
    listeners: Vec<AtomicUsize>,
    addresses: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
    rate: Mutex<Option<Bucket>>,
    draining: AtomicBool,
    pressure: Arc<PressureCell>,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Admission {
    /// Admission with these caps.
    pub fn new(limits: AdmissionLimits) -> Arc<Self> {
        let listeners = limits.per_listener_max.iter().map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Self {
            limits: ArcSwap::from_pointee(limits),
            total: AtomicUsize::new(0),
            listeners,
            addresses: std::array::from_fn(|_| Mutex::default()),
            rate: Mutex::new(None),
            draining: AtomicBool::new(false),
            pressure: Arc::default(),
        })
    }

    /// Holds from now on to other caps. Connections that are open stay, also over a lower cap;
    /// those that were admitted while the cap per address was off are not counted for it.
    pub fn set_limits(&self, limits: AdmissionLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// How hard the process is pressed, for everybody who decides by it.
    pub fn pressure(&self) -> &Arc<PressureCell> {
        &self.pressure
    }

    /// Grants a permit for a connection from `address` on the listener with this index. Without an
    /// address it counts for none, until [`Permit::move_to`] names one.
    ///
    /// # Errors
    /// The first limit that is reached; nothing is taken then.
    pub fn admit(
        self: &Arc<Self>,
        listener: u16,
        address: impl Into<Option<IpAddr>>,
        now: Instant,
    ) -> Result<Permit, Refusal> {
        let address = address.into();
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::Draining);
        }
        if self.pressure.get() >= Pressure::High {
            return Err(Refusal::Overload);
        }
        let limits = self.limits.load();
        if !self.rate_allows(&limits, now) {
            return Err(Refusal::Rate);
        }
        if !take(&self.total, Some(limits.connections_max)) {
            return Err(Refusal::Total);
        }
        let slot = usize::from(listener);
        if !take(&self.listeners[slot], limits.per_listener_max[slot]) {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Listener);
        }
        let max = limits.per_address_max;
        if address.is_some_and(|address| !self.take_address(max, address)) {
            self.listeners[slot].fetch_sub(1, Ordering::Relaxed);
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Address);
        }
        let address = address.filter(|_| max.is_some());
        Ok(Permit { admission: Arc::clone(self), address, listener })
    }

    /// From now on every connection is refused as `draining`.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Permits that are out.
    pub fn open(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    fn rate_allows(&self, limits: &AdmissionLimits, now: Instant) -> bool {
        let Some(per_second) = limits.per_second_max else { return true };
        let burst = f64::from(per_second);
        let mut rate = self.rate.lock();
        let bucket = rate.get_or_insert(Bucket { tokens: burst, filled: now });
        let passed = now.saturating_duration_since(bucket.filled).min(Duration::from_secs(1));
        bucket.tokens = (bucket.tokens + passed.as_secs_f64() * burst).min(burst);
        bucket.filled = now;
        let granted = bucket.tokens >= 1.0;
        if granted {
            bucket.tokens -= 1.0;
        }
        granted
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        let last = match address {
            IpAddr::V4(v4) => v4.octets()[3],
            // One host usually owns a /64: its last byte says little, but any spread will do.
            IpAddr::V6(v6) => v6.octets()[7] ^ v6.octets()[15],
        };
        &self.addresses[usize::from(last) % SHARDS]
    }

    fn take_address(&self, max: Option<usize>, address: IpAddr) -> bool {
        let Some(max) = max else { return true };
        let mut shard = self.shard(address).lock();
        let count = shard.entry(address).or_insert(0);
        let granted = (*count as usize) < max;
        if granted {
            *count += 1;
        } else if *count == 0 {
            shard.remove(&address);
        }
        granted
    }

    fn leave_address(&self, address: IpAddr) {
        if let Entry::Occupied(mut entry) = self.shard(address).lock().entry(address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn give_back(&self, listener: u16, address: Option<IpAddr>) {
        if let Some(address) = address {
            self.leave_address(address);
        }
        self.listeners[usize::from(listener)].fetch_sub(1, Ordering::Relaxed);
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes one if that stays within `max`. Exact with any number of threads.
fn take(count: &AtomicUsize, max: Option<usize>) -> bool {
    let within = |n: usize| (n < max.unwrap_or(usize::MAX)).then_some(n + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
}

/// The right to be connected, given back by its drop. A field of the connection, so that no path
/// can forget it.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    admission: Arc<Admission>,
    /// The address that it is counted for in the map, whatever the limits are by now.
    address: Option<IpAddr>,
    listener: u16,
}

impl Permit {
    /// Counts for this address from now on: whose connection it is became known.
    ///
    /// # Errors
    /// The address has its most already; the permit counts for the address that it did before.
    pub fn move_to(&mut self, address: IpAddr) -> Result<(), Refusal> {
        if self.address == Some(address) {
            return Ok(());
        }
        let max = self.admission.limits.load().per_address_max;
        if !self.admission.take_address(max, address) {
            return Err(Refusal::Address);
        }
        if let Some(before) = self.address.take() {
            self.admission.leave_address(before);
        }
        self.address = max.map(|_| address);
        Ok(())
    }

    /// The index of the listener it was granted for.
    pub fn listener(&self) -> u16 {
        self.listener
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.give_back(self.listener, self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn admission(limits: AdmissionLimits) -> Arc<Admission> {
        Admission::new(limits)
    }

    fn limits(total: usize) -> AdmissionLimits {
        AdmissionLimits {
            connections_max: total,
            per_address_max: None,
            per_second_max: None,
            per_listener_max: vec![None, Some(1)],
        }
    }

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    #[test]
    fn one_over_the_total_is_refused_until_a_permit_comes_back() {
        let admission = admission(limits(1));
        let now = clock::now();
        let permit = admission.admit(0, A, now).unwrap();
        assert_eq!(admission.admit(0, A, now).unwrap_err(), Refusal::Total);
        drop(permit);
        assert_eq!(admission.open(), 0);
        drop(admission.admit(0, A, now).unwrap());
    }

    #[test]
    fn a_refusal_takes_nothing() {
        let admission = admission(AdmissionLimits { per_address_max: Some(1), ..limits(9) });
        let now = clock::now();
        let first = admission.admit(1, A, now).unwrap();
        assert_eq!(admission.admit(1, B, now).unwrap_err(), Refusal::Listener);
        assert_eq!(admission.admit(0, A, now).unwrap_err(), Refusal::Address);
        assert_eq!(admission.open(), 1);
        drop(first);
        let empty = admission.addresses.iter().all(|shard| shard.lock().is_empty());
        assert!(empty, "an address without connections is forgotten");
    }

    #[test]
    fn the_rate_lets_one_seconds_burst_through_and_then_the_rate() {
        let admission = admission(AdmissionLimits { per_second_max: Some(10), ..limits(99) });
        let start = clock::now();
        let granted = |at| (0..20).filter(|_| admission.admit(0, A, at).is_ok()).count();
        assert_eq!(granted(start), 10);
        assert_eq!(granted(start + Duration::from_millis(500)), 5);
        assert_eq!(granted(start + Duration::from_secs(60)), 10);
    }

    #[test]
    fn a_changed_limit_holds_for_the_next_and_forgets_nobody() {
        let admission = admission(limits(9));
        let now = clock::now();
        let uncounted = admission.admit(0, A, now).unwrap();
        admission.set_limits(AdmissionLimits { per_address_max: Some(1), ..limits(9) });
        let counted = admission.admit(0, A, now).unwrap();
        assert_eq!(admission.admit(0, A, now).unwrap_err(), Refusal::Address);
        drop(uncounted);
        assert_eq!(admission.admit(0, A, now).unwrap_err(), Refusal::Address);
        admission.set_limits(limits(0));
        drop(counted);
        assert_eq!(admission.admit(0, A, now).unwrap_err(), Refusal::Total);
        assert_eq!(admission.open(), 0);
        assert!(admission.addresses.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn under_pressure_nobody_new_comes_in() {
        let admission = admission(limits(9));
        admission.pressure().set(Pressure::High);
        assert_eq!(admission.admit(0, A, clock::now()).unwrap_err(), Refusal::Overload);
        admission.pressure().set(Pressure::None);
        drop(admission.admit(0, A, clock::now()).unwrap());
    }

    #[test]
    fn a_permit_moves_to_the_address_that_became_known_if_there_is_room() {
        let admission = admission(AdmissionLimits { per_address_max: Some(1), ..limits(9) });
        let now = clock::now();
        let held = admission.admit(0, A, now).unwrap();
        let mut proxied = admission.admit(0, None, now).unwrap();
        assert_eq!(proxied.move_to(A), Err(Refusal::Address));
        assert_eq!(proxied.move_to(B), Ok(()));
        assert_eq!(proxied.move_to(B), Ok(()));
        assert_eq!(admission.admit(0, B, now).unwrap_err(), Refusal::Address);
        drop(held);
        assert_eq!(proxied.move_to(A), Ok(()));
        drop(admission.admit(0, B, now).unwrap());
        drop(proxied);
        let empty = admission.addresses.iter().all(|shard| shard.lock().is_empty());
        assert!(empty && admission.open() == 0);
    }

    #[test]
    fn draining_refuses_everybody() {
        let admission = admission(limits(9));
        admission.drain();
        assert_eq!(admission.admit(0, A, clock::now()).unwrap_err(), Refusal::Draining);
    }
}
