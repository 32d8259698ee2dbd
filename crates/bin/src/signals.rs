//! Signals of the operating system, as asks to stop or to reload. Nothing here knows what either
//! takes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_core::Stream;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use signal_hook_tokio::Signals as Arriving;
use tokio::sync::{Notify, mpsc};

use crate::shutdown::Stop;

/// The signals that weir takes: SIGTERM and SIGINT stop it, SIGHUP reads its configuration again.
/// SIGPIPE is ignored by Rust's runtime.
#[derive(Debug)]
pub struct Signals {
    early: Vec<Early>,
}

/// A signal that may come before there is a runtime that reads signals.
#[derive(Debug)]
struct Early {
    signal: i32,
    came: Arc<AtomicBool>,
    id: SigId,
}

impl Signals {
    /// Takes the signals over; what comes before [`Signals::forward`] is kept. Process 1 of a
    /// container has no default handlers, so this comes before everything else.
    ///
    /// # Errors
    ///
    /// The handlers could not be installed.
    pub fn install() -> io::Result<Self> {
        let early = [SIGTERM, SIGINT, SIGHUP].map(|signal| {
            let came = Arc::new(AtomicBool::new(false));
            let id = flag::register(signal, Arc::clone(&came))?;
            Ok(Early { signal, came, id })
        });
        Ok(Self { early: early.into_iter().collect::<io::Result<_>>()? })
    }

    /// Sends every signal on, for ever. Asks to stop that find no room are dropped: whoever does not
    /// read them has been told to stop. Asks to reload that come together are one.
    ///
    /// # Cancel safety
    ///
    /// When dropped, signals do nothing any more.
    pub async fn forward(self, stops: mpsc::Sender<Stop>, reloads: Arc<Notify>) {
        let mut arriving = match Arriving::new(self.early.iter().map(|early| early.signal)) {
            Ok(arriving) => Closing(arriving),
            Err(error) => {
                tracing::error!(%error, "signals are not read any more");
                return;
            }
        };
        // The stream is there first. A signal in between is told twice, which forces a stop that
        // has nothing to lose yet; the other way round it would be told never.
        for early in self.early {
            low_level::unregister(early.id);
            if early.came.load(Ordering::SeqCst) {
                send(early.signal, &stops, &reloads);
            }
        }
        while let Some(signal) = poll_fn(|cx| Pin::new(&mut arriving.0).poll_next(cx)).await {
            send(signal, &stops, &reloads);
        }
    }
}

/// Closes the stream's handle when its reader ends.
struct Closing(Arriving);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.handle().close();
    }
}

fn send(signal: i32, stops: &mpsc::Sender<Stop>, reloads: &Notify) {
    let stop = match signal {
        SIGTERM => Stop::Signal("SIGTERM"),
        SIGINT => Stop::Signal("SIGINT"),
        _ => return reloads.notify_one(),
    };
    if stops.try_send(stop).is_err() {
        tracing::debug!(signal, "already stopping");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn signals_before_and_after_there_is_a_reader_are_each_told_once() {
        let signals = Signals::install().expect("handlers");
        low_level::raise(SIGTERM).expect("a signal");
        let (stops, mut asked) = mpsc::channel(4);
        let reloads = Arc::new(Notify::new());
        let tell_later = async {
            assert_eq!(asked.recv().await, Some(Stop::Signal("SIGTERM")));
            low_level::raise(SIGHUP).expect("a signal");
            reloads.notified().await;
            low_level::raise(SIGINT).expect("a signal");
            assert_eq!(asked.recv().await, Some(Stop::Signal("SIGINT")));
            assert!(asked.try_recv().is_err());
        };
        tokio::select! {
            () = signals.forward(stops, Arc::clone(&reloads)) => panic!("the stream ended"),
            () = tell_later => {}
        }
    }
}
