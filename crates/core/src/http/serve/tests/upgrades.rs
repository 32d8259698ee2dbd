//! Upgrades: what comes with them, behind them and instead of them.

use super::*;

#[tokio::test(start_paused = true)]
async fn frames_in_the_segment_of_the_handshake_come_out_with_the_bare_socket() {
    let frames = b"\x81\x85\0\0\0\0hello\x89\x80\0\0\0\0\x81";
    let mut client = connect();
    client.send([good_handshake().as_bytes(), frames].concat()).await;
    let (head, _) = client.expect(101).await;
    assert!(head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    let received = client.tally.bytes_received.load(Relaxed);
    let HttpEnd::Upgraded { mut socket, early, path, request_id, .. } =
        client.served.await.unwrap()
    else {
        panic!("closed")
    };
    assert_eq!(&early[..], frames);
    assert_eq!((path, request_id.to_string().as_str()), (0, "00000000000000c0-1"));
    assert_eq!(
        received,
        good_handshake().len() as u64,
        "early bytes are counted by who reads them"
    );

    // Nothing but the bare socket is left between the two.
    client.io.write_all(b"more").await.unwrap();
    let mut more = [0; 4];
    socket.read_exact(&mut more).await.unwrap();
    assert_eq!(&more, b"more");
    socket.write_all(b"back").await.unwrap();
    client.io.read_exact(&mut more).await.unwrap();
    assert_eq!(&more, b"back");
}

#[tokio::test(start_paused = true)]
async fn no_early_byte_is_lost_wherever_the_segments_end() {
    let input = [good_handshake().as_bytes(), b"0123456789"].concat();
    for at in good_handshake().len() - 3..input.len() {
        let mut client = connect();
        client.send(&input[..at]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.send(&input[at..]).await;
        let HttpEnd::Upgraded { mut socket, early, .. } = client.served.await.unwrap() else {
            panic!("closed")
        };
        let mut all = early.to_vec();
        all.resize(10, 0);
        socket.read_exact(&mut all[early.len()..]).await.unwrap();
        assert_eq!(all, b"0123456789");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_waits_until_earlier_responses_have_left() {
    let mut client = connect_through(300);
    let requests = [post("big"), good_handshake()].concat();
    let (mut read, mut write) = tokio::io::split(client.io);
    let mut answers = Vec::new();
    let send = async {
        write.write_all(requests.as_bytes()).await.unwrap();
        write.write_all(b"early").await.unwrap();
    };
    let receive = async {
        let is_101 = |answer: &[u8]| answer.starts_with(b"HTTP/1.1 101 ");
        while !(answers.ends_with(b"\r\n\r\n") && answers.windows(13).any(is_101)) {
            read.read_buf(&mut answers).await.unwrap();
        }
    };
    tokio::join!(send, receive);
    assert!(answers.len() > 100_000);
    let end = (&mut client.served).await.unwrap();
    assert!(matches!(end, HttpEnd::Upgraded { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_declined_upgrade_is_served_as_http() {
    let mut client = connect();
    client.send([handshake(KEY), post("behind")].concat()).await;
    client.expect(426).await;
    assert_eq!(client.expect(200).await.1, "echo behind");
}

#[tokio::test(start_paused = true)]
async fn a_response_is_whole_even_when_another_upgrade_was_offered() {
    let offer = "\r\nUpgrade: h2c\r\nConnection: upgrade, close\r\n\r\n";
    let mut client = connect_through(300);
    client.send(post("big").replacen("\r\n\r\n", offer, 1)).await;
    let answer = client.rest().await;
    assert_eq!(answer.split("\r\n\r\n").nth(1).unwrap().len(), 100_000);
    assert_eq!(client.end().await, CloseReason::PeerClosed);

    let mut client = connect_through(50);
    let chunked = post("").replace("Content-Length: 0", "Transfer-Encoding: chunked");
    client.send(chunked.replacen("\r\n\r\n", offer, 1) + "zz\r\n").await;
    let (_, body) = client.expect(400).await;
    assert!(body.contains("chunk size"), "{body}");
    assert_eq!(client.end().await, CloseReason::BadRequest);
}
