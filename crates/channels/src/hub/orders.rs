//! What backends want done with clients: orders that go to every worker, since any may have the
//! connection, and the part of one that a session carries out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use weir_core::local::{Address, Post};
use weir_core::trace::Trace;

use super::clients::Uid;
use super::{Hub, Told};
use crate::namespace::Overrides;

/// Orders that a worker carries out in one turn.
const ORDERS_MAX: usize = 64;

/// Whom an order concerns: the connections of a user, or one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The user; empty for whoever has the client's id.
    pub user: Box<str>,
    /// One client only.
    pub client: Option<Uid>,
}

/// What a session does (protocol, section 2.2).
#[derive(Clone, Debug)]
pub enum ForClient {
    /// Subscribes it, as the server's own subscription.
    Subscribe(Arc<NewSubscription>),
    /// Ends a subscription, or every one.
    Unsubscribe {
        /// The channel; `None`: all of them.
        channel: Option<Arc<str>>,
    },
    /// Ends the connection.
    Disconnect {
        /// The code.
        code: u16,
        /// Its text.
        reason: Arc<str>,
        /// Clients that stay.
        except: Arc<[Uid]>,
    },
    /// Gives the connection another time.
    Refresh {
        /// It has expired already.
        expired: bool,
        /// How long it has from now; `None`: for ever.
        ttl: Option<Duration>,
        /// What others see of it from now on.
        info: Option<Arc<[u8]>>,
    },
    /// Handles a frame of commands, which came beside its connection.
    Commands {
        /// The commands.
        frame: Arc<[u8]>,
        /// That of the request that brought them, when it is sampled.
        trace: Option<Arc<Trace>>,
    },
}

/// A subscription that a backend makes.
#[derive(Clone, Debug, Default)]
pub struct NewSubscription {
    /// The channel.
    pub channel: Box<str>,
    /// What others see of the client in it.
    pub info: Option<Box<[u8]>>,
    /// What the client is told.
    pub data: Option<Box<[u8]>>,
    /// How long it lasts unless it is renewed.
    pub ttl: Option<Duration>,
    /// A place to catch up from: offset and epoch.
    pub recover_since: Option<(u64, Box<str>)>,
    /// What holds in place of the namespace's options.
    pub overrides: Overrides,
}

/// An order to one worker.
#[derive(Debug)]
pub enum Order {
    /// For the sessions of some clients. Answered with how many there were.
    Clients {
        /// Whose.
        who: Who,
        /// What.
        what: ForClient,
        /// The answer.
        reply: oneshot::Sender<usize>,
    },
    /// Channels with subscribers, and how many each has.
    Channels(oneshot::Sender<Vec<(Arc<str>, usize)>>),
    /// How many there are of what.
    Counts(oneshot::Sender<HubCounts>),
}

/// What one worker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounts {
    /// Connected clients.
    pub clients: usize,
    /// Users with a name; one that is on two workers counts twice.
    pub users: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Channels with subscribers; one that is on two workers counts twice.
    pub channels: usize,
}

/// Who is told of the end of a wait: nobody may wait for a worker that has ended.
pub(crate) type Orders = mpsc::Sender<Order>;

impl Hub {
    /// Carries out orders. True when more may wait.
    pub(super) fn obey(&mut self, post: &mut dyn Post) -> bool {
        for _ in 0..ORDERS_MAX {
            let Ok(order) = self.orders.try_recv() else { return false };
            match order {
                Order::Clients { who, what, reply } => {
                    answer(reply, self.tell(&who, &what, post));
                }
                Order::Channels(reply) => {
                    let channels = self
                        .channels
                        .iter()
                        .map(|(_, channel)| (Arc::clone(&channel.name), channel.len()));
                    answer(reply, channels.collect());
                }
                Order::Counts(reply) => answer(reply, self.counts()),
            }
        }
        true
    }

    fn tell(&self, who: &Who, what: &ForClient, post: &mut dyn Post) -> usize {
        let one = who.client.and_then(|uid| self.clients.client(uid));
        let of_user = self.clients.user(&who.user);
        let addresses: Vec<Address> = match who.client {
            Some(_) if who.user.is_empty() => one.into_iter().collect(),
            Some(_) => of_user.filter(|address| Some(*address) == one).collect(),
            None => of_user.collect(),
        };
        for address in &addresses {
            post.tell(*address, Box::new(Told::Order(what.clone())));
        }
        addresses.len()
    }

    fn counts(&self) -> HubCounts {
        HubCounts {
            clients: self.clients.len(),
            users: self.clients.users(),
            subscriptions: self.channels.iter().map(|(_, channel)| channel.len()).sum(),
            channels: self.channels.len(),
        }
    }
}

/// Whoever asked may have gone.
fn answer<T>(reply: oneshot::Sender<T>, with: T) {
    if reply.send(with).is_err() {
        tracing::debug!("nobody waits for an order's answer any more");
    }
}
