//! The two values of the opening handshake (RFC 6455, section 4.2) that are the protocol's own.
//! The request around them is HTTP's.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest as _, Sha1};

/// What a server appends to the key before hashing it (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Base64 whose unused last bits may be anything: clients that draw the 24 characters at random
/// leave bits there, and nobody reads them.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The `Sec-WebSocket-Accept` that answers this `Sec-WebSocket-Key`.
pub fn accept_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    BASE64.encode(digest)
}

/// Whether this is a `Sec-WebSocket-Key`: base64 of 16 bytes.
pub fn check_key(key: &[u8]) -> bool {
    let mut nonce = [0; 18]; // What 24 characters of base64 can hold.
    key.len() == 24 && BASE64.decode_slice(key, &mut nonce) == Ok(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_the_one_of_rfc_6455_section_1_3() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_base64_of_sixteen_bytes() {
        #[track_caller]
        fn check(key: &str, expected: bool) {
            assert_eq!(check_key(key.as_bytes()), expected, "{key:?}");
        }
        check("dGhlIHNhbXBsZSBub25jZQ==", true);
        check("dGhlIHNhbXBsZSBub25jZR==", true);
        check("", false);
        check("dGhlIHNhbXBsZSBub25jZQ", false);
        check("dGhlIHNhbXBsZSBub25jZSE=", false);
        check("dGhlIHNhbXBsZSBub25jZSEh", false);
        check("dGhlIHNhbXBsZSBub25-ZQ==", false);
        check("dGhlIHNhbXBsZSBub25jZSEhISEhIQ==", false);
    }
}
