//! What lies in deploy/ is what its readers take: Kubernetes' schemas and Pod Security, systemd,
//! HAProxy, nginx, and weir itself, whose stages fit into the time that each of them gives it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;
use weir_tests::gateway::weir_command;
use weir_tests::manifests::{OVERLAYS, configurations, of_kind, render, seconds, stages, variable};
use weir_tests::tools::{self, golden_file, read, repository};
use weir_tests::wait::eventually;
use weir_tests::{Gateway, LinePeer, Metrics, Peer, Upstream, WebSocket};

/// The releases of Kubernetes that the schemas are asked about.
const RELEASES: [&str; 4] = ["1.34", "1.35", "1.36", "1.37"];
/// What whoever kills weir waits longer than its stages.
const MARGIN: f64 = 5.0;

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A file that only this test writes.
fn scratch(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("weir-tests-{}-{name}", std::process::id()));
    std::fs::write(&path, text).expect("the temporary folder is writable");
    path
}

fn pod(resources: &[Value]) -> &Value {
    &of_kind(resources, "Deployment")["spec"]["template"]
}

fn container(pod: &Value) -> &Value {
    let containers = list(&pod["spec"], "containers");
    assert_eq!(containers.len(), 1);
    &containers[0]
}

#[tokio::test]
async fn the_manifests_are_right_for_four_releases() {
    for overlay in OVERLAYS {
        // What an operator defines is not in Kubernetes' own schemas.
        let resources = render(overlay).await;
        let own = resources.iter().filter(|one| !text(one, "apiVersion").contains("coreos.com"));
        let own = own.map(Value::to_string).collect::<Vec<_>>();
        assert!(own.len() >= 4, "{overlay}");
        let file = scratch("resources.yaml", &own.join("\n---\n"));
        let mut arguments = vec!["-m", "kubernetes_validate", "--strict"];
        RELEASES.iter().for_each(|release| arguments.extend(["-k", release]));
        arguments.push(file.to_str().expect("UTF-8"));
        let finished = tools::python(&arguments, "").await;
        std::fs::remove_file(&file).expect("the file is ours");
        assert_eq!(finished.code, 0, "{overlay}: {}{}", finished.stdout, finished.stderr);
    }
}

/// What the schema of a resource's kind has against it: the operator's own, by its validator, and by
/// the compiler, which also finds keys that the schema does not know. Empty when nothing.
async fn against_operator(resource: &Value) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Beside the packages, so that Node and the compiler find them.
    let file = |ending: &str| {
        tools::tools().join(format!("operator-{}-{number}.{ending}", std::process::id()))
    };
    let (script, typed) = (file("mjs"), file("ts"));
    std::fs::write(&script, read("tests/setup/operator.mjs")).expect("writable");
    let kind = text(resource, "kind");
    let source = format!(
        "import type {{ I{kind} }} from \
         \"@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/{kind}\";\n\
         export const resource: I{kind} = {resource};\n"
    );
    std::fs::write(&typed, source).expect("writable");
    let mut validator = Command::new("node");
    validator.arg(&script);
    let validated = tools::run(validator, &resource.to_string()).await;
    let mut compiler = Command::new(tools::tools().join("node_modules/.bin/tsc"));
    let flags = "--noEmit --strict --skipLibCheck --target es2022 --module esnext \
                 --moduleResolution bundler";
    compiler.args(flags.split_whitespace()).arg(&typed);
    let compiled = tools::run(compiler, "").await;
    for file in [script, typed] {
        std::fs::remove_file(file).expect("the file is ours");
    }
    let failed = validated.code != 0 || compiled.code != 0;
    let said = [validated.stdout, validated.stderr, compiled.stdout, compiled.stderr].concat();
    if failed { said } else { String::new() }
}

#[tokio::test]
async fn what_the_operator_reads_is_of_its_own_schema() {
    let resources = render("overlays/operator").await;
    let monitor = of_kind(&resources, "PodMonitor");
    for resource in [monitor, of_kind(&resources, "PrometheusRule")] {
        let said = against_operator(resource).await;
        assert_eq!(said, "", "{}", text(resource, "kind"));
    }
    // That the schema can say no: to a key that it does not know, and to values.
    for (pointer, value, complaint) in [
        ("/spec/podMetricsEndpoints/0", json!({ "port": "ops", "intervall": "15s" }), "intervall"),
        ("/spec/podMetricsEndpoints/0", json!({ "port": "ops", "interval": "15 s" }), "pattern"),
        ("/spec/jobLabel", json!(1), "jobLabel"),
    ] {
        let mut wrong = monitor.clone();
        *wrong.pointer_mut(pointer).expect("it is there") = value;
        let said = against_operator(&wrong).await;
        assert!(said.contains(complaint), "{pointer}: {said:?}");
    }
    let mut wrong = of_kind(&resources, "PrometheusRule").clone();
    wrong["spec"]["groups"][0]["rules"][0]["fore"] = json!("5m");
    assert!(against_operator(&wrong).await.contains("fore"));
}

/// Kubernetes' documentation, "Pod Security Standards", restricted.
#[tokio::test]
async fn pods_meet_the_restricted_standard() {
    for overlay in OVERLAYS {
        let resources = render(overlay).await;
        let pod = &pod(&resources)["spec"];
        for shared in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_ne!(pod[shared], true, "{overlay}: {shared}");
        }
        for volume in list(pod, "volumes") {
            let kinds = ["configMap", "secret", "emptyDir", "projected", "downwardAPI"];
            assert!(kinds.iter().any(|kind| volume[kind].is_object()), "{overlay}: {volume}");
        }
        let shared = &pod["securityContext"];
        assert_eq!(shared["runAsNonRoot"], true);
        assert_ne!(shared["runAsUser"], 0);
        assert_eq!(shared["seccompProfile"]["type"], "RuntimeDefault");
        assert!(shared["sysctls"].is_null());
        for container in list(pod, "containers").iter().chain(list(pod, "initContainers")) {
            let own = &container["securityContext"];
            assert_eq!(own["allowPrivilegeEscalation"], false);
            assert_eq!(own["capabilities"], json!({ "drop": ["ALL"] }));
            assert_ne!(own["privileged"], true);
            assert!(own["procMount"].is_null() && own["seccompProfile"].is_null());
            // Beyond the standard:
            assert_eq!(own["readOnlyRootFilesystem"], true);
            assert!(list(container, "ports").iter().all(|port| port["hostPort"].is_null()));
        }
        assert_eq!(pod["automountServiceAccountToken"], false);
        let account = of_kind(&resources, "ServiceAccount");
        assert_eq!(account["automountServiceAccountToken"], false);
        assert_eq!(account["metadata"]["name"], pod["serviceAccountName"]);
    }
}

#[tokio::test]
async fn a_rollout_takes_nothing_away_before_something_is_there() {
    let resources = render("base").await;
    let spec = &of_kind(&resources, "Deployment")["spec"];
    assert_eq!(spec["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    assert!(spec["minReadySeconds"].as_u64() >= Some(5));
    let labels = &spec["selector"]["matchLabels"];
    let resources = render("overlays/production").await;
    let production = &of_kind(&resources, "Deployment")["spec"];
    assert!(production["replicas"].is_null(), "the autoscaler's number is set back");
    for kind in ["PodDisruptionBudget", "Service"] {
        let selector = &of_kind(&resources, kind)["spec"]["selector"];
        assert!(*selector == *labels || selector["matchLabels"] == *labels, "{kind}");
    }
    for spread in list(&production["template"]["spec"], "topologySpreadConstraints") {
        assert_eq!(spread["labelSelector"]["matchLabels"], *labels);
    }
}

#[tokio::test]
async fn the_stages_fit_into_the_time_that_a_kill_waits() {
    for overlay in OVERLAYS {
        let resources = render(overlay).await;
        let config = text(&of_kind(&resources, "ConfigMap")["data"], "weir.toml");
        let pod = pod(&resources);
        let grace = pod["spec"]["terminationGracePeriodSeconds"].as_f64().expect("a number");
        assert!(stages(config) + MARGIN <= grace, "{overlay}: {} of {grace} s", stages(config));
        let told = variable(container(pod), "WEIR_SHUTDOWN__GRACE_PERIOD").expect("weir is told");
        assert_eq!(seconds(text(told, "value")), grace, "{overlay}");
        // The stage "unready" is the delay: a sleep before it would be another.
        assert!(container(pod)["lifecycle"].is_null(), "{overlay}");
    }
    let unit = read("deploy/systemd/weir.service");
    let key = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let grace = seconds(&format!("{}s", key("TimeoutStopSec").expect("a limit")));
    assert!(stages("") + MARGIN <= grace, "{grace} s");
    let told = key("Environment=WEIR_SHUTDOWN__GRACE_PERIOD").expect("weir is told");
    assert_eq!(seconds(told), grace);

    let compose = tools::yaml(&read("deploy/compose/compose.yaml")).await;
    let weir = &compose[0]["services"]["weir"];
    let grace = seconds(text(weir, "stop_grace_period"));
    assert!(stages(&read("deploy/compose/weir.toml")) + MARGIN <= grace);
    let told = text(&weir["environment"], "WEIR_SHUTDOWN__GRACE_PERIOD");
    assert_eq!(seconds(told), grace);
}

#[tokio::test]
async fn probes_ports_and_scrapes_are_those_of_a_running_weir() {
    let resources = render("base").await;
    let pod = pod(&resources);
    let (container, config) = (container(pod), &of_kind(&resources, "ConfigMap")["data"]);
    let mut config = text(config, "weir.toml").to_owned();
    for port in list(container, "ports") {
        let number = port["containerPort"].as_u64().expect("a number");
        let bound = format!("0.0.0.0:{number}");
        assert!(config.contains(&bound), "nothing listens on {number}");
        config = config.replace(&bound, "127.0.0.1:0");
    }
    assert!(!config.contains("0.0.0.0:"), "a listener without a port of the container: {config}");
    let gateway = Gateway::run(&format!("[logs]\nformat = \"json\"\n{config}")).await;
    gateway.ready().await;
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(asked["port"], "ops", "{probe}");
        assert_eq!(gateway.ops(text(asked, "path")).await.status, 200, "{probe}");
    }
    let scrape = &pod["metadata"]["annotations"];
    assert_eq!(text(scrape, "prometheus.io/scrape"), "true");
    let port = list(container, "ports").iter().find(|port| port["name"] == "ops").expect("ops");
    assert_eq!(text(scrape, "prometheus.io/port"), port["containerPort"].to_string());
    Metrics::parse(gateway.ops(text(scrape, "prometheus.io/path")).await.text());
}

#[tokio::test]
async fn ports_are_called_by_the_names_that_they_have() {
    let resources = render("overlays/production").await;
    let container = container(pod(&resources));
    let names = list(container, "ports").iter().map(|port| text(port, "name")).collect::<Vec<_>>();
    for port in list(&of_kind(&resources, "Service")["spec"], "ports") {
        assert!(names.contains(&text(port, "targetPort")), "{port}");
    }
    let policy = &of_kind(&resources, "NetworkPolicy")["spec"];
    let opened = list(policy, "ingress").iter().flat_map(|rule| list(rule, "ports"));
    let opened = opened.map(|port| text(port, "port")).collect::<Vec<_>>();
    assert_eq!(opened, names, "a policy for each port");
    // The side port is for those who are named, the listeners are for all.
    for rule in list(policy, "ingress") {
        let side = list(rule, "ports").iter().any(|port| port["port"] == "ops");
        assert_eq!(side, !list(rule, "from").is_empty(), "{rule}");
    }
    let resources = render("overlays/operator").await;
    let monitor = &of_kind(&resources, "PodMonitor")["spec"];
    assert_eq!(list(monitor, "podMetricsEndpoints")[0]["port"], "ops");
    let labels = &pod(&resources)["metadata"]["labels"];
    assert_eq!(monitor["selector"]["matchLabels"], *labels);
    // The label's value is the job that rules and dashboards ask for.
    assert_eq!(labels[text(monitor, "jobLabel")], "weir");
}

#[tokio::test]
async fn the_autoscaler_and_the_adapter_speak_of_a_metric_that_there_is() {
    let upstream = Upstream::start(std::time::Duration::ZERO).await;
    let gateway = Gateway::start().answered_by(upstream.address(), "").await;
    let metrics = gateway.metrics().await;
    let resources = render("overlays/production").await;
    let scaler = &of_kind(&resources, "HorizontalPodAutoscaler")["spec"];
    let metric = &list(scaler, "metrics")[0]["pods"]["metric"]["name"];
    let file = read("deploy/kubernetes/overlays/production/prometheus-adapter.yaml");
    let adapter = tools::yaml(&file).await;
    let rule = &list(&adapter[0]["rules"], "custom")[0];
    assert_eq!(rule["name"]["as"], *metric);
    let series = text(rule, "seriesQuery").split('{').next().expect("a name");
    assert!(metrics.families.contains_key(series), "{series}");
}

/// The rules of the Prometheus operator are those of dashboards/, indented.
#[tokio::test]
async fn golden_prometheus_rule() {
    let mut rule =
        "# Made of dashboards/recording.yml and dashboards/alerts.yml by `make golden`: \
                    change those.\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n\
                    metadata:\n  name: weir\n  labels:\n    app.kubernetes.io/name: weir\n\
                    spec:\n  groups:\n"
            .to_owned();
    for file in ["recording", "alerts"] {
        let text = read(&format!("dashboards/{file}.yml"));
        let (_, groups) = text.split_once("groups:\n").expect("groups");
        for line in groups.lines() {
            rule += &if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") };
        }
    }
    golden_file("deploy/kubernetes/overlays/operator/prometheusrule.yaml", &rule);
}

#[tokio::test]
async fn every_configuration_is_one_that_weir_takes() {
    for file in configurations() {
        let mut weir = weir_command().await;
        weir.arg("--config").arg(repository().join(&file)).arg("check");
        let finished = tools::run(weir, "").await;
        assert_eq!(finished.code, 0, "{file}: {}", finished.stderr);
    }
}

#[tokio::test]
async fn systemd_takes_the_unit_and_finds_little_exposed() {
    let unit = read("deploy/systemd/weir.service");
    let weir = weir_command().await.as_std().get_program().to_string_lossy().into_owned();
    let folder = std::env::temp_dir().join(format!("weir-tests-unit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let file = folder.join("weir.service");
    std::fs::write(&file, unit.replace("/usr/bin/weir", &weir)).expect("writable");
    let verify = format!("systemd-analyze verify --man=no {}", file.display());
    let verified = tools::shell(&verify, "").await;
    let security =
        format!("systemd-analyze security --offline=true --threshold=20 {}", file.display());
    let secured = tools::shell(&security, "").await;
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
    let about_it = verified.stderr.lines().filter(|line| line.contains("weir.service"));
    assert_eq!(about_it.collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    assert_eq!(secured.code, 0, "exposed over 2.0 of 10:\n{}", secured.stdout);
}

#[tokio::test]
async fn haproxy_takes_its_sample() {
    let check = "PATH=$PATH:/usr/sbin haproxy -c -f deploy/haproxy/haproxy.cfg";
    let finished = tools::shell(check, "").await;
    assert_eq!(finished.code, 0, "{}{}", finished.stdout, finished.stderr);
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(!said.contains("WARNING"), "{said}");
}

/// One of the two weirs behind the sample, on a loopback address of its own.
async fn behind_haproxy(address: &str) -> Gateway {
    let config = read("deploy/haproxy/weir.toml").replace("0.0.0.0", address);
    let config = config.replace("10.0.0.10/32", "127.0.0.1/32");
    let shutdown = "[shutdown]\nunready = \"4s\"\n[logs]\nformat = \"json\"\n";
    let gateway = Gateway::run(&format!("{config}\n{shutdown}")).await;
    gateway.ready().await;
    gateway
}

#[tokio::test]
async fn the_haproxy_sample_names_the_peers_and_leaves_out_who_drains() {
    let sample = read("deploy/haproxy/haproxy.cfg").replace("10.0.0.", "127.0.0.");
    let sample = sample.replace("bind :80\n", "bind 127.0.0.10:8080\n");
    let sample = sample.replace("bind :7001\n", "bind 127.0.0.10:7001\n");
    let file = scratch("haproxy.cfg", &sample);
    let (a, b) = (behind_haproxy("127.0.0.11").await, behind_haproxy("127.0.0.12").await);
    let mut haproxy = Command::new("haproxy");
    haproxy.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    haproxy.args(["-db", "-q", "-f"]).arg(&file).kill_on_drop(true);
    let _haproxy = haproxy.stdout(std::process::Stdio::null()).spawn().expect("it is installed");
    let (web, lines) = (([127, 0, 0, 10], 8080).into(), ([127, 0, 0, 10], 7001).into());
    eventually("HAProxy to listen", async || tokio::net::TcpStream::connect(web).await.ok()).await;

    let from = std::net::Ipv4Addr::new(127, 0, 0, 77).into();
    let mut line = LinePeer { peer: Peer::connect_from(from, lines).await };
    line.say("hello").await;
    assert_eq!(line.hear().await, "hello");
    let shown = format!("/connections?address={from}");
    let here = [a.ops(&shown).await, b.ops(&shown).await];
    let here = here.map(|page| page.json()["connections"].as_array().map_or(0, Vec::len));
    assert_eq!(here.iter().sum::<usize>(), 1, "neither knows who came: {here:?}");
    let mut socket = WebSocket::connect(web).await;
    socket.say("hello").await;
    assert_eq!(socket.hear().await, "hello");

    a.signal(Signal::TERM);
    // Two checks a second apart, and a second for luck.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    for _ in 0..20 {
        let mut line = LinePeer::connect(lines).await;
        line.say("hello").await;
        assert_eq!(line.hear().await, "hello");
    }
    let (name, labels) = ("weir_connections_opened_total", [("listener", "lines")]);
    assert!(b.metrics().await.count(name, &labels) >= 20, "those went elsewhere");
    std::fs::remove_file(file).expect("the file is ours");
}

#[tokio::test]
async fn nginx_takes_its_sample() {
    let folder = std::env::temp_dir().join(format!("weir-tests-nginx-conf-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let at = folder.to_str().expect("UTF-8");
    let make = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
         -subj /CN=weir.example -keyout {at}/weir.key -out {at}/weir.crt"
    );
    tools::shell(&make, "").await.succeeded();
    let sample = read("deploy/nginx/weir.conf").replace("/etc/nginx/tls", at);
    let whole = format!("pid {at}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{sample}\n}}\n");
    std::fs::write(folder.join("nginx.conf"), whole).expect("the folder is ours");
    let mut nginx = Command::new("nginx");
    nginx.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    nginx.args(["-t", "-p", at, "-c", "nginx.conf", "-e", "stderr"]);
    let finished = tools::run(nginx, "").await;
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(!finished.stderr.contains("[warn]"), "{}", finished.stderr);
}

#[tokio::test]
async fn prometheus_takes_the_scrape_configurations() {
    let compose = "deploy/compose/prometheus.yml";
    tools::shell(&format!("promtool check config --syntax-only {compose}"), "").await.succeeded();
    let guide = read("docs/deployment.md");
    let blocks = guide.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let jobs = blocks.filter(|block| block.starts_with("- job_name: weir\n")).collect::<Vec<_>>();
    assert_eq!(jobs.len(), 1);
    // Debian's Prometheus is built without the discovery of Kubernetes: all but that is checked.
    let discovery = "kubernetes_sd_configs:\n    - role: pod\n";
    assert!(jobs[0].contains(discovery));
    let job = jobs[0].replace(discovery, "static_configs:\n    - targets: []\n");
    let file = scratch("scrape.yml", &format!("scrape_configs:\n{job}"));
    let check = format!("promtool check config --syntax-only {}", file.display());
    let checked = tools::shell(&check, "").await;
    std::fs::remove_file(file).expect("the file is ours");
    assert_eq!(checked.code, 0, "{}", checked.stderr);
}

/// The demo without containers: its configuration, its backend and its devices.
#[tokio::test]
async fn the_demos_devices_get_answers_from_its_backend() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("a bound socket").port();
    drop(free);
    let script = |name: &str| repository().join("deploy/compose/demo").join(name);
    let python = |name: &str, arguments: &[String]| {
        let mut python = Command::new("python3");
        python.arg(script(name)).args(arguments).kill_on_drop(true);
        python.stdout(std::process::Stdio::null()).spawn().expect("python3 is installed")
    };
    let backend = python("backend.py", &[port.to_string()]);
    let mut config = read("deploy/compose/weir.toml");
    assert!(config.contains("http://backend:9000"));
    config = config.replace("http://backend:9000", &format!("http://127.0.0.1:{port}"));
    for number in [6060, 7001, 8080] {
        config = config.replace(&format!("0.0.0.0:{number}"), "127.0.0.1:0");
    }
    let gateway = Gateway::run(&format!("{config}\n[logs]\nformat = \"json\"\n")).await;
    gateway.ready().await;
    let lines = gateway.address("lines").port().to_string();
    let devices = python("orders.py", &["127.0.0.1".to_owned(), lines]);
    let (calls, sent) = ("weir_upstream_request_seconds_count", "weir_messages_sent_total");
    gateway
        .wait_for("answers for the devices", |metrics| {
            metrics.count(calls, &[("status", "2xx")]) > 50
                && metrics.count(sent, &[("listener", "lines")]) > 50
        })
        .await;
    drop((backend, devices));
}

#[tokio::test]
async fn images_are_named_with_their_versions_and_run_as_nobody() {
    let dockerfile = read("deploy/Dockerfile");
    let from = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM "));
    let from = from.map(|line| line.split(' ').next().expect("a name")).collect::<Vec<_>>();
    assert_eq!(from.len(), 3);
    let rust = read("Cargo.toml");
    let version = rust.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("one");
    assert!(from[0].starts_with(&format!("rust:{}.", version.trim_matches('"'))), "{}", from[0]);
    assert!(from[1..].iter().all(|name| *name == "gcr.io/distroless/cc-debian12:nonroot"));
    assert!(dockerfile.contains("\nUSER 65532:65532\n"));
    // Without it the CPU profiler cannot walk the stack.
    assert!(dockerfile.contains("\nCOPY .cargo .cargo\n"));
    assert!(read(".cargo/config.toml").contains("force-frame-pointers"));

    let compose = tools::yaml(&read("deploy/compose/compose.yaml")).await;
    for (name, service) in compose[0]["services"].as_object().expect("services") {
        let (_, tag) = text(service, "image").rsplit_once(':').unwrap_or_default();
        assert!(tag.contains('.') && tag != "latest", "{name}: {service}");
        for volume in list(service, "volumes") {
            let path = volume.as_str().and_then(|text| text.split(':').next()).expect("a path");
            let path = repository().join("deploy/compose").join(path);
            assert!(path.exists(), "{name} mounts {}", path.display());
        }
    }
}
