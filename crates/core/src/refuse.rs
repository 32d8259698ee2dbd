//! Telling a refused peer why, in its own form, without letting the telling become a load: a
//! bounded number at a time, each for at most a second and 64 KiB; beyond it, reset and count.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::admission::Refusal;
use crate::metrics::CoreMetrics;
use crate::service::MessageKind;
use crate::site::Site;

/// Refused peers that are being told at the same time.
const TELLING_MAX: usize = 64;
/// Input of a refused peer that is discarded.
const DISCARD_BYTES_MAX: usize = 64 * 1024;
/// How long a refused peer is listened to after it was told.
const LINGER: Duration = Duration::from_secs(1);

/// What a refused peer of one listener is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RefusalForm {
    /// A message of this site's wire.
    Message(u16),
    /// HTTP 503 with Retry-After.
    Http,
    /// Nothing, where it would have to be said in TLS: only the end.
    Silence,
}

/// Tells refused peers. Runs on the service runtime.
#[derive(Clone)]
pub(crate) struct Refuser {
    telling: Arc<Semaphore>,
    metrics: Arc<CoreMetrics>,
    sites: Arc<[Site]>,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Refuser {
    pub(crate) fn new(
        metrics: Arc<CoreMetrics>,
        sites: Arc<[Site]>,
        tasks: TaskTracker,
        runtime: Handle,
    ) -> Self {
        Self { telling: Arc::new(Semaphore::new(TELLING_MAX)), metrics, sites, tasks, runtime }
    }

    /// Counts the refusal and tells it, if fewer than the bound are being told.
    pub(crate) fn refuse(
        &self,
        socket: TcpStream,
        listener: u16,
        refusal: Refusal,
        form: &RefusalForm,
    ) {
        self.metrics.refused(listener, refusal);
        let Ok(turn) = Arc::clone(&self.telling).try_acquire_owned() else {
            self.metrics.linger_reset(listener);
            if let Err(error) = SockRef::from(&socket).set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "SO_LINGER not set");
            }
            return;
        };
        let answer = answer(&self.sites, refusal, form);
        let task = async move {
            let socket = tokio::net::TcpStream::from_std(socket);
            let told = async { tell(socket?, &answer).await };
            if let Err(error) = told.await {
                tracing::debug!(%error, "a refused peer could not be told");
            }
            drop(turn);
        };
        self.tasks.spawn_on(task, &self.runtime);
    }
}

/// What a refused peer is told.
pub(crate) fn answer(sites: &[Site], refusal: Refusal, form: &RefusalForm) -> Vec<u8> {
    let text = refusal.text();
    match form {
        RefusalForm::Message(site) => {
            let mut out = Vec::new();
            let line = format!("error: {text}");
            let site = &sites[usize::from(*site)];
            site.wire.encode(line.as_bytes(), MessageKind::Text, &mut out);
            out
        }
        RefusalForm::Silence => Vec::new(),
        RefusalForm::Http => {
            let body = format!("{{\"error\":\"{text}\"}}\n");
            format!(
                "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        }
    }
}

/// Writes, shuts the write side, discards: closing with unread input would reset the answer away.
pub(crate) async fn tell(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
) -> std::io::Result<()> {
    let telling = async {
        socket.write_all(answer).await?;
        socket.shutdown().await?;
        let mut discarded = 0;
        let mut scratch = [0; 4096];
        while discarded < DISCARD_BYTES_MAX {
            match socket.read(&mut scratch).await? {
                0 => break,
                n => discarded += n,
            }
        }
        Ok(())
    };
    tokio::time::timeout(LINGER, telling).await.unwrap_or(Ok(()))
}
