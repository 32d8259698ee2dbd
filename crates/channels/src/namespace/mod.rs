//! Which channels there are, and who may do what in them: pure decisions, each with the protocol's own
//! code. Nothing here knows a connection, a stream or a clock.
//!
//! [`Namespaces`] is everything that a configuration says of channels. It never changes: a reload makes
//! another one. [`Namespaces::resolve`] takes a name apart ([`name`]) and finds the options of its
//! namespace ([`options`]); the [`Channel`] that comes of it answers for what may be done there
//! ([`permission`]), what a subscription does ([`modes`]), and what becomes of one that does not keep up
//! ([`slow`]).

pub mod modes;
pub mod name;
pub mod options;
pub mod pattern;
pub mod permission;
pub mod slow;

use std::collections::HashMap;
use std::sync::Arc;

pub use modes::{Asked, Modes, Overrides};
pub use name::{ChannelName, NameError};
pub use options::{ChannelOptions, DataFormat, OptionsError, Permission};
pub use pattern::{Pattern, PatternError};
pub use permission::{Access, Channel};
pub use slow::{KeyOf, SLOW_CONSUMER_BYTES_MAX, SlowConsumers, SlowPolicy};

/// Most namespaces. Each is a label of metrics.
pub const NAMESPACES_MAX: usize = 256;

/// Longest name of a namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 64;

/// Longest name of a channel by default, in bytes (protocol, section 1.6).
pub const CHANNEL_BYTES_MAX: usize = 255;

/// Channels that have their options in common.
#[derive(Debug, PartialEq, Eq)]
pub struct Namespace {
    name: Box<str>,
    options: ChannelOptions,
}

impl Namespace {
    /// Its name; empty for the channels that have no namespace. A label of metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its options.
    pub fn options(&self) -> &ChannelOptions {
        &self.options
    }
}

/// What a configuration says of channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRules {
    /// The options of channels without a namespace.
    pub without_namespace: ChannelOptions,
    /// The namespaces: name and options.
    pub namespaces: Vec<(String, ChannelOptions)>,
    /// Longest name of a channel.
    pub channel_bytes_max: usize,
    /// A client may connect without a token. It has no name then.
    pub allow_anonymous_connect_without_token: bool,
    /// The namespace in which each user that connects is subscribed to a channel of its own; empty:
    /// without a namespace. `None`: there are no such channels.
    pub personal_channels: Option<String>,
    /// Everybody may do everything, and nobody needs a token. For development, and told loudly at
    /// each start and reload.
    pub insecure: bool,
}

impl Default for ChannelRules {
    fn default() -> Self {
        Self {
            without_namespace: ChannelOptions::default(),
            namespaces: Vec::new(),
            channel_bytes_max: CHANNEL_BYTES_MAX,
            allow_anonymous_connect_without_token: false,
            personal_channels: None,
            insecure: false,
        }
    }
}

/// Why rules make no namespaces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// More than [`NAMESPACES_MAX`].
    #[error("{0} namespaces, and at most {NAMESPACES_MAX} are allowed")]
    TooMany(usize),
    /// A name that could not stand before a colon.
    #[error(
        "{0:?} is not a namespace's name: 1 to {NAMESPACE_BYTES_MAX} letters, digits, \"-\", \"_\" or \".\""
    )]
    Name(String),
    /// Two have the same name.
    #[error("two namespaces are called {0:?}")]
    Repeated(String),
    /// Personal channels are in a namespace that is not there.
    #[error("personal channels are in namespace {0:?}, which is not there")]
    Personal(String),
    /// Options that contradict each other.
    #[error("namespace {namespace:?}: {error}")]
    Options {
        /// Whose options; empty for those of channels without a namespace.
        namespace: String,
        /// What contradicts.
        error: OptionsError,
    },
}

/// Every namespace, and the rules that they share.
#[derive(Debug)]
pub struct Namespaces {
    named: HashMap<Box<str>, Arc<Namespace>>,
    without: Arc<Namespace>,
    channel_bytes_max: usize,
    /// What stands before the user in the name of a personal channel.
    personal: Option<Box<str>>,
    anonymous: bool,
    insecure: bool,
}

impl Namespaces {
    /// The namespaces of these rules.
    ///
    /// # Errors
    ///
    /// The first of the rules that cannot hold.
    pub fn new(rules: ChannelRules) -> Result<Self, RulesError> {
        if rules.namespaces.len() > NAMESPACES_MAX {
            return Err(RulesError::TooMany(rules.namespaces.len()));
        }
        let without = namespace("", rules.without_namespace)?;
        let mut named = HashMap::with_capacity(rules.namespaces.len());
        for (name, options) in rules.namespaces {
            if !is_namespace_name(&name) {
                return Err(RulesError::Name(name));
            }
            let namespace = namespace(&name, options)?;
            if named.insert(namespace.name.clone(), namespace).is_some() {
                return Err(RulesError::Repeated(name));
            }
        }
        let personal = match rules.personal_channels.as_deref() {
            None => None,
            Some("") => Some("#".into()),
            Some(namespace) if named.contains_key(namespace) => {
                Some(format!("{namespace}:#").into())
            }
            Some(unknown) => return Err(RulesError::Personal(unknown.to_owned())),
        };
        Ok(Self {
            personal,
            named,
            without,
            channel_bytes_max: rules.channel_bytes_max,
            anonymous: rules.allow_anonymous_connect_without_token,
            insecure: rules.insecure,
        })
    }

    /// The channel of this name.
    ///
    /// # Errors
    ///
    /// What is wrong with the name, with its [code](NameError::code).
    pub fn resolve<'n, 'c>(&'n self, channel: &'c str) -> Result<Channel<'n, 'c>, NameError> {
        let name = ChannelName::parse(channel, self.channel_bytes_max)?;
        let namespace = match name.namespace() {
            "" => &self.without,
            known => self.named.get(known).ok_or(NameError::UnknownNamespace)?,
        };
        let name = name.check(namespace.options.channel_regex.as_ref())?;
        Ok(Channel::new(namespace, name, self.insecure))
    }

    /// The channel that a user is subscribed to by connecting: `#user` or `namespace:#user`. `None`:
    /// it has none.
    pub fn personal_channel(&self, user: &str) -> Option<Box<str>> {
        let personal = self.personal.as_ref().filter(|_| !user.is_empty())?;
        Some([personal, user].concat().into())
    }

    /// Every namespace, in no order; the one without a name is among them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        std::iter::once(&self.without).chain(self.named.values())
    }

    /// Whether a client may connect without a token.
    pub fn may_connect_without_token(&self) -> bool {
        self.anonymous || self.insecure
    }

    /// Whether everybody may do everything. The program says so at its start.
    pub fn is_insecure(&self) -> bool {
        self.insecure
    }
}

fn namespace(name: &str, options: ChannelOptions) -> Result<Arc<Namespace>, RulesError> {
    match options.check() {
        Ok(()) => Ok(Arc::new(Namespace { name: name.into(), options })),
        Err(error) => Err(RulesError::Options { namespace: name.to_owned(), error }),
    }
}

/// Whether a text can be a namespace's name.
pub fn is_namespace_name(text: &str) -> bool {
    (1..=NAMESPACE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codes::ErrorCode;

    fn named(names: &[&str]) -> ChannelRules {
        let namespaces = names.iter().map(|name| ((*name).to_owned(), ChannelOptions::default()));
        ChannelRules { namespaces: namespaces.collect(), ..ChannelRules::default() }
    }

    fn code(namespaces: &Namespaces, channel: &str) -> Option<ErrorCode> {
        namespaces.resolve(channel).err().map(NameError::code)
    }

    #[test]
    fn a_channel_has_the_options_of_its_namespace() {
        let mut rules = named(&["chat", "news"]);
        rules.namespaces[0].1.presence = true;
        let namespaces = Namespaces::new(rules).expect("good rules");
        let found = |channel| namespaces.resolve(channel).expect("a channel").namespace().clone();
        for (channel, name, presence) in [
            ("chat:room", "chat", true),
            ("$chat:room", "chat", true),
            ("news:room", "news", false),
            ("room", "", false),
            (":room", "", false),
        ] {
            let namespace = found(channel);
            assert_eq!((namespace.name(), namespace.options().presence), (name, presence));
        }
        assert!(Arc::ptr_eq(&found("chat:a"), &found("chat:b")));
    }

    #[test]
    fn an_unknown_namespace_is_102_and_a_broken_name_107() {
        let mut rules = named(&["chat", "digits"]);
        rules.namespaces[1].1.channel_regex = Some(Pattern::new("^[0-9]+$").expect("a pattern"));
        let namespaces = Namespaces::new(rules).expect("good rules");
        assert_eq!(code(&namespaces, "chat:room"), None);
        assert_eq!(code(&namespaces, "digits:42"), None);
        for unknown in ["other:room", "$other:room", "Chat:room", "chat :room"] {
            assert_eq!(code(&namespaces, unknown), Some(ErrorCode::UnknownChannel), "{unknown}");
        }
        let long = "x".repeat(CHANNEL_BYTES_MAX + 1);
        for broken in ["", &long, "chat:a\nb", "chat:ż", "ż", "digits:x"] {
            assert_eq!(code(&namespaces, broken), Some(ErrorCode::BadRequest), "{broken}");
        }
        assert_eq!(code(&namespaces, &"x".repeat(CHANNEL_BYTES_MAX)), None);
    }

    #[test]
    fn rules_that_cannot_hold_are_refused_by_name() {
        let error = |rules: ChannelRules| Namespaces::new(rules).expect_err("bad rules");
        assert_eq!(error(named(&["a", "b", "a"])), RulesError::Repeated("a".to_owned()));
        for name in ["", "a:b", "a b", "#a", "$a", "ż", &"x".repeat(65)] {
            assert_eq!(error(named(&[name])), RulesError::Name(name.to_owned()));
        }
        let many: Vec<String> = (0..=NAMESPACES_MAX).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(error(named(&many)), RulesError::TooMany(NAMESPACES_MAX + 1));
        assert!(Namespaces::new(named(&many[1..])).is_ok());
        let mut rules = named(&["chat"]);
        rules.namespaces[0].1.force_recovery = true;
        let text = "namespace \"chat\": force_recovery needs history_size and history_ttl";
        assert_eq!(error(rules).to_string(), text);
    }

    #[test]
    fn every_namespace_is_listed_once_with_the_nameless_one() {
        let namespaces = Namespaces::new(named(&["chat", "news"])).expect("good rules");
        let mut names: Vec<&str> = namespaces.all().map(|namespace| namespace.name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["", "chat", "news"]);
    }

    #[test]
    fn a_user_has_a_channel_of_its_own_where_that_is_said_and_nobody_else_has() {
        let personal = |namespace: Option<&str>, user| {
            let personal_channels = namespace.map(str::to_owned);
            let rules = ChannelRules { personal_channels, ..named(&["chat"]) };
            Namespaces::new(rules).map(|namespaces| namespaces.personal_channel(user))
        };
        assert_eq!(personal(None, "ann"), Ok(None));
        assert_eq!(personal(Some(""), "ann"), Ok(Some("#ann".into())));
        assert_eq!(personal(Some("chat"), "ann"), Ok(Some("chat:#ann".into())));
        assert_eq!(personal(Some("chat"), ""), Ok(None));
        let unknown = RulesError::Personal("other".to_owned());
        assert_eq!(personal(Some("other"), "ann"), Err(unknown));
    }

    #[test]
    fn a_client_connects_without_a_token_only_where_that_is_said() {
        let may = |anonymous, insecure| {
            let rules = ChannelRules {
                allow_anonymous_connect_without_token: anonymous,
                insecure,
                ..ChannelRules::default()
            };
            Namespaces::new(rules).expect("good rules").may_connect_without_token()
        };
        assert_eq!((may(false, false), may(true, false), may(false, true)), (false, true, true));
    }
}
