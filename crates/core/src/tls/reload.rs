//! Certificates that change while weir runs: their files are read again at an interval and on
//! request, and what is good takes effect for the handshakes that begin then. Polling sees every
//! way of changing a file, the swapped links of a Kubernetes volume among them, and needs nothing
//! of the file system.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::files::TlsFault;
use super::metrics::ListenerTlsMetrics;
use super::settings::{Reloaded, TlsSettings};

/// How often files are looked at.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// TLS of one listener, and where it counts.
pub(crate) struct ListenerTls {
    pub(crate) listener: String,
    pub(crate) settings: TlsSettings,
    pub(crate) metrics: ListenerTlsMetrics,
    /// What was wrong when the files were looked at last: it is told once.
    fault: Mutex<Option<String>>,
}

/// What a reload came to for one listener.
#[derive(Debug)]
pub struct TlsReload {
    /// The listener's configured name.
    pub listener: String,
    /// Whether anything changed.
    ///
    /// # Errors
    /// Every fault; what was in force still is.
    pub result: Result<bool, Vec<TlsFault>>,
}

impl ListenerTls {
    /// Counts and tells what is in force from the start.
    pub(crate) fn new(
        listener: String,
        settings: TlsSettings,
        metrics: ListenerTlsMetrics,
    ) -> Arc<Self> {
        metrics.certificates(&[], &settings.expiries());
        Arc::new(Self { listener, settings, metrics, fault: Mutex::default() })
    }

    /// Reads the files again. Blocks on the disk.
    pub(crate) fn reload(&self) -> TlsReload {
        let before = self.settings.expiries();
        let result = self.settings.reload();
        let fault = result
            .as_ref()
            .err()
            .map(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        let news = *self.fault.lock() != fault;
        match (&result, &fault) {
            (Ok(Reloaded::Changed), _) => {
                self.metrics.certificates(&before, &self.settings.expiries());
                self.metrics.reloaded(true);
                tracing::info!(listener = self.listener, "certificates reloaded");
            }
            (Err(_), Some(fault)) if news => {
                self.metrics.reloaded(false);
                tracing::warn!(
                    listener = self.listener,
                    fault,
                    "certificates not reloaded; the last good ones stay"
                );
            }
            (Ok(Reloaded::Unchanged) | Err(_), _) => {}
        }
        *self.fault.lock() = fault;
        let result = result.map(|reloaded| reloaded == Reloaded::Changed);
        TlsReload { listener: self.listener.clone(), result }
    }
}

/// Looks at the files until `stop`.
pub(crate) async fn watch(listeners: Arc<[Arc<ListenerTls>]>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        reload(Arc::clone(&listeners)).await;
    }
}

/// Reads all files again.
pub(crate) async fn reload(listeners: Arc<[Arc<ListenerTls>]>) -> Vec<TlsReload> {
    let read = move || listeners.iter().map(|one| one.reload()).collect();
    // A slow disk holds up nobody but who asked.
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}
