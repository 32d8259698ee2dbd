//! Rules over more than one key: contradictions are faults, oddities are warnings.
//! What is only about one value is checked where the value is read.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weir_auth::Door;
use weir_core::wire::length::Prefix;

use super::auth::{Auth, KEY_SET};
use super::faults::{Faults, did_you_mean};
use super::listener::{LengthKeys, LinesKeys, Listener, PathKind, Switch, Wire};
use super::raw::Auto;
use super::route::{Kind, Route};
use super::section::Table;
use super::sections::{LimitsKeys, Network, Ops, Overload, Shutdown, TimeoutsKeys};
use super::units::{Grace, Size};
use super::upstream::Upstream;
use super::values::Name;
use crate::runtime::Machine;

/// hyper's least read buffer, which holds the head.
const HEADER_BYTES_MIN: usize = 8192;

/// A message must fit into the outbox that its reply waits in, and a head into its buffer.
pub(super) fn limits(keys: &LimitsKeys, faults: &Faults) {
    let (message, outbox) = (keys.message_bytes_max, keys.outbox_bytes_max);
    if message > outbox {
        faults.contradiction(
            &["limits.message_bytes_max", "limits.outbox_bytes_max"],
            format!("{message} is over limits.outbox_bytes_max = {outbox}: no echo would fit"),
        );
    }
    if let Some(all) = keys.outboxes_bytes_max.filter(|all| *all < outbox) {
        faults.contradiction(
            &["limits.outboxes_bytes_max", "limits.outbox_bytes_max"],
            format!("{all} for all is under limits.outbox_bytes_max = {outbox} for one"),
        );
    }
    if keys.header_bytes_max.0 < HEADER_BYTES_MIN {
        let (given, least) = (keys.header_bytes_max, Size(HEADER_BYTES_MIN));
        faults.contradiction(&["limits.header_bytes_max"], format!("{given} is under {least}"));
    }
}

/// The connection limit: the user's when the open-file limit allows it, else derived from that.
pub(super) fn connections_max(
    keys: &LimitsKeys,
    upstreams: &[Option<Upstream>],
    machine: &Machine,
    faults: &Faults,
) -> u32 {
    let upstream_files = upstreams.iter().flatten().map(|upstream| upstream.connections_max);
    let room = machine.connections_room(upstream_files.sum());
    match keys.connections_max {
        Auto::Auto if room == 0 => {
            let files = machine.open_files;
            let text = format!("the open-file limit, {files}, leaves none; raise it (ulimit -Hn)");
            faults.contradiction(&["limits.connections_max"], text);
            room
        }
        Auto::Auto => room,
        Auto::Set(given) if given > room => {
            let text = format!(
                "{given} is over {room}, what the open-file limit of {} leaves; raise it (ulimit -Hn)",
                machine.open_files
            );
            faults.contradiction(&["limits.connections_max"], text);
            room
        }
        Auto::Set(given) => given,
    }
}

/// Heartbeats must come before the idle timeout cuts the peer that answers them.
pub(super) fn timeouts(keys: &TimeoutsKeys, faults: &Faults) {
    if let (Some(ping), Some(idle)) = (keys.ping_interval, keys.idle)
        && ping + keys.pong >= idle
    {
        let (ping, pong, idle) = (Grace(ping), Grace(keys.pong), Grace(idle));
        faults.contradiction(
            &["timeouts.ping_interval", "timeouts.pong", "timeouts.idle"],
            format!("{ping} and timeouts.pong = {pong} must be below timeouts.idle = {idle}"),
        );
    }
}

/// The first threshold comes before the second.
pub(super) fn overload(keys: &Overload, faults: &Faults) {
    let (high, critical) = (keys.memory_high, keys.memory_critical);
    if high >= critical {
        faults.contradiction(
            &["overload.memory_high", "overload.memory_critical"],
            format!("{high} must be below overload.memory_critical = {critical}"),
        );
    }
    if let (Some(high), Some(critical)) = (keys.lag_high, keys.lag_critical)
        && high >= critical
    {
        let (high, critical) = (Grace(high), Grace(critical));
        faults.contradiction(
            &["overload.lag_high", "overload.lag_critical"],
            format!("{high} must be below overload.lag_critical = {critical}"),
        );
    }
}

/// Each name stands once in its list. Returns the names, also of tables that are wrong otherwise.
pub(super) fn names(tables: &[Table<'_>]) -> BTreeSet<Name> {
    let mut owners = BTreeMap::new();
    for table in tables {
        if let Some(name) = table.peek::<Name>("name") {
            let owner: &String = owners.entry(name.clone()).or_insert_with(|| table.path.clone());
            if *owner != table.path {
                let text = format!("\"{name}\" is already the name of {owner}");
                table.faults().add(&table.key("name"), text);
            }
        }
    }
    owners.into_keys().collect()
}

/// What a key refers to by name must be there.
pub(super) fn reference(
    path: &str,
    name: &Name,
    what: &str,
    known: &BTreeSet<Name>,
    faults: &Faults,
) {
    if !known.contains(name) {
        let near = did_you_mean(name, known.iter().map(|name| &**name));
        faults.add(path, format!("no {what} is named \"{name}\"{near}"));
    }
}

/// A header is only taken from somebody.
pub(super) fn proxies(i: usize, listener: &Listener, network: &Network, faults: &Faults) {
    if listener.keys.proxy_protocol == Switch::On && network.trusted_proxies.is_empty() {
        let path = format!("listeners[{i}].proxy_protocol");
        let text = "needs network.trusted_proxies: nobody is believed";
        faults.contradiction(&[&path, "network.trusted_proxies"], text);
    }
}

/// Listeners and the side port need addresses of their own; an HTTP path stands once.
pub(super) fn listeners(
    listeners: &[Option<Listener>],
    ops: &Ops,
    timeouts: &TimeoutsKeys,
    faults: &Faults,
) {
    let mut taken = vec![("ops.address".to_owned(), ops.address)];
    for (i, listener) in listeners.iter().enumerate() {
        let Some(listener) = listener else { continue };
        let (path, address) = (format!("listeners[{i}].address"), listener.keys.address);
        if let Some((owner, other)) = taken.iter().find(|(_, other)| overlap(address, *other)) {
            faults.add(&path, format!("{address} is taken by {owner} = {other}"));
        }
        taken.push((path, address));
        match &listener.wire {
            Wire::Lines(keys) if keys.heartbeat.is_some() && timeouts.ping_interval.is_none() => {
                let path = format!("listeners[{i}].heartbeat");
                let text = "is never sent while timeouts.ping_interval is \"off\"";
                faults.contradiction(&[&path, "timeouts.ping_interval"], text);
            }
            Wire::Lines(_) | Wire::Length(_) => {}
            Wire::Http(routes) => {
                let mut seen = HashSet::new();
                for (j, route) in routes.iter().enumerate() {
                    let kind = std::mem::discriminant(&route.kind);
                    if !seen.insert((&route.path, kind)) {
                        let text = format!("{:?} stands twice with this kind", &*route.path);
                        faults.add(&format!("listeners[{i}].paths[{j}].path"), text);
                    }
                }
            }
        }
    }
    if listeners.is_empty() {
        faults.add("listeners", "none; weir would serve nothing");
    }
}

/// The client protocol goes over HTTP, lines and Protobuf's own lengths.
pub(super) fn channels(listeners: &[Option<Listener>], routes: &[Option<Route>], faults: &Faults) {
    let of_channels = |name: &Name| {
        let mut routes = routes.iter().flatten();
        routes.any(|route| route.keys.name == *name && matches!(route.kind, Kind::Channels))
    };
    for (i, listener) in listeners.iter().enumerate() {
        match listener.as_ref().map(|listener| &listener.wire) {
            Some(Wire::Length(keys)) if of_channels(&keys.route) => {
                if keys.prefix != Prefix::Varint {
                    let paths = ["prefix", "route"].map(|key| format!("listeners[{i}].{key}"));
                    let text = "the protocol of channels has \"varint\" lengths";
                    faults.contradiction(&[&paths[0], &paths[1]], text);
                }
                if keys.text {
                    let paths = ["text", "route"].map(|key| format!("listeners[{i}].{key}"));
                    let text = "behind lengths the protocol of channels is Protobuf, no text";
                    faults.contradiction(&[&paths[0], &paths[1]], text);
                }
            }
            Some(_) | None => {}
        }
    }
}

/// The server API is asked by POST, and says what it has by the rest of the path.
pub(super) fn channels_api(
    listeners: &[Option<Listener>],
    routes: &[Option<Route>],
    faults: &Faults,
) {
    let base_of = |name: &Name| {
        let mut routes = routes.iter().flatten().filter(|route| route.keys.name == *name);
        routes.find_map(|route| match &route.kind {
            Kind::ChannelsApi(keys) => Some(&keys.base),
            Kind::Echo(_)
            | Kind::Discard
            | Kind::Upstream(_)
            | Kind::Channels
            | Kind::Publish(_)
            | Kind::Demo => None,
        })
    };
    for (i, listener) in listeners.iter().enumerate() {
        match listener.as_ref().map(|listener| &listener.wire) {
            Some(Wire::Http(paths)) => {
                for (j, path) in paths.iter().enumerate() {
                    let Some(base) = base_of(&path.route) else { continue };
                    let fits = path.path.strip_prefix(&**base);
                    let fits = fits.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                    if !fits || !matches!(path.kind, PathKind::Post(_)) {
                        let text = format!(
                            "\"{}\" has kind = \"channels_api\", for \"post\" paths: \"{base}/*\", and \
                             \"{base}\" for the older form",
                            path.route
                        );
                        faults.add(&format!("listeners[{i}].paths[{j}].route"), text);
                    }
                }
            }
            Some(Wire::Lines(LinesKeys { route, .. }) | Wire::Length(LengthKeys { route, .. }))
                if base_of(route).is_some() =>
            {
                let text = "kind = \"channels_api\" is for \"post\" paths";
                faults.add(&format!("listeners[{i}].route"), text);
            }
            Some(Wire::Lines(_) | Wire::Length(_)) | None => {}
        }
    }
}

/// Only the demo has something to read, and nothing else.
pub(super) fn pages(listeners: &[Option<Listener>], routes: &[Option<Route>], faults: &Faults) {
    let route_of = |name: &Name| routes.iter().flatten().find(|route| route.keys.name == *name);
    let is_demo = |name: &Name| route_of(name).map(|route| matches!(route.kind, Kind::Demo));
    let fault = |key: String, name: &Name| {
        let (demo, page) = ("kind = \"demo\"", "\"page\" paths");
        let text = match is_demo(name) {
            Some(true) => format!("\"{name}\" has {demo}, for {page}: \"/\" and \"/demo/*\""),
            _ => format!("{page} are for routes with {demo}, and \"{name}\" has another"),
        };
        faults.add(&key, text);
    };
    for (i, listener) in listeners.iter().enumerate() {
        match listener.as_ref().map(|listener| &listener.wire) {
            Some(Wire::Http(paths)) => {
                for (j, path) in paths.iter().enumerate() {
                    let is_page = matches!(path.kind, PathKind::Page);
                    if is_demo(&path.route).is_some_and(|is_demo| is_demo != is_page) {
                        fault(format!("listeners[{i}].paths[{j}].route"), &path.route);
                    }
                }
            }
            Some(Wire::Lines(LinesKeys { route, .. }) | Wire::Length(LengthKeys { route, .. }))
                if is_demo(route) == Some(true) =>
            {
                fault(format!("listeners[{i}].route"), route);
            }
            Some(Wire::Lines(_) | Wire::Length(_)) | None => {}
        }
    }
}

/// Whether two addresses cannot both be bound. Port 0 is any free port.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_ip
}

/// Every route says who may use it, unless only this machine can, and its doors let somebody in.
pub(super) fn doors(
    listeners: &[Option<Listener>],
    routes: &[Option<Route>],
    auth: &Auth,
    faults: &Faults,
) {
    for (i, route) in routes.iter().enumerate() {
        let Some(route) = route else { continue };
        let (path, doors) = (format!("routes[{i}].auth"), route.keys.auth.doors());
        for text in doors.iter().filter_map(|door| auth.lacks(*door)) {
            faults.add(&path, text);
        }
        if doors.is_empty() && !route.keys.principals.is_empty() {
            let text = "names who may pass, and nobody is asked who it is: set \"auth\"";
            faults.contradiction(&[&format!("routes[{i}].principals"), &path], text);
        }
    }
    for (i, listener) in listeners.iter().enumerate() {
        let Some(listener) = listener else { continue };
        let (name, address) = (&listener.keys.name, listener.keys.address);
        for (_, route) in listener.routes("") {
            let named = |one: &Option<Route>| one.as_ref().is_some_and(|r| r.keys.name == *route);
            let Some(at) = routes.iter().position(named) else { continue };
            let Some(Route { keys, .. }) = &routes[at] else { continue };
            let client_ca = listener.tls.as_ref().and_then(|tls| tls.keys.client_ca.as_ref());
            if keys.auth.doors().contains(&Door::Mtls) && client_ca.is_none() {
                let text = format!(
                    "\"mtls\" lets nobody in through listener \"{name}\" without its tls.client_ca"
                );
                faults.add(&format!("routes[{at}].auth"), text);
            }
            if matches!(keys.auth, Auto::Auto) && !address.ip().is_loopback() {
                let text = format!(
                    "missing: listener \"{name}\" on {address} is not loopback, so say who may use \
                     \"{route}\", or write auth = \"none\""
                );
                let address = format!("listeners[{i}].address");
                faults.contradiction(&[&format!("routes[{at}].auth"), &address], text);
            }
        }
    }
}

/// An upstream has targets, each once, and its certificates can be read.
pub(super) fn upstream(i: usize, upstream: &Upstream, faults: &Faults) {
    let path = |key: &str| format!("upstreams[{i}].{key}");
    let mut seen = BTreeSet::new();
    if *upstream.name == *KEY_SET {
        faults
            .add(&path("name"), format!("\"{KEY_SET}\" is the name of the key set's own upstream"));
    }
    if upstream.targets.is_empty() {
        faults.add(&path("targets"), "needs at least one");
    }
    for target in &upstream.targets {
        if !seen.insert(target.to_string()) {
            faults.add(&path("targets"), format!("{target} stands twice"));
        }
    }
    if let Some(file) = &upstream.ca_file {
        certificates(&path("ca_file"), file, faults);
    }
}

/// A file has certificates in PEM.
pub(super) fn certificates(key: &str, file: &Path, faults: &Faults) {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>());
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            faults.add(key, format!("{} has no certificates", file.display()));
        }
        Ok(_) => {}
        Err(error) => faults.add(key, format!("cannot read {}: {error}", file.display())),
    }
}

/// A file has a private key in PEM.
pub(super) fn private_key(key: &str, file: &Path, faults: &Faults) {
    if let Err(error) = PrivateKeyDer::from_pem_file(file) {
        faults.add(key, format!("cannot read a key from {}: {error}", file.display()));
    }
}

/// A warning for each upstream that no route and no hook names.
pub(super) fn unused_upstreams(
    routes: &[Route],
    upstreams: &[Upstream],
    hooks: Option<&Name>,
) -> Vec<String> {
    let used = |name: &Name| {
        hooks == Some(name) || routes.iter().any(|route| route.upstream() == Some(name))
    };
    let unused = upstreams.iter().filter(|upstream| !used(&upstream.name));
    unused.map(|one| format!("upstreams: no route and no hook names \"{}\"", one.name)).collect()
}

/// What works, and is probably not meant.
pub(super) fn warnings(
    listeners: &[Listener],
    routes: &[Route],
    upstreams: &[Upstream],
    ops: &Ops,
    shutdown: &Shutdown,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if !ops.address.ip().is_loopback() && ops.token.is_none() {
        let address = ops.address;
        warnings.push(format!(
            "ops.address: {address} is not loopback and ops.token is off: only health and metrics answer"
        ));
    }
    let used: BTreeSet<_> = listeners.iter().flat_map(|listener| listener.routes("")).collect();
    for route in routes {
        if !used.iter().any(|(_, name)| **name == route.keys.name) {
            warnings.push(format!("routes: no listener names \"{}\"", route.keys.name));
        }
    }
    for upstream in upstreams {
        let (call, drain) = (upstream.call_timeout(), shutdown.drain.0);
        if call > drain {
            let (name, call, drain) = (&upstream.name, Grace(call), Grace(drain));
            warnings.push(format!(
                "upstreams: a call of \"{name}\" may take {call}, and shutdown.drain = {drain} cuts it"
            ));
        }
    }
    if let Some(grace) = shutdown.grace_period
        && shutdown.total() >= grace
    {
        let (total, grace) = (Grace(shutdown.total()), Grace(grace));
        warnings.push(format!(
            "shutdown.grace_period: {grace} is not over {total}, the sum of the stages: a stop may be cut short"
        ));
    }
    warnings
}
