//! One cap for all shards, that they seldom have to ask for: each takes more than it needs at the
//! moment and gives back what it has too much of. Bytes, channels and keys are counted so.

use std::sync::Arc;

use crate::sync::{AtomicUsize, Ordering};

/// The cap and what is left of it.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
    max: usize,
    chunk: usize,
}

impl Budget {
    /// A budget of `max` for `shares`. The shares keep at most a quarter of it unused.
    pub(crate) fn new(max: usize, shares: usize, chunk_max: usize) -> Arc<Self> {
        let chunk = (max / shares.max(1) / 8).min(chunk_max);
        Arc::new(Self { left: AtomicUsize::new(max), max, chunk })
    }

    /// What is in use or set aside by a share.
    pub(crate) fn taken(&self) -> usize {
        self.max.saturating_sub(self.left.load(Ordering::Relaxed))
    }

    fn take(&self, n: usize) -> bool {
        let less = |left: usize| left.checked_sub(n);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// A shard's part of a budget.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    spare: usize,
}

impl Share {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), spare: 0 }
    }

    /// Takes `n`, or nothing.
    #[must_use]
    pub(crate) fn take(&mut self, n: usize) -> bool {
        if n > self.spare {
            let lacking = n - self.spare;
            let chunk = lacking.max(self.budget.chunk);
            let got = [chunk, lacking].into_iter().find(|&n| self.budget.take(n));
            let Some(got) = got else { return false };
            self.spare += got;
        }
        self.spare -= n;
        true
    }

    /// What it has set aside.
    pub(crate) fn spare(&self) -> usize {
        self.spare
    }

    /// Gives back what was taken.
    pub(crate) fn give(&mut self, n: usize) {
        self.spare += n;
        if self.spare > 2 * self.budget.chunk {
            let surplus = self.spare - self.budget.chunk;
            self.budget.left.fetch_add(surplus, Ordering::Relaxed);
            self.spare = self.budget.chunk;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_take_more_than_there_is() {
        let budget = Budget::new(100, 2, 1000);
        let (mut one, mut two) = (Share::new(&budget), Share::new(&budget));
        assert!(one.take(60));
        assert!(!two.take(41));
        assert!(two.take(30));
        one.give(60);
        assert!(two.take(60));
        assert!(!one.take(20));
        two.give(90);
        assert!(budget.taken() <= 100 / 4);
    }

    #[test]
    fn a_budget_too_small_to_share_is_exact() {
        let budget = Budget::new(3, 64, 1000);
        let mut shares = [Share::new(&budget), Share::new(&budget)];
        assert!(shares[0].take(2) && shares[1].take(1) && !shares[0].take(1));
        shares[1].give(1);
        assert!(shares[0].take(1));
        assert_eq!(budget.taken(), 3);
    }
}
