//! What `crate::sync` is in the model: a lock that switches threads. The counters are the usual
//! ones: each is used by itself, so that no order of threads depends on it.

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use shuttle::sync::MutexGuard;

/// A lock that no panic poisons, like the one of production.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no thread of a model goes on after a panic")
    }
}
