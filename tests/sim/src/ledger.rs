//! What the services of a world saw: for each client, what was accepted, and whether anything ran
//! that should not have. The world compares it with what its clients saw.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use weir_core::context::{ConnId, RequestId};
use weir_core::service::{Actions, Answer, Message, Opening, Service, Session, Ticket};

/// One account for each client. Clones are the same ledger.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Account>>>);

/// What the services saw of one client.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The connection, when it was opened.
    pub conn: Option<ConnId>,
    /// Sessions opened and sessions dropped.
    pub sessions: (u32, u32),
    /// Messages, in order.
    pub accepted: Vec<Vec<u8>>,
    /// Asks that run: begun, and neither ended nor cancelled.
    pub asks: u32,
    /// What a session must not be told, in words.
    pub faults: Vec<String>,
}

impl Ledger {
    /// A ledger for this many clients.
    pub fn new(clients: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![Account::default(); clients])))
    }

    /// The accounts, locked.
    pub fn accounts(&self) -> MutexGuard<'_, Vec<Account>> {
        self.0.lock().expect("no service panics with the ledger in its hand")
    }

    fn with<T>(&self, client: usize, write: impl FnOnce(&mut Account) -> T) -> T {
        write(&mut self.accounts()[client])
    }
}

/// The address of a client; [`client_at`] reads it back.
pub fn address_of(client: usize) -> SocketAddr {
    let [_, _, high, low] = u32::try_from(client).expect("few clients").to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 40_000))
}

/// The client with this address.
pub fn client_at(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) => usize::try_from(Ipv4Addr::to_bits(ip) & 0xffff).expect("16 bits"),
        IpAddr::V6(_) => unreachable!("every client has an address of IPv4"),
    }
}

/// A service whose sessions keep the ledger.
pub struct Watched<S> {
    /// What it does.
    pub service: S,
    /// Where it is taken down.
    pub ledger: Ledger,
}

impl<S: Service> Service for Watched<S> {
    fn route(&self) -> &str {
        self.service.route()
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        let client = client_at(opening.peer);
        self.ledger.with(client, |account| {
            account.conn = Some(opening.conn);
            account.sessions.0 += 1;
        });
        let session = self.service.open(opening);
        let ledger = self.ledger.clone();
        Box::new(WatchedSession { session, ledger, client, conn: opening.conn, seq: 0 })
    }
}

struct WatchedSession {
    session: Box<dyn Session>,
    ledger: Ledger,
    client: usize,
    conn: ConnId,
    /// Of the last message.
    seq: u64,
}

impl WatchedSession {
    fn fault(&self, what: impl Into<String>) {
        self.ledger.with(self.client, |account| account.faults.push(what.into()));
    }
}

impl Session for WatchedSession {
    fn on_message(
        &mut self,
        message: Message<'_>,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        self.seq += 1;
        let expected = RequestId::Message { conn: self.conn, seq: self.seq };
        if *request != expected {
            self.fault(format!("request id {request} where {expected} was due"));
        }
        self.ledger.with(self.client, |account| account.accepted.push(message.payload.to_vec()));
        self.session.on_message(message, request, now, actions);
    }

    fn on_answer(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        match request {
            RequestId::Message { conn, seq } if *conn == self.conn && *seq <= self.seq => {}
            RequestId::Message { .. } | RequestId::Given(_) => {
                self.fault(format!("an answer for {request}, which was never asked"));
            }
        }
        self.session.on_answer(ticket, answer, request, now, actions);
    }

    fn on_drain(&mut self, now: Instant, actions: &mut Actions) {
        self.session.on_drain(now, actions);
    }
}

impl Drop for WatchedSession {
    fn drop(&mut self) {
        self.ledger.with(self.client, |account| account.sessions.1 += 1);
    }
}

/// Counts an ask while it lives.
pub struct AskGuard {
    ledger: Ledger,
    client: usize,
}

impl AskGuard {
    /// One more ask of this client.
    pub fn new(ledger: &Ledger, client: usize) -> Self {
        ledger.with(client, |account| account.asks += 1);
        Self { ledger: ledger.clone(), client }
    }
}

impl Drop for AskGuard {
    fn drop(&mut self) {
        self.ledger.with(self.client, |account| account.asks -= 1);
    }
}
