//! A profile before it has names: stacks of addresses with what was counted on each.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// What a value counts, and in which unit; pprof's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ValueKind {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
}

/// Stacks and their values.
#[derive(Debug)]
pub(super) struct Profile {
    /// What each sample's values count. The last is the one that readers show first.
    pub(super) kinds: [ValueKind; 2],
    pub(super) samples: Vec<Sample>,
    /// What lies between two samples, and how much of it.
    pub(super) period: (ValueKind, i64),
    pub(super) since: SystemTime,
    pub(super) duration: Duration,
    /// What a reader should know, such as samples that were lost.
    pub(super) comments: Vec<String>,
}

/// One stack.
#[derive(Debug)]
pub(super) struct Sample {
    /// Addresses inside the instruction that ran or called, innermost first.
    pub(super) stack: Vec<usize>,
    /// One for each kind.
    pub(super) values: [i64; 2],
    /// The thread it ran on.
    pub(super) thread: Option<String>,
}

impl Profile {
    /// Every address, each once.
    pub(super) fn addresses(&self) -> BTreeSet<usize> {
        self.samples.iter().flat_map(|sample| sample.stack.iter().copied()).collect()
    }
}
