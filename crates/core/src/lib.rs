//! weir's connection engine. (The road of a message is told here; being built.)

pub mod clock;
pub mod close;
pub mod context;
pub mod lifeline;
pub mod limits;
pub mod service;
pub mod stage;
pub mod wire;
