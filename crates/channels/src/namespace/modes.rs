//! What one subscription does: what its client asks for, as far as the namespace and its token let
//! it. The result is what the client is told.

use super::permission::Channel;
use super::slow::SlowPolicy;

/// What a client asks of its subscription (protocol, section 1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// To be told of holes.
    pub positioned: bool,
    /// To catch up with what it missed.
    pub recoverable: bool,
    /// To be told who comes and goes.
    pub join_leave: bool,
}

/// What a token or a backend says of one subscription, in place of its namespace. `None`: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// In place of [`super::ChannelOptions::presence`].
    pub presence: Option<bool>,
    /// In place of [`super::ChannelOptions::join_leave`].
    pub join_leave: Option<bool>,
    /// In place of [`super::ChannelOptions::force_push_join_leave`].
    pub force_push_join_leave: Option<bool>,
    /// In place of [`super::ChannelOptions::force_positioning`].
    pub force_positioning: Option<bool>,
    /// In place of [`super::ChannelOptions::force_recovery`].
    pub force_recovery: Option<bool>,
}

/// What a subscription does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// Its client is in the channel's presence.
    pub presence: bool,
    /// Its client is announced when it comes and goes.
    pub announced: bool,
    /// Its client is told of the others that come and go, and of itself.
    pub told_of_others: bool,
    /// Its client is told of holes. Always so when it can be recovered.
    pub positioned: bool,
    /// Its client catches up with what it missed.
    pub recoverable: bool,
}

impl Channel<'_, '_> {
    /// What a subscription of a user that may subscribe does. Without a history, and where publications
    /// are dropped for the slow, nothing is recoverable or has a position, whoever wants it: there would
    /// be no way to keep the promise. Where the slow catch up, everybody has a position.
    pub fn modes(&self, user: &str, asked: Asked, overrides: &Overrides) -> Modes {
        let options = self.namespace().options();
        let reads_history = self.is_given(options.history_access, user, true).is_ok();
        let sees_presence = self.is_given(options.presence_access, user, true).is_ok();
        let recoverable = overrides.force_recovery.unwrap_or(options.force_recovery)
            || asked.recoverable && (options.allow_recovery || reads_history);
        let positioned = recoverable
            || overrides.force_positioning.unwrap_or(options.force_positioning)
            || asked.positioned && (options.allow_positioning || reads_history)
            || options.slow.policy == SlowPolicy::CatchUp;
        let has_places = options.history.is_some() && !options.slow.policy.is_lossy();
        Modes {
            presence: overrides.presence.unwrap_or(options.presence),
            announced: overrides.join_leave.unwrap_or(options.join_leave),
            told_of_others: overrides
                .force_push_join_leave
                .unwrap_or(options.force_push_join_leave)
                || asked.join_leave && options.join_leave && sees_presence,
            positioned: positioned && has_places,
            recoverable: recoverable && has_places,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::StreamOptions;
    use crate::namespace::{ChannelOptions, ChannelRules, Namespaces, Permission, SlowConsumers};

    const EVERYTHING: Asked = Asked { positioned: true, recoverable: true, join_leave: true };
    const NOTHING: Asked = Asked { positioned: false, recoverable: false, join_leave: false };

    fn with_history() -> ChannelOptions {
        let minute = Duration::from_secs(60);
        let history = StreamOptions { size: 1, ttl: minute, meta_ttl: minute };
        ChannelOptions { history: Some(history), ..ChannelOptions::default() }
    }

    #[track_caller]
    fn check(options: ChannelOptions, asked: Asked, overrides: Overrides, expected: Modes) {
        let rules = ChannelRules { without_namespace: options, ..ChannelRules::default() };
        let namespaces = Namespaces::new(rules).expect("good rules");
        let channel = namespaces.resolve("news").expect("a channel");
        assert_eq!(channel.modes("ann", asked, &overrides), expected);
    }

    #[test]
    fn what_is_asked_for_is_not_given_unless_it_is_allowed() {
        check(with_history(), EVERYTHING, Overrides::default(), Modes::default());
    }

    #[test]
    fn what_is_forced_needs_no_asking_and_what_is_allowed_does() {
        let both = Modes { positioned: true, recoverable: true, ..Modes::default() };
        let positioned = Modes { positioned: true, ..Modes::default() };
        let none = Overrides::default();
        let forced = ChannelOptions { force_recovery: true, ..with_history() };
        check(forced, NOTHING, none, both);
        let forced = ChannelOptions { force_positioning: true, ..with_history() };
        check(forced, NOTHING, none, positioned);
        let allowed = ChannelOptions { allow_recovery: true, ..with_history() };
        check(allowed.clone(), NOTHING, none, Modes::default());
        check(allowed, EVERYTHING, none, both);
        let allowed = ChannelOptions { allow_positioning: true, ..with_history() };
        check(allowed.clone(), NOTHING, none, Modes::default());
        check(allowed, EVERYTHING, none, positioned);
    }

    #[test]
    fn whoever_may_read_the_history_may_recover_from_it() {
        let subscriber = Permission { subscriber: true, ..Permission::default() };
        let options = ChannelOptions { history_access: subscriber, ..with_history() };
        let both = Modes { positioned: true, recoverable: true, ..Modes::default() };
        check(options, EVERYTHING, Overrides::default(), both);
    }

    #[test]
    fn joins_are_pushed_to_those_who_may_see_presence_and_ask() {
        let subscriber = Permission { subscriber: true, ..Permission::default() };
        let announced = Modes { announced: true, ..Modes::default() };
        let options = ChannelOptions { join_leave: true, ..ChannelOptions::default() };
        check(options.clone(), EVERYTHING, Overrides::default(), announced);
        let options = ChannelOptions { presence_access: subscriber, ..options };
        check(options.clone(), NOTHING, Overrides::default(), announced);
        let told = Modes { told_of_others: true, ..announced };
        check(options.clone(), EVERYTHING, Overrides::default(), told);
        let forced = ChannelOptions { force_push_join_leave: true, ..options };
        check(forced, NOTHING, Overrides::default(), told);
    }

    #[test]
    fn a_token_overrides_its_namespace_in_both_directions() {
        let all = |value| Overrides {
            presence: Some(value),
            join_leave: Some(value),
            force_push_join_leave: Some(value),
            force_positioning: Some(value),
            force_recovery: Some(value),
        };
        let everything = Modes {
            presence: true,
            announced: true,
            told_of_others: true,
            positioned: true,
            recoverable: true,
        };
        check(with_history(), NOTHING, all(true), everything);
        let forced = ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            force_positioning: true,
            force_recovery: true,
            ..with_history()
        };
        check(forced.clone(), NOTHING, Overrides::default(), everything);
        check(forced, NOTHING, all(false), Modes::default());
    }

    #[test]
    fn where_publications_are_dropped_nobody_has_a_position_whoever_wants_it() {
        let slow = SlowConsumers { policy: SlowPolicy::DropOldest, ..SlowConsumers::default() };
        let reader = Permission { subscriber: true, ..Permission::default() };
        let options = ChannelOptions { slow, history_access: reader, ..with_history() };
        let forced = Overrides { force_recovery: Some(true), ..Overrides::default() };
        check(options, EVERYTHING, forced, Modes::default());
    }

    #[test]
    fn where_the_slow_catch_up_everybody_has_a_position() {
        let slow = SlowConsumers { policy: SlowPolicy::CatchUp, ..SlowConsumers::default() };
        let options = ChannelOptions { slow, ..with_history() };
        let not_forced = Overrides { force_positioning: Some(false), ..Overrides::default() };
        let positioned = Modes { positioned: true, ..Modes::default() };
        check(options, NOTHING, not_forced, positioned);
    }

    #[test]
    fn nothing_is_recoverable_where_nothing_is_kept() {
        let options = ChannelOptions {
            allow_recovery: true,
            allow_positioning: true,
            ..ChannelOptions::default()
        };
        let forced = Overrides { force_recovery: Some(true), ..Overrides::default() };
        check(options, EVERYTHING, forced, Modes::default());
    }
}
