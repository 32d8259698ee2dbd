//! Signals of the operating system, as asks to stop. Nothing here knows what stopping takes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use futures_core::Stream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::{Handle, Signals as Arriving};
use tokio::sync::mpsc;

use crate::shutdown::Stop;

/// The signals that weir takes: SIGTERM and SIGINT stop it, SIGHUP does nothing yet. SIGPIPE is
/// ignored by Rust's runtime. They are taken from the moment this is made.
pub struct Signals(Arriving);

impl Signals {
    /// Takes the signals over. Process 1 of a container has no default handlers, so this comes
    /// first.
    ///
    /// # Errors
    ///
    /// The handlers could not be installed.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn install() -> io::Result<Self> {
        Arriving::new([SIGTERM, SIGINT, SIGHUP]).map(Self)
    }

    /// Ends the stream, so that the task that reads it ends.
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// Sends every signal on until the handle is closed. Signals that nobody takes are dropped:
    /// whoever stops listening has been told to stop.
    pub async fn forward(mut self, stops: mpsc::Sender<Stop>) {
        while let Some(signal) = poll_fn(|cx| Pin::new(&mut self.0).poll_next(cx)).await {
            let stop = match signal {
                SIGTERM => Stop::Signal("SIGTERM"),
                SIGINT => Stop::Signal("SIGINT"),
                _ => {
                    tracing::info!(signal, "ignored: there is no reload");
                    continue;
                }
            };
            if stops.try_send(stop).is_err() {
                tracing::debug!(signal, "already stopping");
            }
        }
    }
}
