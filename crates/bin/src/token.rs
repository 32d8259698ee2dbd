//! `weir token`: makes tokens for clients of channels with a configured secret, and says what becomes
//! of a token. Both go by the configuration, and neither asks another program.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use prometheus::Registry;
use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};
use weir_auth::Moment;
use weir_auth::token::Unverified;
use weir_channels::namespace::Namespaces;
use weir_channels::tokens::{
    Bearer, ConnectionToken, ConnectionUse, Refusal, SubscriptionToken, SubscriptionUse,
    TokenMetrics, Verdict,
};
use weir_core::clock;

use crate::args::TokenMake;
use crate::client_tokens::{KeySets, tokens};
use crate::config::channels::Channels;
use crate::config::client_tokens::TokenPlan;
use crate::config::units::Grace;

/// Signs a token that is good from `now`.
///
/// # Errors
///
/// When no shared secret is configured for it, or there can be no channel of its name.
pub fn make(channels: &Channels, make: &TokenMake, now: SystemTime) -> anyhow::Result<String> {
    if let Some(channel) = &make.channel {
        let namespaces = Namespaces::new(channels.rules.clone()).context("channels")?;
        namespaces.resolve(channel).context("--channel")?;
    }
    let plan = match &channels.subscription_token {
        Some(plan) if make.channel.is_some() => plan,
        Some(_) | None => &channels.token,
    };
    let claims = claims(plan, make, now);
    let wanted = |name: Option<&str>| make.key.is_none() || make.key.as_deref() == name;
    let mut keys = plan.token_keys.iter().filter(|key| key.holds(now) && wanted(key.id()));
    let signed = keys.find_map(|key| key.sign(&claims));
    signed.context(match &make.key {
        Some(_) => "no shared secret of that name is configured for such tokens",
        None => "no shared secret is configured for such tokens, and public keys sign nothing",
    })
}

fn claims(plan: &TokenPlan, make: &TokenMake, now: SystemTime) -> Map<String, Value> {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().map(Value::from);
    let claims = [
        (&*plan.keys.user_id_claim, Some(make.user.clone().into())),
        ("iat", Some(since.as_secs().into())),
        ("exp", make.ttl.0.map(|ttl| (since + ttl).as_secs().into())),
        ("iss", plan.keys.issuer.as_ref().map(|issuer| issuer.to_string().into())),
        ("aud", plan.keys.audience.first().map(|audience| audience.to_string().into())),
        ("channel", text(&make.channel)),
        ("client", text(&make.client)),
        ("info", make.info.clone()),
        ("data", make.data.clone()),
    ];
    let given = claims.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    given.collect()
}

/// Says what a token is good for.
///
/// # Errors
///
/// Why it is good for nothing, and what a client would be told.
pub fn check(channels: &Channels, token: &str) -> anyhow::Result<String> {
    let claims = Unverified::parse(token).and_then(|token| token.claims());
    let claims = claims.context("token")?.fields;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let metrics = TokenMetrics::register(&Registry::new()).context("metrics")?;
    let tokens = tokens(channels, KeySets::default(), metrics);
    let at = Moment::at(clock::now());
    // A check that is too long for an event loop is not too long for a command.
    match text("channel") {
        "" => {
            let shown = ConnectionUse::Connect;
            let checked = match tokens.connection(token, shown, at) {
                Some(checked) => checked,
                None => runtime()?.block_on(tokens.connection_later(token, shown)),
            };
            match checked {
                Ok(token) => Ok(describe_connection(&token, at.now)),
                Err(refusal) => refused(refusal, &channels.token),
            }
        }
        channel => {
            let plan = channels.subscription_token.as_ref().unwrap_or(&channels.token);
            let bearer = Bearer { user: text(&plan.keys.user_id_claim), client: text("client") };
            let shown = SubscriptionUse::Subscribe { channel };
            let checked = match tokens.subscription(token, bearer, shown, at) {
                Some(checked) => checked,
                None => runtime()?.block_on(tokens.subscription_later(token, bearer, shown)),
            };
            match checked {
                Ok(token) => Ok(describe_subscription(&token, bearer, at.now)),
                Err(refusal) => refused(refusal, plan),
            }
        }
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_time().build().context("a long check")
}

fn describe_connection(token: &ConnectionToken, now: Instant) -> String {
    let (user, expires) = (user(&token.user), expires(token.expires, now));
    let mut text = format!("a good connection token\n  user: {user}\n  expires: {expires}\n");
    for channel in token.subs.keys() {
        text.push_str(&format!("  subscribed to: {channel:?}\n"));
    }
    text
}

fn describe_subscription(token: &SubscriptionToken, bearer: Bearer<'_>, now: Instant) -> String {
    let (user, expires) = (user(bearer.user), expires(token.expires, now));
    let mut text = format!(
        "a good subscription token\n  channel: {:?}\n  user: {user}\n  expires: {expires}\n",
        token.channel
    );
    if !bearer.client.is_empty() {
        text.push_str(&format!("  only for the connection: {:?}\n", bearer.client));
    }
    text
}

fn user(user: &str) -> String {
    if user.is_empty() { "nobody".to_owned() } else { format!("{user:?}") }
}

/// The time left, in whole seconds.
fn expires(end: Option<Instant>, now: Instant) -> String {
    let left = |end: Instant| end.saturating_duration_since(now).as_secs();
    let in_seconds = |seconds| format!("in {}", Grace(Duration::from_secs(seconds)));
    end.map_or("never".to_owned(), |end| in_seconds(left(end)))
}

fn refused(refusal: Refusal, plan: &TokenPlan) -> anyhow::Result<String> {
    let told = match refusal.verdict() {
        Verdict::Error(code) => format!("error {code}"),
        Verdict::Disconnect(code) => format!("disconnect {code}"),
    };
    let unasked = if plan.jwks.url.is_some() { " (the key set was not asked)" } else { "" };
    bail!("not good: {}{unasked}; a client is told: {told}", refusal.reason.as_str())
}
