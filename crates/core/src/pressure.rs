//! How hard the process is pressed: one value that admission, HTTP and the table act on. Who
//! measures, and where the thresholds are, is not known here.

use std::sync::atomic::{AtomicU8, Ordering};

/// How far memory or loop lag is over what is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Pressure {
    /// Below every threshold.
    #[default]
    None,
    /// Over the first: nobody new is let in, idle keep-alive connections are closed.
    High,
    /// Over the second: the largest outboxes are closed as well.
    Critical,
}

impl Pressure {
    /// Every level, in order.
    pub const ALL: [Self; 3] = [Self::None, Self::High, Self::Critical];

    /// The name in logs and `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// The level now, for any thread to read.
#[derive(Debug, Default)]
pub struct PressureCell(AtomicU8);

impl PressureCell {
    /// The level now.
    #[inline]
    pub fn get(&self) -> Pressure {
        Pressure::ALL[usize::from(self.0.load(Ordering::Relaxed)).min(2)]
    }

    /// Moves to another level; returns the one before.
    pub fn set(&self, pressure: Pressure) -> Pressure {
        let before = self.0.swap(pressure as u8, Ordering::Relaxed);
        Pressure::ALL[usize::from(before).min(2)]
    }
}
