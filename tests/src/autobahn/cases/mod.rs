//! The table, a file for each kind of cases. The numbers are the suite's.

mod close;
mod control;
mod fragments;
mod framing;
mod limits;
mod utf8;

use super::case::Case;

/// Every case, in the suite's order.
pub fn all() -> Vec<Case> {
    let sections = [
        framing::cases(),
        control::pings(),
        control::reserved_bits(),
        control::opcodes(),
        fragments::cases(),
        utf8::cases(),
        close::cases(),
        limits::cases(),
    ];
    sections.into_iter().flatten().collect()
}
