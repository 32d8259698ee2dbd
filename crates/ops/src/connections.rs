//! `GET /connections`: what may be asked, what is told, and the cursor between pages. It does not
//! know what a connection is; a [`ConnectionsView`] finds them, at a cost it bounds.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use http::StatusCode;
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::query::Query;
use crate::reply::{self, Refusal, Reply};

/// The parameters of `/connections`.
pub(crate) const PARAMETERS: &[&str] =
    &["cursor", "limit", "sort", "listener", "state", "address", "min_age", "min_outbox_bytes"];

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// Finds connections.
pub trait ConnectionsView: Send + Sync {
    /// The page that `query` asks for. It is dropped when the request's time is over.
    fn query(
        &self,
        query: ConnectionsQuery,
    ) -> Pin<Box<dyn Future<Output = ConnectionsPage> + Send + '_>>;
}

/// Which connections, in which order, how many, after which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionsQuery {
    /// Only of the listener with this name.
    pub listener: Option<String>,
    /// Only in this state; `None` is all that live.
    pub state: Option<ConnectionState>,
    /// Only from this address.
    pub address: Option<IpAddr>,
    /// Only at least this old; for closed ones, open for at least this long.
    pub age_min: Duration,
    /// Only with at least this many bytes in the outbox. Zero for closed ones.
    pub outbox_bytes_min: u64,
    /// The order. Closed ones are listed by their end, newest first, whatever this says.
    pub sort: Sort,
    /// Only after this place in the order.
    pub after: Option<Position>,
    /// Most rows, 1 to 1000.
    pub limit: usize,
}

/// A place in the order of a listing: largest `value` first, then smallest `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// What the listing is sorted by: 0 for [`Sort::Id`], milliseconds for [`Sort::Age`], bytes
    /// for the others, and for closed connections microseconds of Unix time.
    pub value: u64,
    /// The number of the connection's id.
    pub id: u64,
}

impl Position {
    /// Whether this place comes after `other`.
    pub fn is_after(self, other: Self) -> bool {
        (other.value, self.id) > (self.value, other.id)
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in queries and answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            fn named(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

names! {
    /// What a listing is sorted by. Ids go up, all others go down.
    Sort {
        /// By id.
        Id = "id",
        /// By age.
        Age = "age",
        /// By bytes in the outbox.
        OutboxBytes = "outbox_bytes",
        /// By bytes read.
        ReceivedBytes = "received_bytes",
        /// By bytes sent.
        SentBytes = "sent_bytes",
    }
}

names! {
    /// Where a connection is in its life.
    ConnectionState {
        /// Between the accept and the first message.
        Handshaking = "handshaking",
        /// Open.
        Open = "open",
        /// Told to go.
        Draining = "draining",
        /// Ended; the last few thousand are kept.
        Closed = "closed",
    }
}

/// One page of connections.
#[derive(Clone, Debug, Default)]
pub struct ConnectionsPage {
    /// Those that live, in the order of the query. Empty when closed ones were asked for.
    pub live: Vec<LiveConnection>,
    /// Those that ended, newest first. Empty unless they were asked for.
    pub closed: Vec<ClosedConnection>,
    /// Where the next page starts, when there is one.
    pub next: Option<Position>,
    /// Workers that did not answer in time; their connections are missing from the page.
    pub silent_workers: Vec<String>,
}

/// A connection as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct LiveConnection {
    /// Its id, as in the log.
    pub id: String,
    /// Its listener's name.
    pub listener: String,
    /// Its route's name; empty while it has none.
    pub route: String,
    /// Where it is in its life.
    pub state: ConnectionState,
    /// The peer's address.
    pub peer: SocketAddr,
    /// How long it has been there.
    pub age_seconds: f64,
    /// Since its last complete message or pong.
    pub idle_seconds: f64,
    /// Messages read.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Bytes read.
    pub received_bytes: u64,
    /// Bytes that the socket took.
    pub sent_bytes: u64,
    /// Bytes that wait in the outbox.
    pub outbox_bytes: u64,
    /// Messages whose answers are owed.
    pub in_flight: u64,
}

/// A connection that has ended.
#[derive(Clone, Debug, Serialize)]
pub struct ClosedConnection {
    /// Its id, as in the log.
    pub id: String,
    /// The number of its id, for the cursor.
    #[serde(skip)]
    pub id_number: u64,
    /// Its listener's name.
    pub listener: String,
    /// Its route's name; empty when it ended before it had one.
    pub route: String,
    /// [`ConnectionState::Closed`].
    pub state: ConnectionState,
    /// The peer's address.
    pub peer: SocketAddr,
    /// Why it ended: the label in metrics and the field in the log.
    pub reason: &'static str,
    /// How long it was there.
    pub duration_seconds: f64,
    /// When it ended, in seconds of Unix time.
    pub ended_at: f64,
    /// Messages read.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Bytes read.
    pub received_bytes: u64,
    /// Bytes that the socket took.
    pub sent_bytes: u64,
}

impl ClosedConnection {
    fn position(&self) -> Position {
        Position { value: (self.ended_at * 1e6) as u64, id: self.id_number }
    }
}

impl ConnectionsQuery {
    /// The page of this query out of closed connections that come in any order.
    pub fn closed_page(
        &self,
        closed: impl IntoIterator<Item = ClosedConnection>,
    ) -> ConnectionsPage {
        let mut rows: Vec<ClosedConnection> = closed
            .into_iter()
            .filter(|row| self.listener.as_ref().is_none_or(|name| *name == row.listener))
            .filter(|row| self.address.is_none_or(|address| address == row.peer.ip()))
            .filter(|row| row.duration_seconds >= self.age_min.as_secs_f64())
            .filter(|row| self.after.is_none_or(|after| row.position().is_after(after)))
            .collect();
        rows.sort_by_key(|row| (u64::MAX - row.position().value, row.id_number));
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows.last().filter(|_| more).map(ClosedConnection::position);
        ConnectionsPage { closed: rows, next, ..ConnectionsPage::default() }
    }

    /// Reads a request's parameters.
    pub(crate) fn parse(query: &Query) -> Result<Self, Refusal> {
        let state = named(query, "state", ConnectionState::ALL, ConnectionState::named)?;
        let sort = named(query, "sort", Sort::ALL, Sort::named)?;
        let outbox_bytes_min = query.value("min_outbox_bytes")?;
        let closed = state == Some(ConnectionState::Closed);
        if closed && (sort.is_some() || outbox_bytes_min.is_some()) {
            return Err(Refusal::bad_request(
                "closed connections are listed newest first and have no outbox: \
                 leave out sort and min_outbox_bytes",
            ));
        }
        let limit = query.value("limit")?.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Refusal::bad_request(format!("limit is 1 to {LIMIT_MAX}")));
        }
        let sort = sort.unwrap_or(Sort::Id);
        Ok(Self {
            listener: query.text("listener").map(str::to_owned),
            state,
            address: query.value("address")?,
            age_min: query.duration("min_age")?.unwrap_or_default(),
            outbox_bytes_min: outbox_bytes_min.unwrap_or_default(),
            sort,
            after: query
                .text("cursor")
                .map(|cursor| open(cursor, order(closed, sort)))
                .transpose()?,
            limit,
        })
    }

    fn order(&self) -> &'static str {
        order(self.state == Some(ConnectionState::Closed), self.sort)
    }
}

fn named<T: Copy + Serialize>(
    query: &Query,
    parameter: &str,
    all: &[T],
    find: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    let Some(text) = query.text(parameter) else { return Ok(None) };
    find(text)
        .map(Some)
        .ok_or_else(|| Refusal::bad_request(format!("{parameter}={text:?}: one of {}", json!(all))))
}

/// The order that a cursor belongs to.
fn order(closed: bool, sort: Sort) -> &'static str {
    if closed { "ended" } else { sort.as_str() }
}

/// Writes a place as a cursor: its order, its value and its id. Callers are told no more than
/// that it is opaque.
fn seal(position: Position, order: &str) -> String {
    format!("{order}.{:x}.{:x}", position.value, position.id)
}

fn open(cursor: &str, order: &str) -> Result<Position, Refusal> {
    let bad = || Refusal::bad_request("the cursor is not one of this listing");
    let rest = cursor.strip_prefix(order).and_then(|rest| rest.strip_prefix('.'));
    let (value, id) = rest.and_then(|rest| rest.split_once('.')).ok_or_else(bad)?;
    let number = |digits| u64::from_str_radix(digits, 16).map_err(|_| bad());
    Ok(Position { value: number(value)?, id: number(id)? })
}

/// `GET /connections`.
pub(crate) async fn list(view: &dyn ConnectionsView, query: &Query) -> Result<Reply, Refusal> {
    let query = ConnectionsQuery::parse(query)?;
    let order = query.order();
    let closed = query.state == Some(ConnectionState::Closed);
    let page = view.query(query).await;
    let rows = if closed { json!(page.closed) } else { json!(page.live) };
    let mut body =
        json!({ "connections": rows, "next": page.next.map(|position| seal(position, order)) });
    if !page.silent_workers.is_empty() {
        body["silent_workers"] = json!(page.silent_workers);
    }
    Ok(reply::json(StatusCode::OK, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<ConnectionsQuery, String> {
        Query::parse(Some(query), PARAMETERS)
            .and_then(|query| ConnectionsQuery::parse(&query))
            .map_err(|refusal| refusal.error)
    }

    #[test]
    fn a_query_without_parameters_asks_for_the_first_hundred_that_live() {
        let query = parse("").expect("a query");
        assert_eq!((query.limit, query.sort, query.state), (100, Sort::Id, None));
        assert_eq!((query.after, query.age_min), (None, Duration::ZERO));
    }

    #[test]
    fn every_parameter_is_read() {
        let query = parse(
            "limit=1000&sort=age&listener=lines&state=open&address=%3A%3A1&min_age=5m\
             &min_outbox_bytes=9&cursor=age.ff.1a",
        );
        let expected = ConnectionsQuery {
            listener: Some("lines".to_owned()),
            state: Some(ConnectionState::Open),
            address: Some("::1".parse().expect("an address")),
            age_min: Duration::from_secs(300),
            outbox_bytes_min: 9,
            sort: Sort::Age,
            after: Some(Position { value: 255, id: 26 }),
            limit: 1000,
        };
        assert_eq!(query, Ok(expected));
    }

    #[test]
    fn what_cannot_be_answered_is_refused_by_name() {
        for (query, word) in [
            ("limit=0", "1 to 1000"),
            ("limit=1001", "1 to 1000"),
            ("sort=colour", "outbox_bytes"),
            ("state=confused", "draining"),
            ("address=nowhere", "address"),
            ("min_age=old", "min_age"),
            ("lissener=a", "\"listener\""),
            ("cursor=x", "cursor"),
            ("cursor=id.1", "cursor"),
            ("cursor=age.1.1", "cursor"),
            ("cursor=id.1.1&sort=age", "cursor"),
            ("cursor=id.1.1&state=closed", "cursor"),
            ("state=closed&sort=id", "newest first"),
            ("state=closed&min_outbox_bytes=1", "newest first"),
        ] {
            let error = parse(query).expect_err(query);
            assert!(error.contains(word), "{query}: {error}");
        }
    }

    #[test]
    fn places_go_from_large_to_small_and_equal_ones_by_id() {
        let place = |value, id| Position { value, id };
        assert!(place(1, 1).is_after(place(2, 9)));
        assert!(place(2, 2).is_after(place(2, 1)));
        assert!(!place(2, 1).is_after(place(2, 1)));
        assert!(!place(3, 9).is_after(place(2, 1)));
    }

    fn ended(id: u64, at: f64) -> ClosedConnection {
        ClosedConnection {
            id: format!("{id:016x}"),
            id_number: id,
            listener: "lines".to_owned(),
            route: "echo".to_owned(),
            state: ConnectionState::Closed,
            peer: ([127, 0, 0, 1], 1).into(),
            reason: "exit",
            duration_seconds: 1.0,
            ended_at: at,
            received: 0,
            sent: 0,
            received_bytes: 0,
            sent_bytes: 0,
        }
    }

    #[test]
    fn pages_of_closed_connections_show_each_once_newest_first() {
        let all = || (0..10).map(|id| ended(id, 100.0 + (id / 2) as f64));
        let mut query = parse("state=closed&limit=3").expect("a query");
        let mut seen = Vec::new();
        loop {
            let page = query.closed_page(all());
            seen.extend(page.closed.iter().map(|row| row.id_number));
            let Some(next) = page.next else { break };
            query.after = Some(open(&seal(next, query.order()), query.order()).expect("a cursor"));
        }
        assert_eq!(seen, [8, 9, 6, 7, 4, 5, 2, 3, 0, 1]);
        let elsewhere = parse("state=closed&listener=http").expect("a query").closed_page(all());
        assert!(elsewhere.closed.is_empty() && elsewhere.next.is_none());
    }
}
