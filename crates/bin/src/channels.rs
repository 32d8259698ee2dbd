//! From the configuration to channels: the broker, the rules and tokens in force, and a service for each
//! route of that kind.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::Registry;
use weir_channels::api::{Api, ApiLimits, ApiMetrics, ServerApi};
use weir_channels::broker::Memory;
use weir_channels::hooks::HookMetrics;
use weir_channels::namespace::Namespaces;
use weir_channels::notices::NoticeSender;
use weir_channels::route::{PublishRoute, RouteMetrics};
use weir_channels::tokens::TokenMetrics;
use weir_channels::{BrokerMetrics, ChannelMetrics, Channels, ClientOptions, Hubs, Policy, Shared};
use weir_core::clock;
use weir_core::local::Locals;
use weir_core::service::Service;
use weir_demo::Demo;
use weir_pipeline::route::RouteParts;
use weir_pipeline::traced::Traced;

use crate::client_tokens::{self, KeySets};
use crate::config::Config;
use crate::config::client_tokens::{SUBSCRIPTION_TOKEN_KEY_SET, TOKEN_KEY_SET};
use crate::config::route::Kind;
use crate::engine::{self, Routes, UpstreamMaker};
use crate::hooks;
use crate::identities::{GuardMaker, KeySet};

/// Everything that channels are made of, one configuration after another.
pub struct ChannelMaker {
    shared: Arc<Shared>,
    /// What backends ask.
    api: Arc<Api>,
    metrics: Metrics,
    routes: RouteMetrics,
    sets: Mutex<Sets>,
}

/// What rules are counted in.
struct Metrics {
    channels: ChannelMetrics,
    tokens: TokenMetrics,
    hooks: HookMetrics,
}

/// The key sets in force.
#[derive(Clone, Default)]
struct Sets {
    connection: Option<Arc<KeySet>>,
    subscription: Option<Arc<KeySet>>,
}

/// Rules that are made and not in force yet.
pub struct Made {
    policy: Policy,
    sets: Sets,
}

impl ChannelMaker {
    /// Channels by this configuration. The seed differs between processes.
    ///
    /// # Errors
    /// A metric that is registered already, or a certificate file of a key set.
    pub fn new(
        registry: &Registry,
        config: &Config,
        guards: &GuardMaker,
        maker: &UpstreamMaker,
        parts: &RouteParts<'_>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics {
            channels: ChannelMetrics::register(registry)?,
            tokens: TokenMetrics::register(registry)?,
            hooks: HookMetrics::register(registry)?,
        };
        let Made { policy, sets } = metrics.make(config, &Sets::default(), guards, maker, parts)?;
        let broker = Arc::new(Memory::new(config.channels.limits.clone(), seed));
        BrokerMetrics::register(registry, Arc::clone(&broker))?;
        let shared = Shared::new(broker, policy, metrics.channels.clone(), !seed);
        let api = ApiMetrics::register(registry)?;
        let api = Api::new(Arc::clone(&shared), ApiLimits::default(), api, clock::now());
        let routes = RouteMetrics::register(registry)?;
        Ok(Self { shared, api: Arc::new(api), metrics, routes, sets: Mutex::new(sets) })
    }

    /// What is wrong with several processes, whose channels are each its own.
    pub fn warning(&self, config: &Config, replicas: Option<u32>) -> Option<String> {
        let replicas = replicas.filter(|replicas| *replicas > 1)?;
        let of_channels = |kind: &Kind| matches!(kind, Kind::Channels | Kind::Publish(_));
        config.routes.iter().any(|route| of_channels(&route.kind)).then(|| {
            format!(
                "WEIR_REPLICAS = {replicas}, and each has channels of its own, in memory: who is \
                 connected to one is not told what is published on another"
            )
        })
    }

    /// What each worker has of them.
    pub fn locals(&self) -> Arc<dyn Locals> {
        Arc::new(Hubs(Arc::clone(&self.shared)))
    }

    /// Sends what backends are told, on the service runtime, until it is flushed.
    pub fn tell_backends(&self, maker: &UpstreamMaker) {
        let sender = NoticeSender::new(Arc::clone(&self.shared));
        drop(maker.tasks.spawn_on(sender.run(), &maker.service));
    }

    /// What backends are still to be told.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Adds the routes that speak the client protocol, those for backends, those that publish, and the
    /// demo.
    #[must_use]
    pub fn with_routes(&self, config: &Config, mut routes: Routes) -> Routes {
        let forwarded = config.channels.hooks.options().forward_headers;
        for route in &config.routes {
            let name = route.keys.name.to_string();
            let service: Arc<dyn Service> = match &route.kind {
                Kind::Channels => {
                    let channels = Channels::new(name.clone(), Arc::clone(&self.shared));
                    Arc::new(channels.with_headers(&forwarded))
                }
                Kind::ChannelsApi(keys) => {
                    let (base, api) = (keys.base.to_string(), Arc::clone(&self.api));
                    Arc::new(ServerApi::new(name.clone(), base, keys.error_mode, api))
                }
                Kind::Demo => Arc::new(Demo::new(name.clone())),
                Kind::Publish(keys) => {
                    let (options, shared) = (keys.options(), Arc::clone(&self.shared));
                    let service = PublishRoute::new(name.clone(), options, shared, &self.routes);
                    match engine::trace_carrier(&route.keys) {
                        Some(carrier) => Arc::new(Traced::new(carrier, Arc::new(service))),
                        None => Arc::new(service),
                    }
                }
                Kind::Echo(_) | Kind::Discard | Kind::Upstream(_) => continue,
            };
            routes.insert(name, service);
        }
        routes
    }

    /// The rules of a new configuration, to be put in force with [`ChannelMaker::commit`].
    ///
    /// # Errors
    /// A certificate file of a key set that cannot be read.
    pub fn make(
        &self,
        config: &Config,
        guards: &GuardMaker,
        maker: &UpstreamMaker,
        parts: &RouteParts<'_>,
    ) -> anyhow::Result<Made> {
        let before = self.sets.lock().clone();
        self.metrics.make(config, &before, guards, maker, parts)
    }

    /// From here on these rules hold; open subscriptions keep what they were given.
    pub fn commit(&self, made: Made) {
        self.shared.replace(made.policy);
        *self.sets.lock() = made.sets;
    }
}

impl Metrics {
    /// The rules of a configuration, counted here.
    fn make(
        &self,
        config: &Config,
        before: &Sets,
        guards: &GuardMaker,
        maker: &UpstreamMaker,
        parts: &RouteParts<'_>,
    ) -> anyhow::Result<Made> {
        let channels = &config.channels;
        let set = |name, jwks, before: &Option<Arc<KeySet>>| {
            guards.key_set(name, jwks, before.clone(), maker)
        };
        let connection = set(TOKEN_KEY_SET, &channels.token.jwks, &before.connection)?;
        let subscription = match &channels.subscription_token {
            Some(plan) => set(SUBSCRIPTION_TOKEN_KEY_SET, &plan.jwks, &before.subscription)?,
            None => None,
        };
        let sets = Sets { connection, subscription };
        let keys = |set: &Option<Arc<KeySet>>| set.as_ref().map(|set| set.keys());
        let key_sets =
            KeySets { connection: keys(&sets.connection), subscription: keys(&sets.subscription) };
        let tokens = client_tokens::tokens(channels, key_sets, self.tokens.clone());
        let namespaces = Namespaces::new(channels.rules.clone())?;
        let options = ClientOptions {
            ping_interval: channels.keys.ping_interval,
            pong_timeout: channels.keys.pong_timeout,
            connect_timeout: channels.keys.connect_timeout,
            expired_close_delay: channels.keys.expired_close_delay,
            channels_max: channels.keys.channels_per_connection_max,
            includes_time: channels.keys.connect_include_server_time,
        };
        let policy = Policy::new(namespaces, Some(tokens), options, &self.channels);
        let policy = match hooks::hooks(config, parts.upstreams, parts.stages, &self.hooks) {
            Some(hooks) => policy.with_hooks(hooks),
            None => policy,
        };
        Ok(Made { policy, sets })
    }
}
