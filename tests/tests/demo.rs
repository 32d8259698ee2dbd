//! The demo: the page of a weir with nothing but its built-in settings, fed by `weir-load demo`, in
//! a real browser.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;
use weir_tests::gateway::weir_load_command;
use weir_tests::{Browser, Gateway, http, tools};

/// Channels that the page subscribes to.
const CHANNELS: u32 = 6;

/// Starts `weir-load demo` for this weir; killed when dropped.
async fn feed(gateway: &Gateway, arguments: &[&str]) -> Child {
    let mut command = weir_load_command().await;
    let [lines, api] = ["channels-lines", "http"].map(|name| gateway.address(name).to_string());
    command.args(["demo", "--lines", &lines, "--api", &api]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("weir-load starts")
}

async fn open(gateway: &Gateway, query: &str) -> Browser {
    let url = format!("http://{}/{query}", gateway.address("http"));
    let mut page = Browser::open_watched(&url).await;
    page.until("the page to be connected", "state.dataset.state === 'connected'").await;
    page
}

/// Cuts the network by the page's own button.
async fn cut(page: &mut Browser, seconds: u32) {
    let rows = page.run("outages.rows.length").await;
    let cut = format!("document.querySelector('#cut-for').value = '{seconds}'; cut.click()");
    page.run(&cut).await;
    page.until("the outage to be told", &format!("outages.rows.length === {rows} + 1")).await;
    assert_eq!(page.run("state.dataset.state").await, "connecting");
}

/// What the page says of the last outage when everything has come back.
async fn last_outage(page: &mut Browser) -> Value {
    let back = format!(
        "state.dataset.state === 'connected' && outages.rows[0].dataset.channels === '{CHANNELS}'"
    );
    page.until("every channel to be back", &back).await;
    page.run("({ ...outages.rows[0].dataset })").await
}

#[track_caller]
fn assert_whole(outage: &Value) {
    assert_eq!(outage["recovered"], "true", "{outage}");
    assert_eq!((&outage["missed"], &outage["doubled"]), (&"0".into(), &"0".into()), "{outage}");
    let publications = outage["publications"].as_str().and_then(|count| count.parse::<u32>().ok());
    assert!(publications > Some(0), "{outage}");
}

#[tokio::test]
async fn the_page_shows_what_is_fed_and_asks_nobody_else() {
    let gateway = Gateway::built_in_on_free_ports().await;
    let _feed = feed(&gateway, &[]).await;
    let mut page = open(&gateway, "").await;
    page.until("the chart to have points", "Number(chart.dataset.points) > 40").await;
    let all = "[...legend.querySelectorAll('output')].every((value) => /^\\d+\\.\\d °C$/.test(value.textContent))";
    page.until("a value of every sensor", all).await;
    let price = "document.querySelector('tr[data-symbol=ACME] .price').textContent";
    page.until("a quote", &format!("Number({price}) > 0")).await;
    let before = page.run(price).await;
    page.until("the quote to change", &format!("{price} !== {before}")).await;
    let figures = "[trip, document.querySelector('#latency-median'), document.querySelector('#latency-high')]";
    let known = format!("{figures}.every((figure) => Number.isFinite(Number(figure.textContent)))");
    page.until("times to be measured", &known).await;
    page.until("some deliveries", "Number(deliveries.textContent) > 10").await;
    page.until("the history of the chart to be a minute's", "Number(chart.dataset.points) > 100")
        .await;

    assert_eq!(page.errors().await, Vec::<String>::new());
    let host = gateway.address("http");
    let own = [format!("http://{host}/"), format!("ws://{host}/")];
    let requests = page.requests().await;
    assert!(requests.len() > 10, "{requests:?}");
    for url in requests {
        assert!(own.iter().any(|own| url.starts_with(own)), "{url}");
    }
    assert_eq!(page.run("missed.textContent + doubled.textContent").await, "00");
}

#[tokio::test]
async fn what_one_page_says_another_shows_as_text() {
    let gateway = Gateway::built_in_on_free_ports().await;
    let _feed = feed(&gateway, &[]).await;
    let mut ann = open(&gateway, "").await;
    let mut bob = open(&gateway, "").await;
    let text = "<b>hello</b> & <img src=x>, how is the boiler?";
    let say = |name: &str, text: &str| {
        format!(
            "document.querySelector('#name').value = {name:?}; \
             document.querySelector('#text').value = {text:?}; say.requestSubmit()"
        )
    };
    ann.run(&say("ann", text)).await;
    let shown = format!("[...messages.children].some((one) => one.textContent.includes({text:?}))");
    bob.until("the message in the other page", &shown).await;
    assert_eq!(bob.run("messages.querySelectorAll('b, img').length").await, 0);
    ann.until(
        "it in the page it is of",
        "messages.querySelector('.mine .who').textContent === 'ann'",
    )
    .await;
    let answered = "[...messages.children].some((one) => \
                    /gauge ann: the boiler is at \\d+\\.\\d °C/.test(one.textContent))";
    bob.until("an answer", answered).await;
    bob.until("both and the feed to be counted", "present.textContent === '3 here'").await;
    assert_eq!(bob.errors().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_cut_network_loses_nothing_and_the_page_says_so() {
    let gateway = Gateway::built_in_on_free_ports().await;
    let _feed = feed(&gateway, &[]).await;
    let mut page = open(&gateway, "").await;
    page.until("the chart to have points", "Number(chart.dataset.points) > 40").await;
    cut(&mut page, 2).await;
    assert_whole(&last_outage(&mut page).await);

    // And by the browser: the page hears that it is offline.
    page.set_offline(true).await;
    page.until("the page to notice", "state.dataset.state === 'connecting'").await;
    page.run("new Promise((done) => setTimeout(done, 1500))").await;
    page.set_offline(false).await;
    assert_whole(&last_outage(&mut page).await);
    assert_eq!(page.run("outages.rows.length").await, 2);
    assert_eq!(page.run("missed.textContent + doubled.textContent").await, "00");
    let at_work = page.run("Number(recovered.textContent)").await;
    assert!(at_work.as_f64() > Some(20.0), "{at_work}");
}

#[tokio::test]
async fn a_history_that_is_gone_is_told_and_not_papered_over() {
    let gateway = Gateway::built_in_on_free_ports().await;
    let _feed = feed(&gateway, &[]).await;
    let mut page = open(&gateway, "").await;
    page.until("the chart to have points", "Number(chart.dataset.points) > 40").await;
    cut(&mut page, 2).await;
    let channel = br#"{"channel": "sensors:boiler"}"#;
    let reply = http::post(gateway.address("http"), "/api/history_remove", channel).await;
    assert_eq!((reply.status, reply.text()), (200, r#"{"result":{}}"#));
    let outage = last_outage(&mut page).await;
    assert_eq!((&outage["recovered"], &outage["missed"]), (&"false".into(), &"unknown".into()));
    assert_eq!(page.run("outages.rows[0].cells[3].textContent").await, "in part 5 of 6");
    // The sensor goes on where it is now.
    let points = page.run("Number(chart.dataset.points)").await;
    page.until("more points", &format!("Number(chart.dataset.points) > {points} + 20")).await;
}

#[tokio::test]
async fn an_outage_that_is_longer_than_a_history_is_told_with_what_is_missing() {
    let gateway = Gateway::built_in_on_free_ports().await;
    // 300 readings are kept of each sensor.
    let _feed = feed(&gateway, &["--readings", "50"]).await;
    let mut page = open(&gateway, "").await;
    page.until("the chart to have points", "Number(chart.dataset.points) > 40").await;
    page.run("document.querySelector('#cut-for').add(new Option('for 9 s', '9'))").await;
    cut(&mut page, 9).await;
    let outage = last_outage(&mut page).await;
    // Quotes and the chat have room for it.
    assert_eq!(page.run("outages.rows[0].cells[3].textContent").await, "in part 2 of 6");
    let missed: u32 = outage["missed"].as_str().expect("a text").parse().expect("it is known");
    assert!((4 * 300..4 * 1000).contains(&missed), "{outage}");
}

#[tokio::test]
async fn nonsense_that_somebody_publishes_breaks_nothing() {
    let gateway = Gateway::built_in_on_free_ports().await;
    let _feed = feed(&gateway, &[]).await;
    let mut page = open(&gateway, "").await;
    page.until("the chart to have points", "Number(chart.dataset.points) > 40").await;
    let nonsense = [
        ("sensors:boiler", r#"{"value": 1.7e308, "at": 1}"#),
        ("sensors:boiler", r#"{"value": "hot", "at": {}}"#),
        ("sensors:boiler", r#"{"value": 1, "at": 9e15}"#),
        ("sensors:boiler", "null"),
        ("quotes:all", r#"{"quotes": [["X"], [1, 2], null, {}, [[], "7"]]}"#),
        ("quotes:all", "7"),
        ("chat:lobby", r#"{"name": 1, "text": 2}"#),
        ("chat:lobby", r#"{"name": "last", "text": "of them", "at": 1e300}"#),
    ];
    for (channel, data) in nonsense {
        let body = format!(r#"{{"channel": "{channel}", "data": {data}}}"#);
        let reply = http::post(gateway.address("http"), "/api/publish", body.as_bytes()).await;
        assert_eq!(reply.status, 200, "{body}");
    }
    page.until("the last of it", "messages.lastElementChild.textContent.includes('of them')").await;
    let points = page.run("Number(chart.dataset.points)").await;
    page.until("more points", &format!("Number(chart.dataset.points) > {points} + 20")).await;
    assert_eq!(page.run("document.querySelectorAll('#quotes tr').length").await, 6);
    assert_eq!(page.errors().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_page_falls_back_to_streams_and_recovers_there_too() {
    let gateway = Gateway::built_in_on_free_ports().await;
    let _feed = feed(&gateway, &[]).await;
    for (transport, name) in [("http_stream", "HTTP stream"), ("sse", "Server-Sent Events")] {
        let mut page = open(&gateway, &format!("?transport={transport}")).await;
        let about = "document.querySelector('#state-about').textContent";
        page.until("the transport to be shown", &format!("{about}.startsWith('by {name}')")).await;
        page.until("the chart to have points", "Number(chart.dataset.points) > 40").await;
        cut(&mut page, 2).await;
        assert_whole(&last_outage(&mut page).await);
        assert_eq!(page.errors().await, Vec::<String>::new());
    }
}

/// The least contrast of each colour of the page with its ground (WCAG 2.2, 1.4.3 and 1.4.11): 4.5 for
/// text, 3 for lines.
const CONTRASTS: &str = "(() => {
    const style = getComputedStyle(document.documentElement);
    const light = (name) => {
        const hex = style.getPropertyValue(`--${name}`).trim().slice(1);
        const [r, g, b] = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const contrast = (a, b) => Math.max(light(a), light(b)) / Math.min(light(a), light(b));
    const text = ['text', 'quiet', 'accent', 'good', 'bad', 'wait'];
    const pairs = [
        ...text.map((name) => [name, 'panel', 4.5]), ['text', 'ground', 4.5], ['quiet', 'ground', 4.5],
        ['on-accent', 'accent', 4.5], ...[1, 2, 3, 4].map((at) => [`series-${at}`, 'panel', 3]),
    ];
    return pairs.filter(([a, b, least]) => !(contrast(a, b) >= least)).map(([a, b]) => `${a} on ${b}`);
})()";

#[tokio::test]
async fn the_page_can_be_read_on_a_telephone_and_on_a_wide_screen_by_day_and_by_night() {
    let gateway = Gateway::built_in_on_free_ports().await;
    let _feed = feed(&gateway, &[]).await;
    let mut page = open(&gateway, "").await;
    page.until("the chart to have points", "Number(chart.dataset.points) > 40").await;
    for (scheme, ground) in [("light", "rgb(243, 245, 248)"), ("dark", "rgb(13, 18, 24)")] {
        for width in [360, 800, 1024, 1440, 2200] {
            page.look(scheme, width).await;
            let over =
                "document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(page.run(over).await, 0, "{scheme} {width}");
        }
        assert_eq!(page.run("getComputedStyle(document.body).backgroundColor").await, ground);
        assert_eq!(page.run(CONTRASTS).await, Value::Array(Vec::new()), "{scheme}");
    }
}

#[tokio::test]
async fn the_page_is_read_only_and_comes_with_what_keeps_others_out() {
    let gateway = Gateway::built_in_on_free_ports().await;
    let address = gateway.address("http");
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/demo/main.js", "text/javascript; charset=utf-8"),
        ("/demo/demo.css", "text/css; charset=utf-8"),
        ("/demo/icon.svg", "image/svg+xml"),
        ("/demo/centrifuge.LICENSE.txt", "text/plain; charset=utf-8"),
    ] {
        let reply = http::get(address, path).await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some(content_type)),
            "{path}"
        );
        let policy = reply.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("cache-control"), Some("no-cache"));
        let known = format!("If-None-Match: {}\r\n", reply.header("etag").expect("a tag"));
        let again = http::request(address, &format!("GET {path}"), &known, b"").await;
        assert_eq!((again.status, again.text()), (304, ""), "{path}");
    }
    for nothing in ["/demo/", "/demo/index.html", "/demo/../../Cargo.toml", "/demo/..%2fmain.js"] {
        assert_eq!(http::get(address, nothing).await.status, 404, "{nothing}");
    }
    let posted = http::post(address, "/", b"x").await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn a_weir_with_settings_of_its_own_serves_no_page() {
    let gateway = Gateway::start().await;
    assert_eq!(http::get(gateway.address("http"), "/").await.status, 404);
}

#[tokio::test]
async fn no_page_of_another_origin_may_use_the_api_of_the_built_in_settings() {
    let gateway = Gateway::built_in_on_free_ports().await;
    let address = gateway.address("http");
    let body = br#"{"channel": "news", "data": 1}"#;
    let publish =
        async |origin: &str| http::request(address, "POST /api/publish", origin, body).await.status;
    assert_eq!(publish("").await, 200);
    assert_eq!(publish(&format!("Origin: http://{address}\r\n")).await, 200);
    assert_eq!(publish("Origin: https://example.com\r\n").await, 403);
}

#[tokio::test]
async fn the_feed_ends_by_itself_or_when_it_is_told_and_leaves_nothing_open() {
    let gateway = Gateway::built_in_on_free_ports().await;
    let told = feed(&gateway, &["--readings", "20", "--quotes", "20"]).await;
    gateway.wait_for_open("channels-lines", 5).await;
    let publications = |least: u64| {
        move |metrics: &weir_tests::Metrics| {
            metrics.count("weir_channels_publications_total", &[("namespace", "sensors")]) >= least
        }
    };
    gateway.wait_for("some readings", publications(100)).await;
    let pid = told.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
    kill_process(pid, Signal::INT).expect("it runs");
    let by_itself = feed(&gateway, &["--seconds", "1"]).await;
    for feed in [told, by_itself] {
        let output = feed.wait_with_output().await.expect("it ends");
        assert!(output.status.success(), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report in JSON");
        for (what, connections) in [("readings", 4), ("quotes", 1), ("messages", 1)] {
            let counts = &report[what];
            assert_eq!(counts["acknowledged"], counts["sent"], "{report}");
            assert!(counts["sent"].as_u64() > Some(0), "{report}");
            assert_eq!(
                (&counts["refused"], &counts["connections"]),
                (&0.into(), &connections.into())
            );
        }
    }
    gateway.wait_for_open("channels-lines", 0).await;
    gateway.wait_for_closed("channels-lines", "peer_closed", 10).await;
}

#[test]
fn the_sdk_is_that_of_its_package() {
    let vendored = |name: &str| tools::read(&format!("crates/demo/page/vendor/{name}"));
    let package = |path: &str| tools::read(&format!("tests/.tools/node_modules/{path}"));
    let pairs = [
        ("centrifuge.js", "centrifuge/dist/centrifuge.js"),
        ("centrifuge.LICENSE.txt", "centrifuge/LICENSE"),
        ("events.LICENSE.txt", "events/LICENSE"),
    ];
    for (ours, theirs) in pairs {
        assert!(vendored(ours) == package(theirs), "{ours} differs from {theirs}");
    }
    let lock: Value = serde_json::from_str(&package(".package-lock.json")).expect("JSON");
    let installed = &lock["packages"]["node_modules/centrifuge"];
    let [version, integrity] = ["version", "integrity"].map(|key| installed[key].as_str().unwrap());
    let row = format!("| `centrifuge` | {version} | `{integrity}` |");
    assert!(vendored("README.md").contains(&row), "{row}");
}
