//! The simulation: whole worlds drawn from a seed, over weir's own engine and in-memory pipes.
//!
//! A [`world`] is two workers, one admission, clients and a drain, on one thread and on a clock
//! that is moved by hand. Each client follows a [`script`]: its bytes, how they are split, how it
//! reads, how it ends; its [`line`] is a pipe, or TLS on one. [`invariants`] say what must hold whatever the seed. Nothing in weir knows
//! that it is simulated.

pub mod client;
pub mod invariants;
pub mod ledger;
pub mod line;
pub mod order;
pub mod orders;
pub mod rng;
pub mod script;
pub mod time;
pub mod wire;
pub mod world;
