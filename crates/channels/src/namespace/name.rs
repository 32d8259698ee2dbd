//! The name of a channel, taken apart and held to its form. What a namespace allows in it is not
//! known here, but for the pattern of its names.

use crate::protocol::codes::ErrorCode;

use super::pattern::Pattern;

/// Ends the name of a namespace.
const NAMESPACE_END: char = ':';
/// Begins a private channel's name.
const PRIVATE: char = '$';
/// Begins the list of the users that a channel is limited to.
const USERS: char = '#';
/// Between two of them.
const USERS_SEPARATOR: char = ',';

/// A channel's name and its parts: `$namespace:rest#user1,user2`, of which only `rest` must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelName<'c> {
    whole: &'c str,
    namespace: &'c str,
    rest: &'c str,
}

/// Why a name is none of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is none.
    #[error("a channel without a name")]
    Empty,
    /// Over the limit.
    #[error("the channel's name has {bytes} bytes, and at most {max} are allowed")]
    TooLong {
        /// What it has.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A line end, or another character that nobody sees.
    #[error("the channel's name has a control character")]
    Control,
    /// Something else than ASCII, where no pattern allows it.
    #[error("the channel's name has characters outside of ASCII, and no channel_regex allows them")]
    NotAscii,
    /// Not what the namespace's pattern wants.
    #[error("the channel's name does not match the channel_regex of its namespace")]
    Pattern,
    /// No namespace has the name before the first colon.
    #[error("no namespace of that name")]
    UnknownNamespace,
}

impl NameError {
    /// What a client is told (protocol, sections 1.6 and 1.11).
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Empty | Self::TooLong { .. } | Self::Control | Self::NotAscii | Self::Pattern => {
                ErrorCode::BadRequest
            }
            Self::UnknownNamespace => ErrorCode::UnknownChannel,
        }
    }
}

impl<'c> ChannelName<'c> {
    /// Takes a name apart.
    ///
    /// # Errors
    ///
    /// When no namespace could allow it.
    pub(super) fn parse(whole: &'c str, bytes_max: usize) -> Result<Self, NameError> {
        if whole.is_empty() {
            return Err(NameError::Empty);
        }
        if whole.len() > bytes_max {
            return Err(NameError::TooLong { bytes: whole.len(), max: bytes_max });
        }
        if whole.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        let public = whole.strip_prefix(PRIVATE).unwrap_or(whole);
        let (namespace, rest) = public.split_once(NAMESPACE_END).unwrap_or(("", whole));
        Ok(Self { whole, namespace, rest })
    }

    /// Holds what follows the namespace to a pattern; without one the whole name to ASCII.
    pub(super) fn check(self, pattern: Option<&Pattern>) -> Result<Self, NameError> {
        match pattern {
            Some(pattern) if pattern.matches(self.rest) => Ok(self),
            Some(_) => Err(NameError::Pattern),
            None if self.whole.is_ascii() => Ok(self),
            None => Err(NameError::NotAscii),
        }
    }

    /// All of it.
    pub fn whole(self) -> &'c str {
        self.whole
    }

    /// What stands before the first colon, without the mark of a private channel; empty when there
    /// is no namespace.
    pub fn namespace(self) -> &'c str {
        self.namespace
    }

    /// Whether it takes a token to subscribe to it.
    pub fn is_private(self) -> bool {
        self.whole.starts_with(PRIVATE)
    }

    /// Whether it says who may subscribe to it.
    pub fn names_users(self) -> bool {
        self.whole.contains(USERS)
    }

    /// Whether this user is among those that it names. Nobody without a name is.
    pub fn names(self, user: &str) -> bool {
        let listed = self.whole.rsplit_once(USERS).map(|(_, users)| users.split(USERS_SEPARATOR));
        !user.is_empty() && listed.is_some_and(|mut users| users.any(|listed| listed == user))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(whole: &str, namespace: &str, rest: &str, private: bool, users: bool) {
        let name = ChannelName::parse(whole, 255).unwrap_or_else(|e| panic!("{whole}: {e}"));
        let parts = (name.namespace, name.rest, name.is_private(), name.names_users());
        assert_eq!(parts, (namespace, rest, private, users), "{whole}");
    }

    #[test]
    fn a_namespace_ends_at_the_first_colon() {
        check("news", "", "news", false, false);
        check("chat:room", "chat", "room", false, false);
        check("chat:room:7", "chat", "room:7", false, false);
        check(":room", "", "room", false, false);
        check("chat:", "chat", "", false, false);
    }

    #[test]
    fn a_dollar_in_front_makes_a_channel_private_and_is_no_part_of_its_namespace() {
        check("$news", "", "$news", true, false);
        check("$chat:room", "chat", "room", true, false);
        check("chat:$room", "chat", "$room", false, false);
    }

    #[test]
    fn users_stand_behind_the_last_hash() {
        check("dialog#ann,bob", "", "dialog#ann,bob", false, true);
        let name = |whole| ChannelName::parse(whole, 255).expect("a name");
        for (whole, user, named) in [
            ("dialog#ann,bob", "ann", true),
            ("dialog#ann,bob", "bob", true),
            ("dialog#ann,bob", "an", false),
            ("dialog#ann,bob", "ann,bob", false),
            ("dialog#ann#bob", "ann", false),
            ("dialog#ann#bob", "bob", true),
            ("dialog#", "", false),
            ("dialog#,", "", false),
            ("dialog", "dialog", false),
        ] {
            assert_eq!(name(whole).names(user), named, "{user} in {whole}");
        }
    }

    #[test]
    fn a_name_that_breaks_the_form_says_which_limit() {
        let parse = |whole: &str| ChannelName::parse(whole, 8).map(|_| ());
        assert_eq!(parse("12345678"), Ok(()));
        assert_eq!(parse(""), Err(NameError::Empty));
        assert_eq!(parse("123456789"), Err(NameError::TooLong { bytes: 9, max: 8 }));
        for control in ["a\nb", "a\0", "\u{7f}", "a\u{85}"] {
            assert_eq!(parse(control), Err(NameError::Control), "{control:?}");
        }
    }

    #[test]
    fn a_pattern_looks_at_what_follows_the_namespace_and_may_allow_any_script() {
        let pattern = Pattern::new(r"^\p{L}+$").expect("a pattern");
        let check = |whole: &str, pattern: Option<&Pattern>| {
            ChannelName::parse(whole, 255).and_then(|name| name.check(pattern)).map(|_| ())
        };
        assert_eq!(check("chat:room", Some(&pattern)), Ok(()));
        assert_eq!(check("chat:łąka", Some(&pattern)), Ok(()));
        assert_eq!(check("chat:room7", Some(&pattern)), Err(NameError::Pattern));
        assert_eq!(check("chat:room7", None), Ok(()));
        assert_eq!(check("chat:łąka", None), Err(NameError::NotAscii));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_or_refused(whole in "\\PC{0,40}", user in "[a-c,#]{0,3}") {
            if let Ok(name) = ChannelName::parse(&whole, 64) {
                prop_assert!(whole.ends_with(name.rest));
                prop_assert!(whole.contains(name.namespace));
                prop_assert!(!name.names(&user) || name.names_users());
            }
        }
    }
}
