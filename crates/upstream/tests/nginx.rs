//! The client against real servers: two nginx from Debian, seen from their side.

mod support;

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::nginx::Nginx;
use support::{Bench, get, options, post, within};
use weir_core::context::RequestId;
use weir_core::service::AskError;
use weir_upstream::{UpstreamError, UpstreamOptions};

/// Answers at once.
const FAST: &str = "location / { return 200 ok; }";

/// Sends a file of 150 KiB at 100 KiB/s: it takes about a second.
const SLOW: &str = "limit_rate 100k;";

async fn slow() -> Nginx {
    let nginx = Nginx::start(SLOW).await;
    fs::write(nginx.root().join("slow"), vec![b'x'; 150 * 1024]).expect("the directory is ours");
    nginx
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_never_sees_more_connections_than_configured() {
    const PER_TARGET: u32 = 4;
    const TOTAL: u32 = 6;
    // nginx itself refuses a request beyond the limit; and it closes a connection after 50.
    let server = format!("keepalive_requests 50; limit_conn all {PER_TARGET}; {FAST}");
    let nginx = [Nginx::start(&server).await, Nginx::start(&server).await];
    let bench = Bench::new(UpstreamOptions {
        connections_per_target_max: PER_TARGET,
        connections_max: TOTAL,
        wait_timeout: Duration::from_secs(30),
        ..options(&[nginx[0].url(), nginx[1].url()])
    });

    let stop = AtomicBool::new(false);
    let calls = async {
        let mut callers = Vec::new();
        for _ in 0..32 {
            let upstream = Arc::clone(&bench.upstream);
            callers.push(bench.tasks.spawn(async move {
                for _ in 0..100 {
                    let response = upstream.call(get("/")).await.expect("an answer");
                    assert_eq!(response.status, 200, "503 is nginx's own verdict");
                }
            }));
        }
        for caller in callers {
            caller.await.expect("no panic");
        }
        stop.store(true, Ordering::SeqCst);
    };
    let watch = async {
        let (mut peaks, mut looks) = ([0; 2], 0);
        while !stop.load(Ordering::SeqCst) {
            for (peak, nginx) in peaks.iter_mut().zip(&nginx) {
                *peak = nginx.connections().await.max(*peak);
            }
            looks += 1;
        }
        (peaks, looks)
    };
    let ((), (peaks, looks)) = within("the calls end", async { tokio::join!(calls, watch) }).await;

    assert!(looks > 20, "{looks} looks are too few");
    assert!(peaks.iter().all(|peak| *peak <= PER_TARGET as usize), "{peaks:?}");
    assert!(peaks.iter().sum::<usize>() >= TOTAL as usize, "{peaks:?}: the limit was not reached");
    bench.ends_clean().await;
    let logs = [nginx[0].log(), nginx[1].log()];
    assert_eq!(logs[0].len() + logs[1].len(), 3200, "each call once");
    for log in &logs {
        assert!(log.iter().all(|access| access.status == 200));
        assert!(log.len() > 200, "{} calls: both targets are used", log.len());
        let connections: HashSet<_> = log.iter().map(|access| access.connection).collect();
        let (calls, connections) = (log.len(), connections.len());
        let least = calls / 50 + PER_TARGET as usize;
        assert!(connections <= 2 * least, "{calls} calls took {connections} connections");
    }
}

#[tokio::test]
async fn request_ids_and_host_arrive() {
    let nginx = Nginx::start(FAST).await;
    let bench = Bench::new(options(&[nginx.url()]));
    for id in ["3f-1", "3f-2", "from-the-peer"] {
        let mut request = get("/orders");
        request.request_id = RequestId::given(id.as_bytes()).expect("well formed");
        bench.call(request).await.expect("an answer");
    }
    support::until("the log is written", || async { nginx.log().len() == 3 }).await;
    let ids: Vec<_> = nginx.log().into_iter().map(|access| access.request_id).collect();
    assert_eq!(ids, ["3f-1", "3f-2", "from-the-peer"]);
    let host = format!("127.0.0.1:{}", nginx.port);
    assert!(nginx.log().iter().all(|access| access.host == host));
    bench.ends_clean().await;
}

#[tokio::test]
async fn a_wait_and_its_timeout_are_visible_in_the_metrics() {
    let nginx = slow().await;
    let bench = Bench::new(UpstreamOptions {
        connections_max: 1,
        queue_max: 1,
        wait_timeout: Duration::from_millis(100),
        ..options(&[nginx.url()])
    });
    let busy = bench.start(get("/slow"));
    bench.until("it is busy", |bench| bench.busy() == 1.0).await;
    let waits = bench.start(get("/slow"));
    bench.until("one waits", |bench| bench.metric("weir_pool_waiting") == 1.0).await;
    let error = bench.get("/slow").await.expect_err("the queue is full");
    assert!(matches!(error, UpstreamError::QueueFull { .. }), "{error}");
    let error = waits.await.expect("not aborted").expect_err("nothing came free");
    assert!(matches!(error, UpstreamError::WaitTimeout { .. }), "{error}");
    assert_eq!(busy.await.expect("not aborted").expect("an answer").body.len(), 150 * 1024);

    assert_eq!(bench.refused("queue_full"), 1.0);
    assert_eq!(bench.refused("wait_timeout"), 1.0);
    assert_eq!(bench.metric("weir_pool_waiting"), 0.0);
    assert_eq!(bench.metric("weir_pool_acquire_seconds_count"), 3.0);
    assert!(bench.metric("weir_pool_acquire_seconds_sum") >= 0.1);
    assert_eq!(bench.requests("2xx"), 1.0);
    bench.ends_clean().await;
}

#[tokio::test]
async fn a_slow_target_costs_the_request_timeout_and_its_connection() {
    let nginx = slow().await;
    let request_timeout = Duration::from_millis(200);
    let bench = Bench::new(UpstreamOptions { request_timeout, ..options(&[nginx.url()]) });
    let error = bench.get("/slow").await.expect_err("too slow");
    assert!(matches!(error, UpstreamError::RequestTimeout { .. }), "{error}");
    assert_eq!(AskError::from(error), AskError::Timeout);
    bench.until("the connection is gone", |bench| bench.busy() + bench.idle() == 0.0).await;
    support::until("nginx sees it, too", || async { nginx.connections().await == 0 }).await;
    bench.ends_clean().await;
}

#[tokio::test]
async fn a_slow_target_gets_fewer_calls_than_a_fast_one() {
    let nginx = [slow().await, Nginx::start("").await];
    fs::write(nginx[1].root().join("slow"), "fast").expect("the directory is ours");
    let bench = Bench::new(options(&[nginx[0].url(), nginx[1].url()]));
    let first = bench.start(get("/slow"));
    bench.until("it is busy", |bench| bench.busy() == 1.0).await;
    for _ in 0..20 {
        bench.get("/slow").await.expect("an answer");
    }
    // The first call took the first target's only turn, or the second did once.
    assert!(nginx[1].log().len() >= 19, "{} calls", nginx[1].log().len());
    first.await.expect("not aborted").expect("an answer");
    bench.ends_clean().await;
}

#[tokio::test]
async fn a_body_over_the_cap_is_refused_and_the_next_call_is_well() {
    let nginx = Nginx::start("").await;
    fs::write(nginx.root().join("at"), vec![b'x'; 65536]).expect("the directory is ours");
    fs::write(nginx.root().join("over"), vec![b'x'; 65537]).expect("the directory is ours");
    let options = UpstreamOptions { response_bytes_max: 65536, ..options(&[nginx.url()]) };
    let bench = Bench::new(options);
    assert_eq!(bench.get("/at").await.expect("within the cap").body.len(), 65536);
    let error = bench.get("/over").await.expect_err("over the cap");
    assert!(matches!(error, UpstreamError::ResponseTooBig { max: 65536, .. }), "{error}");
    assert_eq!(bench.get("/at").await.expect("within the cap").body.len(), 65536);
    assert_eq!((bench.requests("2xx"), bench.requests("error")), (2.0, 1.0));
    bench.ends_clean().await;
}

#[tokio::test]
async fn a_breaker_opens_on_503_and_closes_when_nginx_is_well_again() {
    let server = "location / { if (-f $document_root/down) { return 503; } return 200 ok; }";
    let nginx = Nginx::start(server).await;
    let down = nginx.root().join("down");
    fs::write(&down, "").expect("the directory is ours");
    let breaker_open = Duration::from_millis(200);
    let bench = Bench::new(UpstreamOptions { breaker_open, ..options(&[nginx.url()]) });
    for _ in 0..5 {
        assert_eq!(bench.get("/").await.expect("an answer").status, 503);
    }
    let error = bench.get("/").await.expect_err("the breaker is open");
    assert!(matches!(error, UpstreamError::BreakersOpen { targets: 1 }), "{error}");
    assert_eq!(bench.metric("weir_breaker_open"), 1.0);
    fs::remove_file(&down).expect("the directory is ours");
    support::until("it closes", || async { bench.get("/").await.is_ok() }).await;
    assert_eq!(bench.metric("weir_breaker_open"), 0.0);
    let transitions = ["open", "half_open", "closed"].map(|to| bench.transitions(to));
    assert_eq!(transitions, [1.0, 1.0, 1.0]);
    support::until("the log is written", || async { nginx.log().len() == 6 }).await;
    bench.ends_clean().await;
}

#[tokio::test]
async fn a_target_that_dies_costs_no_call_and_is_used_again_when_it_comes_back() {
    let mut nginx = [Nginx::start(FAST).await, Nginx::start(FAST).await];
    let breaker_open = Duration::from_millis(200);
    let bench =
        Bench::new(UpstreamOptions { breaker_open, ..options(&[nginx[0].url(), nginx[1].url()]) });
    for _ in 0..10 {
        bench.get("/").await.expect("an answer");
    }
    nginx[0].kill();
    let dead = nginx[0].log().len();
    assert!(dead > 0);
    for _ in 0..50 {
        let response = bench.call(post("/", b"x")).await.expect("the other one answers");
        assert_eq!(response.status, 200);
    }
    assert_eq!(bench.metric("weir_breaker_open"), 1.0);
    assert_eq!(nginx[0].log().len(), dead);

    nginx[0].begin().await;
    support::until("it is used again", || async {
        bench.get("/").await.expect("an answer");
        nginx[0].log().len() > dead + 3
    })
    .await;
    assert_eq!(bench.metric("weir_breaker_open"), 0.0);
    assert_eq!(bench.requests("error"), 0.0, "nobody noticed");
    bench.ends_clean().await;
}

#[tokio::test]
async fn a_keepalive_that_nginx_ends_breaks_no_idempotent_call() {
    let server = format!("keepalive_requests 3; keepalive_timeout 1s; {FAST}");
    let nginx = Nginx::start(&server).await;
    let bench = Bench::new(options(&[nginx.url()]));
    for _ in 0..100 {
        assert_eq!(bench.get("/").await.expect("an answer").body, "ok");
    }
    assert_eq!(bench.requests("2xx"), 100.0);
    bench.ends_clean().await;
}
