//! What must hold in every world, whatever its seed. Each check says what did not, in words.

use weir_core::close::CloseReason;

use crate::client::{Client, FAREWELL};
use crate::ledger::Account;
use crate::line::RECORD_BYTES_MAX;
use crate::order::Order;
use crate::script::{End, MESSAGE_BYTES_MAX, Route};
use crate::wire::Wire;
use crate::world::{IN_FLIGHT_MAX, OUTBOX_BYTES_MAX, Outcome, World};

/// Framing of one message, and the last word that may pass the bound.
const OVER: usize = 512;

/// After every turn: bounds.
///
/// # Errors
///
/// A connection over its bound.
pub fn at_any_time(world: &World) -> Result<(), String> {
    for held in world.engine.held() {
        let bound = OUTBOX_BYTES_MAX + MESSAGE_BYTES_MAX + OVER;
        if held.outbox_bytes > bound {
            return Err(format!("{held:?}: the outbox is over {bound}"));
        }
        if held.in_flight > IN_FLIGHT_MAX {
            return Err(format!("{held:?}: more than {IN_FLIGHT_MAX} in flight"));
        }
        // A pipe holds at most 8 KiB, TLS the beginning of a record before it, and what is held
        // back is at most a read and a message.
        let bound = 8192 + RECORD_BYTES_MAX + MESSAGE_BYTES_MAX + OVER;
        if held.rest_bytes > bound {
            return Err(format!("{held:?}: the rest is over {bound}"));
        }
    }
    Ok(())
}

/// When nothing more can happen at an instant: idle connections own nothing, and what has ended
/// runs no more.
///
/// # Errors
///
/// Who keeps what.
pub fn when_quiet(world: &World) -> Result<(), String> {
    for held in world.engine.held() {
        let outcome = world.outcomes.iter().find(|outcome| outcome.conn == Some(held.conn));
        let Some(client) = outcome.and_then(|outcome| outcome.client.as_ref()) else { continue };
        let held_back = held.in_flight >= IN_FLIGHT_MAX || held.outbox_bytes > OUTBOX_BYTES_MAX / 4;
        if client.is_whole() && !held_back && held.rest_bytes > 0 {
            return Err(format!("{held:?}: nothing is unfinished, and yet it keeps a rest"));
        }
    }
    let accounts = world.ledger.accounts();
    for (index, (outcome, account)) in world.outcomes.iter().zip(accounts.iter()).enumerate() {
        if outcome.end.is_some() && (account.asks > 0 || account.sessions != (1, 1)) {
            return Err(format!(
                "client {index} has ended, and yet {} asks and sessions {:?} are there",
                account.asks, account.sessions
            ));
        }
    }
    Ok(())
}

/// When the world is drained: everything that was opened is closed, once and for a reason; what
/// was accepted was answered in order.
///
/// # Errors
///
/// The first client with which this is not so.
pub fn at_the_end(world: &World) -> Result<(), String> {
    let metrics = world.engine.metrics();
    let (opened, closed) = (metrics.opened_total(), metrics.closed_total());
    if opened != closed {
        return Err(format!("{opened} opened and {closed} closed"));
    }
    if world.engine.permits() != 0 || world.engine.held().count() != 0 {
        return Err(format!("{} permits are still out", world.engine.permits()));
    }
    if metrics.closed_for(CloseReason::Aborted) != 0 {
        return Err("a connection was aborted".to_owned());
    }
    let mut reasons = std::collections::HashMap::new();
    for ended in world.engine.ended() {
        if reasons.insert(ended.conn, ended.reason).is_some() {
            return Err(format!("{} ended twice", ended.conn));
        }
    }
    let accounts = world.ledger.accounts();
    for (index, (outcome, account)) in world.outcomes.iter().zip(accounts.iter()).enumerate() {
        let told = |what: String| {
            let facts = outcome.client.as_ref().map(Client::facts).unwrap_or_default();
            format!("client {index} {facts}, ended {:?}: {what}", outcome.end)
        };
        client_at_the_end(world, outcome, account).map_err(told)?;
    }
    Ok(())
}

fn client_at_the_end(world: &World, outcome: &Outcome, account: &Account) -> Result<(), String> {
    let Some(client) = &outcome.client else {
        return if account.sessions == (0, 0) { Ok(()) } else { Err("refused and served".into()) };
    };
    if let Some(fault) = account.faults.first() {
        return Err(fault.clone());
    }
    let Some((reason, at)) = outcome.end else { return Err("it never ended".to_owned()) };
    let drained = at >= world.drain_at;
    allowed(client, reason, drained)?;
    accepted(client, account)?;
    answered(client, account, reason)
}

fn allowed(client: &Client, reason: CloseReason, drained: bool) -> Result<(), String> {
    let script = &client.script;
    let stuck = script.is_stuck() || !script.reads_well();
    let by_drain = reason == CloseReason::Drained || (reason == CloseReason::Forced && stuck);
    if (drained && by_drain) || script.reasons().contains(&reason) {
        return Ok(());
    }
    Err(format!("{} is no reason for such a client", reason.as_str()))
}

/// What the service was told is what the client sent, from its first message on.
fn accepted(client: &Client, account: &Account) -> Result<(), String> {
    for (place, (sent, got)) in client.script.messages.iter().zip(&account.accepted).enumerate() {
        if sent != got {
            return Err(format!("message {place} was {} and came as {}", show(sent), show(got)));
        }
    }
    let (sent, got) = (client.script.messages.len(), account.accepted.len());
    if got > sent { Err(format!("{got} messages of {sent} came")) } else { Ok(()) }
}

/// Replies come in order, without a gap, and nothing else does but one last word; after an end in
/// good order none is missing.
fn answered(client: &Client, account: &Account, reason: CloseReason) -> Result<(), String> {
    let route = client.script.route;
    let mut owed = Vec::new();
    let mut stuck = false;
    for message in &account.accepted {
        // Nothing overtakes a reply that never comes.
        stuck |= route == Route::Orders && Order::of(message) == Some(Order::Never);
        if !stuck {
            owed.extend(route.reply(message));
        }
    }
    let mut received = &client.received[..];
    let last_word = received.last().is_some_and(|last| is_last_word(last, client.script.wire));
    if last_word {
        received = &received[..received.len() - 1];
    }
    for (place, (owed, got)) in owed.iter().zip(received).enumerate() {
        if owed != got {
            return Err(format!("reply {place} was to be {} and is {}", show(owed), show(got)));
        }
    }
    if received.len() > owed.len() {
        return Err(format!("{} replies where {} were owed", received.len(), owed.len()));
    }
    let all = client.script.messages.len();
    if client.script.reads_well() && !stuck && in_good_order(client, reason) {
        if received.len() < owed.len() {
            return Err(format!("{} replies of {} came", received.len(), owed.len()));
        }
        let heard_out = client.script.end == End::HalfClose && reason == CloseReason::PeerClosed;
        if heard_out && account.accepted.len() < all {
            return Err(format!("{} messages of {all} were heard", account.accepted.len()));
        }
        if client.is_websocket() && client.closed.is_none() {
            return Err("no Close frame came".to_owned());
        }
        if client.cut {
            return Err("the stream ended without the end of TLS".to_owned());
        }
    }
    Ok(())
}

/// Whether an end for this reason leaves no reply owed to a peer that reads.
fn in_good_order(client: &Client, reason: CloseReason) -> bool {
    match reason {
        CloseReason::PeerClosed
        | CloseReason::Exit
        | CloseReason::ProtocolError
        | CloseReason::InvalidUtf8
        | CloseReason::MessageTooBig
        | CloseReason::ReadTimeout
        | CloseReason::IdleTimeout
        | CloseReason::Aged
        | CloseReason::Disconnected
        | CloseReason::Drained => client.script.end != End::Reset,
        CloseReason::HandshakeTimeout
        | CloseReason::TlsFailed
        | CloseReason::Refused
        | CloseReason::HeaderTimeout
        | CloseReason::BadRequest
        | CloseReason::Unauthorized
        | CloseReason::TokenExpired
        | CloseReason::PeerReset
        | CloseReason::UnsupportedData
        | CloseReason::PongTimeout
        | CloseReason::WriteTimeout
        | CloseReason::SlowConsumer
        | CloseReason::Overload
        | CloseReason::Forced
        | CloseReason::InternalError
        | CloseReason::Aborted => false,
    }
}

fn is_last_word(message: &[u8], wire: Wire) -> bool {
    let error = message.starts_with(b"error: ");
    match wire {
        Wire::Lines => error || message == FAREWELL.as_bytes(),
        Wire::Length => error,
        Wire::WebSocket => false,
    }
}

fn show(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(40)];
    format!("{:?} ({} bytes)", String::from_utf8_lossy(head), bytes.len())
}
