//! Tokens of connections and subscriptions: checked with keys and rules of their own, read, and refused
//! with the protocol's codes. Nothing here knows a connection; who shows a token is an argument.
//!
//! A check takes what its signature takes. One that an event loop may make is made at once by
//! [`Tokens::connection`] and [`Tokens::subscription`]; when these give nothing, the same question goes
//! to the service runtime, where [`Tokens::connection_later`] and [`Tokens::subscription_later`] also
//! ask a key set for a key that is not known.

pub mod claims;
pub mod metrics;
pub mod refusal;

use std::sync::Arc;
use std::time::Duration;

use weir_auth::{CheckError, Moment, Token, Verifier};

pub use claims::{ConnectionToken, Grant, SubscriptionToken};
pub use metrics::TokenMetrics;
pub use refusal::{Command, Reason, Refusal, TokenKind, Verdict};

/// Longest that a check may take. SDKs wait 5 s for an answer (protocol, section 1.16).
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(4);

/// Everything that tokens of clients are checked with. It never changes: a reload makes another one.
#[derive(Debug)]
pub struct Tokens {
    connection: Arc<Verifier>,
    /// The connection's when subscriptions have no keys of their own.
    subscription: Arc<Verifier>,
    insecure: bool,
    metrics: TokenMetrics,
}

/// What a connection token is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionUse<'a> {
    /// To connect.
    Connect,
    /// To stay connected as this user.
    Refresh {
        /// Who is connected.
        user: &'a str,
    },
}

/// What a subscription token is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionUse<'a> {
    /// To subscribe to this channel.
    Subscribe {
        /// The channel.
        channel: &'a str,
    },
    /// To stay subscribed to a channel; without one to that which the token names (protocol,
    /// section 1.16).
    Refresh {
        /// The channel, when the command has one.
        channel: Option<&'a str>,
    },
}

/// Who shows a subscription token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bearer<'a> {
    /// The user; empty: nobody.
    pub user: &'a str,
    /// The id of the connection.
    pub client: &'a str,
}

impl Tokens {
    /// Tokens that are checked with these keys. Where `insecure` is on, connections do not end with
    /// their tokens.
    pub fn new(
        connection: Arc<Verifier>,
        subscription: Option<Arc<Verifier>>,
        insecure: bool,
        metrics: TokenMetrics,
    ) -> Self {
        let subscription = subscription.unwrap_or_else(|| Arc::clone(&connection));
        Self { connection, subscription, insecure, metrics }
    }

    /// Checks a connection token at once. `None`: that would take too long here, ask
    /// [`connection_later`](Self::connection_later).
    pub fn connection(
        &self,
        token: &str,
        shown: ConnectionUse<'_>,
        at: Moment,
    ) -> Option<Result<ConnectionToken, Refusal>> {
        let found = self.connection.check_now(token, at)?;
        Some(self.settle_connection(found, shown, at))
    }

    /// Checks a connection token, outside of the event loops and within [`CHECK_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// Why it is not taken.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; nothing is counted then.
    pub async fn connection_later(
        &self,
        token: &str,
        shown: ConnectionUse<'_>,
    ) -> Result<ConnectionToken, Refusal> {
        let (found, at) = self.connection.check_later(token, CHECK_TIMEOUT).await;
        self.settle_connection(found, shown, at)
    }

    /// Checks a subscription token at once. `None`: that would take too long here, ask
    /// [`subscription_later`](Self::subscription_later).
    pub fn subscription(
        &self,
        token: &str,
        bearer: Bearer<'_>,
        shown: SubscriptionUse<'_>,
        at: Moment,
    ) -> Option<Result<SubscriptionToken, Refusal>> {
        let found = self.subscription.check_now(token, at)?;
        Some(self.settle_subscription(found, bearer, shown, at))
    }

    /// Checks a subscription token, outside of the event loops and within [`CHECK_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// Why it is not taken.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; nothing is counted then.
    pub async fn subscription_later(
        &self,
        token: &str,
        bearer: Bearer<'_>,
        shown: SubscriptionUse<'_>,
    ) -> Result<SubscriptionToken, Refusal> {
        let (found, at) = self.subscription.check_later(token, CHECK_TIMEOUT).await;
        self.settle_subscription(found, bearer, shown, at)
    }

    fn settle_connection(
        &self,
        found: Result<Token, CheckError>,
        shown: ConnectionUse<'_>,
        at: Moment,
    ) -> Result<ConnectionToken, Refusal> {
        let read = found.map_err(Reason::from).and_then(|token| ConnectionToken::read(&token, at));
        let (command, read) = match shown {
            ConnectionUse::Connect => (Command::Connect, read),
            ConnectionUse::Refresh { user } => {
                let of_user = |token: ConnectionToken| {
                    if *token.user == *user { Ok(token) } else { Err(Reason::User) }
                };
                (Command::Refresh, read.and_then(of_user))
            }
        };
        let mut token =
            read.map_err(|reason| self.refuse(TokenKind::Connection, command, reason))?;
        if self.insecure {
            token.expires = None;
        }
        Ok(token)
    }

    fn settle_subscription(
        &self,
        found: Result<Token, CheckError>,
        bearer: Bearer<'_>,
        shown: SubscriptionUse<'_>,
        at: Moment,
    ) -> Result<SubscriptionToken, Refusal> {
        let (command, channel) = match shown {
            SubscriptionUse::Subscribe { channel } => (Command::Subscribe, Some(channel)),
            SubscriptionUse::Refresh { channel } => (Command::SubRefresh, channel),
        };
        let fits = |(token, holder): (SubscriptionToken, claims::Holder)| {
            if channel.is_some_and(|channel| *channel != *token.channel) {
                Err(Reason::Channel)
            } else if *holder.user != *bearer.user {
                Err(Reason::User)
            } else if holder.client.is_some_and(|client| *client != *bearer.client) {
                Err(Reason::Client)
            } else {
                Ok(token)
            }
        };
        let found = found.map_err(Reason::from);
        let read = found.and_then(|token| SubscriptionToken::read(&token, at)).and_then(fits);
        read.map_err(|reason| self.refuse(TokenKind::Subscription, command, reason))
    }

    /// Counts a refusal, and hands it on.
    fn refuse(&self, kind: TokenKind, command: Command, reason: Reason) -> Refusal {
        self.metrics.refused(kind, reason);
        Refusal { command, reason }
    }
}
