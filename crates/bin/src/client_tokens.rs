//! From the configuration to what the tokens of clients of channels are checked with.

use std::sync::Arc;

use weir_auth::{RemoteKeys, Verifier};
use weir_channels::tokens::{TokenMetrics, Tokens};

use crate::config::channels::Channels;
use crate::config::client_tokens::TokenPlan;

/// The key sets that are in force.
#[derive(Debug, Default)]
pub struct KeySets {
    /// That of `[channels.token.jwks]`.
    pub connection: Option<Arc<RemoteKeys>>,
    /// That of `[channels.subscription_token.jwks]`.
    pub subscription: Option<Arc<RemoteKeys>>,
}

/// The tokens of a configuration.
pub fn tokens(channels: &Channels, sets: KeySets, metrics: TokenMetrics) -> Tokens {
    let connection = verifier(&channels.token, sets.connection);
    let subscription = channels.subscription_token.as_ref();
    let subscription = subscription.map(|plan| verifier(plan, sets.subscription));
    Tokens::new(connection, subscription, channels.rules.insecure, metrics)
}

fn verifier(plan: &TokenPlan, set: Option<Arc<RemoteKeys>>) -> Arc<Verifier> {
    Arc::new(Verifier::new(plan.rules(), plan.token_keys.clone(), set))
}
