//! What targets do wrong, and that each of it costs what it should and nothing more: servers here
//! follow scripts that no real one would.

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, Method};
use support::server::{Peer, Server};
use support::{Bench, get, options, post, request, within};
use weir_core::service::AskError;
use weir_upstream::{UpstreamError, UpstreamOptions};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that answers every request with these bytes, then closes.
async fn says(bytes: &'static [u8]) -> Server {
    Server::start(move |mut peer: Peer| async move {
        peer.request().await;
        peer.say(bytes).await;
    })
    .await
}

/// A server that never answers and notices when the other side closes.
async fn silent() -> Server {
    Server::start(|mut peer: Peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await
}

/// A server that answers everything.
async fn well() -> Server {
    Server::start(|peer: Peer| peer.answer_all("ok")).await
}

/// A port that nobody listens on.
async fn nobody() -> String {
    well().await.url()
}

fn one_connection(options: UpstreamOptions) -> UpstreamOptions {
    UpstreamOptions { connections_max: 1, connections_per_target_max: 1, ..options }
}

mod responses {
    use super::*;

    async fn check_broken(bytes: &'static [u8]) {
        let server = says(bytes).await;
        let bench = Bench::new(options(&[server.url()]));
        let error = bench.get("/").await.expect_err("no whole response");
        assert!(matches!(error, UpstreamError::Broken { .. }), "{error}");
        assert_eq!(AskError::from(error), AskError::Failed);
        assert_eq!(server.accepted(), 1, "a fresh connection that breaks is not tried again");
        assert_eq!(bench.requests("error"), 1.0);
        bench.until("the connection is gone", |bench| bench.busy() == 0.0).await;
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_connection_closed_without_an_answer_breaks_the_call() {
        check_broken(b"").await;
    }

    #[tokio::test]
    async fn half_a_head_breaks_the_call() {
        check_broken(b"HTTP/1.1 200 OK\r\ncontent-le").await;
    }

    #[tokio::test]
    async fn a_body_that_ends_early_breaks_the_call() {
        check_broken(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        check_broken(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    }

    #[tokio::test]
    async fn what_is_not_http_breaks_the_call() {
        check_broken(b"220 smtp.example ESMTP\r\n\r\n").await;
        check_broken(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await;
    }

    #[tokio::test]
    async fn a_head_without_end_breaks_the_call() {
        let server = Server::start(|mut peer: Peer| async move {
            peer.request().await;
            peer.say(b"HTTP/1.1 200 OK\r\nx-fill: ").await;
            while peer.say([b'x'; 4096]).await {}
        })
        .await;
        let bench = Bench::new(options(&[server.url()]));
        let error = within("the cap cuts it", bench.get("/")).await.expect_err("no end");
        assert!(matches!(error, UpstreamError::Broken { .. }), "{error}");
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_reset_breaks_the_call() {
        let server = Server::start(|mut peer: Peer| async move {
            peer.request().await;
            socket2::SockRef::from(&peer.stream)
                .set_linger(Some(Duration::ZERO))
                .expect("a socket option");
        })
        .await;
        let bench = Bench::new(options(&[server.url()]));
        let error = bench.get("/").await.expect_err("reset");
        assert!(matches!(error, UpstreamError::Broken { .. }), "{error}");
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_cap_is_taken_and_one_byte_more_is_not() {
        let capped = |server: &Server| {
            Bench::new(UpstreamOptions { response_bytes_max: 8, ..options(&[server.url()]) })
        };
        for bytes in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n12345678"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n1234\r\n4\r\n5678\r\n0\r\n\r\n",
        ] {
            let server = says(bytes).await;
            let bench = capped(&server);
            assert_eq!(bench.get("/").await.expect("within the cap").body, "12345678");
            bench.ends_clean().await;
        }
        for bytes in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n4\r\n6789\r\n",
        ] {
            let server = says(bytes).await;
            let bench = capped(&server);
            let error = bench.get("/").await.expect_err("over the cap");
            assert!(matches!(error, UpstreamError::ResponseTooBig { max: 8, .. }), "{error}");
            assert_eq!(AskError::from(error), AskError::ResponseTooBig);
            bench.ends_clean().await;
        }
    }

    #[tokio::test]
    async fn a_body_without_end_is_cut_at_the_cap_and_its_connection_closed() {
        let server = Server::start(|mut peer: Peer| async move {
            peer.request().await;
            peer.say(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while peer.say([b'x'; 4096]).await {}
        })
        .await;
        let bench = Bench::new(options(&[server.url()]));
        let error = within("the cap cuts it", bench.get("/")).await.expect_err("no end");
        assert!(matches!(error, UpstreamError::ResponseTooBig { .. }), "{error}");
        support::until("the server sees the close", || async { server.ended() == 1 }).await;
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_head_response_may_promise_more_than_the_cap() {
        let server = says(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n").await;
        let bench = Bench::new(options(&[server.url()]));
        let response = bench.call(request(Method::HEAD, "/", b"")).await.expect("no body");
        assert_eq!(response.headers["content-length"], "99999999");
        assert_eq!(response.body, "");
    }

    #[tokio::test]
    async fn bodies_in_chunks_until_the_close_and_after_early_hints_are_whole() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\nx-trailer: 1\r\n\r\n"[..],
            b"HTTP/1.0 200 OK\r\n\r\nabcdef",
            b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef",
        ] {
            let server = says(bytes).await;
            let bench = Bench::new(options(&[server.url()]));
            assert_eq!(bench.get("/").await.expect("whole").body, "abcdef");
            bench.ends_clean().await;
        }
    }

    #[tokio::test]
    async fn hop_by_hop_headers_of_a_response_stay_behind() {
        let server = says(
            b"HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
              x-end: 2\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        let bench = Bench::new(options(&[server.url()]));
        let response = bench.get("/").await.expect("whole");
        let mut names: Vec<_> = response.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "x-end"]);
    }

    #[tokio::test]
    async fn a_request_arrives_as_it_was_meant() {
        let server = Server::start(|mut peer: Peer| async move {
            let request = peer.request().await.expect("a request");
            peer.answer("201 Created", &request).await;
        })
        .await;
        let bench = Bench::new(options(&[server.url()]));
        let mut request = post("/orders?x=1", b"one coffee");
        request.content_type = Some(HeaderValue::from_static("text/plain"));
        let response = bench.call(request).await.expect("an echo");
        assert_eq!(response.status, 201);
        let echo = String::from_utf8(response.body.to_vec()).expect("text");
        let (head, body) = echo.split_once("\r\n\r\n").expect("a head");
        assert_eq!(body, "one coffee");
        let mut lines: Vec<_> = head.lines().collect();
        assert_eq!(lines.remove(0), "POST /orders?x=1 HTTP/1.1");
        lines.sort_unstable();
        let host = format!("host: {}", server.address);
        let expected =
            ["content-length: 10", "content-type: text/plain", &host, "x-request-id: test-1"];
        assert_eq!(lines, expected);
    }
}

mod kept_connections {
    use super::*;

    /// Answers one request on its first connection and hangs up on the second; answers all else.
    async fn hangs_up_on_the_second() -> Server {
        Server::start(|mut peer: Peer| async move {
            if peer.number == 0 {
                peer.request().await;
                peer.say(OK).await;
                peer.request().await;
            } else {
                peer.answer_all("ok").await;
            }
        })
        .await
    }

    #[tokio::test]
    async fn one_connection_serves_one_call_after_the_other() {
        let server = well().await;
        let bench = Bench::new(options(&[server.url()]));
        for _ in 0..20 {
            bench.call(post("/", b"x")).await.expect("an answer");
        }
        assert_eq!(server.accepted(), 1);
        assert_eq!((bench.idle(), bench.busy()), (1.0, 0.0));
        assert_eq!(bench.requests("2xx"), 20.0);
        assert_eq!(bench.metric("weir_pool_acquire_seconds_count"), 20.0);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn an_idempotent_request_is_sent_again_when_its_kept_connection_was_closed() {
        let server = hangs_up_on_the_second().await;
        let bench = Bench::new(one_connection(options(&[server.url()])));
        bench.get("/").await.expect("the first");
        bench.get("/").await.expect("sent again on a new connection");
        assert_eq!((server.accepted(), server.requests()), (2, 3));
        assert_eq!(bench.retries("stale"), 1.0);
        assert_eq!(bench.requests("2xx"), 2.0);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_post_that_may_have_been_processed_is_not_sent_again() {
        let server = hangs_up_on_the_second().await;
        let bench = Bench::new(options(&[server.url()]));
        bench.get("/").await.expect("the first");
        let error = bench.call(post("/", b"pay")).await.expect_err("not sent again");
        assert!(matches!(error, UpstreamError::Broken { .. }), "{error}");
        assert_eq!((server.accepted(), server.requests()), (1, 2));
        assert_eq!(bench.retries("stale"), 0.0);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_post_that_its_caller_calls_repeatable_is_sent_again() {
        let server = hangs_up_on_the_second().await;
        let bench = Bench::new(one_connection(options(&[server.url()])));
        bench.get("/").await.expect("the first");
        let mut request = post("/", b"may I?");
        request.terms.repeatable = true;
        bench.call(request).await.expect("sent again on a new connection");
        assert_eq!((server.accepted(), server.requests()), (2, 3));
        assert_eq!(bench.retries("stale"), 1.0);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_call_with_a_timeout_of_its_own_ends_by_it_and_the_target_has_failed() {
        let server = silent().await;
        let breaker_failures = NonZeroU32::new(1);
        let bench = Bench::new(UpstreamOptions { breaker_failures, ..options(&[server.url()]) });
        let mut request = post("/", b"x");
        request.terms.timeout = Some(Duration::from_millis(30));
        let error = within("its timeout", bench.call(request)).await.expect_err("no answer");
        let ms = Duration::from_millis(30);
        assert!(matches!(error, UpstreamError::RequestTimeout { timeout, .. } if timeout == ms));
        assert_eq!(bench.transitions("open"), 1.0);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_calls_timeout_is_also_for_its_wait_for_a_connection() {
        let server = silent().await;
        let bench = Bench::new(one_connection(options(&[server.url()])));
        let slow = bench.get("/");
        let mut request = post("/", b"x");
        request.terms.timeout = Some(Duration::from_millis(30));
        let waits = async { within("its timeout", bench.call(request)).await };
        tokio::select! {
            biased;
            _ = slow => panic!("it is never answered"),
            error = waits => {
                let error = error.expect_err("no connection");
                assert!(matches!(error, UpstreamError::WaitTimeout { .. }), "{error}");
            }
        }
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_connection_that_the_target_closes_while_idle_is_forgotten() {
        let (close, closing) = tokio::sync::watch::channel(false);
        let server = Server::start(move |mut peer: Peer| {
            let mut closing = closing.clone();
            async move {
                peer.request().await;
                peer.say(OK).await;
                closing.wait_for(|closing| *closing).await.expect("the test goes on");
            }
        })
        .await;
        let bench = Bench::new(options(&[server.url()]));
        bench.call(post("/", b"x")).await.expect("an answer");
        assert_eq!((bench.idle(), bench.busy()), (1.0, 0.0));
        close.send_replace(true);
        bench.until("the close is seen", |bench| bench.idle() + bench.busy() == 0.0).await;
        bench.call(post("/", b"x")).await.expect("an answer");
        assert_eq!((server.accepted(), bench.retries("stale")), (2, 0.0));
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn posts_survive_a_target_that_closes_after_each_answer_without_saying_so() {
        let server = Server::start(|mut peer: Peer| async move {
            peer.request().await;
            peer.say(OK).await;
        })
        .await;
        // The close races with the next request; what is not sent is sent again, and what was
        // sent may fail but is never sent twice.
        let options = UpstreamOptions { breaker_failures: None, ..options(&[server.url()]) };
        let bench = Bench::new(options);
        let mut broken = 0;
        for _ in 0..200 {
            match bench.call(post("/", b"x")).await {
                Ok(response) => assert_eq!(response.body, "ok"),
                Err(UpstreamError::Broken { .. }) => broken += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(broken < 100, "{broken} of 200 broke");
        assert!(server.requests() <= 200);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_connection_that_the_target_says_it_will_close_is_not_kept() {
        let server = Server::start(|mut peer: Peer| async move {
            peer.request().await;
            peer.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
            peer.closed().await;
        })
        .await;
        let bench = Bench::new(options(&[server.url()]));
        for _ in 0..3 {
            bench.call(post("/", b"x")).await.expect("an answer");
        }
        assert_eq!(server.accepted(), 3);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn an_answer_before_the_request_was_sent_is_taken_and_its_connection_closed() {
        let server = Server::start(|mut peer: Peer| async move {
            peer.stream.readable().await.expect("a request begins");
            peer.say("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n").await;
            std::future::pending().await
        })
        .await;
        let bench = Bench::new(options(&[server.url()]));
        let mut request = post("/", b"");
        // More than the buffers of two sockets hold.
        request.body = vec![b'x'; 64 << 20].into();
        let response = within("it ends", bench.call(request)).await.expect("an answer");
        assert_eq!(response.status, 413);
        bench.until("not kept", |bench| bench.idle() + bench.busy() == 0.0).await;
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_is_never_given_to_the_next_call() {
        let server = Server::start(|mut peer: Peer| async move {
            peer.request().await;
            peer.say(format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")).await;
            while peer.request().await.is_some() {
                peer.answer("200 OK", "ok").await;
            }
        })
        .await;
        let bench = Bench::new(options(&[server.url()]));
        for _ in 0..20 {
            assert_eq!(bench.get("/").await.expect("an answer").body, "ok");
        }
        assert_eq!(server.accepted(), 20, "none of these connections is kept");
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_post_on_a_connection_that_was_closed_before_is_sent_again_since_nothing_was_sent() {
        for _ in 0..50 {
            let server = Server::start(|mut peer: Peer| async move {
                if peer.number == 0 {
                    peer.request().await;
                    peer.say(OK).await;
                } else {
                    peer.answer_all("ok").await;
                }
            })
            .await;
            let bench = Bench::new(options(&[server.url()]));
            bench.call(post("/", b"x")).await.expect("the first");
            // The socket is closed on the other side; this side may not have noticed.
            support::until("closed", || async { server.ended() == 1 }).await;
            bench.call(post("/", b"x")).await.expect("on a new connection");
            assert_eq!(server.requests(), 2);
            bench.ends_clean().await;
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_after_the_idle_timeout() {
        let server = Server::start(|mut peer: Peer| async move {
            peer.request().await;
            peer.say(OK).await;
            peer.closed().await;
        })
        .await;
        let idle_timeout = Duration::from_millis(100);
        let bench = Bench::new(UpstreamOptions { idle_timeout, ..options(&[server.url()]) });
        bench.get("/").await.expect("an answer");
        assert_eq!(bench.idle(), 1.0);
        support::until("the server sees the close", || async { server.ended() == 1 }).await;
        assert_eq!(bench.idle() + bench.busy(), 0.0);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn an_idle_connection_to_one_target_makes_room_for_another() {
        let servers = [well().await, silent().await];
        let bench = Bench::new(UpstreamOptions {
            connections_max: 2,
            request_timeout: Duration::from_secs(60),
            ..options(&[servers[0].url(), servers[1].url()])
        });
        let stuck = loop {
            let call = bench.start(get("/"));
            support::until("answered or stuck", || async {
                call.is_finished() || servers[1].requests() == 1
            })
            .await;
            if servers[1].requests() == 1 {
                break call;
            }
        };
        assert_eq!((bench.idle(), bench.busy()), (1.0, 1.0));
        bench.get("/").await.expect("the well one");
        stuck.abort();
        bench.ends_clean().await;
    }
}

mod waits {
    use super::*;

    #[tokio::test]
    async fn a_target_that_stalls_costs_the_request_timeout() {
        for head in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]
        {
            let server = Server::start(move |mut peer: Peer| async move {
                peer.request().await;
                peer.say(head).await;
                peer.closed().await;
            })
            .await;
            let request_timeout = Duration::from_millis(100);
            let bench = Bench::new(UpstreamOptions { request_timeout, ..options(&[server.url()]) });
            let error = within("the timeout", bench.get("/")).await.expect_err("a stall");
            assert!(matches!(error, UpstreamError::RequestTimeout { .. }), "{error}");
            assert_eq!(AskError::from(error), AskError::Timeout);
            support::until("the server sees the close", || async { server.ended() == 1 }).await;
            bench.ends_clean().await;
        }
    }

    #[tokio::test]
    async fn drops_of_a_body_do_not_extend_the_request_timeout() {
        let server = Server::start(|mut peer: Peer| async move {
            peer.request().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
            while peer.say("x").await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let request_timeout = Duration::from_millis(200);
        let bench = Bench::new(UpstreamOptions { request_timeout, ..options(&[server.url()]) });
        let error = within("the timeout", bench.get("/")).await.expect_err("too slow");
        assert!(matches!(error, UpstreamError::RequestTimeout { .. }), "{error}");
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_wait_for_a_connection_ends_with_the_wait_timeout() {
        let server = silent().await;
        let wait_timeout = Duration::from_millis(100);
        let options = UpstreamOptions { wait_timeout, ..options(&[server.url()]) };
        let bench = Bench::new(one_connection(options));
        let stuck = bench.start(get("/"));
        support::until("it is on its way", || async { server.requests() == 1 }).await;
        let error = bench.get("/").await.expect_err("nothing came free");
        assert!(matches!(error, UpstreamError::WaitTimeout { .. }), "{error}");
        assert_eq!(AskError::from(error), AskError::Overloaded);
        assert_eq!(bench.refused("wait_timeout"), 1.0);
        assert_eq!(bench.metric("weir_pool_acquire_seconds_count"), 2.0);
        stuck.abort();
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let server = silent().await;
        let options = UpstreamOptions { queue_max: 1, ..options(&[server.url()]) };
        let bench = Bench::new(one_connection(options));
        let calls = [bench.start(get("/")), bench.start(get("/"))];
        bench.until("one waits", |bench| bench.metric("weir_pool_waiting") == 1.0).await;
        let error = bench.get("/").await.expect_err("full");
        assert!(matches!(error, UpstreamError::QueueFull { waiting: 1, max: 1 }), "{error}");
        assert_eq!(AskError::from(error), AskError::Overloaded);
        assert_eq!(bench.refused("queue_full"), 1.0);
        for call in calls {
            call.abort();
        }
        bench.until("they are gone", |bench| bench.busy() == 0.0).await;
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_dropped_call_closes_its_connection_and_the_next_in_the_queue_goes_on() {
        let server = Server::start(|mut peer: Peer| async move {
            if peer.number == 0 {
                peer.request().await;
                peer.closed().await;
            } else {
                peer.answer_all("ok").await;
            }
        })
        .await;
        let bench = Bench::new(one_connection(options(&[server.url()])));
        let dropped = bench.start(get("/"));
        support::until("it is on its way", || async { server.requests() == 1 }).await;
        let next = bench.start(get("/"));
        bench.until("the next waits", |bench| bench.metric("weir_pool_waiting") == 1.0).await;
        dropped.abort();
        assert_eq!(next.await.expect("not aborted").expect("an answer").body, "ok");
        assert_eq!(server.ended(), 1, "the first connection was closed");
        assert_eq!(bench.requests("cancelled"), 1.0);
        assert_eq!(bench.metric("weir_breaker_open"), 0.0);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_dropped_wait_leaves_the_queue() {
        let server = silent().await;
        let options = UpstreamOptions { queue_max: 1, ..options(&[server.url()]) };
        let bench = Bench::new(one_connection(options));
        let calls = [bench.start(get("/")), bench.start(get("/"))];
        bench.until("one waits", |bench| bench.metric("weir_pool_waiting") == 1.0).await;
        calls[1].abort();
        calls[0].abort();
        bench.until("nobody waits", |bench| bench.metric("weir_pool_waiting") == 0.0).await;
        bench.until("nothing is open", |bench| bench.busy() + bench.idle() == 0.0).await;
        bench.ends_clean().await;
    }
}

mod targets {
    use super::*;

    #[tokio::test]
    async fn a_dead_target_costs_no_call_while_another_lives() {
        let (dead, server) = (nobody().await, well().await);
        let bench = Bench::new(options(&[dead, server.url()]));
        for _ in 0..20 {
            bench.call(post("/", b"x")).await.expect("the living one answers");
        }
        assert_eq!(bench.retries("elsewhere"), 5.0, "then its breaker is open");
        assert_eq!(bench.metric("weir_breaker_open"), 1.0);
        assert_eq!(bench.transitions("open"), 1.0);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn when_every_target_is_dead_calls_fail_and_then_fail_at_once() {
        let bench = Bench::new(options(&[nobody().await]));
        for _ in 0..5 {
            let error = bench.get("/").await.expect_err("nobody is there");
            assert!(matches!(error, UpstreamError::Connect { .. }), "{error}");
            assert_eq!(AskError::from(error), AskError::Unavailable);
        }
        let error = bench.get("/").await.expect_err("open");
        assert!(matches!(error, UpstreamError::BreakersOpen { targets: 1 }), "{error}");
        assert_eq!(AskError::from(error), AskError::Unavailable);
        assert_eq!((bench.requests("error"), bench.refused("breakers_open")), (5.0, 1.0));
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_breaker_opens_on_503_and_closes_when_a_probe_succeeds() {
        let well = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&well);
        let server = Server::start(move |mut peer: Peer| {
            let well = Arc::clone(&switch);
            async move {
                while peer.request().await.is_some() {
                    let ok = well.load(Ordering::SeqCst);
                    peer.answer(if ok { "200 OK" } else { "503 Not Now" }, "").await;
                }
            }
        })
        .await;
        let bench = Bench::new(UpstreamOptions {
            breaker_failures: NonZeroU32::new(3),
            breaker_open: Duration::from_millis(100),
            ..options(&[server.url()])
        });
        for _ in 0..3 {
            assert_eq!(bench.get("/").await.expect("an answer").status, 503);
        }
        let error = bench.get("/").await.expect_err("open");
        assert!(matches!(error, UpstreamError::BreakersOpen { .. }), "{error}");
        assert_eq!(server.requests(), 3);
        support::until("the probe fails", || async {
            matches!(bench.get("/").await, Ok(response) if response.status == 503)
        })
        .await;
        assert_eq!(bench.transitions("open"), 2.0);
        well.store(true, Ordering::SeqCst);
        support::until("the probe succeeds", || async { bench.get("/").await.is_ok() }).await;
        assert_eq!(bench.transitions("closed"), 1.0);
        assert_eq!(bench.transitions("half_open"), 2.0);
        assert_eq!(bench.metric("weir_breaker_open"), 0.0);
        bench.get("/").await.expect("closed");
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_500_is_an_answer_and_opens_nothing() {
        let server = Server::start(|mut peer: Peer| async move {
            while peer.request().await.is_some() {
                peer.answer("500 Internal Server Error", "").await;
            }
        })
        .await;
        let bench = Bench::new(options(&[server.url()]));
        for _ in 0..20 {
            assert_eq!(bench.get("/").await.expect("an answer").status, 500);
        }
        assert_eq!(bench.requests("5xx"), 20.0);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_is_the_host_that_is_sent() {
        let server = Server::start(|mut peer: Peer| async move {
            let request = peer.request().await.expect("a request");
            peer.answer("200 OK", &request).await;
        })
        .await;
        let port = server.address.port();
        let bench = Bench::new(options(&[format!("http://localhost:{port}")]));
        let response = within("it resolves", bench.get("/")).await.expect("an answer");
        let echo = String::from_utf8(response.body.to_vec()).expect("text");
        assert!(echo.contains(&format!("host: localhost:{port}\r\n")), "{echo}");
        assert_eq!(bench.metric("weir_upstream_resolutions_total{result=\"ok\"}"), 1.0);
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_fails_its_calls() {
        let bench = Bench::new(UpstreamOptions {
            wait_timeout: Duration::from_secs(20),
            ..options(&["http://nowhere.invalid"])
        });
        // RFC 6761 section 6.4: names under .invalid do not exist.
        let error = bench.get("/").await.expect_err("no address");
        assert!(matches!(error, UpstreamError::Unresolved), "{error}");
        assert_eq!(AskError::from(error), AskError::Unavailable);
        assert_eq!(bench.refused("unresolved"), 1.0);
        bench.ends_clean().await;
    }
}

mod closing {
    use super::*;

    #[tokio::test]
    async fn a_close_waits_for_calls_that_run_and_refuses_new_ones() {
        let server = Server::start(|mut peer: Peer| async move {
            peer.request().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            peer.say(OK).await;
            peer.closed().await;
        })
        .await;
        let bench = Bench::new(options(&[server.url()]));
        let call = bench.start(get("/"));
        support::until("it is on its way", || async { server.requests() == 1 }).await;
        let upstream = Arc::clone(&bench.upstream);
        let close = bench.tasks.spawn(async move { upstream.close(Duration::from_secs(5)).await });
        support::until("new calls are refused", || async {
            matches!(bench.get("/").await, Err(UpstreamError::Closed))
        })
        .await;
        assert_eq!(call.await.expect("not aborted").expect("an answer").body, "ok");
        within("it is closed", close).await.expect("no panic");
        assert_eq!((bench.idle(), bench.busy()), (0.0, 0.0));
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn a_close_cuts_off_what_is_left_after_its_time() {
        let server = silent().await;
        let bench = Bench::new(one_connection(options(&[server.url()])));
        let calls = [bench.start(get("/")), bench.start(get("/"))];
        bench.until("one waits", |bench| bench.metric("weir_pool_waiting") == 1.0).await;
        within("it is closed", bench.upstream.close(Duration::from_millis(50))).await;
        for call in calls {
            let error = call.await.expect("not aborted").expect_err("cut off");
            assert!(matches!(error, UpstreamError::Closed), "{error}");
        }
        assert_eq!((bench.idle(), bench.busy()), (0.0, 0.0));
        bench.ends_clean().await;
    }

    #[tokio::test]
    async fn an_upstream_that_is_dropped_without_a_close_leaves_nothing_behind() {
        let server = well().await;
        let Bench { upstream, tasks, registry: _ } = Bench::new(options(&[server.url()]));
        upstream.call(get("/")).await.expect("an answer");
        drop(upstream);
        tasks.close();
        within("the background tasks end", tasks.wait()).await;
        support::until("the server sees the close", || async { server.ended() == 1 }).await;
    }
}
