//! Tokens of the clients of channels: keys and rules for those of connections, and perhaps others for
//! those of subscriptions.

use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;
use weir_auth::{ClaimPattern, ClaimRules, Key};

use super::auth::{JwksKeys, read_all, token_key};
use super::section::{Section, Table, section};
use super::units::Grace;
use super::values::Line;

section! {
    /// What tokens must say: those of connections in [channels.token], those of subscriptions in
    /// [channels.subscription_token]. Without keys there, they are checked as those of connections.
    pub struct ClientTokenKeys {
        /// A token must be for one of these ("aud"). Empty: that is not looked at.
        pub audience: Vec<Line> = [];
        /// A token must be for somebody whose whole name matches this regular expression.
        pub audience_regex: Option<ClaimPattern> = "off";
        /// A token must be by this one ("iss"). "off": that is not looked at.
        pub issuer: Option<Line> = "off";
        /// A token must be by somebody whose whole name matches this regular expression.
        pub issuer_regex: Option<ClaimPattern> = "off";
        /// How far weir's clock and that of an issuer may be apart. Clients fetch a new token when
        /// theirs has expired.
        pub leeway: Grace = "0s";
        /// Whether a token must have an end ("exp").
        pub expiry_required: bool = false;
        /// The claim that names the user. A token without it is of nobody.
        pub user_id_claim: Line = "sub";
        /// For tests: shared secrets may be shorter than 32 bytes. weir warns of it.
        pub short_secrets: bool = false;
    }
}

/// The name of the key set for connection tokens: a label, and the name of its own upstream.
pub const TOKEN_KEY_SET: &str = "channels.token.jwks";
/// The name of the key set for subscription tokens.
pub const SUBSCRIPTION_TOKEN_KEY_SET: &str = "channels.subscription_token.jwks";

/// What one kind of token is checked with.
#[derive(Clone)]
pub struct TokenPlan {
    /// What stands once.
    pub keys: ClientTokenKeys,
    /// The key set.
    pub jwks: JwksKeys,
    /// Keys, loaded. Several of one algorithm: while one replaces the other.
    pub token_keys: Vec<Arc<Key>>,
    /// All of it as `/config` shows it.
    pub(super) shown: Json,
}

impl TokenPlan {
    /// Reads `[channels.token]` or `[channels.subscription_token]`.
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let jwks: JwksKeys = table.section("jwks").expect("no key of it is required");
        let tables = table.tables("keys");
        super::checks::names(&tables);
        let keys = ClientTokenKeys::read(&mut table).expect("no key of it is required");
        table.finish(&[ClientTokenKeys::KEYS], &[]);
        let load = |key: &super::auth::TokenKeyKeys| token_key(key, keys.short_secrets);
        let (token_keys, shown_keys) = read_all(tables, load);
        let mut shown = keys.show();
        shown.insert("jwks".to_owned(), jwks.show().into());
        shown.insert("keys".to_owned(), shown_keys);
        Self { keys, jwks, token_keys, shown: shown.into() }
    }

    /// Whether there is a key that could have signed a token.
    pub fn has_keys(&self) -> bool {
        !self.token_keys.is_empty() || self.jwks.url.is_some()
    }

    /// What claims must say.
    pub fn rules(&self) -> ClaimRules {
        ClaimRules {
            audience: self.keys.audience.iter().map(ToString::to_string).collect(),
            audience_regex: self.keys.audience_regex.clone(),
            issuer_regex: self.keys.issuer_regex.clone(),
            issuer: self.keys.issuer.as_ref().map(ToString::to_string),
            leeway: self.keys.leeway.0,
            expiry_required: self.keys.expiry_required,
            principal_claim: self.keys.user_id_claim.to_string(),
            principal_required: false,
        }
    }
}

/// Never shows a key.
impl fmt::Debug for TokenPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown)
    }
}
