//! See `stream_request::stream_request`.
#![no_main]

#[path = "../src/stream_request.rs"]
pub mod stream_request;

libfuzzer_sys::fuzz_target!(|data: &[u8]| stream_request::stream_request(data));
