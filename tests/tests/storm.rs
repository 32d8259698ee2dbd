//! Very many clients of channels at once: those whose server dies all come back, and those who are
//! sent away leave over the whole window and are told the truth when they are back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weir_tests::http::HttpPeer;
use weir_tests::tcp::free_address;
use weir_tests::tokens::SECRET;
use weir_tests::wait::within;
use weir_tests::websocket::opcode;
use weir_tests::{Gateway, Issuer, Peer, WebSocket, http};

const MANY: usize = 10_000;
/// How many of them the server takes in a second.
const PER_SECOND_MAX: usize = 1_500;
const SENT_AWAY: usize = 5_000;
const WINDOW: Duration = Duration::from_secs(4);
/// Longest wait for everybody.
const PATIENCE: Duration = Duration::from_secs(90);
/// Shorter than a test waits for a word from its server.
const PING_INTERVAL: &str = "5s";
/// As the SDKs do: a random part of a time that doubles, in milliseconds.
const BACKOFF: u64 = 500;
const BACKOFF_MAX: u64 = 4_000;

/// A weir at this address, where a token lets in and everybody may subscribe.
async fn gateway(web: SocketAddr, limits: &str) -> Gateway {
    let path = |path: &str, kind: &str| {
        format!("[[listeners.paths]]\npath = \"{path}\"\nkind = \"{kind}\"\nroute = \"channels\"\n")
    };
    let websocket = path("/connection/websocket", "websocket");
    let stream = path("/connection/http_stream", "http_stream");
    let window = WINDOW.as_secs();
    Gateway::start()
        .limits(limits)
        .shutdown(&format!(
            "unready = \"2s\"\ndrain = \"{window}s\"\nforce = \"1s\"\nflush = \"1s\""
        ))
        .tables(&format!(
            "[[listeners]]\nname = \"web\"\naddress = \"{web}\"\nwire = \"http\"\n\
             {websocket}{stream}[[routes]]\nname = \"channels\"\nkind = \"channels\"\n\
             [channels]\nping_interval = \"{PING_INTERVAL}\"\n\
             [[channels.token.keys]]\nname = \"main\"\nalgorithm = \"hmac\"\nkey = \"{SECRET}\"\n\
             [channels.without_namespace]\nhistory_size = 10\nhistory_ttl = \"10m\"\n\
             allow_recovery = true\nforce_recovery = true\nforce_positioning = true\n\
             allow_subscribe_for_client = true\n"
        ))
        .await
}

/// A client that comes, subscribes, and comes back until nobody wants to hear of it any more.
struct Client {
    web: SocketAddr,
    token: Arc<str>,
    channel: String,
    number: usize,
    told: mpsc::Sender<Told>,
    position: Option<(String, u64)>,
}

/// What a client has to tell.
#[derive(Debug)]
enum Told {
    /// Its subscription stands; the answer to its subscribe.
    Subscribed(Value),
    /// The connection has ended with this code, or with none.
    Ended(Option<u16>),
}

impl Client {
    async fn run(mut self) {
        let mut attempt = 0;
        loop {
            if let Some(mut socket) = self.connect().await {
                attempt = 0;
                if self.tell(&mut socket).await.is_none() {
                    return;
                }
            }
            attempt += 1;
            let most = (BACKOFF << attempt.min(8)).min(BACKOFF_MAX);
            // Spread by its number, differently at each attempt.
            let part = (self.number as u64 * 7_919 + attempt * 104_729) % most;
            sleep(Duration::from_millis(part)).await;
        }
    }

    async fn connect(&self) -> Option<WebSocket> {
        let mut http = HttpPeer::over(Peer::try_connect(self.web).await?, self.web);
        http.request("GET /connection/websocket", &WebSocket::headers(), b"").await;
        let reply = http.try_reply().await?;
        (reply.status == 101).then_some(WebSocket { peer: http.peer })
    }

    /// `None` when nobody listens.
    async fn tell(&mut self, socket: &mut WebSocket) -> Option<()> {
        let connect = json!({"id": 1, "connect": {"token": &*self.token}});
        let mut subscribe = json!({"channel": self.channel});
        if let Some((epoch, offset)) = &self.position {
            subscribe["recover"] = json!(true);
            subscribe["epoch"] = json!(epoch);
            subscribe["offset"] = json!(offset);
        }
        socket.say(&format!("{connect}\n{}", json!({"id": 2, "subscribe": subscribe}))).await;
        loop {
            let Some(frame) = socket.try_next_message().await else {
                return self.told.send(Told::Ended(None)).await.ok();
            };
            if frame.opcode == opcode::CLOSE {
                let (code, _) = frame.close();
                socket.send_frame(true, opcode::CLOSE, &frame.payload).await;
                return self.told.send(Told::Ended(Some(code))).await.ok();
            }
            let text = String::from_utf8(frame.payload).expect("a text of UTF-8");
            for line in text.lines() {
                if line == "{}" {
                    socket.say("{}").await;
                    continue;
                }
                let message: Value = serde_json::from_str(line).expect("a line of JSON");
                assert!(message["error"].is_null(), "{message}");
                if let Some(epoch) = message["subscribe"]["epoch"].as_str() {
                    let offset = message["subscribe"]["offset"].as_u64().unwrap_or(0);
                    self.position = Some((epoch.to_owned(), offset));
                    self.told.send(Told::Subscribed(message["subscribe"].clone())).await.ok()?;
                }
            }
        }
    }
}

/// So many clients, each with a token and a channel of its own.
struct Crowd {
    clients: JoinSet<()>,
    told: mpsc::Receiver<Told>,
}

impl Crowd {
    async fn come(web: SocketAddr, many: usize) -> Self {
        let issuer = Issuer::hmac(Algorithm::HS256);
        let (tell, told) = mpsc::channel(many);
        let mut clients = JoinSet::new();
        for number in 0..many {
            let token = issuer.token(&format!("user{number}")).into();
            let (channel, told) = (format!("room{number}"), tell.clone());
            clients.spawn(Client { web, token, channel, number, told, position: None }.run());
        }
        let mut crowd = Self { clients, told };
        crowd.subscribed(many).await;
        crowd
    }

    /// Waits for so many subscriptions; gives the time of each and the answer to it.
    async fn subscribed(&mut self, many: usize) -> Vec<(Instant, Value)> {
        let mut subscribed = Vec::with_capacity(many);
        while subscribed.len() < many {
            let told = within("everybody to be back", PATIENCE, self.told.recv()).await;
            match told.expect("clients run on") {
                Told::Subscribed(answer) => subscribed.push((Instant::now(), answer)),
                Told::Ended(_) => {}
            }
        }
        subscribed
    }

    /// Waits until so many connections have ended; gives the time of each and its code.
    async fn ended(&mut self, many: usize) -> Vec<(Instant, Option<u16>)> {
        let mut ended = Vec::with_capacity(many);
        while ended.len() < many {
            let told = within("everybody to be gone", PATIENCE, self.told.recv()).await;
            match told.expect("clients run on") {
                Told::Ended(code) => ended.push((Instant::now(), code)),
                Told::Subscribed(answer) => panic!("back already: {answer}"),
            }
        }
        ended
    }
}

#[tokio::test]
async fn ten_thousand_clients_with_tokens_are_all_back_after_their_server_was_killed() {
    let web = free_address();
    let mut first = gateway(web, "").await;
    let mut crowd = Crowd::come(web, MANY).await;
    first.signal(Signal::KILL);
    first.exit_code().await;
    let killed = Instant::now();
    let second = gateway(web, &format!("connections_per_second_max = {PER_SECOND_MAX}")).await;
    let back = crowd.subscribed(MANY).await;

    let mut took: Vec<_> = back.iter().map(|(at, _)| at.duration_since(killed)).collect();
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100];
    let metrics = second.metrics().await;
    let refused = metrics.count("weir_connections_refused_total", &[("reason", "rate")]);
    let last = took[MANY - 1];
    println!("back: p50 {:?}, p99 {:?}, last {last:?}; {refused} refused", at(50), at(99));
    assert_eq!(metrics.count("weir_channels_subscriptions", &[]), MANY as u64);
    // The limit held: more were not let in than it allows, one second's worth at once.
    assert!(last.as_secs_f64() >= (MANY / PER_SECOND_MAX) as f64 - 1.0, "{last:?}");
    assert!(refused > 0, "nobody was held back");
}

#[tokio::test]
async fn five_thousand_clients_leave_over_the_window_and_are_told_the_truth_afterwards() {
    let web = free_address();
    let mut first = gateway(web, "").await;
    let mut crowd = Crowd::come(web, SENT_AWAY).await;
    first.signal(Signal::TERM);
    let begun = Instant::now();
    first.logged("the stage", |line| line["stage"] == "unready").await;
    let stream = http::post(web, "/connection/http_stream", br#"{"id":1,"connect":{}}"#).await;
    assert_eq!(stream.status, 503);
    let ended = crowd.ended(SENT_AWAY).await;
    assert_eq!(first.exit_code().await, 0);

    let told = ended.iter().filter(|(_, code)| *code == Some(3001)).count();
    assert_eq!(told, SENT_AWAY, "told to go, and to come back");
    let half_seconds =
        |(at, _): &(Instant, Option<u16>)| at.duration_since(begun).as_millis() as usize / 500;
    let mut gone = vec![0; ended.iter().map(half_seconds).max().unwrap_or(0) + 1];
    ended.iter().for_each(|one| gone[half_seconds(one)] += 1);
    println!("gone in each half second: {gone:?}");
    let fair = SENT_AWAY / (WINDOW.as_millis() as usize / 500);
    assert!(gone.iter().all(|gone| *gone <= 3 * fair), "{gone:?}: {fair} would be even");

    let second = gateway(web, "").await;
    for (_, answer) in crowd.subscribed(SENT_AWAY).await {
        assert_eq!(answer["was_recovering"], true, "{answer}");
        assert!(
            answer["recovered"].as_bool() != Some(true),
            "from a stream that is gone: {answer}"
        );
    }
    let metrics = second.metrics().await;
    assert_eq!(metrics.count("weir_channels_clients", &[]), SENT_AWAY as u64);
    drop(crowd.clients);
}
