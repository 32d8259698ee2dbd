//! A world of channels with the API beside it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use weir_channels::api::{Api, ApiLimits, ApiMetrics, ApiReply, ErrorMode, Method};
use weir_channels::namespace::ChannelOptions;
use weir_core::limits::Limits;

use crate::session::World;

pub(crate) struct Backend {
    pub(crate) world: World,
    pub(crate) api: Api,
    runtime: Runtime,
}

impl Backend {
    /// Channels without a namespace have these options, on two workers.
    pub(crate) fn new(options: ChannelOptions) -> Self {
        Self::limited(options, ApiLimits::default())
    }

    pub(crate) fn limited(options: ChannelOptions, limits: ApiLimits) -> Self {
        let world = World::with(options, Limits::default(), 2);
        let metrics = ApiMetrics::register(&world.registry).expect("registered once");
        let api = Api::new(world.shared.clone(), limits, metrics, world.now);
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { world, api, runtime }
    }

    /// What a request is answered: status and body.
    pub(crate) fn ask(&mut self, method: Method, mode: ErrorMode, body: &str) -> (u16, Value) {
        let now = self.world.now;
        let Self { world, api, runtime } = self;
        let reply = run(world, runtime, api.serve(method, body.as_bytes(), mode, now));
        (reply.status, serde_json::from_slice(&reply.body).expect("an answer is JSON"))
    }

    /// What a request in the older form is answered: status and text.
    pub(crate) fn lines(&mut self, body: &str) -> (u16, String) {
        let now = self.world.now;
        let Self { world, api, runtime } = self;
        let reply = run(world, runtime, api.serve_lines(body.as_bytes(), now));
        (reply.status, String::from_utf8(reply.body).expect("text"))
    }

    /// The result of a request that goes well.
    #[track_caller]
    pub(crate) fn result(&mut self, method: Method, body: &str) -> Value {
        let (status, mut answer) = self.ask(method, ErrorMode::Body, body);
        assert!(status == 200 && answer["error"].is_null(), "{body}: {status} {answer}");
        if method == Method::Batch { answer } else { answer["result"].take() }
    }

    /// The code of a request that does not.
    #[track_caller]
    pub(crate) fn code(&mut self, method: Method, body: &str) -> u64 {
        let (status, answer) = self.ask(method, ErrorMode::Body, body);
        let code = answer["error"]["code"].as_u64();
        assert!(status == 200, "{status}");
        code.unwrap_or_else(|| panic!("{body}: {answer}"))
    }

    /// One series of a metric.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.world.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("it is there");
        let has = |metric: &&prometheus::proto::Metric| {
            let pairs = metric.get_label();
            labels.iter().all(|(name, value)| {
                pairs.iter().any(|pair| pair.name() == *name && pair.value() == *value)
            })
        };
        let metrics = family.get_metric().iter().filter(has);
        metrics.map(|metric| metric.get_counter().get_value()).sum()
    }
}

/// Runs a request while the workers turn.
fn run(world: &mut World, runtime: &Runtime, request: impl Future<Output = ApiReply>) -> ApiReply {
    let mut request = pin!(request);
    for _ in 0..1_000 {
        // Its deadline wants a runtime, and the workers turn in one of their own.
        let polled = {
            let _entered = runtime.enter();
            request.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        world.settle();
        if let Poll::Ready(reply) = polled {
            return reply;
        }
    }
    panic!("no answer");
}
