//! Tells the service manager that started weir how it is: ready, stopping, alive. The protocol is
//! sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names. Knows no stage's meaning but
//! where serving begins and ends.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use weir_core::clock;
use weir_ops::Health;

use crate::config::environment::Manager;
use crate::shutdown::Stage;

/// How often the manager is told that weir lives, as a share of what it waits: sd_notify(3) says half.
const BEATS: u32 = 2;

/// The way to a service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Finds the manager's socket. A name that begins with `@` is one without a file.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub fn connect(manager: &Manager) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        let address = match manager.socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&manager.socket)?,
        };
        socket.connect_addr(&address)?;
        // Nothing in weir waits for who looks after it.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, watchdog: manager.watchdog })
    }

    /// Tells of every stage, and of every beat while `health` finds all event loops turning. Ends
    /// with the stages.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the manager hears no more.
    pub async fn follow(self, mut stage: watch::Receiver<Stage>, health: Arc<Health>) {
        self.enter(*stage.borrow_and_update());
        // Without a watchdog the beat of an hour is never told.
        let mut beat = interval(self.watchdog.map_or(Duration::from_secs(3600), |w| w / BEATS));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = stage.changed() => match changed {
                    Ok(()) => self.enter(*stage.borrow_and_update()),
                    Err(_) => return,
                },
                _ = beat.tick(), if self.watchdog.is_some() => {
                    if health.is_alive(clock::now()) {
                        self.tell("WATCHDOG=1");
                    }
                }
            }
        }
    }

    fn enter(&self, stage: Stage) {
        match stage {
            Stage::Starting => {}
            Stage::Serving => self.tell("READY=1\nSTATUS=serving"),
            // Each of them, because a short stage may pass unseen.
            Stage::Unready
            | Stage::Draining
            | Stage::Forcing
            | Stage::Flushing
            | Stage::Stopped => self.tell(&format!("STOPPING=1\nSTATUS={stage}")),
        }
    }

    fn tell(&self, state: &str) {
        if let Err(error) = self.socket.send(state.as_bytes()) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(10);

    fn manager(watchdog: Option<Duration>) -> (UnixDatagram, Notifier) {
        // One name for each test of each process.
        let name = format!("weir-notify-{}-{watchdog:?}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let socket = UnixDatagram::bind_addr(&address).expect("a name of our own");
        socket.set_nonblocking(true).expect("non-blocking");
        let notifier = Notifier::connect(&Manager { socket: format!("@{name}"), watchdog });
        (socket, notifier.expect("the socket is bound"))
    }

    async fn heard(socket: &UnixDatagram) -> String {
        let mut text = [0; 128];
        for _ in 0..1_000 {
            if let Ok(n) = socket.recv(&mut text) {
                return String::from_utf8_lossy(&text[..n]).into_owned();
            }
            tokio::task::yield_now().await;
        }
        panic!("nothing was told");
    }

    #[tokio::test]
    async fn the_manager_hears_of_the_begin_and_the_end_of_serving() {
        let (socket, notifier) = manager(None);
        let (stages, stage) = watch::channel(Stage::Starting);
        let health = Health::new(STALL, clock::now());
        let follow = notifier.follow(stage, health);
        let live = async {
            for (stage, told) in [
                (Stage::Serving, "READY=1\nSTATUS=serving"),
                (Stage::Unready, "STOPPING=1\nSTATUS=unready"),
                (Stage::Draining, "STOPPING=1\nSTATUS=draining"),
            ] {
                stages.send_replace(stage);
                assert_eq!(heard(&socket).await, told);
            }
            drop(stages);
        };
        tokio::join!(follow, live);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_only_while_every_loop_turns() {
        let watchdog = Duration::from_secs(30);
        let (socket, notifier) = manager(Some(watchdog));
        let (_stages, stage) = watch::channel(Stage::Starting);
        // Loops are held against the machine's clock, which is not paused: a stall is a beat of long
        // ago.
        let now = clock::now();
        let long_ago = now.checked_sub(STALL * 2).expect("the machine is older");
        let health = Health::new(STALL, long_ago);
        let worker = health.worker("weir-worker-0", now);
        let live = async {
            tokio::time::sleep(watchdog).await;
            worker.beat(long_ago);
            tokio::time::sleep(watchdog * 4).await;
        };
        tokio::select! {
            () = notifier.follow(stage, Arc::clone(&health)) => unreachable!("the stages go on"),
            () = live => {}
        }
        let mut told = 0;
        while socket.recv(&mut [0; 128]).is_ok() {
            told += 1;
        }
        assert!((2..=3).contains(&told), "told {told} times in 30 s of life and 120 s of a stall");
    }
}
