//! Subscriptions that read from the history because their connection does not keep up: page by page, each
//! when the one before has left, until they may join the others again. The client notices nothing.

use std::sync::Arc;

use super::{Client, State, Turn};
use crate::broker::{Answer, BrokerError, PAGE_MAX, Page, Position, Publication, Range, Since};
use crate::hub::{Caught, Place, wire_publication};
use crate::protocol::push::Event;

/// Bytes of publications after which a page ends: what is said behind it, a ping for example, is not
/// long on its way.
const PAGE_BYTES: usize = 16 * 1024;
/// How often a silent broker is asked for one page.
const ASKS_MAX: u32 = 3;

/// The subscriptions of one connection that are behind.
#[derive(Default)]
pub(super) struct Behinds {
    last: u32,
    all: Vec<Behind>,
}

/// One of them.
struct Behind {
    /// Names it, also when its place is another one's by now.
    number: u32,
    place: Place,
    /// Everything up to here has been said.
    position: Position,
    /// The broker has been asked for what comes next.
    asked: bool,
    /// How often it was silent.
    silences: u32,
}

impl Behinds {
    fn get_mut(&mut self, number: u32) -> Option<&mut Behind> {
        self.all.iter_mut().find(|behind| behind.number == number)
    }

    /// Whether there is one that the broker has not been asked about.
    fn has_more(&self) -> bool {
        self.all.iter().any(|behind| !behind.asked)
    }
}

impl Client {
    /// A subscription has fallen behind; it reads on when there is room.
    pub(super) fn fall_behind(&mut self, place: Place, position: Position, turn: &mut Turn<'_>) {
        // It may have ended, and its place may be another one's.
        if self.at_place(place).is_none() || !turn.hub().is_behind(place) {
            return;
        }
        let behinds = self.behinds.get_or_insert_default();
        behinds.last = behinds.last.wrapping_add(1);
        let number = behinds.last;
        behinds.all.push(Behind { number, place, position, asked: false, silences: 0 });
        turn.actions.await_room();
    }

    /// A subscription has ended: nothing more is read for it.
    pub(super) fn forget_behind(&mut self, place: Place) {
        if let Some(behinds) = &mut self.behinds {
            behinds.all.retain(|behind| behind.place != place);
            if behinds.all.is_empty() {
                self.behinds = None;
            }
        }
    }

    /// There is room: the next page of one subscription is read.
    pub(super) fn catch_up(&mut self, turn: &mut Turn<'_>) {
        let Some(behinds) = self.behinds.as_mut().filter(|_| self.state == State::Connected) else {
            return;
        };
        let Some(at) = behinds.all.iter().position(|behind| !behind.asked) else { return };
        // Each has its turn: it goes to the end.
        let mut behind = behinds.all.remove(at);
        behind.asked = true;
        let (number, place, position) = (behind.number, behind.place, behind.position);
        behinds.all.push(behind);
        if behinds.has_more() {
            turn.actions.await_room();
        }
        let Some(channel) = turn.hub().name(place).cloned() else { return };
        let policy = self.policy();
        let options = policy.namespaces.resolve(&channel).ok();
        let options = options.and_then(|channel| channel.namespace().options().history);
        let (Some(options), true) = (options, self.may_wait()) else {
            return self.has_lost(place, turn);
        };
        let epoch = position.epoch.to_string();
        let since = Some(Since { offset: position.offset, epoch: &epoch });
        let range = Range { since, limit: PAGE_MAX, reverse: false };
        let broker = Arc::clone(&self.shared.broker);
        let answer: Answer<Page> = broker.history(&channel, range, options.meta_ttl, turn.now);
        let then = move |client: &mut Self, page: Result<_, _>, turn: &mut Turn<'_>| {
            client.read_on(number, &channel, page, turn);
        };
        self.settle(0, answer, then, turn);
    }

    /// What comes next is not to be had any more.
    fn has_lost(&mut self, place: Place, turn: &mut Turn<'_>) {
        if let Some(at) = self.at_place(place) {
            self.subs[at].counts.gaps.inc();
        }
        self.insufficient(place, turn);
    }

    /// The broker has given the next page.
    fn read_on(
        &mut self,
        number: u32,
        channel: &Arc<str>,
        page: Result<Page, BrokerError>,
        turn: &mut Turn<'_>,
    ) {
        let behind = self.behinds.as_mut().and_then(|behinds| behinds.get_mut(number));
        let Some(behind) = behind else { return };
        let (place, mut position) = (behind.place, behind.position);
        behind.asked = false;
        let page = match page {
            Ok(page) => page,
            Err(BrokerError::Silent) if behind.silences < ASKS_MAX => {
                behind.silences += 1;
                return turn.actions.await_room();
            }
            Err(_) => return self.has_lost(place, turn),
        };
        behind.silences = 0;
        let Some(next) = next_of(&page, position) else { return self.has_lost(place, turn) };
        position.offset += next.len() as u64;
        behind.position = position;
        if let Some(at) = self.at_place(place) {
            self.subs[at].counts.deliveries.inc_by(next.len() as u64);
        }
        for publication in next {
            self.push(channel, Event::Publication(wire_publication(publication)), turn);
        }
        if position.offset < page.position.offset {
            return turn.actions.await_room();
        }
        match turn.hub().catch_up(place, position) {
            Caught::Up | Caught::Gone => self.forget_behind(place),
            Caught::NotYet => turn.actions.await_room(),
            Caught::Hole => self.has_lost(place, turn),
        }
    }
}

/// What of a page is said now: publications without a hole behind `position`. `None` when it does not go
/// on there: the history has become too short, or is another one.
fn next_of(page: &Page, position: Position) -> Option<&[Arc<Publication>]> {
    let mut bytes = 0;
    let mut count = 0;
    for (publication, offset) in page.publications.iter().zip(position.offset + 1..) {
        if publication.offset() != offset {
            return None;
        }
        if bytes >= PAGE_BYTES {
            break;
        }
        bytes += publication.data.len();
        count += 1;
    }
    let is_there = count > 0 || page.position.offset == position.offset;
    is_there.then(|| &page.publications[..count])
}
