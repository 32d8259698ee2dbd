//! From the configuration to guards: keys, the key set and its upstream, and a guard for each route
//! that has a door.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::{CancellationToken, DropGuard};
use weir_auth::{
    ApiKeys, AuthMetrics, ClaimRules, Guard, GuardOptions, Guarded, Identities, IdentityOptions,
    KeySetLimits, Refusals, RemoteKeys, Verifier,
};
use weir_core::lifeline::Lifeline;
use weir_upstream::{Upstream, UpstreamOptions};

use crate::config::Config;
use crate::config::auth::{Auth, Expired, JwksKeys, JwksUrl};
use crate::config::route::Kind;
use crate::engine::{Routes, UpstreamMaker};

/// How long a fetch of a key set may still run when nobody needs it any more.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What guards are made with, one configuration after another.
pub struct GuardMaker {
    metrics: AuthMetrics,
    refusals: Arc<Refusals>,
    lifeline: Lifeline,
}

/// The key set in force. Its task ends with it.
pub struct KeySet {
    options: UpstreamOptions,
    limits: KeySetLimits,
    url: JwksUrl,
    keys: Arc<RemoteKeys>,
    _task: DropGuard,
}

impl KeySet {
    /// The keys themselves.
    pub fn keys(&self) -> Arc<RemoteKeys> {
        Arc::clone(&self.keys)
    }
}

impl GuardMaker {
    /// Makes guards that count in this registry.
    ///
    /// # Errors
    /// When one of the names of the metrics is registered already.
    pub fn new(
        registry: &prometheus::Registry,
        lifeline: &Lifeline,
        maker: &UpstreamMaker,
    ) -> prometheus::Result<Self> {
        let metrics = AuthMetrics::register(registry)?;
        let refusals = Refusals::new(metrics.clone());
        let log = lifeline.drain.clone().run_until_cancelled_owned(Arc::clone(&refusals).run());
        drop(lifeline.tasks.spawn_on(log, &maker.service));
        Ok(Self { metrics, refusals, lifeline: lifeline.clone() })
    }

    /// The key set of this name, which is its section in the configuration; `before` when it is the
    /// same.
    ///
    /// # Errors
    /// A certificate file that cannot be read.
    pub fn key_set(
        &self,
        name: &str,
        jwks: &JwksKeys,
        before: Option<Arc<KeySet>>,
        maker: &UpstreamMaker,
    ) -> anyhow::Result<Option<Arc<KeySet>>> {
        let Some(url) = &jwks.url else { return Ok(None) };
        let (options, limits) = (upstream_options(name, jwks, url), limits(jwks));
        let same = |set: &KeySet| (&set.options, &set.limits, &set.url) == (&options, &limits, url);
        if let Some(before) = before.filter(|set| same(set)) {
            return Ok(Some(before));
        }
        let upstream = Upstream::new(options.clone(), &maker.metrics, &maker.tasks, &maker.service);
        let upstream = upstream.with_context(|| name.to_owned())?;
        let metrics = self.metrics.jwks(name);
        let keys = RemoteKeys::new(upstream, url.path.clone(), limits.clone(), metrics);
        // Until the drain: what is known by then is enough for the rest.
        let stop: CancellationToken = self.lifeline.drain.child_token();
        let (stopped, running) = (stop.clone(), Arc::clone(&keys));
        let task = async move {
            stopped.run_until_cancelled(Arc::clone(&running).run()).await;
            running.close(CLOSE_TIMEOUT).await;
        };
        drop(self.lifeline.tasks.spawn_on(task, &maker.service));
        let (url, _task) = (url.clone(), stop.drop_guard());
        Ok(Some(Arc::new(KeySet { options, limits, url, keys, _task })))
    }

    /// The routes, each that has a door behind its guard.
    pub fn guard(&self, config: &Config, set: Option<&KeySet>, routes: &Routes) -> Routes {
        let auth = &config.auth;
        let remote = set.map(|set| Arc::clone(&set.keys));
        let verifier = Verifier::new(rules(auth), auth.token_keys.clone(), remote);
        let api_keys = auth.api_keys.iter().map(|(name, key)| (&**name, key.as_str()));
        let options = IdentityOptions {
            handshake_timeout: config.timeouts.handshake,
            failures_per_address: auth.keys.failures_per_address,
            close_expired: auth.keys.expired == Expired::Close,
        };
        let (api_keys, refusals) = (ApiKeys::new(api_keys), Arc::clone(&self.refusals));
        let identities = Identities::new(verifier, api_keys, options, refusals);
        let mut guarded = routes.clone();
        for route in config.routes.iter().filter(|route| !route.keys.auth.doors().is_empty()) {
            let name = &*route.keys.name;
            let Some(inner) = routes.get(name) else { continue };
            let names_it = |one: &(String, &crate::config::values::Name)| **one.1 == *name;
            let listeners = config.listeners.iter();
            let listeners = listeners.filter(|one| one.routes("").iter().any(names_it));
            let query_key = matches!(route.kind, Kind::ChannelsApi(_));
            let options = GuardOptions {
                query_key,
                doors: route.keys.auth.doors().to_vec(),
                principals: route.keys.principals.iter().map(ToString::to_string).collect(),
                listeners: listeners.map(|one| one.keys.name.to_string()).collect(),
            };
            let guard = Guard::new(Arc::clone(&identities), options);
            guarded.insert(name.to_owned(), Arc::new(Guarded::new(Arc::clone(inner), guard)));
        }
        guarded
    }
}

fn rules(auth: &Auth) -> ClaimRules {
    ClaimRules {
        audience: auth.keys.audience.iter().map(ToString::to_string).collect(),
        audience_regex: auth.keys.audience_regex.clone(),
        issuer_regex: auth.keys.issuer_regex.clone(),
        issuer: auth.keys.issuer.as_ref().map(ToString::to_string),
        leeway: auth.keys.leeway.0,
        expiry_required: auth.keys.expiry_required,
        principal_claim: auth.keys.principal_claim.to_string(),
        principal_required: true,
    }
}

fn limits(keys: &JwksKeys) -> KeySetLimits {
    KeySetLimits {
        refresh_interval: keys.refresh_interval,
        refresh_interval_min: keys.refresh_interval_min,
        age_max: keys.age_max,
        keys_max: keys.keys_max,
    }
}

/// One connection is enough: there is one refresh at a time. Its own rate is bounded, so a breaker
/// would only hide that the source is back.
fn upstream_options(name: &str, keys: &JwksKeys, url: &JwksUrl) -> UpstreamOptions {
    UpstreamOptions {
        name: name.to_owned(),
        targets: vec![url.target.to_string()],
        connections_per_target_max: 1,
        connections_max: 1,
        queue_max: 1,
        request_timeout: keys.request_timeout,
        response_bytes_max: keys.response_bytes_max.0,
        breaker_failures: None,
        ca_file: keys.ca_file.clone(),
        ..UpstreamOptions::default()
    }
}
