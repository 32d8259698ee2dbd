//! From text and variables to a [`Config`]: layers, then sections, then the rules between them.
//! Reading goes on after a fault, so that all of them are found.

use std::collections::BTreeSet;

use config::{Config as Layers, File, FileFormat};
use serde_json::{Value as Json, json};

use super::auth::Auth;
use super::changes::Written;
use super::channels::Channels;
use super::document::Document;
use super::environment::Overrides;
use super::faults::{Faults, Places};
use super::listener::Listener;
use super::raw::Auto;
use super::route::Route;
use super::section::{Section, Table};
use super::sections::{
    Health, LimitsKeys, Logs, Metrics, Network, Ops, Overload, RuntimeKeys, Shutdown, TimeoutsKeys,
};
use super::traces::TracesKeys;
use super::upstream::Upstream;
use super::values::Name;
use super::{Admission, Config, LISTS, Runtime, SECTIONS, checks, publish};
use crate::runtime::Machine;

/// Everything that was set, read as far as it can be. The sections that stand once are always
/// there, because a key with a fault has its default.
pub(super) struct Reading {
    runtime: RuntimeKeys,
    limits: LimitsKeys,
    timeouts: TimeoutsKeys,
    overload: Overload,
    network: Network,
    ops: Ops,
    health: Health,
    logs: Logs,
    metrics: Metrics,
    traces: TracesKeys,
    shutdown: Shutdown,
    listeners: Vec<Option<Listener>>,
    routes: Vec<Option<Route>>,
    upstreams: Vec<Option<Upstream>>,
    route_names: BTreeSet<Name>,
    upstream_names: BTreeSet<Name>,
    auth: Auth,
    channels: Channels,
    written: Written,
    /// Those of OpenTelemetry.
    variables: Vec<(String, String)>,
}

impl Reading {
    /// Lays the variables over the text and reads what comes of it. The faults come too.
    ///
    /// # Errors
    ///
    /// The text is not TOML: there is nothing to read.
    pub(super) fn merge(
        name: &str,
        text: &str,
        variables: &[(String, String)],
    ) -> Result<(Self, Faults), Faults> {
        let document = Document::parse(text).map_err(|errors| {
            let faults = Faults::at(Places::in_file(name));
            errors.into_iter().for_each(|(line, text)| faults.add_at_line(line, text));
            faults
        })?;
        let (overrides, strangers) = Overrides::find(variables, &document);
        let faults = Faults::at(Places {
            file: name.to_owned(),
            lines: document.lines,
            variables: overrides.variables(),
        });
        strangers.iter().for_each(|(variable, text)| faults.add_variable(variable, text));
        let layers = Layers::builder()
            .add_source(File::from_str(text, FileFormat::Toml))
            .add_source(overrides)
            .build();
        let root = match layers {
            Ok(layers) => layers.cache,
            Err(error) => {
                faults.add_at_line(None, error.to_string());
                return Err(faults);
            }
        };
        let written = Written::of(&root);
        let mut reading = Self::of(Table::new(String::new(), root, &faults), written);
        reading.variables = variables.to_vec();
        Ok((reading, faults))
    }

    fn of(mut root: Table<'_>, written: Written) -> Self {
        let listeners = root.tables("listeners");
        let routes = root.tables("routes");
        let upstreams = root.tables("upstreams");
        checks::names(&listeners);
        let reading = Self {
            runtime: once(&mut root, "runtime"),
            limits: once(&mut root, "limits"),
            timeouts: once(&mut root, "timeouts"),
            overload: once(&mut root, "overload"),
            network: once(&mut root, "network"),
            ops: once(&mut root, "ops"),
            health: once(&mut root, "health"),
            logs: once(&mut root, "logs"),
            metrics: once(&mut root, "metrics"),
            traces: once(&mut root, "traces"),
            shutdown: once(&mut root, "shutdown"),
            auth: Auth::read(&mut root),
            channels: Channels::read(&mut root),
            route_names: checks::names(&routes),
            upstream_names: checks::names(&upstreams),
            listeners: listeners.into_iter().map(Listener::read).collect(),
            routes: routes.into_iter().map(Route::read).collect(),
            upstreams: upstreams.into_iter().map(Upstream::from_table).collect(),
            written,
            variables: Vec::new(),
        };
        let sections =
            SECTIONS.iter().map(|section| section.name).filter(|name| !name.contains('.'));
        root.finish_root(&sections.chain(LISTS).collect::<Vec<_>>());
        reading
    }

    /// Applies the rules between keys. What it returns is valid if no fault was noted.
    pub(super) fn finish(self, name: &str, machine: &Machine, faults: &Faults) -> Option<Config> {
        self.check(faults);
        let admission = self.admission(machine, faults);
        let runtime = self.runtime(machine);
        let memory_max = self.memory_max(machine);
        let (traces, unusable) = self.traces.plan(&self.variables, faults);

        let listeners = self.listeners.into_iter().collect::<Option<Vec<_>>>()?;
        let routes = self.routes.into_iter().collect::<Option<Vec<_>>>()?;
        let upstreams = self.upstreams.into_iter().collect::<Option<Vec<_>>>()?;
        let mut shown_limits = self.limits.show();
        shown_limits.insert("connections_max".to_owned(), admission.connections_max.into());
        let shown = json!({
            "source": name,
            "runtime": {"workers": runtime.workers, "service_threads": runtime.service_threads},
            "limits": shown_limits,
            "timeouts": self.timeouts.show(),
            "overload": self.overload.show(),
            "network": self.network.show(),
            "listeners": listeners.iter().map(Listener::show).collect::<Json>(),
            "routes": routes.iter().map(Route::show).collect::<Json>(),
            "upstreams": upstreams.iter().map(Upstream::show).map(Json::from).collect::<Json>(),
            "ops": self.ops.show(),
            "health": self.health.show(),
            "logs": self.logs.show(),
            "metrics": self.metrics.show(),
            "traces": self.traces.show_with(&traces),
            "shutdown": self.shutdown.show(),
            "auth": self.auth.shown.clone(),
            "channels": self.channels.shown.clone(),
        });
        let mut warnings =
            checks::warnings(&listeners, &routes, &upstreams, &self.ops, &self.shutdown);
        let hooks = self.channels.hooks.upstream.as_ref();
        warnings.extend(checks::unused_upstreams(&routes, &upstreams, hooks));
        warnings.extend(self.channels.warnings());
        warnings.extend(publish::warnings(&routes, &self.channels));
        warnings.extend(unusable);
        Some(Config {
            source: name.to_owned(),
            warnings,
            runtime,
            limits: self.limits.limits(),
            admission,
            handshakes: self.limits.handshakes(),
            outboxes_bytes_max: self.limits.outboxes_bytes_max.map(|max| max.0),
            timeouts: self.timeouts.timeouts(),
            overload: self.overload,
            memory_max,
            network: self.network,
            listeners,
            routes,
            upstreams,
            ops: self.ops,
            health: self.health,
            logs: self.logs,
            metrics: self.metrics,
            traces,
            shutdown: self.shutdown,
            auth: self.auth,
            channels: self.channels,
            shown,
            written: self.written,
        })
    }

    fn check(&self, faults: &Faults) {
        checks::limits(&self.limits, faults);
        checks::timeouts(&self.timeouts, faults);
        checks::overload(&self.overload, faults);
        checks::listeners(&self.listeners, &self.ops, &self.timeouts, faults);
        for (i, listener) in present(&self.listeners) {
            checks::proxies(i, listener, &self.network, faults);
            if let Some(tls) = &listener.tls {
                tls.check(&format!("listeners[{i}].tls"), &listener.wire, faults);
            }
            for (path, route) in listener.routes(&format!("listeners[{i}]")) {
                checks::reference(&path, route, "route", &self.route_names, faults);
            }
        }
        for (i, route) in present(&self.routes) {
            if route.keys.trace_field.is_some() && route.keys.trace_prefix.is_some() {
                let paths = ["trace_prefix", "trace_field"].map(|key| format!("routes[{i}].{key}"));
                let text = "a message carries its trace in one place";
                faults.contradiction(&[&paths[0], &paths[1]], text);
            }
            if let Some(upstream) = route.upstream() {
                let path = format!("routes[{i}].upstream");
                checks::reference(&path, upstream, "upstream", &self.upstream_names, faults);
            }
        }
        if let Some(upstream) = &self.channels.hooks.upstream {
            let path = "channels.hooks.upstream";
            checks::reference(path, upstream, "upstream", &self.upstream_names, faults);
            self.channels.hooks.check_in_flight(self.limits.in_flight_max, faults);
        }
        checks::channels(&self.listeners, &self.routes, faults);
        checks::channels_api(&self.listeners, &self.routes, faults);
        checks::pages(&self.listeners, &self.routes, faults);
        publish::check(&self.listeners, &self.routes, &self.channels, faults);
        checks::doors(&self.listeners, &self.routes, &self.auth, faults);
        for (i, upstream) in present(&self.upstreams) {
            checks::upstream(i, upstream, faults);
        }
    }

    fn admission(&self, machine: &Machine, faults: &Faults) -> Admission {
        let keys = &self.limits;
        Admission {
            connections_max: checks::connections_max(keys, &self.upstreams, machine, faults),
            connections_per_address_max: keys.connections_per_address_max,
            connections_per_second_max: keys.connections_per_second_max,
        }
    }

    fn memory_max(&self, machine: &Machine) -> Option<u64> {
        match self.overload.memory_max {
            None => None,
            Some(Auto::Auto) => machine.memory_bytes,
            Some(Auto::Set(size)) => Some(size.0 as u64),
        }
    }

    fn runtime(&self, machine: &Machine) -> Runtime {
        let workers = match self.runtime.workers {
            Auto::Auto => machine.cores,
            Auto::Set(workers) => workers,
        };
        let service_threads = match self.runtime.service_threads {
            Auto::Auto => workers.max(2),
            Auto::Set(threads) => threads,
        };
        Runtime { workers, service_threads }
    }
}

/// A section that stands once, all of whose keys have a default.
fn once<S: Section>(root: &mut Table<'_>, name: &str) -> S {
    root.section(name).expect("no key of a section that stands once is required")
}

/// What could be read of a list, with its place there.
fn present<T>(list: &[Option<T>]) -> impl Iterator<Item = (usize, &T)> {
    list.iter().enumerate().filter_map(|(i, item)| Some((i, item.as_ref()?)))
}
