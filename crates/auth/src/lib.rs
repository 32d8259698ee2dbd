//! weir's identities: who somebody is, proven by a token, an API key or a client's certificate, and
//! the doors that routes have for them.
//!
//! A [`Guarded`] service stands in front of a route. Over HTTP its [`Guard`] is asked at the
//! handshake; on a wire without headers the first message is the credential. Whatever was wrong, the
//! peer is told the same; the reason goes into a counter, and from an address that fails often every
//! answer comes late. A [`Verifier`] is one scope of keys and rules, so that others can have theirs.
//!
//! Nothing here touches a socket, and nothing here is called for a message of an open connection.

pub mod api_keys;
pub mod check;
pub mod claim_pattern;
pub mod claims;
pub mod credential;
pub mod guard;
pub mod guarded;
mod identities;
pub mod key;
pub mod key_set;
pub mod metrics;
pub mod refusal;
mod refusal_log;
mod refusals;
pub mod slowdown;
pub mod token;
pub mod verifier;

pub use api_keys::ApiKeys;
pub use check::CheckError;
pub use claim_pattern::{ClaimPattern, ClaimPatternError};
pub use claims::{ClaimRules, Token};
pub use guard::{Guard, GuardOptions};
pub use guarded::Guarded;
pub use identities::{Identities, IdentityOptions};
pub use key::{Key, KeyError, PemKind};
pub use key_set::{KeySetLimits, RemoteKeys};
pub use metrics::AuthMetrics;
pub use refusal::{Door, Reason, TokenError};
pub use refusals::Refusals;
pub use verifier::{Moment, Verifier};
