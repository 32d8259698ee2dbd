//! Those who look after weir: `weir probe` in an image without a shell, and a service manager that
//! is told of the start, the stop and every sign of life.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;
use weir_tests::gateway::{Settings, weir_command};
use weir_tests::tools::{self, Finished, read};
use weir_tests::wait::eventually;
use weir_tests::{Client as _, Gateway, LinePeer};

async fn probe(url: &str) -> Finished {
    let mut weir = weir_command().await;
    weir.args(["probe", "--url", url, "--timeout", "1"]);
    tools::run(weir, "").await
}

#[tokio::test]
async fn a_probe_says_what_the_side_port_says() {
    let gateway = Gateway::start().shutdown("unready = \"30s\"").await;
    let ops = gateway.address("ops");
    let asked = probe(&format!("http://{ops}/readyz")).await;
    assert_eq!((asked.code, asked.stdout.as_str(), asked.stderr.as_str()), (0, "", ""));
    let stays = LinePeer::join(&gateway).await;
    gateway.signal(Signal::TERM);
    eventually("a probe that says no", async || {
        (probe(&format!("http://{ops}/readyz")).await.code == 1).then_some(())
    })
    .await;
    let asked = probe(&format!("http://{ops}/readyz")).await;
    assert!(asked.stderr.contains("503"), "{}", asked.stderr);
    // A drain is no illness.
    assert_eq!(probe(&format!("http://{ops}/healthz")).await.code, 0);
    drop(stays);
}

#[tokio::test]
async fn a_probe_of_nobody_and_of_a_silent_port_fails_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("a bound socket");
    let begun = tokio::time::Instant::now();
    let asked = probe(&format!("http://{address}/healthz")).await;
    assert_eq!(asked.code, 1, "{}", asked.stderr);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(silent);
    assert_eq!(probe(&format!("http://{address}/healthz")).await.code, 1);
    assert_eq!(probe("https://127.0.0.1:1/").await.code, 2, "no URL to ask");
}

#[tokio::test]
async fn the_image_asks_by_the_probe_that_there_is() {
    let dockerfile = read("deploy/Dockerfile");
    let (_, check) = dockerfile.split_once("\nHEALTHCHECK ").expect("a health check");
    let command = check.lines().next().and_then(|line| line.split_once("CMD ")).expect("a command");
    let command = serde_json::from_str::<Vec<String>>(command.1).expect("the form without a shell");
    assert_eq!(command[0], "/usr/bin/weir");
    // The defaults of the probe are the defaults of weir.
    let gateway = Gateway::built_in().await;
    let mut weir = weir_command().await;
    weir.args(&command[1..]);
    assert_eq!(tools::run(weir, "").await.code, 0);
    drop(gateway);
}

#[tokio::test]
async fn a_service_manager_is_told_of_start_life_and_stop() {
    let path = std::env::temp_dir().join(format!("weir-tests-notify-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("the temporary folder is writable");
    socket.set_nonblocking(true).expect("non-blocking");
    let name = path.to_str().expect("UTF-8");
    let variables = [("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "1000000")];
    let mut gateway = Gateway::run_with(&Settings::default().to_toml(), &variables).await;
    let mut told = Vec::<String>::new();
    let mut hear = async |what: &str| {
        eventually(&format!("to be told {what}"), async || {
            let mut text = [0; 256];
            while let Ok(n) = socket.recv(&mut text) {
                told.push(String::from_utf8_lossy(&text[..n]).into_owned());
            }
            told.iter().any(|one| one.contains(what)).then_some(())
        })
        .await;
    };
    hear("READY=1").await;
    gateway.ready().await;
    hear("WATCHDOG=1").await;
    gateway.signal(Signal::TERM);
    hear("STOPPING=1").await;
    assert_eq!(gateway.exit_code().await, 0);
    std::fs::remove_file(&path).expect("the socket is ours");
    let unit = read("deploy/systemd/weir.service");
    assert!(unit.contains("\nType=notify\n") && unit.contains("\nWatchdogSec="));
}
