//! From an accepted socket to the worker that will own it: admission, a record, the least load.
//! Says nothing to a peer itself.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;

use super::plan::Target;
use super::start::WorkerHand;
use crate::admission::Admission;
use crate::clock;
use crate::connection::NewConnection;
use crate::context::{ConnIds, RequestId};
use crate::door::Introduction;
use crate::http::Trust;
use crate::listener::Accepting;
use crate::metrics::{AcceptErrorKind, ConnectionRecord, CoreMetrics};
use crate::refuse::{RefusalForm, Refuser};
use crate::stage::Stage;
use crate::tasks::Accepted;
use crate::transport::Socket;

/// Hands what one listener accepts to admission and then to the worker with the least load.
pub(super) struct Acceptor {
    pub(super) index: u16,
    pub(super) target: Target,
    pub(super) form: RefusalForm,
    pub(super) admission: Arc<Admission>,
    pub(super) trust: Arc<ArcSwap<Trust>>,
    pub(super) metrics: Arc<CoreMetrics>,
    pub(super) refuser: Refuser,
    pub(super) hands: Arc<[WorkerHand]>,
    pub(super) ids: Arc<ConnIds>,
}

impl Accepting for Acceptor {
    async fn accepted(&mut self, socket: TcpStream, peer: SocketAddr) {
        let accepted = clock::now();
        // A proxy's connections are many clients': each counts for its own address once that is known.
        let trusted = self.trust.load().proxies.contain(peer.ip());
        let address = (!trusted).then_some(peer.ip());
        let permit = match self.admission.admit(self.index, address, accepted) {
            Ok(permit) => permit,
            Err(refusal) => {
                return self.refuser.refuse(socket, self.index, refusal, &self.form);
            }
        };
        let record = ConnectionRecord::open(&self.metrics, self.index);
        let id = self.ids.next();
        let Some(hand) = self.hands.iter().min_by_key(|hand| hand.load.load(Ordering::Relaxed))
        else {
            return;
        };
        hand.load.fetch_add(1, Ordering::Relaxed);
        // A full lane holds the accept loop back, and the kernel's backlog the peers. A closed
        // lane is the end of the process: the drop counts the connection as aborted.
        let handed = match self.target {
            Target::Table(site) => {
                let request_id = RequestId::Message { conn: id, seq: 0 };
                let socket = Socket::Plain(mio::net::TcpStream::from_std(socket));
                let early = Vec::new();
                let new = NewConnection {
                    socket,
                    site,
                    id,
                    peer,
                    permit,
                    record,
                    early,
                    request: None,
                    request_id,
                    accepted,
                    tls: None,
                    handshake: None,
                    introduction: Introduction::default(),
                };
                hand.opens.send(new).await.is_ok()
            }
            Target::Task(listener) => {
                let new =
                    Accepted { socket, peer, id, permit, record, accepted, listener, trusted };
                hand.accepted.send(new).await.is_ok()
            }
        };
        if handed {
            let took = clock::now().saturating_duration_since(accepted);
            self.metrics.stage(Stage::Accept, took);
        }
    }

    fn failed(&mut self, error: &io::Error, kind: AcceptErrorKind) {
        self.metrics.accept_error(self.index, kind);
        if kind != AcceptErrorKind::Peer {
            tracing::warn!(%error, kind = kind.as_str(), "accept failed; backing off");
        }
    }
}
