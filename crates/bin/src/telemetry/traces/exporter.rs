//! The exporter of OTLP, over gRPC or HTTP. It makes one attempt: what fails is counted, and spans
//! are too many to be kept for later.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{
    RetryPolicy, SpanExporter as Otlp, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use opentelemetry_semantic_conventions::attribute::{
    PROCESS_PID, SERVICE_INSTANCE_ID, SERVICE_VERSION,
};
use weir_upstream::{ClientIdentity, Once};

use super::http::Client;
use crate::config::traces::{CollectorTls, Protocol, TracesPlan};
use crate::version;

/// The path of spans on a collector that speaks HTTP.
const PATH: &str = "/v1/traces";

/// Sends spans. One seam for both protocols, and for tests.
pub(super) trait Export: Send + Sync + fmt::Debug {
    /// Sends a batch. It may take as long as the collector likes: the caller has the deadline.
    fn export(&self, batch: Vec<SpanData>) -> Exporting<'_>;
}

/// A batch on its way.
pub(super) type Exporting<'a> = Pin<Box<dyn Future<Output = OTelSdkResult> + Send + 'a>>;

impl Export for Otlp {
    fn export(&self, batch: Vec<SpanData>) -> Exporting<'_> {
        Box::pin(SpanExporter::export(self, batch))
    }
}

/// The exporter over HTTP, whose errors leave out why there was no answer.
#[derive(Debug)]
struct OverHttp {
    exporter: Otlp,
    client: Client,
}

impl Export for OverHttp {
    fn export(&self, batch: Vec<SpanData>) -> Exporting<'_> {
        Box::pin(async move {
            let exported = SpanExporter::export(&self.exporter, batch).await;
            exported.map_err(|error| match self.client.take_fault() {
                Some(fault) => OTelSdkError::InternalFailure(fault),
                None => error,
            })
        })
    }
}

/// The exporter of this plan. Made inside the runtime that it will run on.
pub(super) fn build(plan: &TracesPlan) -> anyhow::Result<Arc<dyn Export>> {
    let endpoint = plan.endpoint.as_deref().context("there is none")?;
    // The sender's deadline comes first, and is told once.
    let deadline = plan.export_timeout + Duration::from_secs(1);
    let secure = endpoint.starts_with("https:");
    let resource = resource(plan);
    Ok(match plan.protocol {
        Protocol::Grpc => {
            let builder = Otlp::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .with_timeout(deadline)
                .with_retry_policy(RetryPolicy::disabled());
            let mut exporter = match secure {
                true => builder.with_tls_config(tls(&plan.tls)?).build()?,
                false => builder.build()?,
            };
            exporter.set_resource(&resource);
            Arc::new(exporter)
        }
        Protocol::Http => {
            let client = Client::new(match secure {
                true => Once::with_tls(plan.tls.ca_file.as_deref(), plan.tls.identity.as_ref())?,
                false => Once::plain(),
            });
            let mut exporter = Otlp::builder()
                .with_http()
                .with_http_client(client.clone())
                .with_endpoint(format!("{}{PATH}", endpoint.trim_end_matches('/')))
                .with_timeout(deadline)
                .with_retry_policy(RetryPolicy::disabled())
                .build()?;
            exporter.set_resource(&resource);
            Arc::new(OverHttp { exporter, client })
        }
    })
}

/// TLS for gRPC: tonic makes its own connections, with the same library and provider as all others.
fn tls(plan: &CollectorTls) -> anyhow::Result<ClientTlsConfig> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let tls = match &plan.ca_file {
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file)?)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    Ok(match &plan.identity {
        Some(ClientIdentity { certificate, key }) => {
            tls.identity(Identity::from_pem(read(certificate)?, read(key)?))
        }
        None => tls,
    })
}

/// Who the spans are of.
fn resource(plan: &TracesPlan) -> Resource {
    let pid = std::process::id();
    let given = plan.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty()
        .with_attribute(KeyValue::new(SERVICE_VERSION, version::VERSION))
        .with_attribute(KeyValue::new(SERVICE_INSTANCE_ID, format!("{}-{pid}", host())))
        .with_attribute(KeyValue::new(PROCESS_PID, i64::from(pid)))
        .with_attributes(given)
        .with_service_name(plan.service_name.clone())
        .build()
}

/// The name of this machine, or of this pod.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
