//! What connection code is given to stop with. It is told when, never why or by whom.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// One value for everything that must end before the process does.
///
/// `drain` is a child token of `force`, so forcing also drains. Tasks are spawned on `tasks`, so
/// waiting for them is complete by construction.
#[derive(Clone, Debug)]
pub struct Lifeline {
    /// Cancelled when the drain begins: stop accepting, finish what was accepted, tell peers to go.
    pub drain: CancellationToken,
    /// Cancelled when the drain is over: close what is left now.
    pub force: CancellationToken,
    /// Every task that the end of the process waits for.
    pub tasks: TaskTracker,
}

impl Lifeline {
    /// A lifeline on which nothing has been asked to end.
    pub fn new() -> Self {
        let force = CancellationToken::new();
        Self { drain: force.child_token(), force, tasks: TaskTracker::new() }
    }
}

impl Default for Lifeline {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forcing_also_drains_and_draining_does_not_force() {
        let drained = Lifeline::new();
        drained.drain.cancel();
        assert!(!drained.force.is_cancelled());

        let forced = Lifeline::new();
        forced.force.cancel();
        assert!(forced.drain.is_cancelled());
    }
}
