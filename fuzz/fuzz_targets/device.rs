//! See `device::device`.
#![no_main]

#[path = "../src/device.rs"]
pub mod device;

libfuzzer_sys::fuzz_target!(|data: &[u8]| device::device(data));
