//! What connection code is given to stop with. It is told when, never why or by whom.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// One value for everything that must end before the process does.
///
/// `drain` is a child token of `force` and `notice` one of `drain`, so each also does what comes
/// before it. Tasks are spawned on `tasks`, so
/// waiting for them is complete by construction.
#[derive(Clone, Debug)]
pub struct Lifeline {
    /// Cancelled when it is known that the drain will come, while balancers still send: everything
    /// is served as before, but an HTTP response is the last one on its connection. So no balancer
    /// reuses a connection in the moment in which the drain closes it, with a request that it must
    /// not repeat (RFC 9112, section 9.3.1).
    pub notice: CancellationToken,
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
        let drain = force.child_token();
        Self { notice: drain.child_token(), drain, force, tasks: TaskTracker::new() }
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
    fn each_step_takes_those_before_it_along_and_none_behind_it() {
        let noticed = Lifeline::new();
        noticed.notice.cancel();
        assert!(!noticed.drain.is_cancelled());

        let drained = Lifeline::new();
        drained.drain.cancel();
        assert!(drained.notice.is_cancelled() && !drained.force.is_cancelled());

        let forced = Lifeline::new();
        forced.force.cancel();
        assert!(forced.drain.is_cancelled());
    }
}
