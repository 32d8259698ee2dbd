//! What `weir-load fanout` has measured, as its JSON has it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::FanoutArgs;
use super::audience::Audience;
use super::ledger::Measured;
use super::protocol::Protocol;
use crate::echo::Latency;
use crate::procfs::Spent;

/// What was measured. Counts and times are those of the window unless they say otherwise.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FanoutReport {
    /// What was spoken.
    pub(crate) protocol: Protocol,
    /// Subscribers, each of one channel.
    pub(crate) subscribers: usize,
    /// Channels.
    pub(crate) channels: u32,
    /// Publications under way in each channel; absent at a fixed rate.
    pub(crate) window: Option<u32>,
    /// Publications a second asked for in each channel; absent with a window.
    pub(crate) rate: Option<u64>,
    /// Bytes of a payload.
    pub(crate) size: u32,
    /// Length of the window in seconds.
    pub(crate) seconds: f64,
    /// Publications sent.
    pub(crate) publications: u64,
    /// Right deliveries.
    pub(crate) deliveries: u64,
    /// Right deliveries a second.
    pub(crate) deliveries_per_second: f64,
    /// Deliveries that never came, of the whole run.
    pub(crate) dropped: u64,
    /// Deliveries that came twice, late, to somebody else, or garbled, of the whole run.
    pub(crate) wrong: u64,
    /// Connections that ended before they were asked to, by kind, of the whole run.
    pub(crate) lost: BTreeMap<String, u64>,
    /// The server's first complaint.
    pub(crate) complaint: Option<String>,
    /// Times from publishing (at a fixed rate: from when it was due) to each delivery, in
    /// microseconds.
    pub(crate) latency_us: Latency,
    /// The generator's share of one processor.
    pub(crate) client_share: f64,
    /// Processors used by what is neither server nor generator; meaningless without `server`.
    pub(crate) other_cores: f64,
    /// Whether the generator had no processor time left, so that the server was not the limit.
    pub(crate) client_was_the_limit: bool,
    /// The server's processor time.
    pub(crate) server: Option<ServerShare>,
}

/// Processor time of the server over the window.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerShare {
    /// Microseconds a delivery, in user mode and in the kernel.
    pub(crate) us_per_delivery: f64,
    /// The part in user mode.
    pub(crate) user_us_per_delivery: f64,
    /// Share of one processor.
    pub(crate) share: f64,
}

/// A generator that uses this share of its processor has nothing left to give.
const BUSY: f64 = 0.95;
/// The report of a window of `seconds` and of the whole run around it.
pub(super) fn of(
    args: &FanoutArgs,
    audience: &Audience,
    measured: &Measured,
    seconds: f64,
    spent: &Spent,
) -> FanoutReport {
    let deliveries = measured.deliveries;
    let us = |share| measured.latency.quantile(share) as f64 / 1000.0;
    let server = spent.server.map(|time| ServerShare {
        us_per_delivery: time.total() * 1e6 / deliveries as f64,
        user_us_per_delivery: time.user * 1e6 / deliveries as f64,
        share: time.total() / seconds,
    });
    let client_share = spent.own / seconds;
    let server_busy = server.as_ref().is_some_and(|server| server.share >= BUSY);
    FanoutReport {
        protocol: args.protocol,
        subscribers: args.subscribers,
        channels: args.channels,
        window: args.rate.is_none().then_some(args.window),
        rate: args.rate,
        size: args.size,
        seconds,
        publications: measured.publications,
        deliveries,
        deliveries_per_second: deliveries as f64 / seconds,
        dropped: audience.ledger.dropped,
        wrong: audience.ledger.wrong,
        lost: audience.lost().clone(),
        complaint: audience.complaint().map(String::from),
        latency_us: Latency {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            max: measured.latency.max() as f64 / 1000.0,
        },
        client_share,
        other_cores: spent.others / seconds,
        client_was_the_limit: client_share >= BUSY && !server_busy,
        server,
    }
}
