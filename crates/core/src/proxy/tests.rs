//! Headers as proxies write them, and as nobody should.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn header(taken: usize, source: &str) -> Result<Step, ProxyError> {
    Ok(Step::Header { taken, source: (!source.is_empty()).then(|| source.parse().unwrap()) })
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[command, family], &length, rest].concat()
}

const IPV4: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

#[test]
fn a_line_of_version_1_is_read_and_what_follows_is_left() {
    let line = b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 443\r\nGET /";
    assert_eq!(step(line), header(42, "203.0.113.7:8080"));
    let line = b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n";
    assert_eq!(step(line), header(36, "[2001:db8::1]:65535"));
    assert_eq!(step(b"PROXY UNKNOWN\r\n"), header(15, ""));
    assert_eq!(step(b"PROXY UNKNOWN ffff::1 what ever\r\n"), header(33, ""));
}

#[test]
fn a_line_of_version_1_that_breaks_a_rule_is_refused() {
    for line in [
        &b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 443\n"[..],
        b"PROXY TCP4 203.0.113.7 10.0.0.1 8080\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 443 1\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 +8080 443\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 08080 443\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 65536 443\r\n",
        b"PROXY TCP4 203.0.113.07 10.0.0.1 8080 443\r\n",
        b"PROXY TCP4  203.0.113.7 10.0.0.1 8080 443\r\n",
        b"PROXY TCP4 ::1 ::1 8080 443\r\n",
        b"PROXY TCP6 203.0.113.7 10.0.0.1 8080 443\r\n",
        b"PROXY UDP4 203.0.113.7 10.0.0.1 8080 443\r\n",
        b"PROXY \xff\r\n",
        b"PROXY UNKNOWNS\r\n",
    ] {
        assert_eq!(step(line), Err(ProxyError::MalformedV1), "{}", String::from_utf8_lossy(line));
    }
    let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 93]].concat();
    assert_eq!(step(&endless[..106]), Ok(Step::More));
    assert_eq!(step(&endless), Err(ProxyError::MalformedV1));
}

#[test]
fn a_header_of_version_2_is_read_with_extensions_and_what_follows_is_left() {
    assert_eq!(step(&v2(0x21, 0x11, &IPV4)), header(28, "203.0.113.7:8080"));
    let extended = [&IPV4[..], &[0x05, 0, 2, 1, 2], &[0x04, 0, 0]].concat();
    let bytes = [&v2(0x21, 0x11, &extended)[..], b"more"].concat();
    assert_eq!(step(&bytes), header(36, "203.0.113.7:8080"));
    let mut ipv6 = [0; 36];
    ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    ipv6[32..34].copy_from_slice(&[0, 80]);
    assert_eq!(step(&v2(0x21, 0x21, &ipv6)), header(52, "[2001:db8::]:80"));
}

#[test]
fn a_proxy_that_speaks_for_itself_or_cannot_say_keeps_the_sockets_address() {
    assert_eq!(step(&v2(0x20, 0x00, b"")), header(16, ""));
    assert_eq!(step(&v2(0x20, 0x11, b"whatever")), header(24, ""));
    assert_eq!(step(&v2(0x21, 0x00, b"abc")), header(19, ""));
    assert_eq!(step(&v2(0x21, 0x31, &[0; 216])), header(232, ""));
}

#[test]
fn a_header_of_version_2_that_breaks_a_rule_is_refused() {
    let malformed = Err(ProxyError::MalformedV2);
    assert_eq!(step(&v2(0x11, 0x11, &IPV4)), malformed);
    assert_eq!(step(&v2(0x22, 0x11, &IPV4)), malformed);
    assert_eq!(step(&v2(0x21, 0x12, &IPV4)), malformed);
    assert_eq!(step(&v2(0x21, 0x11, &IPV4[..11])), malformed);
    assert_eq!(step(&v2(0x21, 0x11, &[&IPV4[..], &[5, 0]].concat())), malformed);
    assert_eq!(step(&v2(0x21, 0x11, &[&IPV4[..], &[5, 0, 1]].concat())), malformed);
    let big = v2(0x21, 0x11, &[0; 2033]);
    let max = V2_BYTES_MAX;
    assert_eq!(step(&big[..16]), Err(ProxyError::TooBig { size: 2049, max }));
}

#[test]
fn what_begins_otherwise_is_no_header() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"PROXX", b"proxy ", b"\r\n\r\n\0\r\nQUIT!", b"\x16\x03"]
    {
        assert_eq!(step(bytes), Err(ProxyError::NoHeader));
    }
    assert_eq!(step(b""), Ok(Step::More));
    assert_eq!(step(b"P"), Ok(Step::More));
    assert_eq!(step(b"\r"), Ok(Step::More));
}

proptest! {
    /// Where the bytes are cut does not matter, and a header is found at its last byte.
    #[test]
    fn a_header_is_whole_at_its_last_byte_and_not_before(
        source in any::<SocketAddr>(),
        binary in any::<bool>(),
        behind in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let source = SocketAddr::new(source.ip(), source.port());
        let (ip, port) = (source.ip(), source.port().to_be_bytes());
        let header = match (binary, ip) {
            (false, IpAddr::V4(_)) => format!("PROXY TCP4 {ip} 0.0.0.0 {} 1\r\n", source.port()).into_bytes(),
            (false, IpAddr::V6(_)) => format!("PROXY TCP6 {ip} :: {} 1\r\n", source.port()).into_bytes(),
            (true, IpAddr::V4(v4)) => v2(0x21, 0x11, &[&v4.octets()[..], &[0; 4], &port, &[0; 2]].concat()),
            (true, IpAddr::V6(v6)) => v2(0x21, 0x21, &[&v6.octets()[..], &[0; 16], &port, &[0; 2]].concat()),
        };
        for cut in 0..header.len() {
            prop_assert_eq!(step(&header[..cut]), Ok(Step::More));
        }
        let bytes = [&header[..], &behind].concat();
        prop_assert_eq!(step(&bytes), Ok(Step::Header { taken: header.len(), source: Some(source) }));
    }

    #[test]
    fn no_bytes_make_it_panic_or_take_more_than_there_are(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for bytes in [bytes.clone(), [v2::SIGNATURE, &bytes].concat(), [v1::BEGINNING, &bytes].concat()] {
            if let Ok(Step::Header { taken, .. }) = step(&bytes) {
                prop_assert!(taken <= bytes.len());
            }
        }
    }
}
