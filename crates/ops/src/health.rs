//! Whether the process lives, is ready, and has started: beats of the event loops, the stage of
//! life, and what is still pending. Nothing here asks a dependency; they report.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;

use crate::reply::{self, Reply};

/// The stages of the process's life, in order. One place outside this crate moves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LifeStage {
    /// Ports are bound; nothing is accepted.
    Starting,
    /// Accepting.
    Serving,
    /// Still accepting while balancers notice that `/readyz` is 503.
    Unready,
    /// Listeners closed; in-flight work finishes.
    Draining,
    /// The rest is closed.
    Forcing,
    /// Pools and logs are flushed.
    Flushing,
    /// Nothing is left but this port.
    Stopped,
}

impl LifeStage {
    /// Every stage, in order.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Serving,
        Self::Unready,
        Self::Draining,
        Self::Forcing,
        Self::Flushing,
        Self::Stopped,
    ];

    /// The name in metrics, logs and `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Unready => "unready",
            Self::Draining => "draining",
            Self::Forcing => "forcing",
            Self::Flushing => "flushing",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for LifeStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What `/healthz`, `/readyz` and `/startupz` are answered from.
#[derive(Debug)]
pub struct Health {
    origin: Instant,
    stall: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    stage: LifeStage,
    workers: Vec<Worker>,
    dependencies: Vec<Arc<Dependency>>,
}

#[derive(Debug)]
struct Worker {
    name: String,
    last: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    /// Why it is pending; `None` when it is ready.
    pending: Mutex<Option<String>>,
}

/// The last beat of a worker that has ended well and is not waited for.
const RETIRED: u64 = u64::MAX;
/// The last beat of a worker that ended in a panic.
const DEAD: u64 = u64::MAX - 1;

impl Health {
    /// A process that is [`LifeStage::Starting`]. A worker that has not beaten for `stall` is
    /// stalled.
    pub fn new(stall: Duration, now: Instant) -> Arc<Self> {
        let inner =
            Inner { stage: LifeStage::Starting, workers: Vec::new(), dependencies: Vec::new() };
        Arc::new(Self { origin: now, stall, inner: Mutex::new(inner) })
    }

    /// Registers a worker whose first beat is `now`.
    pub fn worker(&self, name: impl Into<String>, now: Instant) -> Heartbeat {
        let last = Arc::new(AtomicU64::new(millis(self.origin, now)));
        self.inner.lock().workers.push(Worker { name: name.into(), last: last.clone() });
        Heartbeat { origin: self.origin, last }
    }

    /// Registers something that the process needs to be ready. It is pending, for the reason
    /// `why`, until told otherwise.
    pub fn readiness(&self, name: impl Into<String>, why: impl Into<String>) -> Readiness {
        let dependency =
            Arc::new(Dependency { name: name.into(), pending: Mutex::new(Some(why.into())) });
        self.inner.lock().dependencies.push(dependency.clone());
        Readiness(dependency)
    }

    /// Moves the process to `stage`.
    pub fn enter(&self, stage: LifeStage) {
        self.inner.lock().stage = stage;
    }

    /// The stage the process is in.
    pub fn stage(&self) -> LifeStage {
        self.inner.lock().stage
    }

    /// Whether nothing is pending, whatever the stage.
    pub fn is_complete(&self) -> bool {
        self.inner.lock().dependencies.iter().all(|item| item.pending.lock().is_none())
    }

    /// Whether every event loop turns: what `/healthz` tells.
    pub fn is_alive(&self, now: Instant) -> bool {
        self.stalled(now).is_empty()
    }

    /// The workers that have not beaten for longer than the stall at `now`.
    fn stalled(&self, now: Instant) -> Vec<Stalled> {
        let now = millis(self.origin, now);
        let stall = self.stall.as_millis() as u64;
        let silent = |last: u64| match last {
            RETIRED => None,
            DEAD => Some(Silence::Panicked),
            last => {
                let silent = now.saturating_sub(last);
                (silent > stall).then_some(Silence::Seconds(silent as f64 / 1000.0))
            }
        };
        let inner = self.inner.lock();
        let workers = inner.workers.iter();
        workers
            .filter_map(|worker| {
                silent(worker.last.load(Ordering::Relaxed))
                    .map(|silent| Stalled { worker: worker.name.clone(), silent })
            })
            .collect()
    }

    fn pending(&self) -> Vec<Pending> {
        let inner = self.inner.lock();
        let items = inner.dependencies.iter();
        items
            .filter_map(|item| {
                item.pending.lock().clone().map(|why| Pending { name: item.name.clone(), why })
            })
            .collect()
    }

    /// `GET /healthz`: 503 only for an event loop that does not turn.
    pub(crate) fn healthz(&self, now: Instant) -> Reply {
        let stalled = self.stalled(now);
        match stalled.is_empty() {
            true => reply::json(StatusCode::OK, &json!({ "status": "ok" })),
            false => reply::json(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({ "status": "stalled", "stalled": stalled }),
            ),
        }
    }

    /// `GET /readyz`: 200 while serving with nothing pending.
    pub(crate) fn readyz(&self) -> Reply {
        let (stage, pending) = (self.stage(), self.pending());
        let ready = stage == LifeStage::Serving && pending.is_empty();
        told(ready, if ready { "ready" } else { "unready" }, stage, &pending)
    }

    /// `GET /startupz`: 200 once the process has served.
    pub(crate) fn startupz(&self) -> Reply {
        let stage = self.stage();
        let started = stage > LifeStage::Starting;
        let pending = if started { Vec::new() } else { self.pending() };
        told(started, if started { "started" } else { "starting" }, stage, &pending)
    }
}

fn told(yes: bool, status: &str, stage: LifeStage, pending: &[Pending]) -> Reply {
    let code = if yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::json(code, &json!({ "status": status, "stage": stage, "pending": pending }))
}

#[derive(Debug, PartialEq, Serialize)]
struct Stalled {
    worker: String,
    #[serde(flatten)]
    silent: Silence,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Silence {
    #[serde(rename = "silent_seconds")]
    Seconds(f64),
    #[serde(rename = "panicked", serialize_with = "as_true")]
    Panicked,
}

fn as_true<S: serde::Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(true)
}

#[derive(Debug, Serialize)]
struct Pending {
    name: String,
    why: String,
}

fn millis(origin: Instant, now: Instant) -> u64 {
    let millis = now.saturating_duration_since(origin).as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX).min(DEAD - 1)
}

/// A worker's way to say that it turns. An idle worker beats at least once a second.
///
/// Dropped, the worker is no longer waited for; dropped by a panic, it is unhealthy for good.
#[derive(Debug)]
pub struct Heartbeat {
    origin: Instant,
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    /// The loop turned at `now`. One relaxed store.
    pub fn beat(&self, now: Instant) {
        self.last.store(millis(self.origin, now), Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let last = if std::thread::panicking() { DEAD } else { RETIRED };
        self.last.store(last, Ordering::Relaxed);
    }
}

/// One thing that the process needs to be ready. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Dependency>);

impl Readiness {
    /// It is there.
    pub fn ready(&self) {
        *self.0.pending.lock() = None;
    }

    /// It is missing, for the reason `why`.
    pub fn pending(&self, why: impl Into<String>) {
        *self.0.pending.lock() = Some(why.into());
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::*;

    const STALL: Duration = Duration::from_secs(10);

    fn at(origin: Instant, seconds: u64) -> Instant {
        origin + Duration::from_secs(seconds)
    }

    fn origin() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[track_caller]
    fn told(reply: Reply) -> (u16, Value) {
        let status = reply.status().as_u16();
        let collected = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(reply.into_body().collect())
            .expect("a body in memory");
        (status, serde_json::from_slice(&collected.to_bytes()).expect("JSON"))
    }

    #[test]
    fn a_loop_that_has_not_turned_for_the_stall_is_named() {
        let start = origin();
        let health = Health::new(STALL, start);
        let quick = health.worker("weir-worker-0", start);
        let _stuck = health.worker("weir-worker-1", start);
        quick.beat(at(start, 10));
        assert_eq!(told(health.healthz(at(start, 10))).0, 200);
        let (status, body) = told(health.healthz(at(start, 12)));
        assert_eq!(status, 503);
        assert_eq!(body["stalled"], json!([{ "worker": "weir-worker-1", "silent_seconds": 12.0 }]));
    }

    #[test]
    fn a_worker_that_ended_is_not_waited_for_and_one_that_panicked_is_unhealthy() {
        let start = origin();
        let health = Health::new(STALL, start);
        drop(health.worker("weir-worker-0", start));
        assert_eq!(told(health.healthz(at(start, 100))).0, 200);
        let heartbeat = health.worker("weir-worker-1", start);
        let thread = std::thread::spawn(move || {
            let _heartbeat = heartbeat;
            panic!("as the test wants");
        });
        assert!(thread.join().is_err());
        let (status, body) = told(health.healthz(start));
        assert_eq!((status, &body["stalled"][0]["panicked"]), (503, &Value::Bool(true)));
    }

    #[test]
    fn readiness_is_the_stage_and_what_is_pending_and_health_is_neither() {
        let start = origin();
        let health = Health::new(STALL, start);
        let resolved = health.readiness("backend", "not resolved yet");
        let (status, body) = told(health.readyz());
        assert_eq!((status, &body["stage"]), (503, &json!("starting")));
        assert_eq!(body["pending"], json!([{ "name": "backend", "why": "not resolved yet" }]));
        assert_eq!(told(health.startupz()).0, 503);

        resolved.ready();
        assert!(health.is_complete());
        health.enter(LifeStage::Serving);
        assert_eq!(told(health.readyz()).0, 200);
        assert_eq!(told(health.startupz()).0, 200);

        resolved.pending("no target answers");
        assert_eq!(told(health.readyz()).0, 503);
        assert_eq!(told(health.startupz()).0, 200, "it has started, whatever is missing now");

        resolved.ready();
        for stage in LifeStage::ALL.into_iter().skip(2) {
            health.enter(stage);
            let (status, body) = told(health.readyz());
            assert_eq!((status, &body["stage"]), (503, &json!(stage.as_str())));
            assert_eq!(told(health.startupz()).0, 200);
        }
        assert_eq!(told(health.healthz(start)).0, 200);
    }
}
