//! From the configuration to the engine: listeners, routes and upstreams by name.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use weir_core::http::{self, Origins, Trust};
use weir_core::listener::SocketOptions;
use weir_core::local::Locals;
use weir_core::network::Networks;
use weir_core::server::{ListenerKind, ListenerOptions, PathOptions, ServerOptions};
use weir_core::service::Service;
use weir_core::site::SiteWire;
use weir_core::trace::Tracing;
use weir_core::wire::lines;
use weir_core::wire::stream::Form;
use weir_pipeline::route::{BuiltRoutes, RouteKind, RouteParts, RouteSpec, build_routes};
use weir_pipeline::traced::TraceCarrier;
use weir_upstream::{Upstream, UpstreamMetrics, UpstreamOptions};

use crate::config::listener::{HttpRoute, Listener, PathKind, Switch, Wire};
use crate::config::route::{Kind, Route, RouteKeys};
use crate::config::values::{Line, Name, Origin};
use crate::config::{Config, upstream};

/// Of the drain stage, the part in which connections are told to go; the rest is for the last ones
/// to finish.
const DRAIN_WINDOW_SHARE: f64 = 0.8;

/// The upstreams by name.
pub type Upstreams = HashMap<String, Arc<Upstream>>;
/// The routes by name.
pub type Routes = HashMap<String, Arc<dyn Service>>;

/// What upstreams are made with.
pub struct UpstreamMaker {
    /// Their metrics, registered once.
    pub metrics: UpstreamMetrics,
    /// Where their connections are driven.
    pub service: Handle,
    /// What counts their background tasks.
    pub tasks: TaskTracker,
}

impl UpstreamMaker {
    /// Makes the upstreams, and keeps those of `before` that are not different. Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// A certificate file that cannot be read.
    pub fn make(&self, config: &Config, before: &Upstreams) -> anyhow::Result<Upstreams> {
        let make = |one: &upstream::Upstream| {
            let (name, options) = (one.name.to_string(), upstream_options(one));
            let kept = before.get(&name).filter(|kept| *kept.options() == options);
            let made = match kept {
                Some(kept) => Arc::clone(kept),
                None => Upstream::new(options, &self.metrics, &self.tasks, &self.service)
                    .with_context(|| format!("upstream {name}"))?,
            };
            Ok((name, made))
        };
        config.upstreams.iter().map(make).collect()
    }
}

fn upstream_options(one: &upstream::Upstream) -> UpstreamOptions {
    UpstreamOptions {
        name: one.name.to_string(),
        targets: one.targets.iter().map(ToString::to_string).collect(),
        resolve_interval: one.resolve_interval,
        connections_per_target_max: bounded(one.connections_per_target_max),
        connections_max: bounded(one.connections_max),
        queue_max: one.queue_max,
        connect_timeout: one.connect_timeout,
        wait_timeout: one.wait_timeout,
        request_timeout: one.request_timeout,
        idle_timeout: one.idle_timeout,
        response_bytes_max: one.response_bytes_max.0,
        breaker_failures: one.breaker_failures.and_then(NonZeroU32::new),
        breaker_open: one.breaker_open,
        ca_file: one.ca_file.clone(),
    }
}

fn bounded(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Makes the routes.
///
/// # Errors
/// A route that names an upstream that is not there; the configuration has been checked for it.
pub fn routes(config: &Config, parts: &RouteParts<'_>) -> anyhow::Result<BuiltRoutes> {
    let specs: Vec<RouteSpec> = config.routes.iter().filter_map(route_spec).collect();
    build_routes(&specs, parts).context("routes")
}

/// `None` for a route of channels and for the demo, which are not of the pipeline.
fn route_spec(route: &Route) -> Option<RouteSpec> {
    let kind = match &route.kind {
        Kind::Echo(keys) => RouteKind::Echo {
            reply: keys.reply.to_string(),
            exit: keys.exit.as_deref().map(str::to_owned),
        },
        Kind::Channels | Kind::ChannelsApi(_) | Kind::Publish(_) | Kind::Demo => return None,
        Kind::Discard => RouteKind::Discard,
        Kind::Upstream(keys) => RouteKind::Upstream {
            upstream: keys.upstream.to_string(),
            method: keys.method.to_string(),
            path: keys.path.to_string(),
            content_type: keys.content_type.to_str().ok().map(str::to_owned),
            forward_headers: keys.forward_headers.iter().map(|header| header.0.clone()).collect(),
        },
    };
    Some(RouteSpec { name: route.keys.name.to_string(), kind, trace: trace_carrier(&route.keys) })
}

/// Where messages of a route carry a trace context.
pub fn trace_carrier(keys: &RouteKeys) -> Option<TraceCarrier> {
    let field = keys.trace_field.as_deref().map(|name| TraceCarrier::Field(name.to_owned()));
    let prefix = keys.trace_prefix.as_deref().map(|text| TraceCarrier::Prefix(text.to_owned()));
    field.or(prefix)
}

/// Everything the engine binds and holds its connections to.
///
/// # Errors
/// A listener that names a route that is not there; the configuration has been checked for it.
pub fn options(
    config: &Config,
    routes: &Routes,
    seed: u64,
    tracing: &Arc<Tracing>,
    locals: Option<Arc<dyn Locals>>,
) -> anyhow::Result<ServerOptions> {
    let listeners: anyhow::Result<Vec<_>> =
        config.listeners.iter().map(|one| listener(one, routes)).collect();
    Ok(ServerOptions {
        workers: config.runtime.workers,
        listeners: listeners?,
        trust: Trust {
            proxies: Networks::new(config.network.trusted_proxies.clone()),
            header: config.network.forwarded_header,
        },
        handshakes: config.handshakes,
        limits: config.limits.clone(),
        timeouts: config.timeouts.clone(),
        outboxes_bytes_max: config.outboxes_bytes_max,
        connections_max: config.admission.connections_max as usize,
        connections_per_address_max: config
            .admission
            .connections_per_address_max
            .map(|max| max as usize),
        connections_per_second_max: config.admission.connections_per_second_max,
        stages: config.metrics.stages,
        log_connections: config.logs.connections,
        drain_window: drain_window(config),
        seed,
        tracing: Arc::clone(tracing),
        locals,
    })
}

fn drain_window(config: &Config) -> Duration {
    config.shutdown.drain.0.mul_f64(DRAIN_WINDOW_SHARE)
}

fn listener(one: &Listener, routes: &Routes) -> anyhow::Result<ListenerOptions> {
    let line = |line: &Option<Line>| line.as_deref().map(|text| Bytes::from(text.to_owned()));
    let kind = match &one.wire {
        Wire::Lines(keys) => ListenerKind::Messages {
            wire: SiteWire::Lines(lines::Options {
                text: keys.text,
                empty: keys.empty_lines,
                unfinished: keys.unfinished_line,
            }),
            service: find(routes, &keys.route)?,
            heartbeat: line(&keys.heartbeat),
            farewell: line(&keys.farewell),
        },
        Wire::Length(keys) => ListenerKind::Messages {
            wire: SiteWire::Length { prefix: keys.prefix, text: keys.text },
            service: find(routes, &keys.route)?,
            heartbeat: None,
            farewell: None,
        },
        Wire::Http(paths) => {
            let paths: anyhow::Result<Vec<_>> = paths.iter().map(|one| path(one, routes)).collect();
            ListenerKind::Http { paths: paths? }
        }
    };
    Ok(ListenerOptions {
        name: one.keys.name.to_string(),
        address: one.keys.address,
        kind,
        connections_max: one.keys.connections_max.map(|max| max as usize),
        socket: SocketOptions {
            backlog: one.keys.backlog,
            keepalive: one.keys.keepalive,
            user_timeout: one.keys.user_timeout,
            unsent_bytes_max: one
                .keys
                .unsent_bytes_max
                .map(|max| u32::try_from(max.0).unwrap_or(u32::MAX)),
        },
        proxy_protocol: one.keys.proxy_protocol == Switch::On,
        tls: one.tls.as_ref().map(|tls| tls.options(&one.wire)),
    })
}

fn path(one: &HttpRoute, routes: &Routes) -> anyhow::Result<PathOptions> {
    let origins = |origins: &[Origin]| Origins::new(origins.iter().map(Origin::as_str));
    let stream = |form, list: &[Origin]| http::PathKind::Stream { form, origins: origins(list) };
    let kind = match &one.kind {
        PathKind::WebSocket(list) => http::PathKind::WebSocket { origins: origins(list) },
        PathKind::Post(list) => http::PathKind::Post { origins: origins(list) },
        PathKind::Sse(list) => stream(Form::Sse, list),
        PathKind::HttpStream(list) => stream(Form::HttpStream, list),
        PathKind::Page => http::PathKind::Page,
    };
    Ok(PathOptions { path: one.path.to_string(), kind, service: find(routes, &one.route)? })
}

fn find(routes: &Routes, name: &Name) -> anyhow::Result<Arc<dyn Service>> {
    routes.get(&**name).cloned().with_context(|| format!("route {name} is not there"))
}
