//! Promises of the wires, held with drawn inputs: what the fuzz targets hold, decode∘encode is
//! identity however the stream is cut, and two other WebSocket libraries agree.

mod corpus;
mod differential;
mod identity;
mod peers;

#[path = "../../../../fuzz/src/lib.rs"]
pub mod fuzz;
