//! Why a token is not taken, for counters, and what that means for who has shown it. Closed lists,
//! because they are labels; a client learns the code and never the reason.

use weir_auth::{CheckError, TokenError};

use crate::protocol::codes::{DisconnectCode, ErrorCode};

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// A connection.
    Connection,
    /// A subscription.
    Subscription,
}

impl TokenKind {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::Connection, Self::Subscription];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Subscription => "subscription",
        }
    }

    /// What can be wrong with one.
    pub(super) fn reasons(self) -> impl Iterator<Item = Reason> {
        let of_it = move |reason: &Reason| *reason != Reason::Client || self == Self::Subscription;
        Reason::ALL.into_iter().filter(of_it)
    }
}

/// Why a token is not taken: a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// What the signature, the times and the claims that every token has come to.
    Token(TokenError),
    /// A connection token that names a channel; a subscription token that names none or another.
    Channel,
    /// It is another user's.
    User,
    /// It is another connection's.
    Client,
    /// The token is good, and what it gives is over already (`expire_at`).
    Over,
    /// The key set is not there, so nobody knows.
    KeysUnavailable,
    /// The check took longer than a client waits.
    Timeout,
}

impl Reason {
    /// Every reason, in order.
    pub const ALL: [Self; 15] = [
        Self::Token(TokenError::Malformed),
        Self::Token(TokenError::Algorithm),
        Self::Token(TokenError::UnknownKey),
        Self::Token(TokenError::Signature),
        Self::Token(TokenError::Expired),
        Self::Token(TokenError::NotYetValid),
        Self::Token(TokenError::Audience),
        Self::Token(TokenError::Issuer),
        Self::Token(TokenError::Claims),
        Self::Channel,
        Self::User,
        Self::Client,
        Self::Over,
        Self::KeysUnavailable,
        Self::Timeout,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token(TokenError::Malformed) => "malformed",
            Self::Token(TokenError::Algorithm) => "algorithm",
            Self::Token(TokenError::UnknownKey) => "unknown_key",
            Self::Token(TokenError::Signature) => "signature",
            Self::Token(TokenError::Expired) => "expired",
            Self::Token(TokenError::NotYetValid) => "not_yet_valid",
            Self::Token(TokenError::Audience) => "audience",
            Self::Token(TokenError::Issuer) => "issuer",
            Self::Token(TokenError::Claims) => "claims",
            Self::Channel => "channel",
            Self::User => "user",
            Self::Client => "client",
            Self::Over => "over",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Timeout => "timeout",
        }
    }
}

impl From<CheckError> for Reason {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Token(error) => Self::Token(error),
            CheckError::KeysUnavailable => Self::KeysUnavailable,
            CheckError::Timeout => Self::Timeout,
        }
    }
}

/// What a token was shown with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// `connect`.
    Connect,
    /// `refresh`.
    Refresh,
    /// `subscribe`.
    Subscribe,
    /// `sub_refresh`.
    SubRefresh,
}

/// A token that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it was shown with.
    pub command: Command,
    /// Why.
    pub reason: Reason,
}

/// What becomes of who has shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The command is answered with this error; the connection stays.
    Error(ErrorCode),
    /// The connection ends.
    Disconnect(DisconnectCode),
}

impl Refusal {
    /// What is done about it (protocol, sections 1.10 and 1.15).
    pub fn verdict(self) -> Verdict {
        match self.reason {
            // A token of a minute ahead is answered like one of a minute ago, as the protocol's own
            // server does: fetch a new one and try again.
            Reason::Token(TokenError::Expired | TokenError::NotYetValid) => {
                self.late(ErrorCode::TokenExpired)
            }
            Reason::Over => self.late(ErrorCode::Expired),
            Reason::KeysUnavailable | Reason::Timeout => Verdict::Error(ErrorCode::Internal),
            Reason::Token(_) if self.command == Command::Subscribe => {
                Verdict::Error(ErrorCode::PermissionDenied)
            }
            Reason::Token(_) | Reason::Channel | Reason::User | Reason::Client => {
                Verdict::Disconnect(DisconnectCode::InvalidToken)
            }
        }
    }

    /// What is done about one that comes too late.
    fn late(self, error: ErrorCode) -> Verdict {
        match self.command {
            Command::Connect | Command::Subscribe => Verdict::Error(error),
            Command::Refresh => Verdict::Disconnect(DisconnectCode::Expired),
            Command::SubRefresh => Verdict::Disconnect(DisconnectCode::SubscriptionExpired),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        let labels: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert_eq!(TokenKind::Connection.reasons().count(), Reason::ALL.len() - 1);
        assert_eq!(TokenKind::Subscription.reasons().count(), Reason::ALL.len());
    }

    #[test]
    fn every_refusal_has_the_code_of_the_protocol() {
        let check = |reason, expected: [u32; 4]| {
            use Command::{Connect, Refresh, SubRefresh, Subscribe};
            let codes =
                [Connect, Refresh, Subscribe, SubRefresh].map(|command| {
                    match (Refusal { command, reason }).verdict() {
                        Verdict::Error(code) => code.number(),
                        Verdict::Disconnect(code) => code.number(),
                    }
                });
            assert_eq!(codes, expected, "{}", reason.as_str());
        };
        let late = [109, 3005, 109, 3006];
        let bad = [3500, 3500, 103, 3500];
        let of_another = [3500; 4];
        let unknown = [100; 4];
        for reason in Reason::ALL {
            check(
                reason,
                match reason {
                    Reason::Token(TokenError::Expired | TokenError::NotYetValid) => late,
                    Reason::Token(_) => bad,
                    Reason::Channel | Reason::User | Reason::Client => of_another,
                    Reason::Over => [110, 3005, 110, 3006],
                    Reason::KeysUnavailable | Reason::Timeout => unknown,
                },
            );
        }
    }
}
