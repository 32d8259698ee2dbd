//! The simulation.

pub mod ledger;
pub mod order;
pub mod orders;
pub mod rng;
pub mod script;
pub mod time;
pub mod wire;
