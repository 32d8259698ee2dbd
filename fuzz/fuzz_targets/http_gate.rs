//! See `weir_fuzz::http_gate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::http_gate(data));
