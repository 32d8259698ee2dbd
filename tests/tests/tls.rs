//! TLS on every wire, with clients that are not ours; who is refused, and what is counted.

use serde_json::{Value, json};
use weir_tests::pki::Pki;
use weir_tests::tls::TlsClient;
use weir_tests::tools::{Finished, shell};
use weir_tests::{Gateway, Metrics};

const TLS: &str = "weir_tls_handshakes_total";

fn handshakes(metrics: &Metrics, listener: &str, result: &str) -> u64 {
    metrics.count(TLS, &[("listener", listener), ("result", result)])
}

async fn wait_for_handshakes(gateway: &Gateway, listener: &str, result: &str, count: u64) {
    let what = format!("{count} handshakes of {listener} that were {result}");
    gateway.wait_for(&what, |metrics| handshakes(metrics, listener, result) == count).await;
}

/// `openssl s_client` with these further arguments, with `input` to send.
async fn s_client(gateway: &Gateway, listener: &str, arguments: &str, input: &str) -> Finished {
    let address = gateway.address(listener);
    shell(&format!("openssl s_client -connect {address} {arguments}"), input).await
}

#[tokio::test]
async fn openssl_talks_lines_in_both_versions_and_ends_cleanly() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start().listener("lines", &tls).await;
    let trust = format!(
        "-CAfile {} -verify_return_error -verify_hostname weir.example",
        pki.ca().display()
    );
    for version in ["-tls1_2", "-tls1_3"] {
        let arguments = format!("{trust} -quiet {version}");
        let heard = s_client(&gateway, "lines", &arguments, "hello\nżółw\nexit\n").await;
        assert_eq!(heard.succeeded(), "hello\nżółw\n");
    }
    wait_for_handshakes(&gateway, "lines", "ok", 2).await;
    gateway.wait_for_closed("lines", "exit", 2).await;
}

#[tokio::test]
async fn a_half_close_of_tls_gets_every_answer_and_the_end() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start().listener("lines", &tls).await;
    let client = TlsClient::trusting(&pki);
    let mut peer = client.connect(gateway.address("lines"), "weir.example").await.expect("TLS");
    for n in 0..100 {
        peer.say(&format!("line {n}")).await;
    }
    peer.half_close().await;
    for n in 0..100 {
        assert_eq!(peer.hear().await, format!("line {n}"));
    }
    // `None` is TLS' own end: a bare FIN would be an error here.
    assert_eq!(peer.try_hear().await.expect("a clean end"), None);
    gateway.wait_for_closed("lines", "peer_closed", 1).await;
}

#[tokio::test]
async fn messages_of_every_size_come_back_whole() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start().listener("lines", &tls).await;
    let client = TlsClient::trusting(&pki);
    let mut peer = client.connect(gateway.address("lines"), "weir.example").await.expect("TLS");
    for size in [1, 2, 1000, 4095, 4096, 16_383, 16_384, 16_385, 40_000, 65_536] {
        let text = "x".repeat(size);
        peer.say(&text).await;
        assert_eq!(peer.hear().await, text);
    }
}

#[tokio::test]
async fn curl_node_and_python_talk_http_and_websocket() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["localhost"]).listener("");
    let gateway = Gateway::start().listener("http", &tls).await;
    let (port, ca) = (gateway.address("http").port(), pki.ca().display().to_string());
    let resolve = format!("--resolve localhost:{port}:127.0.0.1");
    let curl =
        format!("curl -sS --cacert {ca} {resolve} --data hello https://localhost:{port}/echo");
    assert_eq!(shell(&curl, "").await.succeeded(), "hello");

    let url = format!("wss://localhost:{port}/ws");
    let node = format!("NODE_EXTRA_CA_CERTS={ca} node tests/clients/node.js {url}");
    let python =
        format!("SSL_CERT_FILE={ca} tests/.tools/venv/bin/python tests/clients/python.py {url}");
    for client in [node, python] {
        let seen: Value =
            serde_json::from_str(&shell(&client, "").await.succeeded()).expect("JSON");
        assert_eq!(seen[0], json!("hello"), "{seen}");
        assert_eq!(seen[4], json!("in order: true"), "{seen}");
        assert_eq!(seen[5], json!("closed: 1000 clean"), "{seen}");
    }
    let alpn = s_client(&gateway, "http", "-alpn http/1.1 -brief", "").await;
    assert!(!(alpn.stdout + &alpn.stderr).contains("No ALPN"));
    let foreign = s_client(&gateway, "http", "-alpn h2", "").await;
    assert_ne!(foreign.code, 0, "{foreign:?}");
    wait_for_handshakes(&gateway, "http", "nothing_shared", 1).await;
}

#[tokio::test]
async fn a_server_name_chooses_the_certificate_and_any_other_gets_the_first() {
    let pki = Pki::new();
    let (first, second) =
        (pki.issue("first", &["first.example"]), pki.issue("second", &["*.b.example"]));
    let tls = format!("tls = {{ certificates = [{}, {}] }}", first.listed(), second.listed());
    let gateway = Gateway::start().listener("lines", &tls).await;
    for (name, subject) in
        [("first.example", "first"), ("x.b.example", "second"), ("c.example", "first")]
    {
        let command = format!(
            "openssl s_client -connect {} -servername {name} </dev/null 2>/dev/null \
             | openssl x509 -noout -subject",
            gateway.address("lines")
        );
        let shown = shell(&command, "").await.succeeded();
        assert_eq!(shown.trim(), format!("subject=CN = {subject}"), "{name}");
    }
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_authority_come_in() {
    let (pki, strangers) = (Pki::new(), Pki::new());
    let server = pki.issue("weir", &["weir.example"]);
    let known = pki.issue("meter-7", &["meter.example"]);
    let expired = pki.issue_for("late", "late", &["late.example"], -9..-2);
    let unknown = strangers.issue("mallory", &["meter.example"]);
    let required = format!(", client_ca = \"{}\", client_auth = \"required\"", pki.ca().display());
    let gateway = Gateway::start().listener("lines", &server.listener(&required)).await;
    let address = gateway.address("lines");

    let mut peer =
        TlsClient::showing(&pki, &known).connect(address, "weir.example").await.expect("TLS");
    peer.say("hello").await;
    assert_eq!(peer.hear().await, "hello");

    for (client, result) in [
        (TlsClient::trusting(&pki), "certificate_missing"),
        (TlsClient::showing(&pki, &expired), "certificate_expired"),
        (TlsClient::showing(&pki, &unknown), "certificate_unknown_authority"),
    ] {
        // In TLS 1.3 a client learns of it with its first read.
        let heard = match client.connect(address, "weir.example").await {
            Ok(mut peer) => peer.try_hear().await.err(),
            Err(error) => Some(error),
        };
        let error = heard.expect("an alert").to_string();
        assert!(error.contains("fatal alert"), "{result}: {error}");
        wait_for_handshakes(&gateway, "lines", result, 1).await;
    }
    gateway.wait_for_closed("lines", "tls_failed", 3).await;
    peer.say("still here").await;
    assert_eq!(peer.hear().await, "still here");
}

#[tokio::test]
async fn what_is_no_tls_or_shares_nothing_or_never_comes_is_counted_and_closed() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener(", min_version = \"1.3\"");
    let gateway = Gateway::start().listener("lines", &tls).timeouts("handshake = \"1s\"").await;
    let mut plain = weir_tests::LinePeer::connect(gateway.address("lines")).await;
    plain.say("hello, is this plain?").await;
    let (alert, _) = plain.peer.take_rest().await;
    assert_eq!(alert.first(), Some(&21), "an alert record: {alert:?}");
    wait_for_handshakes(&gateway, "lines", "not_tls", 1).await;

    let old = s_client(&gateway, "lines", "-tls1_2", "").await;
    assert_ne!(old.code, 0, "{old:?}");
    wait_for_handshakes(&gateway, "lines", "nothing_shared", 1).await;

    let mut silent = weir_tests::Peer::connect(gateway.address("lines")).await;
    silent.expect_end().await;
    wait_for_handshakes(&gateway, "lines", "timeout", 1).await;
    gateway.wait_for_closed("lines", "handshake_timeout", 1).await;

    drop(weir_tests::Peer::connect(gateway.address("lines")).await);
    wait_for_handshakes(&gateway, "lines", "peer_closed", 1).await;
}

#[tokio::test]
async fn a_session_is_resumed_but_not_where_clients_show_who_they_are() {
    let pki = Pki::new();
    let server = pki.issue("weir", &["weir.example"]);
    let optional = format!(", client_ca = \"{}\", client_auth = \"optional\"", pki.ca().display());
    let gateway = Gateway::start()
        .listener("lines", &server.listener(""))
        .listener("frames", &server.listener(&optional))
        .await;
    for (listener, expected) in [("lines", true), ("frames", false)] {
        let client = TlsClient::trusting(&pki);
        let mut resumed = false;
        for _ in 0..2 {
            let address = gateway.address(listener);
            let mut peer = client.connect(address, "weir.example").await.expect("TLS");
            if listener == "lines" {
                // Tickets come with the first bytes.
                peer.say("hello").await;
                peer.hear().await;
            }
            resumed = peer.is_resumed();
        }
        assert_eq!(resumed, expected, "{listener}");
    }
}

#[tokio::test]
async fn a_slow_reader_over_tls_is_closed_and_costs_its_bound() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start()
        .listener("lines", &tls)
        .limits("outbox_bytes_max = \"128KiB\"")
        .timeouts("write = \"1s\"")
        .await;
    let client = TlsClient::trusting(&pki);
    let mut peer = client.connect(gateway.address("lines"), "weir.example").await.expect("TLS");
    let line = "x".repeat(60_000);
    let flood = tokio::spawn(async move {
        // Ends when weir closes: the write fails.
        for _ in 0..1000 {
            peer.say(&line).await;
        }
    });
    gateway
        .wait_for("the slow reader to be closed", |metrics| {
            ["write_timeout", "slow_consumer"].iter().any(|reason| {
                let labels = [("listener", "lines"), ("reason", *reason)];
                metrics.count("weir_connections_closed_total", &labels) == 1
            })
        })
        .await;
    assert!(flood.await.is_err(), "the peer is cut");
}

#[tokio::test]
async fn bad_files_are_faults_before_anything_is_bound() {
    let pki = Pki::new();
    let (one, other) = (pki.issue("one", &["a.example"]), pki.issue("other", &["b.example"]));
    let mixed = weir_tests::pki::Identity { key: other.key.clone(), ..one.clone() };
    let absent = weir_tests::pki::Identity { certificate: "/nowhere/tls.crt".into(), ..one };
    let config = format!(
        "[[listeners]]\nname = \"lines\"\naddress = \"127.0.0.1:0\"\nwire = \"lines\"\nroute = \"echo\"\n\
         tls = {{ certificates = [{}, {}], client_auth = \"required\" }}\n\
         [[routes]]\nname = \"echo\"\nkind = \"echo\"\n",
        mixed.listed(),
        absent.listed()
    );
    let mut gateway = Gateway::run(&config).await;
    assert_eq!(gateway.exit_code().await, 2);
    let log = gateway.log().join("\n");
    for fault in [
        "listeners[0].tls.certificates[0].key: the key in",
        "listeners[0].tls.certificates[1].certificate: cannot read /nowhere/tls.crt",
        "listeners[0].tls.client_auth: needs client_ca",
    ] {
        assert!(log.contains(fault), "{fault} is not in:\n{log}");
    }
}

#[tokio::test]
async fn a_drain_over_tls_says_goodbye_and_the_end() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let tls = format!("farewell = \"bye\"\n{tls}");
    let mut gateway = Gateway::start().listener("lines", &tls).await;
    let client = TlsClient::trusting(&pki);
    let mut peer = client.connect(gateway.address("lines"), "weir.example").await.expect("TLS");
    peer.say("hello").await;
    assert_eq!(peer.hear().await, "hello");
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(peer.hear().await, "bye");
    assert_eq!(peer.try_hear().await.expect("a clean end"), None);
    drop(peer);
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn a_storm_of_handshakes_waits_and_open_connections_do_not() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start()
        .listener("lines", &tls)
        .limits("tls_handshakes_max = 4\ntls_handshakes_per_second_max = 200")
        .await;
    let address = gateway.address("lines");
    let client = TlsClient::trusting(&pki);
    let mut open = client.connect(address, "weir.example").await.expect("TLS");
    let storm = (0..400).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.connect(address, "weir.example").await.is_ok() })
    });
    let storm: Vec<_> = storm.collect();
    for n in 0..50 {
        open.say(&format!("line {n}")).await;
        assert_eq!(open.hear().await, format!("line {n}"));
    }
    let (mut done, mut refused) = (0, 0);
    for one in storm {
        match one.await.expect("no panic") {
            true => done += 1,
            false => refused += 1,
        }
    }
    wait_for_handshakes(&gateway, "lines", "ok", done + 1).await;
    wait_for_handshakes(&gateway, "lines", "overloaded", refused).await;
    assert!(done >= 64 && refused > 0, "{done} of 400; the others are over 16 times the cap");
}

#[tokio::test]
async fn peers_that_begin_a_handshake_and_say_no_more_keep_nobody_out() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start()
        .listener("lines", &tls)
        .limits("tls_handshakes_max = 4")
        .timeouts("handshake = \"30s\"")
        .await;
    let address = gateway.address("lines");
    let mut stalled = Vec::new();
    for _ in 0..16 {
        let mut peer = weir_tests::Peer::connect(address).await;
        // The head of a record with 512 bytes, and none of them.
        peer.send(&[0x16, 3, 1, 2, 0]).await;
        stalled.push(peer);
    }
    let client = TlsClient::trusting(&pki);
    let connecting = client.connect(address, "weir.example");
    let connected = tokio::time::timeout(std::time::Duration::from_secs(15), connecting).await;
    let mut peer = connected.expect("long before the others are given up").expect("TLS");
    peer.say("hello").await;
    assert_eq!(peer.hear().await, "hello");
}

#[tokio::test]
async fn sslscan_finds_nothing_old_or_weak() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start().listener("lines", &tls).await;
    let scan = format!("sslscan --no-colour {}", gateway.address("lines"));
    let found = shell(&scan, "").await.succeeded();
    for absent in ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"] {
        let line = found.lines().find(|line| line.trim_start().starts_with(absent));
        assert!(line.is_some_and(|line| line.trim_end().ends_with("disabled")), "{found}");
    }
    let ciphers = || {
        let offered = ["Preferred ", "Accepted "];
        found.lines().filter(move |line| offered.iter().any(|word| line.starts_with(word)))
    };
    let is_strong = |line: &&str| {
        ["TLS_AES_", "TLS_CHACHA20_", "ECDHE-"].iter().any(|name| line.contains(name))
            && (line.contains("GCM") || line.contains("CHACHA20"))
    };
    let weak = ciphers().filter(|line| !is_strong(line));
    assert_eq!(weak.collect::<Vec<_>>(), Vec::<&str>::new(), "{found}");
    assert!(ciphers().filter(is_strong).count() >= 5, "{found}");
}
