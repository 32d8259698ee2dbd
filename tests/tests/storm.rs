//! Very many clients of channels at once: those whose server dies all come back, whether a token lets them
//! in or a backend, and those who are sent away leave over the whole window and are told the truth
//! when they are back.

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
use weir_tests::{Answer, Gateway, Issuer, Peer, Received, Upstream, WebSocket, http};

const MANY: usize = 10_000;
/// How many of them the server takes in a second.
const PER_SECOND_MAX: usize = 1_500;
/// How many a backend is asked about: each costs two calls.
const ASKED_ABOUT: usize = 4_000;
/// How many calls the backend gets at once, how many wait for that, and how long each takes.
const CALLS_MAX: usize = 16;
const QUEUE_MAX: usize = 64;
const CALL: Duration = Duration::from_millis(20);
const SENT_AWAY: usize = 5_000;
const WINDOW: Duration = Duration::from_secs(4);
/// Longest wait for everybody.
const PATIENCE: Duration = Duration::from_secs(90);
/// Shorter than a test waits for a word from its server.
const PING_INTERVAL: &str = "5s";
/// As the SDKs do: a random part of a time that doubles, in milliseconds.
const BACKOFF: u64 = 500;
const BACKOFF_MAX: u64 = 4_000;

/// A weir at this address, where a token lets in and everybody may subscribe; or where this backend is
/// asked about those without a token, and about subscriptions to `asked:`.
async fn gateway(web: SocketAddr, limits: &str, backend: Option<&Upstream>) -> Gateway {
    let hooks = backend.map_or_else(String::new, |backend| {
        format!(
            "[[upstreams]]\nname = \"app\"\ntargets = [\"http://{}\"]\n\
             connections_max = {CALLS_MAX}\nconnections_per_target_max = {CALLS_MAX}\n\
             queue_max = {QUEUE_MAX}\n\
             [channels.hooks]\nupstream = \"app\"\nconnect = \"/connect\"\n\
             subscribe = \"/subscribe\"\n\
             [[channels.namespaces]]\nname = \"asked\"\nsubscribe_proxy_enabled = true\n",
            backend.address()
        )
    });
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
             allow_subscribe_for_client = true\n{hooks}"
        ))
        .await
}

/// A client that comes, subscribes, and comes back until nobody wants to hear of it any more.
struct Client {
    web: SocketAddr,
    /// Without one a backend is asked about it.
    token: Option<Arc<str>>,
    channel: String,
    number: usize,
    told: mpsc::Sender<Told>,
    position: Option<(String, u64)>,
    /// Since its last subscription.
    attempts: u64,
}

/// What a client has to tell.
#[derive(Debug)]
enum Told {
    /// Its subscription stands; the answer to its subscribe.
    Subscribed(Value),
    /// The connection has ended with this code, or with none.
    Ended(Option<u16>),
    /// It was refused for now, and comes again.
    PutOff,
}

impl Client {
    async fn run(mut self) {
        loop {
            if let Some(mut socket) = self.connect().await
                && self.tell(&mut socket).await.is_none()
            {
                return;
            }
            self.attempts += 1;
            let most = (BACKOFF << self.attempts.min(8)).min(BACKOFF_MAX);
            // Spread by its number, differently at each attempt.
            let part = (self.number as u64 * 7_919 + self.attempts * 104_729) % most;
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
        let subscribe = self.subscribe();
        match &self.token {
            Some(token) => {
                let connect = json!({"id": 1, "connect": {"token": &**token}});
                socket.say(&format!("{connect}\n{subscribe}")).await;
            }
            None => socket.say(r#"{"id":1,"connect":{}}"#).await,
        }
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
                if self.token.is_none() {
                    if message["error"]["temporary"] == true {
                        return self.told.send(Told::PutOff).await.ok();
                    }
                    if message["connect"].is_object() {
                        socket.say(&subscribe).await;
                    }
                }
                assert!(message["error"].is_null(), "{message}");
                if message["subscribe"].is_object() {
                    self.subscribed(&message["subscribe"]).await?;
                }
            }
        }
    }

    fn subscribe(&self) -> String {
        let mut subscribe = json!({"channel": self.channel});
        if let Some((epoch, offset)) = &self.position {
            subscribe["recover"] = json!(true);
            subscribe["epoch"] = json!(epoch);
            subscribe["offset"] = json!(offset);
        }
        json!({"id": 2, "subscribe": subscribe}).to_string()
    }

    /// `None` when nobody listens.
    async fn subscribed(&mut self, answer: &Value) -> Option<()> {
        self.attempts = 0;
        self.position = answer["epoch"]
            .as_str()
            .map(|epoch| (epoch.to_owned(), answer["offset"].as_u64().unwrap_or(0)));
        self.told.send(Told::Subscribed(answer.clone())).await.ok()
    }
}

/// So many clients, each with a channel of its own.
struct Crowd {
    clients: JoinSet<()>,
    told: mpsc::Receiver<Told>,
    put_off: usize,
}

impl Crowd {
    /// Those with tokens.
    async fn come(web: SocketAddr, many: usize) -> Self {
        let issuer = Issuer::hmac(Algorithm::HS256);
        let token = |number| Some(issuer.token(&format!("user{number}")).into());
        Self::of(web, many, "room", token).await
    }

    /// Those about whom a backend is asked.
    async fn come_asked(web: SocketAddr, many: usize) -> Self {
        Self::of(web, many, "asked:room", |_| None).await
    }

    async fn of(
        web: SocketAddr,
        many: usize,
        room: &str,
        token: impl Fn(usize) -> Option<Arc<str>>,
    ) -> Self {
        let (tell, told) = mpsc::channel(many);
        let mut clients = JoinSet::new();
        for number in 0..many {
            let (channel, told) = (format!("{room}{number}"), tell.clone());
            let token = token(number);
            let client = Client { web, token, channel, number, told, position: None, attempts: 0 };
            clients.spawn(client.run());
        }
        let mut crowd = Self { clients, told, put_off: 0 };
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
                Told::PutOff => self.put_off += 1,
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
                back @ (Told::Subscribed(_) | Told::PutOff) => panic!("back already: {back:?}"),
            }
        }
        ended
    }
}

/// How long the crowd took to be back, at p50, p99 and for the last one.
fn print_back(back: &[(Instant, Value)], killed: Instant, more: &str) -> Duration {
    let mut took: Vec<_> = back.iter().map(|(at, _)| at.duration_since(killed)).collect();
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100];
    let last = took[took.len() - 1];
    println!("back: p50 {:?}, p99 {:?}, last {last:?}; {more}", at(50), at(99));
    last
}

#[tokio::test]
async fn ten_thousand_clients_with_tokens_are_all_back_after_their_server_was_killed() {
    let web = free_address();
    let mut first = gateway(web, "", None).await;
    let mut crowd = Crowd::come(web, MANY).await;
    first.signal(Signal::KILL);
    first.exit_code().await;
    let killed = Instant::now();
    let limits = format!("connections_per_second_max = {PER_SECOND_MAX}");
    let second = gateway(web, &limits, None).await;
    let back = crowd.subscribed(MANY).await;

    let metrics = second.metrics().await;
    let refused = metrics.count("weir_connections_refused_total", &[("reason", "rate")]);
    let last = print_back(&back, killed, &format!("{refused} refused"));
    assert_eq!(metrics.count("weir_channels_subscriptions", &[]), MANY as u64);
    // The limit held: more were not let in than it allows, one second's worth at once.
    assert!(last.as_secs_f64() >= (MANY / PER_SECOND_MAX) as f64 - 1.0, "{last:?}");
    assert!(refused > 0, "nobody was held back");
}

fn consents(request: &Received) -> Answer {
    let result = match request.path() {
        "/connect" => json!({"user": "somebody"}),
        _ => json!({}),
    };
    Answer::of(json!({ "result": result })).after(CALL)
}

/// Four thousand and not ten: every one is two calls, of which the backend takes 800 a second.
#[tokio::test]
async fn four_thousand_clients_that_a_backend_is_asked_about_are_all_back_and_it_is_not_run_over() {
    let web = free_address();
    let backend = Upstream::serving("127.0.0.1:0", consents).await;
    let limits = format!("connections_per_second_max = {PER_SECOND_MAX}");
    let mut first = gateway(web, &limits, Some(&backend)).await;
    let mut crowd = Crowd::come_asked(web, ASKED_ABOUT).await;
    first.signal(Signal::KILL);
    first.exit_code().await;
    let killed = Instant::now();
    crowd.put_off = 0;
    let second = gateway(web, &limits, Some(&backend)).await;
    let back = crowd.subscribed(ASKED_ABOUT).await;

    let metrics = second.metrics().await;
    let refused = metrics.count("weir_connections_refused_total", &[("reason", "rate")]);
    let not_asked = metrics.count("weir_pool_refused_total", &[("reason", "queue_full")]);
    let (put_off, at_once) = (crowd.put_off, backend.most_at_once());
    let last = print_back(
        &back,
        killed,
        &format!(
            "{refused} refused, {put_off} put off ({not_asked} calls found the queue full), \
             {at_once} calls at once"
        ),
    );
    assert_eq!(metrics.count("weir_channels_subscriptions", &[]), ASKED_ABOUT as u64);
    assert!(at_once <= CALLS_MAX, "the backend had {at_once} calls at once");
    assert!(refused > 0, "nobody was held back");
    assert!(not_asked > 0 && put_off > 0, "the backend kept up: {not_asked}, {put_off}");
    // The bound held: the backend could not have answered faster.
    let least = CALL * u32::try_from(2 * ASKED_ABOUT / CALLS_MAX).expect("some hundreds");
    assert!(last >= least, "{last:?}, and the calls alone take {least:?}");
}

#[tokio::test]
async fn five_thousand_clients_leave_over_the_window_and_are_told_the_truth_afterwards() {
    let web = free_address();
    let mut first = gateway(web, "", None).await;
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

    let second = gateway(web, "", None).await;
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
