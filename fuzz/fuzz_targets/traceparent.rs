//! See `weir_fuzz::traceparent`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::traceparent(data));
