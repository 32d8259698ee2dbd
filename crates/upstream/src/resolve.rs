//! Keeping the addresses of a named host up to date. What an address is used for is not known here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::lease::SharedPool;

/// After this long a look-up counts as failed. It goes on, and no other is begun beside it: the
/// system's resolver cannot be stopped.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Between look-ups while the name has never been resolved, if the interval is longer.
const FIRST_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Most addresses of one name that become targets.
const ADDRESSES_MAX: usize = 64;

/// A name whose addresses are targets.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) pool: Arc<SharedPool>,
    pub(crate) origin: usize,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) interval: Duration,
}

impl Resolver {
    /// Looks the name up again and again. A failed look-up keeps the last good addresses.
    pub(crate) async fn run(self) {
        let mut known: Vec<SocketAddr> = Vec::new();
        let mut failing = false;
        loop {
            let found = self.look_up().await;
            let pool = self.pool.name();
            match found {
                Some(addresses) => {
                    self.pool.metrics.resolved.inc();
                    if addresses != known {
                        tracing::info!(pool, name = self.name, ?addresses, "addresses changed");
                    }
                    self.pool.turn(|pool, now| pool.set_addresses(self.origin, &addresses, now));
                    known = addresses;
                    failing = false;
                }
                // One line when it begins to fail, not one a look-up.
                None if failing => {}
                None => {
                    failing = true;
                    let kept = known.len();
                    tracing::warn!(pool, name = self.name, kept, "name does not resolve");
                }
            }
            let never = known.is_empty();
            let pause = if never { self.interval.min(FIRST_INTERVAL_MAX) } else { self.interval };
            tokio::time::sleep(pause).await;
        }
    }

    /// The addresses in a fixed order; `None` when there are none.
    async fn look_up(&self) -> Option<Vec<SocketAddr>> {
        let mut lookup = std::pin::pin!(tokio::net::lookup_host((self.name.as_str(), self.port)));
        let (found, in_time) = match timeout(LOOKUP_TIMEOUT, &mut lookup).await {
            Ok(found) => (found, true),
            Err(_) => {
                self.failed();
                (lookup.await, false)
            }
        };
        let mut addresses: Vec<SocketAddr> = match found {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                tracing::debug!(pool = self.pool.name(), name = self.name, %error, "look-up");
                Vec::new()
            }
        };
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() {
            if in_time {
                self.failed();
            }
            return None;
        }
        Some(addresses)
    }

    fn failed(&self) {
        self.pool.metrics.unresolved.inc();
        self.pool.turn(|pool, now| pool.resolution_failed(self.origin, now));
    }
}
