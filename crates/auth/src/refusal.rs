//! Why somebody is not let in, for counters and nobody else: the peer is told the same whatever it
//! was. Closed lists, because they are labels.

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// A signed token.
    Token,
    /// A configured key.
    ApiKey,
    /// A client's certificate.
    Mtls,
}

impl Door {
    /// Every door, in order.
    pub const ALL: [Self; 3] = [Self::Token, Self::ApiKey, Self::Mtls];

    /// The name in the configuration and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::ApiKey => "api_key",
            Self::Mtls => "mtls",
        }
    }

    /// What can be wrong at this door.
    pub(crate) const fn reasons(self) -> &'static [Reason] {
        match self {
            Self::Token => &[
                Reason::Missing,
                Reason::Ambiguous,
                Reason::Token(TokenError::Malformed),
                Reason::Token(TokenError::Algorithm),
                Reason::Token(TokenError::UnknownKey),
                Reason::Token(TokenError::Signature),
                Reason::Token(TokenError::Expired),
                Reason::Token(TokenError::NotYetValid),
                Reason::Token(TokenError::Audience),
                Reason::Token(TokenError::Issuer),
                Reason::Token(TokenError::Claims),
                Reason::Timeout,
                Reason::Forbidden,
            ],
            Self::ApiKey => &[
                Reason::Missing,
                Reason::Ambiguous,
                Reason::UnknownApiKey,
                Reason::Timeout,
                Reason::Forbidden,
            ],
            Self::Mtls => &[Reason::Missing, Reason::Forbidden],
        }
    }
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// It is no token, or one over a bound.
    #[error("not a token")]
    Malformed,
    /// Its algorithm is unknown, or not one of the key that it names.
    #[error("algorithm not allowed")]
    Algorithm,
    /// No key has the name that it gives.
    #[error("unknown key")]
    UnknownKey,
    /// No key that it may be signed with has signed it.
    #[error("bad signature")]
    Signature,
    /// Its `exp` has passed.
    #[error("expired")]
    Expired,
    /// Its `nbf` has not come yet, or its `iat` lies ahead.
    #[error("not yet valid")]
    NotYetValid,
    /// It is for somebody else.
    #[error("wrong audience")]
    Audience,
    /// It is by somebody else.
    #[error("wrong issuer")]
    Issuer,
    /// A claim that is needed is missing, or not of its type.
    #[error("claim missing or of a wrong type")]
    Claims,
}

/// Why somebody is not let in: a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing was shown that this door looks at.
    Missing,
    /// More than one credential was shown.
    Ambiguous,
    /// A token is not good.
    Token(TokenError),
    /// No such key.
    UnknownApiKey,
    /// The verdict took longer than the handshake may.
    Timeout,
    /// Known, and not among the route's principals.
    Forbidden,
}

impl Reason {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ambiguous => "ambiguous",
            Self::Token(TokenError::Malformed) => "malformed",
            Self::Token(TokenError::Algorithm) => "algorithm",
            Self::Token(TokenError::UnknownKey) | Self::UnknownApiKey => "unknown_key",
            Self::Token(TokenError::Signature) => "signature",
            Self::Token(TokenError::Expired) => "expired",
            Self::Token(TokenError::NotYetValid) => "not_yet_valid",
            Self::Token(TokenError::Audience) => "audience",
            Self::Token(TokenError::Issuer) => "issuer",
            Self::Token(TokenError::Claims) => "claims",
            Self::Timeout => "timeout",
            Self::Forbidden => "forbidden",
        }
    }

    /// Whether it may be a guess, which slows further attempts down. A peer that shows nothing, or
    /// an honest credential a little late, guesses nothing.
    pub(crate) const fn is_guess(self) -> bool {
        match self {
            Self::Missing
            | Self::Timeout
            | Self::Forbidden
            | Self::Token(TokenError::Expired | TokenError::NotYetValid) => false,
            Self::Ambiguous | Self::UnknownApiKey | Self::Token(_) => true,
        }
    }
}
