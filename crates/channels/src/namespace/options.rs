//! What the channels of a namespace are like: plain values, by the names that users of the protocol
//! know. Who asks is not known here.

use serde::de::IgnoredAny;

use crate::broker::StreamOptions;

use super::pattern::Pattern;
use super::slow::{SlowConsumers, SlowPolicy};

/// The options of the channels of one namespace. The default has no feature and permits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelOptions {
    /// How much is remembered (`history_size`, `history_ttl`, `history_meta_ttl`). `None`: nothing.
    pub history: Option<StreamOptions>,
    /// Every subscriber is told of holes.
    pub force_positioning: bool,
    /// A subscriber that asks to be told of holes is.
    pub allow_positioning: bool,
    /// Every subscriber catches up with what it missed.
    pub force_recovery: bool,
    /// A subscriber that asks to catch up does.
    pub allow_recovery: bool,
    /// It is known who is subscribed.
    pub presence: bool,
    /// A client that comes or goes is announced to the subscribers that want to know.
    pub join_leave: bool,
    /// All subscribers want to know.
    pub force_push_join_leave: bool,
    /// Every user may subscribe (`allow_subscribe_for_client`).
    pub subscribe_for_client: bool,
    /// Those without a name too, where users with one may (`allow_subscribe_for_anonymous`).
    pub subscribe_for_anonymous: bool,
    /// Who may publish (`allow_publish_for_...`).
    pub publish: Permission,
    /// Who may ask who is present (`allow_presence_for_...`).
    pub presence_access: Permission,
    /// Who may read the history (`allow_history_for_...`).
    pub history_access: Permission,
    /// A name with `#` and users may be subscribed to by these, and by nobody else.
    pub allow_user_limited_channels: bool,
    /// What names must match behind the namespace's. `None`: any ASCII.
    pub channel_regex: Option<Pattern>,
    /// What publications must be.
    pub publication_data_format: DataFormat,
    /// The backend says who may subscribe (`subscribe_proxy_enabled`).
    pub subscribe_hook: bool,
    /// The backend says who may publish, and what (`publish_proxy_enabled`).
    pub publish_hook: bool,
    /// The backend renews subscriptions (`sub_refresh_proxy_enabled`).
    pub sub_refresh_hook: bool,
    /// Most subscribers of one channel on this node (106). `None`: as many as come.
    pub subscribers_max: Option<usize>,
    /// What becomes of subscribers that do not keep up.
    pub slow: SlowConsumers,
}

/// Who may do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// Every user.
    pub client: bool,
    /// Every user that is subscribed to the channel.
    pub subscriber: bool,
    /// Those without a name too, where users with one may.
    pub anonymous: bool,
}

impl Permission {
    /// Whether it is given to a user that is or is not subscribed.
    pub(super) fn is_given(self, user: &str, subscribed: bool) -> bool {
        (self.client || self.subscriber && subscribed) && (!user.is_empty() || self.anonymous)
    }
}

/// What a publication must be, whoever publishes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataFormat {
    /// At least one byte.
    #[default]
    Any,
    /// JSON.
    Json,
    /// An object in JSON.
    JsonObject,
    /// Any bytes, also none.
    Binary,
}

impl DataFormat {
    /// Whether a payload is so. One that is not is a bad request (107).
    pub fn accepts(self, data: &[u8]) -> bool {
        let is_json = || serde_json::from_slice::<IgnoredAny>(data).is_ok();
        match self {
            Self::Any => !data.is_empty(),
            Self::Json => is_json(),
            Self::JsonObject => data.trim_ascii_start().starts_with(b"{") && is_json(),
            Self::Binary => true,
        }
    }
}

/// Options that contradict each other. The text names the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// There would be nothing to catch up from.
    #[error("force_recovery needs history_size and history_ttl")]
    RecoveryWithoutHistory,
    /// The stream would be forgotten before its history.
    #[error("history_meta_ttl is shorter than history_ttl")]
    MetaShorterThanHistory,
    /// There would be nothing to read it from.
    #[error("slow_consumer = \"catch_up\" needs history_size and history_ttl")]
    CatchUpWithoutHistory,
    /// A subscriber would be promised what is not kept.
    #[error("{0} promises that nothing is missed, and slow_consumer drops publications")]
    PositionsGiveWay(&'static str),
}

impl ChannelOptions {
    /// Checks what no option can say alone.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn check(&self) -> Result<(), OptionsError> {
        let promises = [
            ("force_positioning", self.force_positioning),
            ("allow_positioning", self.allow_positioning),
            ("force_recovery", self.force_recovery),
            ("allow_recovery", self.allow_recovery),
        ];
        if self.slow.policy.is_lossy()
            && let Some((promise, _)) = promises.iter().find(|(_, is_given)| *is_given)
        {
            return Err(OptionsError::PositionsGiveWay(promise));
        }
        match self.history {
            None if self.slow.policy == SlowPolicy::CatchUp => {
                Err(OptionsError::CatchUpWithoutHistory)
            }
            None if self.force_recovery => Err(OptionsError::RecoveryWithoutHistory),
            Some(history) if history.meta_ttl < history.ttl => {
                Err(OptionsError::MetaShorterThanHistory)
            }
            None | Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_permission_of_subscribers_takes_a_subscription_and_nobody_without_a_name_has_one_by_chance()
     {
        let none = Permission::default();
        let client = Permission { client: true, ..none };
        let subscriber = Permission { subscriber: true, ..none };
        let anonymous = Permission { anonymous: true, ..none };
        for (permission, user, subscribed, given) in [
            (none, "ann", true, false),
            (client, "ann", false, true),
            (client, "", true, false),
            (Permission { anonymous: true, ..client }, "", false, true),
            (subscriber, "ann", false, false),
            (subscriber, "ann", true, true),
            (subscriber, "", true, false),
            (Permission { anonymous: true, ..subscriber }, "", true, true),
            (Permission { anonymous: true, ..subscriber }, "", false, false),
            (anonymous, "", true, false),
            (anonymous, "ann", true, false),
        ] {
            let what = format!("{permission:?} {user:?} {subscribed}");
            assert_eq!(permission.is_given(user, subscribed), given, "{what}");
        }
    }

    #[test]
    fn a_payload_is_held_to_its_format() {
        let check = |format: DataFormat, good: &[&str], bad: &[&str]| {
            for data in good {
                assert!(format.accepts(data.as_bytes()), "{format:?} {data:?}");
            }
            for data in bad {
                assert!(!format.accepts(data.as_bytes()), "{format:?} {data:?}");
            }
        };
        check(DataFormat::Any, &["x", "{", "\0"], &[""]);
        check(DataFormat::Json, &["1", "\"x\"", " {} "], &["", "x", "{} {}"]);
        check(DataFormat::JsonObject, &[" {\"a\":1}"], &["", "1", "[]", "{", "{}x"]);
        check(DataFormat::Binary, &["", "x", "\0"], &[]);
    }

    #[test]
    fn options_that_contradict_each_other_are_told_apart() {
        let history = |ttl, meta_ttl| StreamOptions {
            size: 10,
            ttl: Duration::from_secs(ttl),
            meta_ttl: Duration::from_secs(meta_ttl),
        };
        let check = |history, force_recovery, expected: Result<(), OptionsError>| {
            let options = ChannelOptions { history, force_recovery, ..ChannelOptions::default() };
            assert_eq!(options.check(), expected);
        };
        check(None, false, Ok(()));
        check(Some(history(60, 60)), true, Ok(()));
        check(None, true, Err(OptionsError::RecoveryWithoutHistory));
        check(Some(history(61, 60)), true, Err(OptionsError::MetaShorterThanHistory));
    }
}
