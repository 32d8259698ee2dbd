//! A walk over the table for `/connections`, a slice a turn, so that asking costs no one latency.

use tokio::sync::oneshot;

use super::table::Table;
use crate::clock::Tick;
use crate::connection::{Connection, Phase};
use crate::site::Site;
use crate::transport::Transport;
use crate::view::{Query, Row};

/// Places looked at in one turn.
const SLICE: usize = 1024;

pub(crate) struct Listing {
    query: Query,
    reply: Option<oneshot::Sender<Vec<Row>>>,
    rows: Vec<Row>,
    at: usize,
}

impl Listing {
    pub(crate) fn new(query: Query, reply: oneshot::Sender<Vec<Row>>) -> Self {
        Self { query, reply: Some(reply), rows: Vec::new(), at: 0 }
    }

    /// Looks at one slice; true when the walk is over and its rows are sent.
    pub(crate) fn step<S: Transport>(
        &mut self,
        table: &Table<Connection<S>>,
        sites: &[Site],
        tick: Tick,
    ) -> bool {
        let end = table.index_end();
        let to = (self.at + SLICE).min(end);
        for index in self.at..to {
            let Some((_, connection)) = table.at(index) else { continue };
            let row = row(connection, &sites[usize::from(connection.site)], tick);
            if self.query.matches(&row) {
                self.rows.push(row);
            }
            if self.rows.len() > 2 * self.query.limit {
                self.query.trim(&mut self.rows);
            }
        }
        self.at = to;
        if to < end {
            return false;
        }
        self.query.trim(&mut self.rows);
        if let Some(reply) = self.reply.take()
            && reply.send(std::mem::take(&mut self.rows)).is_err()
        {
            tracing::debug!("nobody waits for the list of connections any more");
        }
        true
    }
}

fn row<S: Transport>(connection: &Connection<S>, site: &Site, tick: Tick) -> Row {
    Row {
        conn: connection.id,
        listener: site.listener.clone(),
        route: site.service.route().to_owned(),
        state: match connection.phase {
            Phase::Open => "open",
            Phase::Finishing | Phase::Closing | Phase::Lingering => "draining",
        },
        peer: connection.peer(),
        age: tick.since(connection.opened),
        idle: tick.since(connection.active),
        received: connection.received,
        sent: connection.sent,
        received_bytes: connection.received_bytes,
        sent_bytes: connection.sent_bytes,
        outbox_bytes: connection.outbox_bytes(),
        in_flight: connection.in_flight(),
    }
}
