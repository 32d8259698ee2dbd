//! See `token::token`.
#![no_main]

#[path = "../src/token.rs"]
pub mod token;

libfuzzer_sys::fuzz_target!(|data: &[u8]| token::token(data));
