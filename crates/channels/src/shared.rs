//! What all sessions and workers of the process share: the broker, the rules as they are now, and the
//! ways to the workers.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::HashMap;
use tokio::sync::mpsc;
use weir_core::budget::SharedFrames;
use weir_core::context::ConnId;
use weir_core::local::{Local, Locals, Wake};

use crate::broker::Broker;
use crate::hooks::Hooks;
use crate::hub::orders::{Order, Orders};
use crate::hub::{Hub, Uid};
use crate::metrics::{ChannelMetrics, Counts};
use crate::namespace::{Namespace, Namespaces};
use crate::notices::Notices;
use crate::seats::Seats;
use crate::tokens::Tokens;

/// Orders that wait for one worker; beyond it whoever orders waits.
const ORDERS_WAITING_MAX: usize = 1024;

/// How connections in the protocol are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// How often a client is pinged. `None`: never.
    pub ping_interval: Option<Duration>,
    /// How long its pong may take.
    pub pong_timeout: Duration,
    /// How long it may take until it has connected (3502).
    pub connect_timeout: Duration,
    /// How much longer than its token a connection may stay, so that it can be refreshed.
    pub expired_close_delay: Duration,
    /// Channels that one connection may be subscribed to.
    pub channels_max: usize,
    /// Whether a client is told the time of day when it connects.
    pub includes_time: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            ping_interval: Some(Duration::from_secs(25)),
            pong_timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(10),
            expired_close_delay: Duration::from_secs(25),
            channels_max: 128,
            includes_time: false,
        }
    }
}

/// The rules that hold now. A reload makes others.
pub struct Policy {
    pub(crate) namespaces: Namespaces,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) options: ClientOptions,
    pub(crate) hooks: Option<Arc<Hooks>>,
    counts: HashMap<Box<str>, Counts>,
}

impl Policy {
    /// These rules, counted in `metrics`. Without `tokens` none is taken.
    pub fn new(
        namespaces: Namespaces,
        tokens: Option<Tokens>,
        options: ClientOptions,
        metrics: &ChannelMetrics,
    ) -> Self {
        let counts = namespaces.all().map(|namespace| {
            (namespace.name().into(), Arc::new(metrics.namespace(namespace.name())))
        });
        let counts = counts.collect();
        Self { namespaces, tokens, options, hooks: None, counts }
    }

    /// Has a backend its say.
    #[must_use]
    pub fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// The handles of a namespace of these rules.
    pub(crate) fn counts(&self, namespace: &Namespace) -> Counts {
        Arc::clone(&self.counts[namespace.name()])
    }
}

/// See the module.
pub struct Shared {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) policy: ArcSwap<Policy>,
    pub(crate) metrics: ChannelMetrics,
    /// What only this process knows: client ids are made of it.
    pub(crate) secret: u64,
    /// What the backend is still to be told.
    pub(crate) notices: Notices,
    /// How many subscribers each channel has, over all workers.
    pub(crate) seats: Arc<Seats>,
    /// The bytes of what is told to many.
    pub(crate) frames: SharedFrames,
    /// What session keys are made of. Client ids, which others see, are made of something else.
    sessions: RandomState,
    workers: Mutex<Vec<(Orders, Wake)>>,
}

impl Shared {
    /// Channels of this broker, by these rules. The secret is random.
    pub fn new(
        broker: Arc<dyn Broker>,
        policy: Policy,
        metrics: ChannelMetrics,
        secret: u64,
    ) -> Arc<Self> {
        let policy = ArcSwap::from_pointee(policy);
        let sessions = RandomState::new();
        let notices = Notices::new(node(&sessions), metrics.notices());
        let (seats, frames, workers) = (Arc::default(), SharedFrames::default(), Mutex::default());
        Arc::new(Self {
            broker,
            policy,
            metrics,
            secret,
            notices,
            seats,
            frames,
            sessions,
            workers,
        })
    }

    /// Lets these rules hold from now on. Open subscriptions keep what they were given.
    pub fn replace(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// The broker.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// What a client shows to have commands of its own handled in the session of this connection.
    /// Nobody else is told it.
    pub(crate) fn session_key(&self, conn: ConnId) -> String {
        format!("{:016x}{:016x}", conn.raw(), self.sessions.hash_one(conn.raw()))
    }

    /// The client whose session has this key.
    pub(crate) fn client_of(&self, session_key: &str) -> Option<Uid> {
        let conn = u64::from_str_radix(session_key.get(..16)?, 16).ok()?;
        let conn = ConnId::from_raw(conn);
        (self.session_key(conn) == session_key).then(|| Uid::new(conn, self.secret))
    }

    /// What this process calls itself to clients; another after a restart.
    pub(crate) fn node(&self) -> String {
        node(&self.sessions)
    }

    /// Channels with subscribers, over all workers.
    #[cfg(feature = "testing")]
    pub fn channels_with_subscribers(&self) -> usize {
        self.seats.channels()
    }

    /// What the backend is still to be told.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Gives every worker an order, and waits where one has very many. Workers that have ended are
    /// passed over.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, some workers have the order and some have not.
    pub async fn order(&self, make: impl Fn() -> Order) {
        let workers = self.workers.lock().clone();
        for (orders, wake) in workers {
            if orders.send(make()).await.is_ok() {
                wake.wake();
            }
        }
    }
}

/// What a process with these keys calls itself.
fn node(sessions: &RandomState) -> String {
    format!("{:016x}", sessions.hash_one("node"))
}

/// Opens the hub of each worker.
pub struct Hubs(pub Arc<Shared>);

impl Locals for Hubs {
    fn open(&self, worker: usize, wake: Wake) -> Box<dyn Local> {
        let (orders, lane) = mpsc::channel(ORDERS_WAITING_MAX);
        self.0.workers.lock().push((orders, wake.clone()));
        Box::new(Hub::new(Arc::clone(&self.0), worker, wake, lane))
    }

    fn frames(&self) -> SharedFrames {
        self.0.frames.clone()
    }
}
