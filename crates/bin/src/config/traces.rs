//! Traces: where spans go, and which messages have one. The standard variables of OpenTelemetry
//! stand behind weir's own keys.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use serde_json::Value as Json;
use weir_core::network::{Cidr, Networks};
use weir_core::trace::TraceSettings;
use weir_upstream::ClientIdentity;

use super::checks;
use super::faults::Faults;
use super::raw::{Auto, Raw, Refused, Setting, choices};
use super::section::{Section, section};
use super::values::Name;

/// The protocol of the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, in protobuf.
    Http,
}

choices!(Protocol { "grpc" => Protocol::Grpc, "http" => Protocol::Http });

/// A part of all messages, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

impl Setting for Ratio {
    fn wanted() -> String {
        "a number from 0 to 1, such as 0.01".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let ratio = match raw {
            Raw::Integer(whole) => Some(*whole as f64),
            Raw::Loose(text) | Raw::Other(text) => text.trim().parse().ok(),
            Raw::Bool(_) | Raw::Text(_) | Raw::List(_) => None,
        };
        let fits = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
        fits.map(Self).ok_or(Refused::Shape)
    }

    fn show(&self) -> Json {
        self.0.into()
    }
}

/// The base URL of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let good = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.query().is_none()
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        good.then(|| Self(text.trim_end_matches('/').to_owned()))
    }
}

impl Setting for Endpoint {
    fn wanted() -> String {
        "the address of a collector such as \"http://127.0.0.1:4317\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        raw.text().and_then(Self::parse).ok_or(Refused::Shape)
    }

    fn show(&self) -> Json {
        self.0.as_str().into()
    }
}

section! {
    /// Traces, sent to a collector that speaks OTLP. A key that is "auto" follows OpenTelemetry's
    /// own variable, OTEL_EXPORTER_OTLP_ENDPOINT and so on; OTEL_SDK_DISABLED=true switches all off.
    pub struct TracesKeys {
        /// The collector, such as "http://127.0.0.1:4317". "off": nothing is traced.
        pub endpoint: Auto<Option<Endpoint>> = "auto";
        /// "grpc", or "http": protobuf to the path /v1/traces behind the endpoint's.
        pub protocol: Auto<Protocol> = "auto";
        /// PEM file of the certificates that an https collector is checked with. "off", and "auto"
        /// without a variable: the system's.
        pub ca_file: Auto<Option<PathBuf>> = "auto";
        /// PEM file of the certificate that weir shows a collector that asks for one.
        pub client_certificate: Auto<Option<PathBuf>> = "auto";
        /// PEM file of its key.
        pub client_key: Auto<Option<PathBuf>> = "auto";
        /// The part of messages and HTTP requests that is traced. "auto" without a variable: 0.01.
        pub ratio: Auto<Ratio> = "auto";
        /// Most messages and requests a second that are traced, whatever the ratio.
        pub messages_per_second_max: u32 = 100;
        /// What takes longer, or fails, is traced afterwards when it asked an upstream or came by
        /// HTTP. "off": only what is sampled.
        pub slow: Option<Duration> = "1s";
        /// Most slow and failed ones a second that are traced afterwards.
        pub slow_per_second_max: u32 = 10;
        /// Most messages and spans that wait for the collector. Further ones are dropped and counted.
        pub queue_max: usize = 4096;
        /// Longest wait for the collector's answer, and for the last spans at the end.
        pub export_timeout: Duration = "2s";
        /// The service that the spans are of. "auto" without a variable: "weir".
        pub service_name: Auto<Name> = "auto";
        /// Peers whose word counts on whether their trace is sampled. The trace of others is
        /// continued too, but weir decides.
        pub trust_sampled_from: Vec<Cidr> = [];
    }
}

/// What TLS to a collector trusts and shows. The files are there, and hold what they should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorTls {
    /// Its authorities; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// What weir shows.
    pub identity: Option<ClientIdentity>,
}

/// Which traces there are and where they go, with the environment in it.
#[derive(Clone, Debug)]
pub struct TracesPlan {
    /// The collector's base URL; `None`: nothing is traced.
    pub endpoint: Option<String>,
    /// What it speaks.
    pub protocol: Protocol,
    /// What TLS to an `https` collector trusts and shows.
    pub tls: CollectorTls,
    /// Which messages are traced.
    pub settings: TraceSettings,
    /// Most messages and spans that wait.
    pub queue_max: usize,
    /// Longest wait for an answer.
    pub export_timeout: Duration,
    /// The service.
    pub service_name: String,
    /// More attributes of the resource.
    pub resource: Vec<(String, String)>,
}

impl TracesKeys {
    /// Lays the keys over the standard variables. A variable that cannot be used is a warning, as
    /// OpenTelemetry's specification wants it.
    pub(super) fn plan(
        &self,
        variables: &[(String, String)],
        faults: &Faults,
    ) -> (TracesPlan, Vec<String>) {
        let mut env = Environment { variables, warnings: Vec::new() };
        let protocol = match self.protocol {
            Auto::Set(protocol) => protocol,
            Auto::Auto => env.protocol(),
        };
        let endpoint = match &self.endpoint {
            Auto::Set(endpoint) => endpoint.clone(),
            Auto::Auto => env.endpoint(),
        };
        let endpoint = endpoint.filter(|_| !env.is_disabled()).map(|endpoint| endpoint.0);
        let tls = self.tls(&env, faults);
        let ratio = match self.ratio {
            Auto::Set(ratio) => ratio.0,
            Auto::Auto => env.ratio(),
        };
        let mut resource = env.resource();
        let named = resource.iter().position(|(key, _)| key == "service.name");
        let named = named.map(|at| resource.remove(at).1);
        let service_name = match &self.service_name {
            Auto::Set(name) => name.to_string(),
            Auto::Auto => env
                .get("OTEL_SERVICE_NAME")
                .map(str::to_owned)
                .or(named)
                .unwrap_or_else(|| "weir".to_owned()),
        };
        let plan = TracesPlan {
            endpoint,
            protocol,
            tls,
            settings: TraceSettings {
                ratio,
                per_second_max: self.messages_per_second_max,
                slow: self.slow,
                slow_per_second_max: self.slow_per_second_max,
                trusted: Networks::new(self.trust_sampled_from.clone()),
            },
            queue_max: self.queue_max,
            export_timeout: self.export_timeout,
            service_name,
            resource,
        };
        (plan, env.warnings)
    }

    fn tls(&self, env: &Environment<'_>, faults: &Faults) -> CollectorTls {
        let file = |key: &Auto<Option<PathBuf>>, variable: &str| match key {
            Auto::Set(file) => file.clone(),
            Auto::Auto => env.exporter(variable).map(PathBuf::from),
        };
        let ca_file = file(&self.ca_file, "CERTIFICATE");
        if let Some(file) = &ca_file {
            checks::certificates("traces.ca_file", file, faults);
        }
        let certificate = file(&self.client_certificate, "CLIENT_CERTIFICATE");
        let identity = match (certificate, file(&self.client_key, "CLIENT_KEY")) {
            (Some(certificate), Some(key)) => {
                checks::certificates("traces.client_certificate", &certificate, faults);
                checks::private_key("traces.client_key", &key, faults);
                Some(ClientIdentity { certificate, key })
            }
            (None, None) => None,
            (Some(_), None) => {
                faults.add("traces.client_key", "traces.client_certificate needs it");
                None
            }
            (None, Some(_)) => {
                faults.add("traces.client_certificate", "traces.client_key needs it");
                None
            }
        };
        CollectorTls { ca_file, identity }
    }

    /// The settings as `/config` shows them: with what "auto" has come to.
    pub(super) fn show_with(&self, plan: &TracesPlan) -> serde_json::Map<String, Json> {
        let mut shown = self.show();
        let endpoint = plan.endpoint.as_deref().unwrap_or("off");
        let file = |path: Option<&PathBuf>| {
            path.map_or_else(|| "off".into(), |path| path.display().to_string().into())
        };
        let identity = plan.tls.identity.as_ref();
        for (key, value) in [
            ("endpoint", endpoint.into()),
            ("protocol", plan.protocol.show()),
            ("ca_file", file(plan.tls.ca_file.as_ref())),
            ("client_certificate", file(identity.map(|own| &own.certificate))),
            ("client_key", file(identity.map(|own| &own.key))),
            ("ratio", plan.settings.ratio.into()),
            ("service_name", plan.service_name.as_str().into()),
        ] {
            shown.insert(key.to_owned(), value);
        }
        shown
    }
}

/// The standard variables.
struct Environment<'a> {
    variables: &'a [(String, String)],
    warnings: Vec<String>,
}

impl<'a> Environment<'a> {
    /// The value of a variable; an empty one is not set.
    fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// The value of an exporter's variable, that of traces before that of all signals.
    fn exporter(&self, name: &str) -> Option<&'a str> {
        let of_traces = self.get(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
        of_traces.or_else(|| self.get(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    fn unusable<T>(&mut self, name: &str, value: &str, instead: T) -> T {
        self.warnings.push(format!("{name}: {value:?} cannot be used and is ignored"));
        instead
    }

    fn is_disabled(&self) -> bool {
        self.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn protocol(&mut self) -> Protocol {
        const NAMES: [&str; 2] =
            ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        let set = NAMES.into_iter().find_map(|name| Some((name, self.get(name)?)));
        match set {
            None | Some((_, "grpc")) => Protocol::Grpc,
            Some((_, "http/protobuf")) => Protocol::Http,
            Some((name, other)) => self.unusable(name, other, Protocol::Grpc),
        }
    }

    fn endpoint(&mut self) -> Option<Endpoint> {
        // That of traces alone names the whole path, which weir adds by itself.
        let own = self.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let own = own.map(|value| value.strip_suffix("/v1/traces").unwrap_or(value));
        let value = own.or_else(|| self.get("OTEL_EXPORTER_OTLP_ENDPOINT"))?;
        let endpoint = Endpoint::parse(value);
        endpoint.or_else(|| self.unusable("OTEL_EXPORTER_OTLP_ENDPOINT", value, None))
    }

    /// The ratio that the standard's samplers come to. A parent's word is `trust_sampled_from`'s.
    fn ratio(&mut self) -> f64 {
        const DEFAULT: f64 = 0.01;
        let sampler = self.get("OTEL_TRACES_SAMPLER");
        match sampler.map(|name| name.strip_prefix("parentbased_").unwrap_or(name)) {
            None => DEFAULT,
            Some("always_on") => 1.0,
            Some("always_off") => 0.0,
            Some("traceidratio") => {
                let Some(arg) = self.get("OTEL_TRACES_SAMPLER_ARG") else { return 1.0 };
                let ratio = arg.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                ratio.unwrap_or_else(|| self.unusable("OTEL_TRACES_SAMPLER_ARG", arg, DEFAULT))
            }
            Some(other) => self.unusable("OTEL_TRACES_SAMPLER", other, DEFAULT),
        }
    }

    /// `key=value` pairs with commas between them.
    fn resource(&mut self) -> Vec<(String, String)> {
        let Some(list) = self.get("OTEL_RESOURCE_ATTRIBUTES") else { return Vec::new() };
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            (!key.trim().is_empty()).then(|| (key.trim().to_owned(), value.trim().to_owned()))
        };
        let pairs: Option<Vec<_>> =
            list.split(',').filter(|one| !one.trim().is_empty()).map(pair).collect();
        pairs.unwrap_or_else(|| self.unusable("OTEL_RESOURCE_ATTRIBUTES", list, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::section::Table;

    fn plan(variables: &[(&str, &str)]) -> (TracesPlan, Vec<String>) {
        let faults = Faults::default();
        let mut table = Table::new(String::new(), config::Value::default(), &faults);
        let keys = TracesKeys::read(&mut table).expect("every key has a default");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let plan = keys.plan(&variables.iter().map(owned).collect::<Vec<_>>(), &faults);
        assert!(faults.is_empty());
        plan
    }

    #[test]
    fn without_a_key_or_a_variable_nothing_is_traced() {
        let (plan, warnings) = plan(&[]);
        assert_eq!((plan.endpoint, plan.protocol), (None, Protocol::Grpc));
        assert_eq!((plan.settings.ratio, plan.service_name.as_str()), (0.01, "weir"));
        assert!(warnings.is_empty());
    }

    #[test]
    fn the_standard_variables_stand_behind_the_keys() {
        let (plan, warnings) = plan(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a, deployment.environment.name=test"),
        ]);
        assert_eq!(plan.endpoint.as_deref(), Some("http://collector:4318"));
        assert_eq!((plan.protocol, plan.settings.ratio), (Protocol::Http, 0.25));
        assert_eq!(plan.service_name, "a");
        let expected = ("deployment.environment.name".to_owned(), "test".to_owned());
        assert_eq!(plan.resource, [expected]);
        assert!(warnings.is_empty());
    }

    #[test]
    fn the_files_of_tls_come_from_variables_and_must_be_good() {
        let faults = Faults::default();
        let mut table = Table::new(String::new(), config::Value::default(), &faults);
        let keys = TracesKeys::read(&mut table).expect("every key has a default");
        let variable = |name: &str, file: &str| (name.to_owned(), file.to_owned());
        let variables = [
            variable("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318"),
            variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            variable("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/else.pem"),
            variable("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/nowhere/ca.pem"),
            variable("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere/client.key"),
        ];
        let (plan, _) = keys.plan(&variables, &faults);
        assert_eq!(plan.tls.ca_file.as_deref(), Some(Path::new("/nowhere/ca.pem")));
        let told = format!("{faults:?}");
        assert!(told.contains("traces.ca_file") && told.contains("/nowhere/ca.pem"), "{told}");
        assert!(told.contains("traces.client_key needs it"), "{told}");
    }

    #[test]
    fn a_disabled_sdk_traces_nothing() {
        let (plan, _) =
            plan(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1"), ("OTEL_SDK_DISABLED", "true")]);
        assert_eq!(plan.endpoint, None);
    }

    #[test]
    fn a_variable_that_cannot_be_used_is_a_warning() {
        let (plan, warnings) = plan(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_RESOURCE_ATTRIBUTES", "nonsense"),
        ]);
        assert_eq!((plan.endpoint, plan.settings.ratio), (None, 0.01));
        assert_eq!(warnings.len(), 4, "{warnings:?}");
    }
}
