//! The memory broker through its seam: what a publisher, a worker and a subscriber may rely on.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

mod bounds;
mod faulty;
mod history;
mod live;
mod model;
mod presence;
mod recovery;
mod support;
