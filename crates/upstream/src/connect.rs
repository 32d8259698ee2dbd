//! Making one HTTP/1.1 connection, and the handle that keeps it open. Nothing here decides
//! whether there may be one: that right is the slot, which outlives the socket everywhere.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::ConnectFault;
use crate::lease::Slot;
use crate::origin::Origin;
use crate::socket::{Socket, SocketView};
use crate::targets::Serial;

/// Most bytes of a response's head, and of the read buffer of a connection.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most header fields of a response.
const HEADERS_MAX: usize = 100;

/// Makes connections whose drivers run on one runtime, on one tracker.
pub(crate) struct Connector {
    tls: Option<TlsConnector>,
    runtime: Handle,
    tasks: TaskTracker,
    /// Closes every connection at once, whatever it is doing.
    force: CancellationToken,
}

/// An open connection: dropping it closes the socket at once, in the middle of whatever runs.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    pub(crate) socket: SocketView,
    /// It has carried a whole exchange before.
    pub(crate) kept: bool,
    serial: Serial,
    /// The driver ends when this is dropped. Nothing is ever sent.
    _alive: oneshot::Sender<Infallible>,
    /// Has the slot once the socket is closed, and drops it with the handle.
    ended: oneshot::Receiver<Slot>,
}

impl Connection {
    pub(crate) fn serial(&self) -> Serial {
        self.serial
    }

    /// Whether the socket is closed, by the target or by an error.
    pub(crate) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Closes the connection and returns its slot, once the socket is closed. `None` when the
    /// runtime is going away. Cancel safe: the slot is given back to the pool.
    pub(crate) async fn into_slot(self) -> Option<Slot> {
        let Self { sender, _alive, ended, .. } = self;
        drop((sender, _alive));
        ended.await.ok()
    }
}

impl Connector {
    pub(crate) fn new(
        tls: Option<TlsConnector>,
        runtime: Handle,
        tasks: TaskTracker,
        force: CancellationToken,
    ) -> Self {
        Self { tls, runtime, tasks, force }
    }

    /// Connects, with TLS if the origin wants it. Cancel safe: the socket is closed before the
    /// slot is given back.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        address: SocketAddr,
        slot: Slot,
    ) -> Result<Connection, ConnectFault> {
        // Declared after the slot, so it is dropped before it.
        let tcp = TcpStream::connect(address).await.map_err(ConnectFault::Tcp)?;
        tcp.set_nodelay(true).map_err(ConnectFault::Tcp)?;
        let socket = Socket::new(tcp);
        let view = socket.view();
        match (&self.tls, &origin.tls) {
            (Some(tls), Some(name)) => {
                let tls = tls.connect(name.clone(), socket).await.map_err(ConnectFault::Tls)?;
                self.start(tls, view, slot).await
            }
            _ => self.start(socket, view, slot).await,
        }
    }

    async fn start<IO>(
        &self,
        io: IO,
        socket: SocketView,
        slot: Slot,
    ) -> Result<Connection, ConnectFault>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let (sender, driver) =
            builder.handshake(TokioIo::new(io)).await.map_err(ConnectFault::Http)?;
        let (alive, mut dropped) = oneshot::channel::<Infallible>();
        let (end, ended) = oneshot::channel();
        let serial = slot.serial();
        let force = self.force.clone();
        let drive = async move {
            // Every future of the select, the socket with it, is gone before the slot goes.
            tokio::select! {
                result = driver => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "upstream connection broke");
                    }
                }
                _ = &mut dropped => {}
                () = force.cancelled() => {}
            }
            // The slot goes to the handle; if that is gone it goes back to the pool here. A handle
            // that lies in the pool has to be told.
            let mark = slot.mark();
            drop(end.send(slot));
            mark.ended();
        };
        drop(self.tasks.spawn_on(drive, &self.runtime));
        Ok(Connection { sender, socket, kept: false, serial, _alive: alive, ended })
    }
}
