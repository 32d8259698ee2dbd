//! From the configuration to hooks: the upstream that a backend is, as what channels ask through.

use std::sync::Arc;

use http::{HeaderValue, Method};
use weir_channels::hooks::{Backend, Call, CallFuture, Called, HookMetrics, Hooks};
use weir_core::clock;
use weir_core::service::Response;
use weir_core::trace::CallTrace;
use weir_pipeline::upstream::StageMetrics;
use weir_upstream::{CallTerms, Upstream, UpstreamRequest};

use crate::config::Config;
use crate::engine::Upstreams;

/// An upstream that hooks are asked through.
struct HookUpstream {
    upstream: Arc<Upstream>,
    stages: StageMetrics,
}

impl Backend for HookUpstream {
    fn call(&self, call: Call) -> CallFuture {
        let (upstream, stages) = (Arc::clone(&self.upstream), self.stages.clone());
        Box::pin(async move {
            let begun = clock::now();
            let mut headers = call.headers;
            if let Some(context) = call.trace.as_ref().and_then(CallTrace::context) {
                context.write_to(&mut headers);
            }
            let request = UpstreamRequest {
                method: Method::POST,
                path_and_query: call.path,
                content_type: Some(HeaderValue::from_static("application/json")),
                headers,
                body: call.body,
                request_id: call.request,
                terms: CallTerms { timeout: Some(call.timeout), repeatable: call.repeatable },
            };
            let answer = upstream.call_traced(request, call.trace).await;
            if let Ok(response) = &answer {
                stages.count(response.timings);
            }
            let took = clock::now().saturating_duration_since(begun);
            Called { took, answer: answer.map(Response::from).map_err(Into::into) }
        })
    }
}

/// The hooks of a configuration, which has been checked: `None` when it has none.
pub fn hooks(
    config: &Config,
    upstreams: &Upstreams,
    stages: &StageMetrics,
    metrics: &HookMetrics,
) -> Option<Hooks> {
    let keys = &config.channels.hooks;
    let upstream = upstreams.get(&**keys.upstream.as_ref()?)?;
    let backend = HookUpstream { upstream: Arc::clone(upstream), stages: stages.clone() };
    Some(Hooks::new(Arc::new(backend), keys.options(), metrics.clone()))
}
