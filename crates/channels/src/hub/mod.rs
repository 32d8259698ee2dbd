//! What one worker knows of channels: who is subscribed here, how far each has been told, and what is
//! on its way to them. Reached by the sessions of the worker without a lock; knows no command.
//!
//! A publication comes by the broker's inbox, is encoded once for each wire form that a subscriber
//! has ([`events`]), and is handed to the subscribers in slices ([`fanout`]), so that one with very many
//! never holds the event loop. A subscriber is told of what is next for it, of nothing twice, and of a
//! hole at once.

mod behind;
mod channel;
mod clients;
mod events;
mod fanout;
mod joined;
mod latency;
pub mod orders;
mod plain;
mod positions;

use std::collections::VecDeque;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;
use std::collections::HashMap;
use tokio::sync::mpsc;
use weir_core::local::{Address, Lane, Local, Post, Wake};

pub(crate) use behind::Caught;
pub use clients::Uid;
pub(crate) use events::{Dialect, wire_info, wire_publication, without_length};
pub(crate) use plain::Plain;
pub use plain::Written;
pub use positions::POSITION_CHECK_INTERVAL;

use self::channel::{Channel, Slow, Subscriber};
use self::clients::Clients;
use self::fanout::Fanout;
use self::latency::Latency;
use self::orders::Order;
use self::positions::Pass;
use crate::broker::{ChannelId, Position, Reader, Subscribed};
use crate::metrics::NamespaceCounts;
use crate::namespace::{Modes, SlowConsumers};
use crate::shared::Shared;

/// The hub of one worker.
pub struct Hub {
    shared: Arc<Shared>,
    /// Its number among the workers.
    worker: usize,
    wake: Wake,
    reader: Reader,
    channels: Slab<Channel>,
    by_name: HashMap<Arc<str>, u32>,
    by_id: HashMap<ChannelId, u32>,
    /// Channels whose subscribers are waited for: the broker is to say where they begin, and until
    /// then their events stay unread.
    expected: HashMap<Arc<str>, u32>,
    /// Channels that have grown meanwhile.
    aside: Vec<ChannelId>,
    /// Channels with events that some subscribers have not been told of, each of them once.
    running: VecDeque<u32>,
    latency: Latency,
    /// Which channels' positions are looked at next.
    pass: Pass,
    clients: Clients,
    orders: mpsc::Receiver<Order>,
    /// That of the next channel.
    lane: Lane,
    /// Makes numbers of the keys of publications.
    keys: RandomState,
}

/// Names one subscription of this worker, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    channel: u32,
    slot: u32,
}

impl Place {
    /// Whether it is in the channel that [`Hub::find`] has found.
    pub(crate) fn is_of(self, channel: u32) -> bool {
        self.channel == channel
    }
}

/// Who subscribes, and to what kind of subscription.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    /// The connection.
    pub(crate) address: Address,
    /// How it is told.
    pub(crate) dialect: Dialect,
    /// What it does.
    pub(crate) modes: Modes,
    /// How the channel's deliveries are counted.
    pub(crate) counts: Arc<NamespaceCounts>,
    /// What becomes of it when it does not keep up.
    pub(crate) slow: SlowConsumers,
    /// Where it begins: the last offset that the client has, once it has what is in its answer.
    pub(crate) offset: u64,
}

/// What a session is told by the hub.
#[derive(Debug)]
pub(crate) enum Told {
    /// There is a hole before what came next: the subscription has ended here.
    Insufficient(Place),
    /// It does not keep up, and is told nothing more of the stream: it has everything up to this
    /// place, and reads on from there when it has room ([`Hub::catch_up`]).
    Behind(Place, Position),
    /// What was published has no form in the connection's encoding.
    NotJson,
    /// An order that concerns this session.
    Order(orders::ForClient),
}

impl Hub {
    /// A hub without anybody, which is woken by `wake`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        worker: usize,
        wake: Wake,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let waker = wake.clone();
        Self {
            shared,
            worker,
            wake,
            reader: Reader::new(move || waker.wake()),
            channels: Slab::new(),
            by_name: HashMap::new(),
            by_id: HashMap::new(),
            expected: HashMap::new(),
            aside: Vec::new(),
            running: VecDeque::new(),
            latency: Latency::default(),
            pass: Pass::default(),
            clients: Clients::default(),
            orders,
            lane: Lane::MIN,
            keys: RandomState::new(),
        }
    }

    /// What the broker is shown to say which worker this is.
    pub(crate) fn inbox(&self) -> &Arc<crate::broker::Inbox> {
        self.reader.inbox()
    }

    /// Who is connected.
    pub(crate) fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    /// The channel of this name, if somebody here is subscribed to it.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The name of a subscription's channel.
    pub(crate) fn name(&self, place: Place) -> Option<&Arc<str>> {
        self.channels.get(place.channel as usize).map(|channel| &channel.name)
    }

    /// Leaves a channel unread until the broker has said where a subscription to it begins.
    pub(crate) fn expect(&mut self, name: &Arc<str>) {
        *self.expected.entry(Arc::clone(name)).or_default() += 1;
    }

    /// The broker has said so, or nobody waits any more.
    pub(crate) fn expected(&mut self, name: &Arc<str>) {
        if let Some(waits) = self.expected.get_mut(name) {
            *waits -= 1;
            if *waits == 0 {
                self.expected.remove(name);
            }
        }
        for id in self.aside.drain(..) {
            self.reader.put_back(id);
        }
        self.wake.wake();
    }

    /// Adds a subscriber, of whom the broker has said where its subscription begins.
    pub(crate) fn add(&mut self, name: &str, begins: &Subscribed, new: Subscription) -> Place {
        let epoch = begins.position.map(|position| position.epoch);
        let channel = match self.by_id.get(&begins.channel) {
            Some(channel) => *channel,
            None => self.open(name, begins.channel, Arc::clone(&new.counts)),
        };
        let entry = &mut self.channels[channel as usize];
        entry.learn(epoch);
        entry.slow = new.slow;
        let slot = entry.add(Subscriber {
            address: new.address,
            dialect: new.dialect,
            positioned: new.modes.positioned,
            told_of_others: new.modes.told_of_others,
            number: begins.number,
            offset: new.offset,
            over: false,
            behind: false,
            slow: Slow::of(&entry.slow.policy, new.modes.positioned),
        });
        Place { channel, slot }
    }

    fn open(&mut self, name: &str, id: ChannelId, counts: Arc<NamespaceCounts>) -> u32 {
        let name: Arc<str> = name.into();
        // What of an earlier one still waits somewhere after 4 billion channels is let go with it.
        let next = self.lane.checked_add(1).unwrap_or(Lane::MIN);
        let lane = std::mem::replace(&mut self.lane, next);
        let channel =
            self.channels.insert(Channel::new(Arc::clone(&name), id, lane, counts)) as u32;
        self.by_name.insert(name, channel);
        self.by_id.insert(id, channel);
        channel
    }

    /// Takes a subscriber out. Nothing more is told to it.
    pub(crate) fn remove(&mut self, place: Place, now: Instant) {
        let Some(channel) = self.channels.get_mut(place.channel as usize) else { return };
        if channel.remove(place.slot) && channel.is_empty() {
            let id = channel.id;
            if channel.running.take().is_some_and(|running| running.has_more()) {
                // The broker lists it until it was read.
                self.reader.put_back(id);
                self.wake.wake();
            }
            let name = Arc::clone(&channel.name);
            self.channels.remove(place.channel as usize);
            self.running.retain(|running| *running != place.channel);
            self.by_name.remove(&name);
            self.by_id.remove(&id);
            self.shared.broker.unsubscribe(self.reader.inbox(), id, now);
        }
    }
}

impl Local for Hub {
    fn turn(&mut self, now: Instant, post: &mut dyn Post) -> bool {
        let more_orders = self.obey(post);
        let more_checks = self.check_positions(now);
        let more_events = Fanout::new(self, now, post).run();
        self.latency.end_turn();
        more_orders || more_checks || more_events
    }

    fn tick(&mut self, now: Instant) {
        // One of them does it for all.
        if self.worker == 0 {
            self.shared.broker.sweep(now);
        }
        if self.pace_positions(now) {
            self.wake.wake();
        }
    }

    fn written(&mut self, now: Instant) {
        self.latency.written(now);
    }
}
