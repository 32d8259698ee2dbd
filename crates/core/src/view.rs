//! What can be asked about connections while they live: rows for `/connections`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::context::ConnId;

/// The key rows are sorted by, largest first, except ids: smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// By id.
    Id,
    /// By age.
    Age,
    /// By bytes in the outbox.
    OutboxBytes,
    /// By bytes read.
    ReceivedBytes,
    /// By bytes sent.
    SentBytes,
}

/// Which connections, how many, after which.
#[derive(Clone, Debug)]
pub struct Query {
    /// Only of this listener.
    pub listener: Option<String>,
    /// Only in this state.
    pub state: Option<&'static str>,
    /// Only from this address.
    pub address: Option<IpAddr>,
    /// Only at least this old.
    pub age_min: Duration,
    /// Only with at least this much in the outbox.
    pub outbox_bytes_min: usize,
    /// The order.
    pub sort: Sort,
    /// Rows after the one with this sort key and id.
    pub after: Option<(u64, ConnId)>,
    /// Most rows.
    pub limit: usize,
}

/// One connection as it is now.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its id.
    pub conn: ConnId,
    /// Its listener.
    pub listener: String,
    /// Its route; empty while it has none.
    pub route: String,
    /// `handshaking`, `open` or `draining`.
    pub state: &'static str,
    /// The peer's address.
    pub peer: SocketAddr,
    /// How long it has been there.
    pub age: Duration,
    /// Since its last complete message or pong.
    pub idle: Duration,
    /// Messages read.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Bytes read.
    pub received_bytes: u64,
    /// Bytes the socket took.
    pub sent_bytes: u64,
    /// Bytes waiting in the outbox.
    pub outbox_bytes: usize,
    /// Messages whose answers are owed.
    pub in_flight: usize,
}

impl Query {
    /// Whether `row` is asked for.
    pub fn matches(&self, row: &Row) -> bool {
        self.listener.as_ref().is_none_or(|name| *name == row.listener)
            && self.state.is_none_or(|state| state == row.state)
            && self.address.is_none_or(|address| address == row.peer.ip())
            && row.age >= self.age_min
            && row.outbox_bytes >= self.outbox_bytes_min
            && self.after.is_none_or(|after| self.place(row) > place(after.0, after.1))
    }

    /// The value rows are sorted by.
    pub fn sort_value(&self, row: &Row) -> u64 {
        match self.sort {
            Sort::Id => 0,
            Sort::Age => row.age.as_millis() as u64,
            Sort::OutboxBytes => row.outbox_bytes as u64,
            Sort::ReceivedBytes => row.received_bytes,
            Sort::SentBytes => row.sent_bytes,
        }
    }

    fn place(&self, row: &Row) -> (u64, u64) {
        place(self.sort_value(row), row.conn)
    }

    /// Keeps the first `limit` rows in order. Called when twice as many have gathered, so that a
    /// walk over all connections holds at most 2 × `limit` rows.
    pub fn trim(&self, rows: &mut Vec<Row>) {
        rows.sort_by_key(|row| self.place(row));
        rows.truncate(self.limit);
    }
}

/// Largest sort value first, then smallest id.
fn place(value: u64, conn: ConnId) -> (u64, u64) {
    (u64::MAX - value, conn.raw())
}
