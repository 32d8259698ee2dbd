//! The lock and the counters that threads share. `tests/model` compiles the broker against
//! another module of this name, whose lock tries every order; nothing else may name a lock.

pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
