use proptest::prelude::*;

use super::*;

const LIMITS: GateLimits = GateLimits { header_bytes_max: 256, headers_max: 6, body_bytes_max: 20 };

/// What became of an input.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    passed: Vec<u8>,
    /// Requests that passed whole.
    requests: usize,
    refusal: Option<Refusal>,
    /// What waits for the verdict on an upgrade.
    withheld: Option<Vec<u8>>,
}

/// Offers an input in pieces, the way that the socket's side does.
fn offer<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut gate = Gate::new(LIMITS);
    let mut seen = Seen::default();
    let mut waiting: Vec<u8> = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let taken = match gate.step(&waiting) {
                Step::More => break,
                Step::Withheld => {
                    seen.withheld = Some(waiting.clone());
                    break;
                }
                Step::Refused(refusal) => {
                    seen.refusal = Some(refusal);
                    break;
                }
                Step::Skip { taken } => {
                    waiting.drain(..taken);
                    continue;
                }
                Step::Head { taken, body, .. } => {
                    seen.requests += usize::from(!body);
                    taken
                }
                Step::Body { taken, last } => {
                    seen.requests += usize::from(last);
                    taken
                }
            };
            assert!(taken > 0, "a step that takes nothing would spin");
            seen.passed.extend(waiting.drain(..taken));
        }
    }
    seen
}

#[track_caller]
fn passes(input: &str, requests: usize) {
    let seen = offer([input.as_bytes()]);
    assert_eq!(seen.refusal, None, "{input:?}");
    assert_eq!((seen.requests, seen.passed.len()), (requests, input.len()), "{input:?}");
}

/// A request that follows must not pass either.
#[track_caller]
fn refuses(input: &str, expected: Refusal) {
    let behind = format!("{input}GET /behind HTTP/1.1\r\nHost: a\r\n\r\n");
    let seen = offer([behind.as_bytes()]);
    assert_eq!(seen.refusal, Some(expected), "{input:?}");
    assert!(seen.passed.len() <= input.len(), "{input:?}");
    assert_eq!(seen.requests, 0, "{input:?}");
}

#[track_caller]
fn malformed(input: &str, rule: &'static str) {
    refuses(input, Refusal::Malformed(rule));
}

fn with(fields: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn good_requests_pass_as_they_are() {
    passes("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    passes("GET / HTTP/1.0\r\n\r\n", 1);
    passes("GET /p?q=%20 HTTP/1.1\r\nhOsT: [::1]:80\r\nx:\t y \r\n\r\n", 1);
    passes("GET http://A.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n", 1);
    passes("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    passes(&(with("Content-Length: 3\r\n") + "abc"), 1);
    passes(&(with("Content-Length: 0\r\n") + &with("")), 2);
    passes(&(with("transfer-encoding: Chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n"), 1);
    passes(
        &(with("Transfer-Encoding: chunked\r\n") + "A;x=\"y\"\r\n0123456789\r\n00\r\nt: v\r\n\r\n"),
        1,
    );
    passes(&with("Upgrade: h2c\r\nConnection: upgrade\r\n"), 1);
}

#[test]
fn pipelined_requests_pass_one_by_one() {
    let one = with("Content-Length: 3\r\n") + "abc";
    let two = with("Transfer-Encoding: chunked\r\n") + "1\r\nx\r\n0\r\n\r\n";
    passes(&format!("{one}{two}{one}{}", with("")), 4);
}

#[test]
fn one_empty_line_before_a_head_is_dropped() {
    let head = with("");
    let seen = offer([format!("\r\n{head}\r\n{head}").as_bytes()]);
    assert_eq!((seen.requests, seen.refusal), (2, None));
    assert_eq!(seen.passed, head.repeat(2).into_bytes());
    malformed("\r\n\r\n", "request line");
}

#[test]
fn a_request_needs_exactly_one_good_host() {
    malformed("GET / HTTP/1.1\r\n\r\n", "no Host");
    malformed("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "more than one Host");
    malformed("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "more than one Host");
    for host in ["", "a b", "a/b", "u@a", "a, b", "a:b:c"] {
        malformed(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), "Host");
    }
}

#[test]
fn a_body_is_framed_in_one_way_only() {
    let two = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    malformed(&with(two), "more than one Transfer-Encoding");
    for encoding in ["chunked, chunked", "gzip, chunked", "identity", "", "xchunked", "chunked;q"] {
        let fields = format!("Transfer-Encoding: {encoding}\r\n");
        malformed(&with(&fields), "Transfer-Encoding is not chunked");
    }
    malformed(
        &with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        "Content-Length beside Transfer-Encoding",
    );
    malformed(
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding in HTTP/1.0",
    );
    malformed(&with("Content-Length: 3\r\nContent-Length: 3\r\n"), "more than one Content-Length");
    for length in ["", "+3", "-3", "3, 3", "0x3", "3 3", "3a", "\u{0663}"] {
        malformed(&with(&format!("Content-Length: {length}\r\n")), "Content-Length");
    }
}

#[test]
fn a_head_has_one_form_only() {
    malformed("GET / HTTP/1.1\nHost: a\r\n\r\n", "LF without CR");
    malformed("GET / HTTP/1.1\r\nHost: a\n\r\n", "LF without CR");
    malformed(&with("X: a\rb\r\n"), "CR without LF");
    malformed(&with("X: a\r\r\n"), "CR without LF");
    malformed(&with("X : a\r\n"), "field name");
    malformed(&with(": a\r\n"), "field name");
    malformed(&with("X\r\n"), "field name");
    malformed(&with("X: a\r\n b\r\n"), "field name");
    malformed(&with("X: a\0b\r\n"), "field value");
    malformed("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "request line");
    malformed("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "version is not HTTP/1.1 or HTTP/1.0");
    malformed("GET /\r\n\r\n", "request line");
    malformed("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "request line");
}

#[test]
fn what_is_no_http_is_refused_at_its_first_byte() {
    assert_eq!(offer([&b"\x16"[..]]).refusal, Some(Refusal::Malformed("request line")));
    assert_eq!(offer([&b"{"[..]]).refusal, Some(Refusal::Malformed("request line")));
}

#[test]
fn a_target_names_something_of_this_server() {
    malformed("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT is not served");
    let targets =
        ["a", "*", "/#f", "http://b/", "ftp://a/", "http://u@a/", "//\u{7f}", "?q", "a:80"];
    for target in targets {
        let input = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let seen = offer([input.as_bytes()]);
        assert!(matches!(seen.refusal, Some(Refusal::Malformed(_))), "{target:?} {seen:?}");
        assert_eq!(seen.passed, b"", "{target:?}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_in_fields() {
    let head_of = |bytes: usize| {
        let rest = with("X: \r\n").len();
        with(&format!("X: {}\r\n", "x".repeat(bytes - rest)))
    };
    passes(&head_of(LIMITS.header_bytes_max), 1);
    let too_big = Refusal::HeadTooBig { max: LIMITS.header_bytes_max };
    refuses(&head_of(LIMITS.header_bytes_max + 1), too_big);
    let endless = vec![b'A'; LIMITS.header_bytes_max];
    assert_eq!(offer([&endless[..]]).refusal, Some(too_big));
    passes(&with(&"x: y\r\n".repeat(LIMITS.headers_max - 1)), 1);
    refuses(&with(&"x: y\r\n".repeat(LIMITS.headers_max)), Refusal::TooManyHeaders { max: 6 });
}

#[test]
fn a_body_is_bounded_as_declared_and_as_counted() {
    let too_big = Refusal::BodyTooBig { max: LIMITS.body_bytes_max };
    passes(&(with("Content-Length: 20\r\n") + &"x".repeat(20)), 1);
    refuses(&with("Content-Length: 21\r\n"), too_big);
    refuses(&with(&format!("Content-Length: {}\r\n", "9".repeat(40))), too_big);
    let chunked = with("Transfer-Encoding: chunked\r\n");
    let ten = "a\r\n0123456789\r\n";
    passes(&(chunked.clone() + ten + ten + "0\r\n\r\n"), 1);
    refuses(&(chunked.clone() + ten + ten + "1\r\n"), too_big);
    refuses(&(chunked + "ffffffffffffffff\r\n"), too_big);
}

#[test]
fn chunks_have_one_form_only() {
    let chunked = with("Transfer-Encoding: chunked\r\n");
    let sizes =
        ["\r\n", "g\r\n", "0x3\r\n", "3 \r\n", " 3\r\n", "+3\r\n", "3\n", "3\r\r\n", "-1\r\n"];
    for size in sizes.map(str::to_owned).into_iter().chain(["0".repeat(17) + "\r\n"]) {
        malformed(&format!("{chunked}{size}"), "chunk size");
    }
    malformed(&format!("{chunked}3;a\rb\r\nabc\r\n"), "chunk size");
    malformed(
        &format!("{chunked}3;{}\r\nabc\r\n", "e".repeat(2 * EXTENSION_BYTES_MAX)),
        "chunk size",
    );
    malformed(&format!("{chunked}3\r\nabcd\r\n"), "chunk is longer than its size");
    malformed(&format!("{chunked}3\r\nabc\n"), "chunk is longer than its size");
    malformed(&format!("{chunked}0\r\nt : v\r\n\r\n"), "field name");
    malformed(&format!("{chunked}0\r\nt: v\n\r\n"), "LF without CR");
    let long = format!("{chunked}0\r\nt: {}\r\n\r\n", "v".repeat(300));
    refuses(&long, Refusal::HeadTooBig { max: 256 });
}

#[test]
fn extensions_are_bounded_over_a_whole_body() {
    let chunked = with("Transfer-Encoding: chunked\r\n");
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(EXTENSION_BYTES_MAX / 2));
    malformed(&(chunked + &chunk.repeat(3)), "chunk size");
}

const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";

#[test]
fn what_follows_an_upgrade_is_withheld() {
    let input = format!("{UPGRADE}\u{1}\u{2}frames");
    let seen = offer([input.as_bytes()]);
    assert_eq!(seen.passed, UPGRADE.as_bytes());
    assert_eq!(seen.withheld.as_deref(), Some("\u{1}\u{2}frames".as_bytes()));
    assert_eq!(seen.refusal, None);
}

#[test]
fn what_follows_a_declined_upgrade_is_the_next_request() {
    let mut gate = Gate::new(LIMITS);
    let head = Step::Head { taken: UPGRADE.len(), body: false, upgrade: true };
    assert_eq!(gate.step(UPGRADE.as_bytes()), head);
    let next = with("");
    assert_eq!(gate.step(next.as_bytes()), Step::Withheld);
    gate.declined();
    let head = Step::Head { taken: next.len(), body: false, upgrade: false };
    assert_eq!(gate.step(next.as_bytes()), head);
}

#[test]
fn an_upgrade_has_no_body() {
    let input = UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\n");
    malformed(&input, "body in an upgrade");
}

#[test]
fn an_upgrade_of_another_kind_is_an_ordinary_request() {
    passes(&UPGRADE.replace("GET", "PUT"), 1);
    passes(&UPGRADE.replace("HTTP/1.1", "HTTP/1.0"), 1);
    passes(&UPGRADE.replace("WebSocket", "websocket2"), 1);
    passes(&UPGRADE.replace("keep-alive, Upgrade", "keep-alive"), 1);
}

/// Bytes close to good requests, so that the interesting states are reached.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let chunked = with("Transfer-Encoding: chunked\r\n");
    let fragments = [
        with(""),
        with("Content-Length: 3\r\n") + "abc",
        with("Content-Length: 21\r\n"),
        chunked.clone(),
        chunked + "3\r\nabc\r\n0\r\n\r\n",
        UPGRADE.to_owned(),
        "POST / HTTP/1.1\r\n".to_owned(),
        "Host: a\r\n".to_owned(),
        "5;ext\r\n12345\r\n".to_owned(),
        "0\r\n".to_owned(),
        "t: v\r\n".to_owned(),
        "\r\n".to_owned(),
        "\n".to_owned(),
        "\r".to_owned(),
        "x".repeat(100),
    ];
    let fragment = prop_oneof![
        8 => prop::sample::select(fragments.to_vec()).prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(fragment, 0..8).prop_map(|parts| parts.concat())
}

/// Cuts an input at these places.
fn cut<'a>(input: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = at.iter().map(|at| at.index(input.len() + 1)).collect();
    at.extend([0, input.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| &input[ends[0]..ends[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_pieces_make_the_same_verdicts(
        input in input(),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let whole = offer([&input[..]]);
        prop_assert_eq!(&offer(cut(&input, &at)), &whole);
        prop_assert_eq!(&offer(input.chunks(1)), &whole);
    }

    #[test]
    fn what_passes_is_what_came(input in input()) {
        let seen = offer([&input[..]]);
        // Only empty lines between requests are dropped.
        let mut rest = &input[..];
        let mut passed = &seen.passed[..];
        while let Some((byte, behind)) = passed.split_first() {
            if rest[0] != *byte {
                prop_assert!(rest.starts_with(b"\r\n"));
                rest = &rest[2..];
                continue;
            }
            (rest, passed) = (&rest[1..], behind);
        }
    }

    #[test]
    fn any_bytes_at_all_get_a_verdict(input in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(offer([&input[..]]), offer(input.chunks(1)));
    }
}
