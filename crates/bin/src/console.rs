//! What the side port shows of the engine and the log: adapters between crates that do not know
//! each other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use weir_core::context::ConnId;
use weir_core::ends::Ended;
use weir_core::server::Running;
use weir_core::view::{self, Row};
use weir_ops::{
    ClosedConnection, ConnectionState, ConnectionsPage, ConnectionsQuery, ConnectionsView,
    LiveConnection, LogControl, Position, Sort,
};

use crate::telemetry::Telemetry;

/// The engine's connections as the side port lists them.
pub struct Connections(pub Arc<Running>);

impl ConnectionsView for Connections {
    fn query(
        &self,
        query: ConnectionsQuery,
    ) -> Pin<Box<dyn Future<Output = ConnectionsPage> + Send + '_>> {
        Box::pin(async move {
            if query.state == Some(ConnectionState::Closed) {
                return query.closed_page(self.0.ended().into_iter().map(closed));
            }
            let limit = query.limit;
            let asked = engine_query(query);
            // One more than the page holds tells whether there is another.
            let rows = self.0.list(asked.clone()).await;
            let more = rows.len() > limit;
            let next =
                if more { rows.get(limit - 1).map(|row| position(&asked, row)) } else { None };
            let live = rows.into_iter().take(limit).map(live).collect();
            ConnectionsPage { live, next, ..ConnectionsPage::default() }
        })
    }
}

fn engine_query(query: ConnectionsQuery) -> view::Query {
    view::Query {
        listener: query.listener,
        state: query.state.map(ConnectionState::as_str),
        address: query.address,
        age_min: query.age_min,
        outbox_bytes_min: usize::try_from(query.outbox_bytes_min).unwrap_or(usize::MAX),
        sort: match query.sort {
            // Ids are given in the order of accepts, so that the smallest is the oldest. An age would
            // have moved by the next page.
            Sort::Id | Sort::Age => view::Sort::Id,
            Sort::OutboxBytes => view::Sort::OutboxBytes,
            Sort::ReceivedBytes => view::Sort::ReceivedBytes,
            Sort::SentBytes => view::Sort::SentBytes,
        },
        after: query.after.map(|after| (after.value, ConnId::from_raw(after.id))),
        limit: query.limit + 1,
    }
}

fn position(query: &view::Query, row: &Row) -> Position {
    Position { value: query.sort_value(row), id: row.conn.raw() }
}

fn live(row: Row) -> LiveConnection {
    LiveConnection {
        id: row.conn.to_string(),
        listener: row.listener,
        route: row.route,
        state: match row.state {
            "open" => ConnectionState::Open,
            "draining" => ConnectionState::Draining,
            _ => ConnectionState::Handshaking,
        },
        peer: row.peer,
        age_seconds: row.age.as_secs_f64(),
        idle_seconds: row.idle.as_secs_f64(),
        received: row.received,
        sent: row.sent,
        received_bytes: row.received_bytes,
        sent_bytes: row.sent_bytes,
        outbox_bytes: row.outbox_bytes as u64,
        in_flight: row.in_flight as u64,
    }
}

fn closed(ended: Ended) -> ClosedConnection {
    let at = ended.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    ClosedConnection {
        id: ended.conn.to_string(),
        id_number: ended.conn.raw(),
        listener: ended.listener,
        route: ended.route,
        state: ConnectionState::Closed,
        peer: ended.peer,
        reason: ended.reason.as_str(),
        duration_seconds: ended.duration.as_secs_f64(),
        ended_at: at.as_secs_f64(),
        received: ended.received,
        sent: ended.sent,
        received_bytes: ended.received_bytes,
        sent_bytes: ended.sent_bytes,
    }
}

/// The log's filter as the side port changes it.
pub struct Filter(pub Arc<Telemetry>);

impl LogControl for Filter {
    fn filter(&self) -> String {
        self.0.filter.get()
    }

    fn configured(&self) -> String {
        self.0.filter.configured()
    }

    fn set(&self, filter: &str) -> Result<(), String> {
        self.0.filter.set(filter).map_err(|error| error.to_string())
    }
}
