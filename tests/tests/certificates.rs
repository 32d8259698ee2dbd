//! Certificates that change while weir runs: new handshakes get the new one, open connections do
//! not notice, and half of a change changes nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use weir_tests::pki::{Identity, Pki};
use weir_tests::tls::{TlsClient, TlsPeer};
use weir_tests::wait::within;
use weir_tests::{Gateway, Metrics};

/// Connections that are open while certificates change.
const OPEN: usize = 1000;
/// Handshakes of the storm that are under way at once.
const STORM: usize = 16;
/// Most time for the storm and every open connection to come to their ends.
const END: Duration = Duration::from_secs(30);

fn reloads(metrics: &Metrics, result: &str) -> u64 {
    let labels = [("listener", "lines"), ("result", result)];
    metrics.count("weir_tls_reloads_total", &labels)
}

/// A folder as Kubernetes mounts a Secret: `tls.crt` is a link to `..data/tls.crt`, and `..data` one
/// to the folder of this version.
struct SecretVolume<'a> {
    pki: &'a Pki,
}

impl<'a> SecretVolume<'a> {
    fn mount(pki: &'a Pki, version: &str) -> Self {
        let volume = Self { pki };
        volume.write(version);
        volume.link(&format!("..{version}"), "..data");
        for file in ["tls.crt", "tls.key"] {
            volume.link(&format!("..data/{file}"), file);
        }
        volume
    }

    fn identity(&self) -> Identity {
        let at = |file| self.pki.folder().join(file);
        Identity { certificate: at("tls.crt"), key: at("tls.key") }
    }

    /// A new version, put in place by one rename, as the kubelet does it.
    fn update(&self, version: &str) {
        self.write(version);
        self.link(&format!("..{version}"), "..data_tmp");
        let at = |file| self.pki.folder().join(file);
        std::fs::rename(at("..data_tmp"), at("..data")).expect("writable");
    }

    fn write(&self, version: &str) {
        let identity = self.pki.issue(version, &["weir.example"]);
        let folder = self.pki.folder().join(format!("..{version}"));
        std::fs::create_dir(&folder).expect("writable");
        std::fs::rename(identity.certificate, folder.join("tls.crt")).expect("writable");
        std::fs::rename(identity.key, folder.join("tls.key")).expect("writable");
    }

    fn link(&self, to: &str, name: &str) {
        std::os::unix::fs::symlink(Path::new(to), self.pki.folder().join(name)).expect("writable");
    }
}

#[tokio::test]
async fn certificates_say_when_they_end() {
    let pki = Pki::new();
    let tls = pki.issue("weir", &["weir.example"]).listener("");
    let gateway = Gateway::start().listener("lines", &tls).await;
    let labels = [("listener", "lines"), ("certificate", "weir.example")];
    let metrics = gateway.metrics().await;
    let end = metrics.count("weir_tls_certificate_expiry_timestamp_seconds", &labels);
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    assert!((29 * 86_400..31 * 86_400).contains(&(end - now)), "{end}");
}

#[tokio::test]
async fn half_of_a_change_changes_nothing_and_the_whole_is_used() {
    let pki = Pki::new();
    let identity = pki.issue("weir", &["weir.example"]);
    let gateway = Gateway::start().listener("lines", &identity.listener("")).await;
    let address = gateway.address("lines");
    let client = TlsClient::trusting(&pki);
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(client.connect(address, "weir.example").await.expect("TLS"));
    }
    let first = open[0].certificate();

    // Half of it: a certificate without its key changes nothing.
    let key = std::fs::read(&identity.key).expect("readable");
    let new = pki.issue("new", &["weir.example"]);
    std::fs::copy(&new.certificate, &identity.certificate).expect("writable");
    assert_eq!(std::fs::read(&identity.key).expect("readable"), key);
    gateway.wait_for("the fault", |metrics| reloads(metrics, "error") == 1).await;
    let peer = TlsClient::trusting(&pki).connect(address, "weir.example").await.expect("TLS");
    assert_eq!(peer.certificate(), first, "the last good one stays");

    std::fs::copy(&new.key, &identity.key).expect("writable");
    gateway.wait_for("the reload", |metrics| reloads(metrics, "ok") == 1).await;
    let peer = TlsClient::trusting(&pki).connect(address, "weir.example").await.expect("TLS");
    assert_ne!(peer.certificate(), first);
    for peer in &mut open {
        peer.say("still here").await;
        assert_eq!(peer.hear().await, "still here");
    }
}

/// Says numbered lines, one each 300 ms, until `stop`, then the end; gives how many came back. Each
/// must, in order.
async fn echo_until(stop: Arc<AtomicBool>, mut peer: TlsPeer, name: usize) -> usize {
    let mut said = 0;
    while !stop.load(Ordering::Relaxed) {
        let line = format!("connection {name}, line {said}");
        peer.say(&line).await;
        assert_eq!(peer.hear().await, line);
        said += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    peer.half_close().await;
    assert_eq!(peer.try_hear().await.expect("a clean end"), None);
    said
}

/// Makes whole handshakes, one after the other, until `stop`. Each is answered, and none is shown
/// an older certificate than the one before. Gives how many there were and the last certificate.
async fn storm_until(
    stop: Arc<AtomicBool>,
    client: TlsClient,
    gateway: SocketAddr,
) -> (u64, Vec<u8>) {
    let (mut count, mut shown) = (0, Vec::<Vec<u8>>::new());
    let mut last = false;
    while !last {
        // The last one begins after the word.
        last = stop.load(Ordering::Relaxed);
        let mut peer = client.connect(gateway, "weir.example").await.expect("TLS");
        peer.say("new").await;
        assert_eq!(peer.hear().await, "new");
        let certificate = peer.certificate();
        if shown.last() != Some(&certificate) {
            assert!(!shown.contains(&certificate), "an old certificate came back");
            shown.push(certificate);
        }
        count += 1;
    }
    (count, shown.pop().expect("some handshake"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_secret_under_a_thousand_connections_and_a_storm_loses_nothing() {
    let pki = Pki::new();
    let volume = SecretVolume::mount(&pki, "one");
    let gateway = Gateway::start().listener("lines", &volume.identity().listener("")).await;
    let address = gateway.address("lines");
    let client = TlsClient::trusting(&pki);
    let stop = Arc::new(AtomicBool::new(false));

    let mut open = JoinSet::new();
    for name in 0..OPEN {
        let peer = client.connect(address, "weir.example").await.expect("TLS");
        open.spawn(echo_until(Arc::clone(&stop), peer, name));
    }
    let whole = client.forgetful();
    let shown = async || {
        let peer = whole.connect(address, "weir.example").await;
        peer.expect("TLS").certificate()
    };
    let mut certificates = vec![shown().await];
    let mut storm = JoinSet::new();
    for _ in 0..STORM {
        storm.spawn(storm_until(Arc::clone(&stop), whole.clone(), address));
    }
    // The first swap is seen by weir itself, the second is told to it at once.
    volume.update("two");
    gateway.wait_for("the swap to be seen", |metrics| reloads(metrics, "ok") == 1).await;
    certificates.push(shown().await);
    volume.update("three");
    assert_eq!(gateway.post_reload().await.status, 200);
    certificates.push(shown().await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);

    let mut handshakes = 0;
    for (count, last) in within("the storm's end", END, storm.join_all()).await {
        assert_eq!(Some(&last), certificates.last());
        handshakes += count;
    }
    let echoed = within("every answer", END, open.join_all()).await;
    assert!(echoed.iter().all(|lines| *lines > 0));
    certificates.dedup();
    assert_eq!(certificates.len(), 3, "each swap showed a new certificate");
    let metrics = gateway.metrics().await;
    assert_eq!(reloads(&metrics, "error"), 0);
    let by_result = |result| {
        let labels = [("listener", "lines"), ("result", result)];
        metrics.count("weir_tls_handshakes_total", &labels)
    };
    // Every handshake there was, and no other result for one of them.
    assert_eq!(by_result("ok"), OPEN as u64 + handshakes + 3);
    assert!(handshakes > 100, "{handshakes} handshakes are no storm");
    eprintln!(
        "{} lines over {OPEN} connections, {handshakes} handshakes",
        echoed.iter().sum::<usize>()
    );
}
