//! Sites, listeners of tasks and places among the counters, worked out from the options; again at
//! each reload, to be compared. Binds nothing.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{ListenerKind, PathOptions, ServerOptions};
use crate::handshake::Handshake;
use crate::http::{CurrentSite, HttpMetrics, HttpPath, HttpSite, PathKind, Trust};
use crate::metrics::SiteLabels;
use crate::refuse::RefusalForm;
use crate::service::Service;
use crate::site::{PathSites, Site, SiteWire};
use crate::tasks::{TaskListener, TaskWire};
use crate::wire::stream;

/// Sites and listeners worked out from the options.
pub(super) struct Plan {
    pub(super) sites: Vec<Site>,
    /// The message counters there are: one place for each listener and route.
    pub(super) labels: Vec<SiteLabels>,
    pub(super) tasks: Vec<TaskListener>,
    pub(super) targets: Vec<Target>,
    pub(super) trust: Arc<Trust>,
}

impl Plan {
    pub(super) fn new(
        options: &ServerOptions,
        handshakes: &[Handshake],
        http_metrics: &HttpMetrics,
    ) -> Self {
        let mut plan = Self {
            sites: Vec::new(),
            labels: Vec::new(),
            tasks: Vec::new(),
            targets: Vec::new(),
            trust: Arc::new(options.trust.clone()),
        };
        for (index, (one, handshake)) in options.listeners.iter().zip(handshakes).enumerate() {
            let handshake = handshake.clone();
            let target = match &one.kind {
                ListenerKind::Messages { wire, service, heartbeat, farewell } => {
                    let site = plan.site(options, index, *wire, service);
                    let other = plan.unless_json(options, index, *wire, service);
                    let place = &mut plan.sites[usize::from(site)];
                    place.heartbeat = heartbeat.clone();
                    place.farewell = farewell.clone();
                    place.unless_json = other;
                    if handshake.is_empty() {
                        Target::Table(site)
                    } else {
                        plan.task(options, index, handshake, TaskWire::Messages(site))
                    }
                }
                ListenerKind::Http { paths } => {
                    let wire = plan.http(options, index, paths, http_metrics);
                    plan.task(options, index, handshake, wire)
                }
            };
            plan.targets.push(target);
        }
        plan.count(options);
        plan
    }

    fn site(
        &mut self,
        options: &ServerOptions,
        listener: usize,
        wire: SiteWire,
        service: &Arc<dyn Service>,
    ) -> u16 {
        let mut timeouts = options.timeouts.clone();
        if !service.heartbeats() {
            (timeouts.idle, timeouts.ping_interval) = (None, None);
        }
        // Listeners come from a config file: there are not 65,536 of them.
        let index = self.sites.len() as u16;
        self.sites.push(Site {
            listener: options.listeners[listener].name.clone(),
            index,
            cells: 0,
            wire,
            service: Arc::clone(service),
            limits: options.limits.clone(),
            timeouts,
            heartbeat: None,
            farewell: None,
            unless_json: None,
        });
        index
    }

    /// The site beside one of lines, for connections that are not JSON. It is there whatever the service
    /// is, so that there are as many sites when a reload makes it another one.
    fn unless_json(
        &mut self,
        options: &ServerOptions,
        listener: usize,
        wire: SiteWire,
        service: &Arc<dyn Service>,
    ) -> Option<(u16, SiteWire)> {
        let SiteWire::Lines(_) = wire else { return None };
        let other = service.wire_unless_json();
        let site = self.site(options, listener, other.unwrap_or(wire), service);
        other.map(|wire| (site, wire))
    }

    fn http(
        &mut self,
        options: &ServerOptions,
        listener: usize,
        paths: &[PathOptions],
        metrics: &HttpMetrics,
    ) -> TaskWire {
        let mut sites = Vec::new();
        let mut served = Vec::new();
        for path in paths {
            let mut site = |wire| self.site(options, listener, wire, &path.service);
            sites.push(match path.kind {
                PathKind::WebSocket { .. } => PathSites::WebSocket(site(SiteWire::WebSocket)),
                PathKind::Post { .. } | PathKind::Page => PathSites::Nowhere,
                PathKind::Stream { form, .. } => {
                    let mut site =
                        |framing| site(SiteWire::Stream(stream::Options { form, framing }));
                    let chunked = site(stream::Framing::Chunked);
                    PathSites::Stream { chunked, close: site(stream::Framing::Close) }
                }
            });
            served.push(HttpPath {
                path: path.path.as_str().into(),
                kind: path.kind.clone(),
                service: Arc::clone(&path.service),
            });
        }
        let site = HttpSite::new(
            options.listeners[listener].name.clone(),
            served,
            options.limits.clone(),
            options.timeouts.clone(),
            metrics,
        );
        let site = site.trusting(Arc::clone(&self.trust)).traced(&options.tracing);
        TaskWire::Http { site: CurrentSite::new(site), sites, cells: Vec::new() }
    }

    fn task(
        &mut self,
        options: &ServerOptions,
        listener: usize,
        handshake: Handshake,
        wire: TaskWire,
    ) -> Target {
        // Under TLS a refused peer is told nothing: a handshake is what there is no room for.
        let form = match &wire {
            _ if handshake.tls.is_some() => RefusalForm::Silence,
            TaskWire::Messages(site) => RefusalForm::Message(*site),
            TaskWire::Http { .. } => RefusalForm::Http,
        };
        self.tasks.push(TaskListener {
            name: options.listeners[listener].name.clone(),
            timeouts: ArcSwap::from_pointee(options.timeouts.clone()),
            handshake,
            form,
            wire,
            carrier_cells: 0,
        });
        Target::Task(self.tasks.len() - 1)
    }

    /// Gives every site and every HTTP path its place among the message counters.
    fn count(&mut self, options: &ServerOptions) {
        let labels = |listener: &str, route: &str| SiteLabels {
            listener: listener.to_owned(),
            route: route.to_owned(),
        };
        for site in &mut self.sites {
            let labels = labels(&site.listener, site.service.route());
            site.cells = find_or_push(&mut self.labels, labels) as u16;
        }
        for (one, target) in options.listeners.iter().zip(&self.targets) {
            let Target::Task(task) = *target else { continue };
            let task = &mut self.tasks[task];
            match (&mut task.wire, &one.kind) {
                (TaskWire::Http { sites, cells, .. }, ListenerKind::Http { paths }) => {
                    for (path, sites) in paths.iter().zip(sites) {
                        cells.push(match sites.any() {
                            Some(site) => usize::from(self.sites[usize::from(site)].cells),
                            None => {
                                let labels = labels(&one.name, path.service.route());
                                find_or_push(&mut self.labels, labels)
                            }
                        });
                    }
                    // HTTP itself belongs to no route.
                    task.carrier_cells = find_or_push(&mut self.labels, labels(&one.name, ""));
                }
                (TaskWire::Messages(site), _) => {
                    task.carrier_cells = usize::from(self.sites[usize::from(*site)].cells);
                }
                (TaskWire::Http { .. }, ListenerKind::Messages { .. }) => {}
            }
        }
    }
}

/// Where accepted sockets of a listener go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// Straight into a table, as this site.
    Table(u16),
    /// To a task of a worker, as this listener of theirs.
    Task(usize),
}

/// Two paths may lead to the same route: a series has one place.
fn find_or_push(all: &mut Vec<SiteLabels>, wanted: SiteLabels) -> usize {
    all.iter().position(|one| *one == wanted).unwrap_or_else(|| {
        all.push(wanted);
        all.len() - 1
    })
}
