//! The gate in front of HTTP, offered a stream whole and in pieces, and judged by a reader of a few
//! plain lines that knows no state machine.

use weir_core::http::gate::{Gate, GateLimits, Refusal, Step};

const LIMITS: GateLimits =
    GateLimits { header_bytes_max: 1024, headers_max: 16, body_bytes_max: 64 };

/// What became of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Each request's head and the bytes of its body, framing included.
    requests: Vec<(Vec<u8>, Vec<u8>)>,
    refusal: Option<Refusal>,
    withheld: Option<Vec<u8>>,
}

/// A byte of cuts, then the stream.
pub fn http_gate(data: &[u8]) {
    let Some((cuts, stream)) = data.split_first() else {
        return;
    };
    let seen = offer([stream]);
    assert_eq!(offer(stream.chunks(1)), seen);
    assert_eq!(offer(stream.chunks(usize::from(*cuts) + 2)), seen);
    for (head, body) in &seen.requests {
        judge(head, body);
    }
}

fn offer<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut gate = Gate::new(LIMITS);
    let mut seen = Seen::default();
    let mut waiting: Vec<u8> = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            match gate.step(&waiting) {
                Step::More => break,
                Step::Withheld => {
                    seen.withheld = Some(waiting.clone());
                    break;
                }
                Step::Refused(refusal) => {
                    seen.refusal = Some(refusal);
                    break;
                }
                Step::Skip { taken } => drop(waiting.drain(..taken)),
                Step::Head { taken, .. } => {
                    assert!(taken <= LIMITS.header_bytes_max);
                    seen.requests.push((waiting.drain(..taken).collect(), Vec::new()));
                }
                Step::Body { taken, .. } => {
                    assert!(taken > 0, "a step that takes nothing would spin");
                    let (_, body) = seen.requests.last_mut().expect("a head came first");
                    body.extend(waiting.drain(..taken));
                }
            }
        }
    }
    seen
}

/// Holds that a head which passed can be framed in one way only, and that its body is within it.
fn judge(head: &[u8], body: &[u8]) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends with its empty line");
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let (last, others) = lines.split_last().expect("a head has a line");
    assert!(others.iter().all(|line| line.ends_with(b"\r")), "LF without CR");
    assert!(!last.contains(&b'\r'), "CR without LF");
    let values = |wanted: &str| -> Vec<String> {
        let fields = lines[1..].iter().map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            assert!(!line.contains(&b'\r'), "CR without LF");
            let colon = line.iter().position(|byte| *byte == b':').expect("a field has a colon");
            (&line[..colon], String::from_utf8_lossy(&line[colon + 1..]).trim().to_owned())
        });
        let named = |name: &[u8]| name.eq_ignore_ascii_case(wanted.as_bytes());
        fields.filter(|(name, _)| named(name)).map(|(_, value)| value).collect()
    };
    assert!(lines.len() - 1 <= LIMITS.headers_max);
    let first = lines[0].strip_suffix(b"\r").unwrap_or(lines[0]);
    let hosts = values("host").len();
    assert!(hosts == 1 || (hosts == 0 && first.ends_with(b"HTTP/1.0")));
    match (&values("transfer-encoding")[..], &values("content-length")[..]) {
        ([], []) => assert_eq!(body, b""),
        ([], [length]) => {
            let length: usize = length.parse().expect("a length is a number");
            assert!(body.len() <= length && length <= LIMITS.body_bytes_max);
        }
        ([encoding], []) => assert!(encoding.eq_ignore_ascii_case("chunked")),
        framings => panic!("two framings passed: {framings:?}"),
    }
}
