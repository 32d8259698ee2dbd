//! See `protocol` in `fuzz/src/protocol.rs`.
#![no_main]

#[path = "../src/protocol.rs"]
pub mod protocol;

use weir_channels::protocol::Encoding;

libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::protocol(Encoding::Json, data));
