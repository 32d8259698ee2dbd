//! What a session has its backend told of: its own end, and those of its subscriptions.

use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use weir_auth::Moment;
use weir_core::close::CloseReason;

use super::{Client, Turn, disconnect_code};
use crate::hooks::Hooks;
use crate::notices::{About, Ended, NoticeOptions, What};
use crate::protocol::codes::{DisconnectCode, UnsubscribeCode};

impl Client {
    /// The connection has ended; told while its subscriptions are still known.
    pub(super) fn tell_gone(&self, reason: CloseReason, turn: &mut Turn<'_>) {
        let wanted = self.wants(|options| options.disconnects);
        // Without an address it never was connected.
        let Some(hooks) = wanted.filter(|_| self.address.is_some()) else { return };
        let names = self.subs.iter().filter_map(|sub| turn.hub().name(sub.place).cloned());
        let names: Vec<Arc<str>> = names.collect();
        let what = What::Connection(names.iter().map(|name| &**name).collect());
        match &self.farewell {
            Some(said) => self.tell(&hooks, u32::from(said.0), &said.1, what, turn.now),
            None => {
                let code = disconnect_code(reason).unwrap_or(DisconnectCode::ConnectionClosed);
                self.tell(&hooks, code.number(), code.text(), what, turn.now);
            }
        }
    }

    /// A subscription has ended, and its connection has not.
    pub(super) fn tell_unsubscribed(&self, channel: &str, code: UnsubscribeCode, now: Instant) {
        if let Some(hooks) = self.wants(|options| options.unsubscribes) {
            self.tell(&hooks, code.number(), code.text(), What::Subscription(channel), now);
        }
    }

    /// Those who want to be told, when they do.
    fn wants(&self, which: fn(&NoticeOptions) -> bool) -> Option<Arc<Hooks>> {
        let policy = self.shared.policy.load();
        let hooks = policy.hooks.as_ref()?;
        hooks.notices().is_some_and(which).then(|| Arc::clone(hooks))
    }

    fn tell(&self, hooks: &Hooks, code: u32, reason: &str, what: What<'_>, now: Instant) {
        let Some(options) = hooks.notices() else { return };
        let client = self.uid().to_string();
        let wall = Moment::at(now).wall;
        let about = About {
            client: &client,
            carrier: self.carrier,
            encoding: self.encoding,
            user: &self.user,
            meta: self.caller.as_ref().and_then(|caller| caller.meta.as_deref()),
            time_ms: wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64,
        };
        self.shared.notices.put(&Ended { about, code, reason, what }, options, now);
    }
}
