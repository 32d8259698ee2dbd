//! The channels that a connection is told of: how its subscriptions begin when it opens, and how they
//! end. A client's subscriptions go through the same checks, broker and hub.

use std::sync::Arc;
use std::time::Instant;

use weir_core::service::Actions;

use super::later::Wait;
use super::refusal::Refusal;
use super::session::RouteSession;
use crate::broker::{Answer, BrokerError, Notice, Subscribe, Subscribed};
use crate::client::{PRESENCE_INTERVAL, PRESENCE_TTL};
use crate::hub::{Dialect, Place, Plain, Subscription};
use crate::metrics::Counts;
use crate::namespace::{Access, Asked, Modes, Overrides, SlowConsumers, SlowPolicy};
use crate::seats::Seat;

/// A subscription.
pub(super) struct Sub {
    place: Place,
    /// Given back when the subscription is no more.
    #[expect(dead_code, reason = "it is held")]
    seat: Seat,
    modes: Modes,
    counts: Counts,
}

/// A subscription that may be, before the broker has said where it begins.
pub(super) struct Beginning {
    channel: Arc<str>,
    seat: Seat,
    modes: Modes,
    counts: Counts,
    slow: SlowConsumers,
}

/// What becomes of a peer that does not keep up where this becomes of clients. Who would catch up as a
/// client is ended: a peer of a route has no way to be told that the history was too short.
fn slow_peers(clients: &SlowConsumers) -> SlowConsumers {
    let mut slow = clients.clone();
    if slow.policy == SlowPolicy::CatchUp {
        slow.policy = SlowPolicy::Disconnect;
    }
    slow
}

impl RouteSession {
    /// The connection is open: its subscriptions begin, or it ends.
    pub(super) fn opened(&mut self, now: Instant, actions: &mut Actions) {
        let Some(address) = actions.address() else { return };
        self.address = Some(address);
        let (uid, user) = (self.uid, Arc::clone(&self.user));
        self.hub(actions).clients().enter(uid, &user, address);
        for name in std::mem::take(&mut self.wanted) {
            let begun = name.and_then(|name| self.subscribe(&name, now, actions));
            if let Err(refusal) = begun {
                return self.end_for(&refusal, actions);
            }
        }
    }

    fn subscribe(
        &mut self,
        channel: &str,
        now: Instant,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        let policy = self.shared.policy.load_full();
        let name = |error| Refusal::Name { channel: channel.into(), error };
        let resolved = policy.namespaces.resolve(channel).map_err(name)?;
        match resolved.may_subscribe(&self.user, false) {
            Access::Allowed => {}
            // A backend is asked for clients of the protocol.
            Access::Denied(_) | Access::NeedsToken | Access::AsksBackend => {
                return Err(Refusal::Permission { channel: channel.into() });
            }
        }
        if self.find(channel, actions).is_some() {
            // Two templates have made one name.
            return Ok(());
        }
        let asked = Asked { positioned: true, ..Asked::default() };
        let modes = resolved.modes(&self.user, asked, &Overrides::default());
        // Nobody reads here who comes and goes.
        let modes = Modes { told_of_others: false, ..modes };
        let options = resolved.namespace().options();
        let seat = self.shared.seats.take(channel, options.subscribers_max)?;
        let history = options.history;
        let meta_ttl = history.filter(|_| modes.positioned).map(|options| options.meta_ttl);
        let counts = policy.counts(resolved.namespace());
        let slow = slow_peers(&options.slow);
        let beginning = Beginning { channel: channel.into(), seat, modes, counts, slow };
        let inbox = Arc::clone(self.hub(actions).inbox());
        let subscribe = Subscribe { meta_ttl, recover: None };
        match self.shared.broker.subscribe(&inbox, channel, subscribe, now) {
            Answer::Now(begins) => self.begin(beginning, begins, now, actions),
            Answer::Later(answer) => {
                self.hub(actions).expect(&beginning.channel);
                // What it publishes may need the subscription.
                actions.hold(true);
                self.later(answer, |slot| Wait::Subscribe(slot, beginning), actions);
                Ok(())
            }
        }
    }

    /// The broker has said where a subscription begins, which was waited for.
    pub(super) fn begun_later(
        &mut self,
        beginning: Beginning,
        begins: Result<Subscribed, BrokerError>,
        now: Instant,
        actions: &mut Actions,
    ) {
        let channel = Arc::clone(&beginning.channel);
        let begun = self.begin(beginning, begins, now, actions);
        self.hub(actions).expected(&channel);
        match begun {
            Ok(()) if self.waits.as_ref().is_some_and(|waits| waits.is_beginning()) => {}
            Ok(()) => actions.hold(false),
            Err(refusal) => self.end_for(&refusal, actions),
        }
    }

    fn begin(
        &mut self,
        beginning: Beginning,
        begins: Result<Subscribed, BrokerError>,
        now: Instant,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        let begins = begins?;
        let (Some(address), Some(wire)) = (self.address, self.wire) else {
            return Err(Refusal::Silent);
        };
        let Beginning { channel, seat, modes, counts, slow } = beginning;
        let subscription = Subscription {
            address,
            dialect: Dialect::Plain(Plain { wire, written: self.plan.written }),
            modes,
            counts: Arc::clone(&counts),
            slow,
            offset: begins.position.map_or(0, |position| position.offset),
        };
        let place = self.hub(actions).add(&channel, &begins, subscription);
        let sub = Sub { place, seat, modes, counts };
        if let Err(error) = self.be_present(&channel, &sub, now, actions) {
            self.hub(actions).remove(place, now);
            return Err(error.into());
        }
        sub.counts.subscriptions.inc();
        self.subs.push(sub);
        if modes.announced {
            let notice = Notice::Join(Arc::clone(&self.info));
            let answer = self.shared.broker.announce(&channel, notice, now);
            self.ignore(answer, actions);
        }
        if modes.presence {
            actions.wake_at(Some(now + PRESENCE_INTERVAL));
        }
        Ok(())
    }

    /// There is a hole before what came next: the peer is told, and told of what comes from here on.
    pub(super) fn begin_anew(&mut self, place: Place, now: Instant, actions: &mut Actions) {
        let Some(at) = self.subs.iter().position(|sub| sub.place == place) else { return };
        let Some(channel) = self.unsubscribe(at, now, actions) else { return };
        self.complain(&format!("publications of channel {channel:?} were missed"), actions);
        if self.plan.errors
            && let Err(refusal) = self.subscribe(&channel, now, actions)
        {
            self.end_for(&refusal, actions);
        }
    }

    /// The subscription to a channel.
    pub(super) fn find(&self, channel: &str, actions: &mut Actions) -> Option<usize> {
        if self.subs.is_empty() {
            return None;
        }
        let found = self.hub(actions).find(channel)?;
        self.subs.iter().position(|sub| sub.place.is_of(found))
    }

    /// Takes a subscription away. Gives its channel.
    pub(super) fn unsubscribe(
        &mut self,
        at: usize,
        now: Instant,
        actions: &mut Actions,
    ) -> Option<Arc<str>> {
        let sub = self.subs.swap_remove(at);
        sub.counts.subscriptions.dec();
        let hub = self.hub(actions);
        let channel = hub.name(sub.place).cloned()?;
        hub.remove(sub.place, now);
        let broker = Arc::clone(&self.shared.broker);
        if sub.modes.presence {
            let ended = broker.end_present(&channel, &self.info.client, now);
            self.ignore(ended, actions);
        }
        if sub.modes.announced {
            let told = broker.announce(&channel, Notice::Leave(Arc::clone(&self.info)), now);
            self.ignore(told, actions);
        }
        Some(channel)
    }

    pub(super) fn unsubscribe_all(&mut self, now: Instant, actions: &mut Actions) {
        while !self.subs.is_empty() {
            self.unsubscribe(self.subs.len() - 1, now, actions);
        }
    }

    /// Says again that the connection is present where that is known.
    pub(super) fn keep_present(&mut self, now: Instant, actions: &mut Actions) {
        let subs = std::mem::take(&mut self.subs);
        for sub in &subs {
            let Some(channel) = self.hub(actions).name(sub.place).cloned() else { continue };
            if let Err(error) = self.be_present(&channel, sub, now, actions) {
                tracing::debug!(client = %self.uid, %error, "presence is not kept");
            }
        }
        if subs.iter().any(|sub| sub.modes.presence) {
            actions.wake_at(Some(now + PRESENCE_INTERVAL));
        }
        self.subs = subs;
    }

    fn be_present(
        &mut self,
        channel: &str,
        sub: &Sub,
        now: Instant,
        actions: &mut Actions,
    ) -> Result<(), BrokerError> {
        if !sub.modes.presence {
            return Ok(());
        }
        match self.shared.broker.keep_present(channel, &self.info, PRESENCE_TTL, now) {
            Answer::Now(kept) => kept.map(|_| ()),
            later @ Answer::Later(_) => {
                self.ignore(later, actions);
                Ok(())
            }
        }
    }

    /// Lets something be done whose result changes nothing here.
    fn ignore<T: Send + 'static>(&mut self, answer: Answer<T>, actions: &mut Actions) {
        match answer {
            Answer::Now(Ok(_)) => {}
            Answer::Now(Err(error)) => {
                tracing::debug!(client = %self.uid, %error, "the broker has not done it");
            }
            Answer::Later(answer) => self.later(answer, |_slot| Wait::Quiet, actions),
        }
    }

    /// The connection has ended: it is nowhere any more.
    pub(super) fn leave(&mut self, now: Instant, actions: &mut Actions) {
        let Some(address) = self.address.take() else { return };
        self.unsubscribe_all(now, actions);
        let waits = self.waits.take();
        let (uid, user) = (self.uid, Arc::clone(&self.user));
        let hub = self.hub(actions);
        for beginning in waits.into_iter().flat_map(|waits| waits.beginnings()) {
            hub.expected(&beginning.channel);
        }
        hub.clients().leave(uid, &user, address);
    }
}
