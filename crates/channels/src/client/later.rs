//! What a session waits for: each wait has a ticket, and what is to be done with its result.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use weir_core::service::{AskError, Response, Ticket};

use super::{Client, Turn};
use crate::broker::{Answer, BrokerError};
use crate::protocol::codes::ErrorCode;

/// Waits of one connection at a time; beyond it a command is answered with 111.
const WAITS_MAX: usize = 32;
/// Commands of one connection that wait behind others of their channel; beyond it they are answered
/// with 111.
const BEHIND_MAX: usize = 64;
/// Bytes of them.
const BEHIND_BYTES_MAX: usize = 256 * 1024;

/// What is done when a wait is over.
type Then = Box<dyn FnOnce(&mut Client, &mut Turn<'_>) + Send>;

/// The waits of one session.
#[derive(Default)]
pub(super) struct Waits {
    last: u64,
    waits: Vec<(Ticket, Then)>,
    /// Channels whose beginning the broker has not told yet.
    expected: Vec<Arc<str>>,
    /// Calls of hooks.
    pub(super) hooks: usize,
    /// Channels in which a command waits for a backend: what comes for them stays behind it.
    lanes: Vec<Lane>,
    behind: usize,
    behind_bytes: usize,
}

/// Commands of one channel, in the order in which they came.
struct Lane {
    channel: Box<str>,
    commands: VecDeque<Box<[u8]>>,
}

impl Waits {
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Then> {
        let at = self.waits.iter().position(|(one, _)| *one == ticket)?;
        Some(self.waits.swap_remove(at).1)
    }

    /// The broker will say where a subscription begins.
    pub(super) fn expect(&mut self, channel: &Arc<str>) {
        self.expected.push(Arc::clone(channel));
    }

    /// It has said so. False when nobody waited.
    pub(super) fn forget(&mut self, channel: &Arc<str>) -> bool {
        let at = self.expected.iter().position(|one| one == channel);
        at.map(|at| self.expected.swap_remove(at)).is_some()
    }

    /// Whether there may be no further one.
    fn is_full(&self) -> bool {
        self.waits.len() >= WAITS_MAX
    }

    /// The channels that are still waited for.
    pub(super) fn expected(self) -> Vec<Arc<str>> {
        self.expected
    }

    fn lane(&mut self, channel: &str) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| *lane.channel == *channel)
    }

    /// Whether a command waits in this channel.
    pub(super) fn is_busy(&self, channel: &str) -> bool {
        self.lanes.iter().any(|lane| *lane.channel == *channel)
    }

    /// Puts a command behind the one that waits in its channel. False when too many wait.
    pub(super) fn stay_behind(&mut self, channel: &str, command: &[u8]) -> bool {
        let (commands, bytes) = (self.behind + 1, self.behind_bytes + command.len());
        if commands > BEHIND_MAX || bytes > BEHIND_BYTES_MAX {
            return false;
        }
        let Some(lane) = self.lane(channel) else { return false };
        lane.commands.push_back(command.into());
        (self.behind, self.behind_bytes) = (commands, bytes);
        true
    }
}

impl Client {
    /// Waits for something outside of the event loop, which must end by its own deadline, and goes on
    /// with what came of it. The command `id` fails when nothing did.
    pub(super) fn later<T: Send + 'static>(
        &mut self,
        id: u32,
        future: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(&mut Self, T, &mut Turn<'_>) + Send + 'static,
        turn: &mut Turn<'_>,
    ) {
        let future = async move { (future.await, None) };
        let then = move |client: &mut Self, value: Option<T>, turn: &mut Turn<'_>| match value {
            Some(value) => then(client, value, turn),
            // It broke.
            None => client.fail(id, ErrorCode::Internal, turn),
        };
        if !self.wait_for(future, then, turn) {
            self.fail(id, ErrorCode::TooManyRequests, turn);
        }
    }

    /// Waits for something, and goes on with what came of it: nothing when it broke. Beside its value it
    /// gives why it failed, for the trace of the message. False, and nothing is waited for, when too
    /// much is already.
    pub(super) fn wait_for<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = (T, Option<AskError>)> + Send + 'static,
        then: impl FnOnce(&mut Self, Option<T>, &mut Turn<'_>) + Send + 'static,
        turn: &mut Turn<'_>,
    ) -> bool {
        let waits = self.waits.get_or_insert_default();
        if waits.is_full() {
            return false;
        }
        waits.last += 1;
        let ticket = Ticket(waits.last);
        let slot = Arc::new(Mutex::new(None));
        let filled = Arc::clone(&slot);
        let ask = async move {
            let (value, fault) = future.await;
            *filled.lock() = Some(value);
            match fault {
                None => Ok(Response { status: 204, body: bytes::Bytes::new() }),
                Some(fault) => Err(fault),
            }
        };
        let then = move |client: &mut Self, turn: &mut Turn<'_>| {
            let value = slot.lock().take();
            then(client, value, turn);
        };
        waits.waits.push((ticket, Box::new(then)));
        turn.actions.ask(ticket, Box::pin(ask));
        true
    }

    /// Whether something more may be waited for.
    pub(super) fn may_wait(&self) -> bool {
        self.waits.as_ref().is_none_or(|waits| !waits.is_full())
    }

    /// Goes on with a broker's answer, now or later.
    pub(super) fn settle<T: Send + 'static>(
        &mut self,
        id: u32,
        answer: Answer<T>,
        then: impl FnOnce(&mut Self, Result<T, BrokerError>, &mut Turn<'_>) + Send + 'static,
        turn: &mut Turn<'_>,
    ) {
        match answer {
            Answer::Now(result) => then(self, result, turn),
            Answer::Later(future) => self.later(id, future, then, turn),
        }
    }

    /// A command waits for a backend: what comes for its channel stays behind it, so that a channel's
    /// commands keep their order and those of others do not wait.
    pub(super) fn hold_channel(&mut self, channel: &str) {
        let lane = Lane { channel: channel.into(), commands: VecDeque::new() };
        self.waits.get_or_insert_default().lanes.push(lane);
    }

    /// It waits no more: handles what stayed behind, up to the next command that waits.
    pub(super) fn release_channel(&mut self, channel: &str, turn: &mut Turn<'_>) {
        let Some(waits) = &mut self.waits else { return };
        let Some(at) = waits.lanes.iter().position(|lane| *lane.channel == *channel) else {
            return;
        };
        let mut lane = waits.lanes.swap_remove(at);
        while let Some(command) = lane.commands.pop_front() {
            let Some(waits) = &mut self.waits else { return };
            waits.behind -= 1;
            waits.behind_bytes -= command.len();
            self.command(&command, turn);
            let Some(held) = self.waits.as_mut().and_then(|waits| waits.lane(channel)) else {
                continue;
            };
            // Nothing can have come in between.
            held.commands = lane.commands;
            return;
        }
    }
}
