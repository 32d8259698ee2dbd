//! Promises of the wires, held with drawn inputs: what the fuzz targets hold, decode∘encode is
//! identity however the stream is cut, and two other WebSocket libraries agree.

mod corpus;
mod differential;
mod identity;
mod peers;

#[path = "../../../../fuzz/src/lib.rs"]
pub mod fuzz;

/// So many drawn inputs. A failure prints its input, made small, which then becomes a test or joins
/// the corpus; no file of seeds is kept.
fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases,
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    }
}
