//! See `commands::command_script`.
#![no_main]

#[path = "../src/commands/mod.rs"]
pub mod commands;

libfuzzer_sys::fuzz_target!(|data: &[u8]| commands::command_script(data));
