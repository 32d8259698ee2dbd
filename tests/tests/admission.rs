//! Who gets in: each limit on connections refuses with its own reason, tells the peer and counts,
//! and running out of files is survived without spinning.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::sleep;
use weir_tests::rows::Client as _;
use weir_tests::{FramePeer, Gateway, LinePeer, Peer, WebSocket, kernel};

async fn refused(gateway: &Gateway, listener: &str, reason: &str) -> u64 {
    let labels = [("listener", listener), ("reason", reason)];
    gateway.metrics().await.count("weir_connections_refused_total", &labels)
}

fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

#[tokio::test]
async fn the_total_limit_is_shared_by_all_listeners() {
    let gateway = Gateway::start().limits("connections_max = 2").await;
    let mut line = LinePeer::join(&gateway).await;
    line.echo("one").await;
    let mut socket = WebSocket::join(&gateway).await;
    socket.echo("two").await;
    FramePeer::refused(&gateway).await;
    assert_eq!(refused(&gateway, "frames", "total").await, 1);
    assert_eq!(gateway.metrics().await.count("weir_connections_limit", &[]), 2);
}

#[tokio::test]
async fn a_listener_has_a_limit_of_its_own() {
    let gateway = Gateway::start().listener("lines", "connections_max = 1").await;
    let mut first = LinePeer::join(&gateway).await;
    first.echo("in").await;
    let said = LinePeer::refused(&gateway).await;
    assert_eq!(said, "refused: the listener's connections_max reached");
    assert_eq!(refused(&gateway, "lines", "listener").await, 1);
    FramePeer::join(&gateway).await.echo("another listener").await;
}

#[tokio::test]
async fn one_address_cannot_take_every_place() {
    let gateway = Gateway::start().limits("connections_per_address_max = 2").await;
    let address = gateway.address("lines");
    let mut held = Vec::new();
    for _ in 0..2 {
        let peer = Peer::connect_from(loopback(2), address).await;
        let mut client = LinePeer::open(peer, &gateway).await;
        client.echo("in").await;
        held.push(client);
    }
    let mut third = LinePeer { peer: Peer::connect_from(loopback(2), address).await };
    let said = third.told().await;
    assert_eq!(said, "refused: limits.connections_per_address_max reached");
    assert_eq!(refused(&gateway, "lines", "address").await, 1);

    let mut other = LinePeer { peer: Peer::connect_from(loopback(3), address).await };
    other.echo("from elsewhere").await;
    drop(held);
    gateway.wait_for_open("lines", 1).await;
    let mut again = LinePeer { peer: Peer::connect_from(loopback(2), address).await };
    again.echo("places were given back").await;
}

#[tokio::test]
async fn connections_a_second_are_limited() {
    let gateway = Gateway::start().limits("connections_per_second_max = 10").await;
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(LinePeer::join(&gateway).await);
    }
    let labels = [("listener", "lines")];
    let metrics = gateway
        .wait_for("40 verdicts", |metrics| {
            metrics.count("weir_connections_refused_total", &labels)
                + metrics.count("weir_connections_opened_total", &labels)
                == 40
        })
        .await;
    let opened = metrics.count("weir_connections_opened_total", &labels);
    assert!((10..=30).contains(&opened), "{opened} of 40 at once got in");
    drop(held);
    sleep(Duration::from_secs(1)).await;
    LinePeer::join(&gateway).await.echo("a second later").await;
}

#[tokio::test]
async fn refusals_give_back_what_they_hold() {
    let gateway = Gateway::start().limits("connections_max = 1").await;
    let mut held = LinePeer::join(&gateway).await;
    held.echo("in").await;
    let before = kernel::open_files(gateway.pid());
    for _ in 0..200 {
        LinePeer::refused(&gateway).await;
    }
    assert_eq!(refused(&gateway, "lines", "total").await, 200);
    weir_tests::wait::eventually("refused sockets to be closed", async || {
        (kernel::open_files(gateway.pid()) <= before).then_some(())
    })
    .await;
    held.echo("not disturbed").await;
}

#[tokio::test]
async fn a_peer_that_is_refused_and_never_closes_is_let_go() {
    let gateway = Gateway::start().limits("connections_max = 1").await;
    let mut held = LinePeer::join(&gateway).await;
    held.echo("in").await;
    let before = kernel::open_files(gateway.pid());
    let mut stubborn = Vec::new();
    for _ in 0..300 {
        // Beyond a bound they are reset, some before they know that they are connected.
        stubborn.push(tokio::net::TcpStream::connect(gateway.address("lines")).await);
    }
    weir_tests::wait::eventually("the lingering to end", async || {
        (kernel::open_files(gateway.pid()) <= before).then_some(())
    })
    .await;
    assert_eq!(refused(&gateway, "lines", "total").await, 300);
}

#[tokio::test]
async fn the_limit_is_derived_from_the_open_files_when_it_is_not_set() {
    let gateway = Gateway::start().await;
    let limit = gateway.metrics().await.count("weir_connections_limit", &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid()));
    let limits = limits.expect("the process lives");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let numbers = line.split_ascii_whitespace().filter_map(|word| word.parse::<u64>().ok());
    let [soft, hard] = numbers.collect::<Vec<_>>()[..] else { panic!("two limits in {line}") };
    assert_eq!(soft, hard, "the soft limit is raised to the hard one");
    assert!(limit < hard && limit > hard / 2, "{limit} connections of {hard} files");
}

#[tokio::test]
async fn running_out_of_files_is_survived_without_spinning() {
    let gateway = Gateway::start().limits("connections_max = 5000").await;
    let held_open = kernel::open_files(gateway.pid());
    limit_files(&gateway, held_open + 5).await;

    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(Peer::connect(gateway.address("lines")).await);
    }
    sleep(Duration::from_secs(1)).await;
    let before = kernel::cpu_time(gateway.pid());
    sleep(Duration::from_secs(2)).await;
    let spent = kernel::cpu_time(gateway.pid()) - before;
    assert!(spent < Duration::from_millis(500), "{spent:?} of CPU in 2 s without files");

    limit_files(&gateway, 2_000).await;
    gateway.wait_for_open("lines", 30).await;
    let errors = [("listener", "lines"), ("kind", "files")];
    assert!(gateway.metrics().await.count("weir_accept_errors_total", &errors) >= 1);
    let mut last = LinePeer { peer: clients.pop().expect("30 clients") };
    last.echo("files are back").await;
}

/// Sets the soft limit of open files of a running weir.
async fn limit_files(gateway: &Gateway, files: usize) {
    let command = format!("prlimit --pid {} --nofile={files}:", gateway.pid());
    weir_tests::tools::shell(&command, "").await.succeeded();
}
