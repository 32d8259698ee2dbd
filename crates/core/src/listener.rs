//! Binding, and the accept loop with its back-off. Applies no limits: admission does.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio_util::sync::CancellationToken;

use crate::metrics::AcceptErrorKind;
use crate::poll;

/// Socket options of a listener. Accepted sockets inherit them on Linux, so that an accept costs
/// one system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Connections the kernel holds until they are accepted.
    pub backlog: u32,
    /// Idle time before TCP probes a silent peer.
    pub keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT).
    pub user_timeout: Option<Duration>,
    /// Bytes the kernel takes that it cannot send yet (TCP_NOTSENT_LOWAT). `None`: as many as its
    /// buffers hold.
    pub unsent_bytes_max: Option<u32>,
}

/// Binds `address` and listens, without accepting.
///
/// # Errors
/// Those of the operating system, such as an address in use.
pub fn bind(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(idle) = options.keepalive {
        let probes = TcpKeepalive::new().with_time(idle).with_interval(idle / 4 + ONE_SECOND);
        socket.set_tcp_keepalive(&probes.with_retries(4))?;
    }
    socket.set_tcp_user_timeout(options.user_timeout)?;
    if let Some(max) = options.unsent_bytes_max {
        socket.set_tcp_notsent_lowat(max)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

const ONE_SECOND: Duration = Duration::from_secs(1);
/// Accepts before other tasks of the runtime have their turn.
const BATCH: usize = 64;
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What an accept loop hands its sockets and errors to.
pub(crate) trait Accepting {
    /// A socket was accepted: non-blocking, close-on-exec, registered nowhere.
    async fn accepted(&mut self, socket: TcpStream, peer: SocketAddr);
    /// An accept failed.
    fn failed(&mut self, error: &io::Error, kind: AcceptErrorKind);
}

/// Accepts until `drain` is cancelled and the backlog is empty; then the listener is closed.
///
/// An error of one peer is skipped. Any other backs off 10 ms, doubling to 1 s until an accept
/// succeeds, so that a process without descriptors does not spin.
///
/// # Errors
/// When the listener cannot be watched.
pub(crate) async fn accept_loop(
    listener: TcpListener,
    drain: CancellationToken,
    mut to: impl Accepting,
) -> io::Result<()> {
    let listener = poll::watch(listener)?;
    let mut backoff = BACKOFF_MIN;
    loop {
        let draining = drain.is_cancelled();
        match accept_batch(listener.get_ref(), &mut to).await {
            Batch::More => {
                backoff = BACKOFF_MIN;
                tokio::task::yield_now().await;
            }
            Batch::Empty if draining => return Ok(()),
            Batch::Empty => {
                backoff = BACKOFF_MIN;
                tokio::select! {
                    ready = listener.readable() => ready?.clear_ready(),
                    () = drain.cancelled() => {}
                }
            }
            Batch::Failed if draining => return Ok(()),
            Batch::Failed => {
                tokio::select! {
                    () = tokio::time::sleep(backoff) => {}
                    () = drain.cancelled() => {}
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

enum Batch {
    More,
    Empty,
    Failed,
}

async fn accept_batch(listener: &TcpListener, to: &mut impl Accepting) -> Batch {
    for _ in 0..BATCH {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let error: io::Error = match acceptfrom_with(listener, flags) {
            Ok((socket, peer)) => {
                if let Some(Ok(peer)) = peer.map(SocketAddr::try_from) {
                    to.accepted(TcpStream::from(socket), peer).await;
                }
                continue;
            }
            Err(errno) => errno.into(),
        };
        let kind = classify(&error);
        if error.kind() == io::ErrorKind::WouldBlock {
            return Batch::Empty;
        }
        if error.kind() == io::ErrorKind::Interrupted {
            continue;
        }
        to.failed(&error, kind);
        if kind != AcceptErrorKind::Peer {
            return Batch::Failed;
        }
    }
    Batch::More
}

fn classify(error: &io::Error) -> AcceptErrorKind {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(
            Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::TIMEDOUT,
        ) => AcceptErrorKind::Peer,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => AcceptErrorKind::Files,
        _ => AcceptErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_one_peer_are_told_from_those_of_the_process() {
        let check = |errno: rustix::io::Errno, kind| {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(classify(&error), kind);
        };
        check(rustix::io::Errno::CONNABORTED, AcceptErrorKind::Peer);
        check(rustix::io::Errno::MFILE, AcceptErrorKind::Files);
        check(rustix::io::Errno::INVAL, AcceptErrorKind::Other);
    }

    #[test]
    fn a_bound_listener_has_the_options_that_accepted_sockets_inherit() {
        let options = SocketOptions {
            backlog: 16,
            keepalive: Some(Duration::from_secs(60)),
            user_timeout: Some(Duration::from_secs(30)),
            unsent_bytes_max: Some(100_000),
        };
        let listener = bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = socket2::SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), options.user_timeout);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 100_000);
    }
}
