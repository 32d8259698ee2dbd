//! Which sampled span this thread is working for, so that a log line can name it. A value of the
//! thread, set for the time of a call or of one poll of a future.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::TraceContext;

thread_local! {
    static CURRENT: Cell<Option<(u128, u64)>> = const { Cell::new(None) };
}

/// The trace and the span that this thread is working for.
pub fn ids() -> Option<(u128, u64)> {
    CURRENT.get()
}

/// Runs `work` for this span.
pub(crate) fn within<R>(context: &TraceContext, work: impl FnOnce() -> R) -> R {
    let _back = Back(CURRENT.replace(Some((context.trace_id, context.span_id))));
    work()
}

/// Puts back what was there, also after a panic.
struct Back(Option<(u128, u64)>);

impl Drop for Back {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// A future each of whose polls is for a span.
pub(crate) struct Within<F: ?Sized> {
    pub(crate) context: TraceContext,
    pub(crate) inner: Pin<Box<F>>,
}

impl<F: Future + ?Sized> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        within(&this.context, || this.inner.as_mut().poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(trace_id: u128) -> TraceContext {
        TraceContext { trace_id, span_id: 2, sampled: true, state: None }
    }

    #[test]
    fn the_span_is_named_inside_and_the_one_before_is_back_behind_it() {
        assert_eq!(ids(), None);
        within(&context(1), || {
            assert_eq!(ids(), Some((1, 2)));
            let panicked = std::panic::catch_unwind(|| within(&context(3), || panic!("inside")));
            assert!(panicked.is_err());
            assert_eq!(ids(), Some((1, 2)));
        });
        assert_eq!(ids(), None);
    }

    #[tokio::test]
    async fn a_future_is_named_while_it_is_polled_and_not_between() {
        let inner = Box::pin(async {
            assert_eq!(ids(), Some((1, 2)));
            tokio::task::yield_now().await;
            ids()
        });
        let task = Within { context: context(1), inner };
        let beside = async { ids() };
        assert_eq!(tokio::join!(task, beside), (Some((1, 2)), None));
    }
}
