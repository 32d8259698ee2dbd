//! Who may do what in a channel. Every answer depends on the channel's name, the options of its
//! namespace and who asks, and on nothing else.

use std::sync::Arc;

use crate::protocol::codes::ErrorCode;

use super::Namespace;
use super::name::ChannelName;
use super::options::Permission;

/// A channel of which it is known what may be done there.
#[derive(Clone, Copy, Debug)]
pub struct Channel<'n, 'c> {
    namespace: &'n Arc<Namespace>,
    name: ChannelName<'c>,
    insecure: bool,
}

/// Whether a subscription may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may.
    Allowed,
    /// It may when the token that came with it is good, and only then.
    NeedsToken,
    /// The backend is to say.
    AsksBackend,
    /// It may not.
    Denied(ErrorCode),
}

impl<'n, 'c> Channel<'n, 'c> {
    pub(super) fn new(
        namespace: &'n Arc<Namespace>,
        name: ChannelName<'c>,
        insecure: bool,
    ) -> Self {
        Self { namespace, name, insecure }
    }

    /// The namespace that it is in.
    pub fn namespace(&self) -> &'n Arc<Namespace> {
        self.namespace
    }

    /// Its name.
    pub fn name(&self) -> ChannelName<'c> {
        self.name
    }

    /// Whether a user may subscribe. A token that is shown decides alone, also where none is needed:
    /// a client that shows a bad one is not who it says (protocol, section 1.15).
    pub fn may_subscribe(&self, user: &str, token_present: bool) -> Access {
        let options = self.namespace.options();
        if token_present {
            return Access::NeedsToken;
        }
        let limited = options.allow_user_limited_channels && self.name.names_users();
        if options.subscribe_hook && !limited && !self.name.is_private() {
            return Access::AsksBackend;
        }
        let allowed = if self.insecure {
            true
        } else if self.name.is_private() {
            false
        } else if limited {
            self.name.names(user)
        } else {
            options.subscribe_for_client && (!user.is_empty() || options.subscribe_for_anonymous)
        };
        if allowed { Access::Allowed } else { Access::Denied(ErrorCode::PermissionDenied) }
    }

    /// Whether a user that is or is not subscribed may publish.
    ///
    /// # Errors
    ///
    /// 103 when it may not.
    pub fn may_publish(&self, user: &str, subscribed: bool) -> Result<(), ErrorCode> {
        self.is_given(self.namespace.options().publish, user, subscribed)
    }

    /// Whether a user may ask who is present, or how many are.
    ///
    /// # Errors
    ///
    /// 108 when that is not known of this channel; 103 when the user may not ask.
    pub fn may_presence(&self, user: &str, subscribed: bool) -> Result<(), ErrorCode> {
        let options = self.namespace.options();
        if !options.presence {
            return Err(ErrorCode::NotAvailable);
        }
        self.is_given(options.presence_access, user, subscribed)
    }

    /// Whether a user may read the history.
    ///
    /// # Errors
    ///
    /// 108 when there is none; 103 when the user may not read it.
    pub fn may_history(&self, user: &str, subscribed: bool) -> Result<(), ErrorCode> {
        let options = self.namespace.options();
        if options.history.is_none() {
            return Err(ErrorCode::NotAvailable);
        }
        self.is_given(options.history_access, user, subscribed)
    }

    /// Whether a permission is given here.
    pub(super) fn is_given(
        &self,
        permission: Permission,
        user: &str,
        subscribed: bool,
    ) -> Result<(), ErrorCode> {
        let given = self.insecure || permission.is_given(user, subscribed);
        if given { Ok(()) } else { Err(ErrorCode::PermissionDenied) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::StreamOptions;
    use crate::namespace::{ChannelOptions, ChannelRules, Namespaces};

    const ALLOWED: Access = Access::Allowed;
    const DENIED: Access = Access::Denied(ErrorCode::PermissionDenied);

    fn namespaces(without_namespace: ChannelOptions, insecure: bool) -> Namespaces {
        let rules = ChannelRules { without_namespace, insecure, ..ChannelRules::default() };
        Namespaces::new(rules).expect("good rules")
    }

    fn check(options: &ChannelOptions, cases: &[(&str, &str, Access)]) {
        let namespaces = namespaces(options.clone(), false);
        for (channel, user, expected) in cases {
            let channel = namespaces.resolve(channel).expect("a channel");
            let what = format!("{user:?} in {}", channel.name().whole());
            assert_eq!(channel.may_subscribe(user, false), *expected, "{what}");
            assert_eq!(channel.may_subscribe(user, true), Access::NeedsToken, "{what}");
        }
    }

    #[test]
    fn nobody_subscribes_without_a_token_unless_the_namespace_says_so() {
        let none = ChannelOptions::default();
        check(&none, &[("news", "ann", DENIED), ("news", "", DENIED), ("#ann", "ann", DENIED)]);
        let anonymous = ChannelOptions { subscribe_for_anonymous: true, ..none.clone() };
        check(&anonymous, &[("news", "ann", DENIED), ("news", "", DENIED)]);
        let client = ChannelOptions { subscribe_for_client: true, ..none };
        check(&client, &[("news", "ann", ALLOWED), ("news", "", DENIED)]);
        let both = ChannelOptions { subscribe_for_anonymous: true, ..client };
        check(&both, &[("news", "ann", ALLOWED), ("news", "", ALLOWED), ("$news", "ann", DENIED)]);
    }

    #[test]
    fn a_private_channel_takes_a_token_whatever_the_namespace_says() {
        let options = ChannelOptions {
            subscribe_for_client: true,
            subscribe_for_anonymous: true,
            allow_user_limited_channels: true,
            ..ChannelOptions::default()
        };
        check(&options, &[("$news", "ann", DENIED), ("$news#ann", "ann", DENIED)]);
    }

    #[test]
    fn a_user_limited_channel_is_for_those_that_it_names_and_nobody_else() {
        let limited =
            ChannelOptions { allow_user_limited_channels: true, ..ChannelOptions::default() };
        let cases = [
            ("dialog#ann,bob", "ann", ALLOWED),
            ("dialog#ann,bob", "bob", ALLOWED),
            ("dialog#ann,bob", "eve", DENIED),
            ("dialog#ann,bob", "", DENIED),
            ("dialog#", "", DENIED),
        ];
        check(&limited, &cases);
        check(&limited, &[("dialog", "ann", DENIED)]);
        let open = ChannelOptions {
            subscribe_for_client: true,
            subscribe_for_anonymous: true,
            ..limited.clone()
        };
        check(&open, &cases);
        check(&open, &[("dialog", "eve", ALLOWED), ("dialog", "", ALLOWED)]);
        // Where the mark means nothing, it is a character like others.
        let unlimited = ChannelOptions { allow_user_limited_channels: false, ..open };
        check(&unlimited, &[("dialog#ann", "eve", ALLOWED)]);
    }

    #[test]
    fn the_backend_is_asked_where_no_token_and_no_name_says_it() {
        let hook = ChannelOptions {
            subscribe_hook: true,
            allow_user_limited_channels: true,
            ..ChannelOptions::default()
        };
        let asks = Access::AsksBackend;
        check(
            &hook,
            &[
                ("news", "ann", asks),
                ("news", "", asks),
                ("$news", "ann", DENIED),
                ("dialog#ann", "ann", ALLOWED),
                ("dialog#ann", "eve", DENIED),
            ],
        );
    }

    #[test]
    fn what_is_off_is_108_and_what_is_not_permitted_103() {
        let off = namespaces(ChannelOptions::default(), false);
        let off = off.resolve("news").expect("a channel");
        assert_eq!(off.may_presence("ann", true), Err(ErrorCode::NotAvailable));
        assert_eq!(off.may_history("ann", true), Err(ErrorCode::NotAvailable));
        assert_eq!(off.may_publish("ann", true), Err(ErrorCode::PermissionDenied));
        let on = namespaces(with_features(), false);
        let on = on.resolve("news").expect("a channel");
        assert_eq!(on.may_presence("ann", true), Err(ErrorCode::PermissionDenied));
        assert_eq!(on.may_history("ann", true), Err(ErrorCode::PermissionDenied));
    }

    #[test]
    fn each_permission_is_its_own() {
        let subscriber = Permission { subscriber: true, ..Permission::default() };
        for which in 0..3 {
            let mut options = with_features();
            *[&mut options.publish, &mut options.presence_access, &mut options.history_access]
                [which] = subscriber;
            let namespaces = namespaces(options, false);
            let channel = namespaces.resolve("news").expect("a channel");
            let answers = |user, subscribed| {
                [
                    channel.may_publish(user, subscribed),
                    channel.may_presence(user, subscribed),
                    channel.may_history(user, subscribed),
                ]
                .map(|answer| answer.is_ok())
            };
            assert_eq!(answers("ann", true), [0, 1, 2].map(|one| one == which));
            assert_eq!(answers("ann", false), [false; 3]);
            assert_eq!(answers("", true), [false; 3]);
        }
    }

    #[test]
    fn everybody_may_do_everything_where_it_is_insecure_but_no_feature_appears() {
        let on = namespaces(with_features(), true);
        for channel in ["news", "$news", "dialog#ann"] {
            let channel = on.resolve(channel).expect("a channel");
            assert_eq!(channel.may_subscribe("", false), ALLOWED);
            // Whoever shows a token wants to be its user.
            assert_eq!(channel.may_subscribe("", true), Access::NeedsToken);
            assert_eq!(channel.may_publish("", false), Ok(()));
            assert_eq!(channel.may_presence("", false), Ok(()));
            assert_eq!(channel.may_history("", false), Ok(()));
        }
        let off = namespaces(ChannelOptions::default(), true);
        let off = off.resolve("news").expect("a channel");
        assert_eq!(off.may_presence("", true), Err(ErrorCode::NotAvailable));
        assert_eq!(off.may_history("", true), Err(ErrorCode::NotAvailable));
    }

    fn with_features() -> ChannelOptions {
        let minute = Duration::from_secs(60);
        let history = StreamOptions { size: 1, ttl: minute, meta_ttl: minute };
        ChannelOptions { presence: true, history: Some(history), ..ChannelOptions::default() }
    }
}
