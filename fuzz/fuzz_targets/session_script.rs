//! See `weir_fuzz::session_script`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::session_script(data));
