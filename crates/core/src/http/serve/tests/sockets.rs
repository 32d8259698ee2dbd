//! Over real sockets, whose kernel buffers and resets a pipe does not have.

use super::*;

/// A connection over loopback: a blocking client, so that what it writes is in the kernel at once.
async fn connect_tcp(stop: &HttpStop) -> (std::net::TcpStream, JoinHandle<CloseReason>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, addr) = listener.accept().await.unwrap();
    let peer = HttpPeer {
        addr,
        conn: ConnId::from_raw(1),
        tls: None,
        accepted: Instant::now(),
        readmit: None,
        stop: stop.clone(),
        asks: Asks::new(Handle::current(), TaskTracker::new()),
        traffic: Arc::new(Tally::default()),
    };
    let site = CurrentSite::new(site(&Registry::new()));
    let served = TaskTracker::new().spawn(async move {
        match serve(socket, site, peer).await {
            HttpEnd::Closed { reason } => reason,
            HttpEnd::Upgraded { .. } => panic!("upgraded"),
        }
    });
    (client, served)
}

/// What a blocking client reads up to the end, without holding up the server's thread.
async fn rest_of(mut client: std::net::TcpStream) -> std::io::Result<String> {
    let read = move || {
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut client, &mut answer).map(|_| answer)
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test]
async fn a_request_in_the_kernel_when_the_drain_begins_is_served() {
    let stop = stop();
    let (mut client, served) = connect_tcp(&stop).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    std::io::Write::write_all(&mut client, post("in time").as_bytes()).unwrap();
    stop.drain.cancel();
    let answer = rest_of(client).await.unwrap();
    assert!(answer.ends_with("echo in time"), "{answer:?}");
    assert_eq!(served.await.unwrap(), CloseReason::Drained);
}

#[tokio::test]
async fn a_refused_peer_with_more_on_its_way_is_told_and_not_reset() {
    let (mut client, served) = connect_tcp(&stop()).await;
    let garbage = [b"GET / HTTP/1.1\nHost".to_vec(), vec![b'x'; 50_000]].concat();
    std::io::Write::write_all(&mut client, &garbage).unwrap();
    let answer = rest_of(client).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    assert!(answer.contains("LF without CR"), "{answer:?}");
    assert_eq!(served.await.unwrap(), CloseReason::BadRequest);
}
