//! The connection limits are exact at every moment, as the kernel counts this process's sockets,
//! while calls are dropped, time out, break and succeed at random.

mod support;

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use support::server::{Peer, Server};
use support::{Bench, get, options};
use weir_upstream::UpstreamOptions;

const PER_TARGET: usize = 3;
const TOTAL: usize = 5;
/// Readings of the kernel's table.
const LOOKS: usize = 100;

/// Sockets of this side, by port and inode, that are connecting or connected to ports of
/// 127.0.0.1: what the kernel lists until they are closed.
fn listed(ports: [u16; 2]) -> HashSet<(u16, String)> {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    // The table is long when other tests run: what is not ours is passed over quickly.
    let ours = ports.map(|port| format!(" 0100007F:{port:04X} "));
    let open = |line: &str| {
        let port = ports.into_iter().zip(&ours).find(|(_, ours)| line.contains(*ours))?.0;
        let fields: Vec<_> = line.split_whitespace().collect();
        // ESTABLISHED, SYN_SENT and, half-closed by the other side only, CLOSE_WAIT; to the port,
        // not from it.
        let to = fields[2].ends_with(&format!(":{port:04X}"));
        let open = to && matches!(fields[3], "01" | "02" | "08");
        open.then(|| (port, fields[9].to_owned()))
    };
    table.lines().skip(1).filter_map(open).collect()
}

/// How many sockets were open to each port: surely at one moment, and perhaps. The table is not
/// read at one moment, but what is in two readings was open all the time between them.
fn open_to(ports: [u16; 2]) -> ([usize; 2], [usize; 2]) {
    let (first, second) = (listed(ports), listed(ports));
    let to = |port: u16| first.iter().filter(move |(to, _)| *to == port);
    let surely = ports.map(|port| to(port).filter(|socket| second.contains(*socket)).count());
    (surely, ports.map(|port| to(port).count()))
}

/// Behaves differently on each connection: well, slow, silent, closing, resetting.
async fn moody() -> Server {
    Server::start(|mut peer: Peer| async move {
        while peer.request().await.is_some() {
            match peer.number % 5 {
                0 | 1 => drop(peer.answer("200 OK", "ok").await),
                2 => {
                    tokio::time::sleep(Duration::from_millis(7)).await;
                    peer.answer("200 OK", "ok").await;
                }
                3 => return peer.closed().await,
                _ => {
                    peer.answer("200 OK", "ok").await;
                    return;
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_never_sees_more_connections_than_the_limits_allow() {
    let servers = [moody().await, moody().await];
    let ports = servers.each_ref().map(|server| server.address.port());
    let bench = Bench::new(UpstreamOptions {
        connections_per_target_max: PER_TARGET as u32,
        connections_max: TOTAL as u32,
        queue_max: 64,
        request_timeout: Duration::from_millis(20),
        wait_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(20),
        breaker_failures: None,
        ..options(&[servers[0].url(), servers[1].url()])
    });

    let stop = Arc::new(AtomicBool::new(false));
    let peak = Arc::new(AtomicUsize::new(0));
    let watcher = thread::spawn({
        let (stop, peak) = (Arc::clone(&stop), Arc::clone(&peak));
        move || {
            let mut over = None;
            for _ in 0..LOOKS {
                let (open, perhaps) = open_to(ports);
                if open.iter().sum::<usize>() > TOTAL || open.iter().any(|open| *open > PER_TARGET)
                {
                    over = Some(open);
                }
                peak.fetch_max(perhaps.iter().sum(), Ordering::SeqCst);
            }
            stop.store(true, Ordering::SeqCst);
            over
        }
    });

    let mut callers = Vec::new();
    for caller in 0_u64..40 {
        let upstream = Arc::clone(&bench.upstream);
        let stop = Arc::clone(&stop);
        callers.push(bench.tasks.spawn(async move {
            let (mut answers, mut round) = (0, 0);
            while !stop.load(Ordering::SeqCst) {
                round += 1;
                // Spread without a random source: dropped after 0 to 11 ms, or never.
                let patience = Duration::from_millis((caller * 7 + round * 5) % 12);
                let call = upstream.call(get("/"));
                let answered = if round % 3 == 0 {
                    matches!(tokio::time::timeout(patience, call).await, Ok(Ok(_)))
                } else {
                    call.await.is_ok()
                };
                answers += usize::from(answered);
            }
            answers
        }));
    }
    let mut answers = 0;
    for caller in callers {
        answers += caller.await.expect("no panic");
    }
    assert_eq!(watcher.join().expect("no panic"), None, "over the limits");
    assert!(answers > 100, "{answers} answers are too few");
    assert!(peak.load(Ordering::SeqCst) >= TOTAL, "the limits were not reached");
    bench.ends_clean().await;
    assert_eq!(open_to(ports), ([0, 0], [0, 0]));
}
