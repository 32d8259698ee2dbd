//! Profiles on demand: one at a time, bounded in length, resolved and written on a thread that
//! may block. While none is taken there is no timer, no signal handler and no sampling.

mod caller;
mod encode;
mod flamegraph;
mod heap;
mod mappings;
mod profile;
mod sampler;
mod symbols;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, HeaderValue};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use self::heap::HeapSampling;
use self::profile::Profile;
use self::sampler::Sampler;
use self::symbols::Symbols;
use crate::query::Query;
use crate::reply::{self, Refusal, Reply};

/// The parameters of `/debug/pprof/profile`.
pub(crate) const CPU_PARAMETERS: &[&str] = &["seconds", "hz", "format"];
/// The parameters of `/debug/pprof/heap`.
pub(crate) const HEAP_PARAMETERS: &[&str] = &["seconds", "format"];

/// Length of a CPU profile when the request does not say, in seconds, as in Go.
const CPU_SECONDS: u32 = 30;
/// Length of a heap profile when the request does not say, in seconds.
const HEAP_SECONDS: u32 = 10;
/// Samples for each second of CPU time: not a divisor of the kernel's tick, so that what runs once
/// a tick is not always met or always missed.
const HZ: u32 = 99;
const HZ_MAX: u32 = 1000;

/// Takes profiles, one at a time.
#[derive(Debug)]
pub(crate) struct Profiles {
    seconds_max: u32,
    slot: Arc<Mutex<Option<Running>>>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    kind: &'static str,
    peer: SocketAddr,
    started: Instant,
    seconds: u32,
}

/// The right to take a profile, held until it is written.
struct Turn(Arc<Mutex<Option<Running>>>);

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[derive(Clone, Copy)]
enum Format {
    /// The protobuf form of pprof, compressed with gzip.
    Pprof,
    /// A flamegraph.
    Svg,
}

impl Profiles {
    pub(crate) fn new(seconds_max: u32) -> Self {
        Self { seconds_max: seconds_max.max(1), slot: Arc::default() }
    }

    /// The longest time that samples are taken for.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_secs(self.seconds_max.into())
    }

    /// `GET /debug/pprof/`.
    pub(crate) fn index(&self) -> Reply {
        let running = self.slot.lock().map(|running| {
            json!({
                "kind": running.kind,
                "for": running.peer,
                "seconds": running.seconds,
                "running_seconds": running.started.elapsed().as_secs_f64(),
            })
        });
        let body = json!({
            "profiles": [
                { "path": "/debug/pprof/profile", "parameters": CPU_PARAMETERS, "hz_max": HZ_MAX,
                  "available": sampler::AVAILABLE },
                { "path": "/debug/pprof/heap", "parameters": HEAP_PARAMETERS,
                  "available": heap::is_available() },
            ],
            "formats": ["pprof", "svg"],
            "seconds_max": self.seconds_max,
            "running": running,
        });
        reply::json(StatusCode::OK, &body)
    }

    /// `GET /debug/pprof/profile`: where CPU time goes.
    ///
    /// # Errors
    /// 400 for a length over the limit, 409 while another profile is taken, 501 where the machine
    /// cannot be sampled.
    ///
    /// # Cancel safety
    /// Dropped, the sampling stops and the next profile may start.
    pub(crate) async fn cpu(&self, query: &Query, peer: SocketAddr) -> Result<Reply, Refusal> {
        let format = format(query)?;
        let seconds = self.seconds(query, CPU_SECONDS)?;
        let hz = query.value("hz")?.unwrap_or(HZ);
        if !(1..=HZ_MAX).contains(&hz) {
            return Err(Refusal::bad_request(format!("hz is 1 to {HZ_MAX}")));
        }
        let turn = self.take("CPU", peer, seconds)?;
        let since = SystemTime::now();
        let sampler = Sampler::start(hz, seconds)
            .map_err(|error| Refusal::new(StatusCode::NOT_IMPLEMENTED, error.to_string()))?;
        sleep(Duration::from_secs(seconds.into())).await;
        let profile = write(turn, format, move || Ok(sampler.stop().into_profile(since))).await?;
        Ok(profile.reply("weir-cpu"))
    }

    /// `GET /debug/pprof/heap`: what was allocated while sampling and is still held at its end.
    /// Where sampling is always on, all that is held.
    ///
    /// # Errors
    /// 400 for a length over the limit, 409 while another profile is taken, 501 when the process's
    /// allocator takes no profiles.
    ///
    /// # Cancel safety
    /// Dropped, the sampling stops and the next profile may start.
    pub(crate) async fn heap(&self, query: &Query, peer: SocketAddr) -> Result<Reply, Refusal> {
        let format = format(query)?;
        let seconds = self.seconds(query, HEAP_SECONDS)?;
        let turn = self.take("heap", peer, seconds)?;
        let since = SystemTime::now();
        let sampling = HeapSampling::start()
            .map_err(|error| Refusal::new(StatusCode::NOT_IMPLEMENTED, error.to_string()))?;
        if !sampling.was_on() {
            sleep(Duration::from_secs(seconds.into())).await;
        }
        let profile =
            write(turn, format, move || sampling.stop(since).map_err(|e| e.to_string())).await?;
        Ok(profile.reply("weir-heap"))
    }

    fn seconds(&self, query: &Query, default: u32) -> Result<u32, Refusal> {
        let seconds = query.value("seconds")?.unwrap_or(default.min(self.seconds_max));
        match (1..=self.seconds_max).contains(&seconds) {
            true => Ok(seconds),
            false => Err(Refusal::bad_request(format!(
                "seconds is 1 to {} (ops.profile_seconds_max)",
                self.seconds_max
            ))),
        }
    }

    fn take(&self, kind: &'static str, peer: SocketAddr, seconds: u32) -> Result<Turn, Refusal> {
        let mut slot = self.slot.lock();
        if let Some(running) = *slot {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                format!(
                    "one profile at a time: a {} profile of {} s for {} began {:.1} s ago",
                    running.kind,
                    running.seconds,
                    running.peer,
                    running.started.elapsed().as_secs_f64(),
                ),
            ));
        }
        *slot = Some(Running { kind, peer, started: Instant::now(), seconds });
        tracing::info!(kind, %peer, seconds, "profile started");
        Ok(Turn(self.slot.clone()))
    }
}

fn format(query: &Query) -> Result<Format, Refusal> {
    match query.text("format") {
        None | Some("pprof") => Ok(Format::Pprof),
        Some("svg") => Ok(Format::Svg),
        Some(other) => {
            Err(Refusal::bad_request(format!("format={other:?}: one of \"pprof\", \"svg\"")))
        }
    }
}

/// A profile, ready to be sent.
struct Written {
    format: Format,
    body: Vec<u8>,
}

impl Written {
    fn reply(self, name: &str) -> Reply {
        let (kind, file) = match self.format {
            Format::Pprof => ("application/octet-stream", Some(format!("{name}.pb.gz"))),
            Format::Svg => ("image/svg+xml", None),
        };
        let mut reply = reply::bytes(StatusCode::OK, kind, self.body);
        let attachment = file.map(|file| format!("attachment; filename=\"{file}\""));
        if let Some(Ok(attachment)) = attachment.map(HeaderValue::try_from) {
            reply.headers_mut().insert(CONTENT_DISPOSITION, attachment);
        }
        reply
    }
}

/// Ends the sampling and writes its profile, where it may block: reading symbols takes seconds.
async fn write(
    turn: Turn,
    format: Format,
    end: impl FnOnce() -> Result<Profile, String> + Send + 'static,
) -> Result<Written, Refusal> {
    let write = move || {
        // Held here: a profile whose reader has gone still takes memory and a core until it ends.
        let _turn = turn;
        let profile = end()?;
        let symbols = Symbols::resolve(profile.addresses());
        let body = match format {
            Format::Pprof => encode::gzipped(&profile, &symbols).map_err(|e| e.to_string())?,
            Format::Svg => flamegraph::draw(&profile, &symbols).into_bytes(),
        };
        Ok(Written { format, body })
    };
    let failed = |error: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    spawn_blocking(write).await.map_err(|error| failed(error.to_string()))?.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        ([127, 0, 0, 1], 40_000).into()
    }

    fn seconds(text: &str) -> Result<u32, String> {
        let query = Query::parse(Some(text), CPU_PARAMETERS).map_err(|refusal| refusal.error)?;
        Profiles::new(20).seconds(&query, CPU_SECONDS).map_err(|refusal| refusal.error)
    }

    #[test]
    fn a_length_is_at_most_the_limit_and_the_limit_is_named() {
        assert_eq!(seconds(""), Ok(20));
        assert_eq!(seconds("seconds=20"), Ok(20));
        for over in ["seconds=21", "seconds=0"] {
            let error = seconds(over).expect_err(over);
            assert_eq!(error, "seconds is 1 to 20 (ops.profile_seconds_max)");
        }
        assert!(seconds("seconds=-1").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_profile_is_told_who_has_the_first_and_since_when() {
        let profiles = Profiles::new(60);
        let turn = profiles.take("CPU", peer(), 30).expect("the first");
        sleep(Duration::from_millis(1500)).await;
        let refusal = profiles.take("heap", peer(), 10).err().expect("a refusal");
        assert_eq!(refusal.status, StatusCode::CONFLICT);
        assert_eq!(
            refusal.error,
            "one profile at a time: a CPU profile of 30 s for 127.0.0.1:40000 began 1.5 s ago"
        );
        drop(turn);
        assert!(profiles.take("heap", peer(), 10).is_ok());
    }
}
