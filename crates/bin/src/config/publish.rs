//! Rules over routes that publish: their templates name namespaces that are there, and everything in
//! them can be known when it is needed. What is wrong with a template alone is told where it is read.

use weir_channels::namespace::{ChannelOptions, Permission};
use weir_channels::route::ChannelTemplate;

use super::channels::Channels;
use super::faults::{Faults, did_you_mean};
use super::listener::{Listener, PathKind, Wire};
use super::route::{Kind, PublishKeys, Route};
use super::values::Name;

/// Everything that is wrong with the routes that publish.
pub(super) fn check(
    listeners: &[Option<Listener>],
    routes: &[Option<Route>],
    channels: &Channels,
    faults: &Faults,
) {
    for (i, route) in routes.iter().enumerate() {
        let Some(Route { keys, kind: Kind::Publish(publish) }) = route else { continue };
        let path = |key: &str| format!("routes[{i}].{key}");
        if publish.channel.is_none() && publish.subscribe.is_empty() {
            let text =
                "does nothing without \"channel\", which is published into, or \"subscribe\"";
            faults.contradiction(&[&path("kind"), &path("channel"), &path("subscribe")], text);
        }
        let is_guarded = !keys.auth.doors().is_empty();
        if let Some(template) = &publish.channel {
            template_fits(&path, "channel", template, is_guarded, channels, faults);
        }
        for template in &publish.subscribe {
            template_fits(&path, "subscribe", template, is_guarded, channels, faults);
            if let Some(field) = template.first_field() {
                let text = format!(
                    "\"{template}\": {{{field}}} is not known when a connection opens, before its messages"
                );
                faults.add(&path("subscribe"), text);
            }
        }
        let (many, max) = (publish.subscribe.len(), channels.keys.channels_per_connection_max);
        if many > max {
            let text = format!("{many} are over channels.channels_per_connection_max = {max}");
            let bound = "channels.channels_per_connection_max";
            faults.contradiction(&[&path("subscribe"), bound], text);
        }
    }
    posts(listeners, routes, faults);
}

/// Its namespace is there, and whoever it names is known.
fn template_fits(
    path: &dyn Fn(&str) -> String,
    key: &str,
    template: &ChannelTemplate,
    is_guarded: bool,
    channels: &Channels,
    faults: &Faults,
) {
    let namespace = template.namespace();
    let known = channels.rules.namespaces.iter().map(|(name, _)| name.as_str());
    if !namespace.is_empty() && !known.clone().any(|name| name == namespace) {
        let near = did_you_mean(namespace, known);
        faults.add(&path(key), format!("no namespace is named \"{namespace}\"{near}"));
    }
    let hook = options(template, channels).and_then(|options| match key {
        "channel" => options.publish_hook.then_some("publish_proxy_enabled"),
        _ => options.subscribe_hook.then_some("subscribe_proxy_enabled"),
    });
    if let Some(hook) = hook {
        let text = format!(
            "\"{template}\": its namespace has {hook}, and a backend is asked for clients of the \
             protocol only"
        );
        faults.contradiction(&[&path(key)], text);
    }
    if template.names_principal() && !is_guarded {
        let text = format!("\"{template}\": nobody is asked who it is; set \"auth\"");
        faults.contradiction(&[&path(key), &path("auth")], text);
    }
}

/// A POST is answered at once: it can publish, and is told of nothing.
fn posts(listeners: &[Option<Listener>], routes: &[Option<Route>], faults: &Faults) {
    let subscribes = |name: &Name| {
        let mut routes = routes.iter().flatten().filter(|route| route.keys.name == *name);
        routes.any(|route| matches!(&route.kind, Kind::Publish(keys) if !keys.subscribe.is_empty()))
    };
    for (i, listener) in listeners.iter().enumerate() {
        let Some(Wire::Http(paths)) = listener.as_ref().map(|listener| &listener.wire) else {
            continue;
        };
        for (j, path) in paths.iter().enumerate() {
            if matches!(path.kind, PathKind::Post(_)) && subscribes(&path.route) {
                let text = format!(
                    "a \"post\" path is told of no channel, and \"{}\" subscribes",
                    path.route
                );
                faults.add(&format!("listeners[{i}].paths[{j}].route"), text);
            }
        }
    }
}

/// Routes whose every message would be refused, and whose every connection would be ended.
pub(super) fn warnings(routes: &[Route], channels: &Channels) -> Vec<String> {
    let mut warnings = Vec::new();
    for route in routes {
        let Kind::Publish(publish) = &route.kind else { continue };
        if channels.keys.insecure {
            continue;
        }
        let is_guarded = !route.keys.auth.doors().is_empty();
        let name = &route.keys.name;
        if let Some(template) = &publish.channel
            && let Some(options) = options(template, channels)
            && !may_publish(options.publish, is_guarded, template, publish)
        {
            warnings.push(format!(
                "routes: nobody may publish into \"{template}\" through \"{name}\": its namespace \
                 needs {}",
                keys("allow_publish_for", is_guarded)
            ));
        }
        for template in &publish.subscribe {
            let Some(options) = options(template, channels) else { continue };
            let may =
                options.subscribe_for_client && (is_guarded || options.subscribe_for_anonymous);
            let names_users = options.allow_user_limited_channels;
            if !may && !names_users {
                warnings.push(format!(
                    "routes: nobody may subscribe to \"{template}\" through \"{name}\": its \
                     namespace needs {}",
                    keys("allow_subscribe_for", is_guarded)
                ));
            }
        }
    }
    warnings
}

/// The keys of a namespace that let somebody in.
fn keys(which: &str, is_guarded: bool) -> String {
    match is_guarded {
        true => format!("{which}_client"),
        false => format!("{which}_client and {which}_anonymous"),
    }
}

fn may_publish(
    permission: Permission,
    is_guarded: bool,
    template: &ChannelTemplate,
    publish: &PublishKeys,
) -> bool {
    // Whether it is subscribed where it publishes is seen when both are names.
    let in_namespace = |other: &ChannelTemplate| other.namespace() == template.namespace();
    let subscriber = permission.subscriber && publish.subscribe.iter().any(in_namespace);
    (permission.client || subscriber) && (is_guarded || permission.anonymous)
}

/// The options of the channels that a template names.
fn options<'c>(template: &ChannelTemplate, channels: &'c Channels) -> Option<&'c ChannelOptions> {
    match template.namespace() {
        "" => Some(&channels.rules.without_namespace),
        namespace => {
            let mut all = channels.rules.namespaces.iter();
            all.find(|(name, _)| name == namespace).map(|(_, options)| options)
        }
    }
}
