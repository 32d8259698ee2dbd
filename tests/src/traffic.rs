//! A client that never stops asking while something else is tried. It judges its own answers and
//! nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;

use crate::{Client as _, Gateway, LinePeer};

/// A client of the listener "lines" that panics at an answer that is lost or wrong.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Traffic {
    /// Joins, and begins to ask.
    pub async fn start(gateway: &Gateway) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut client = LinePeer::join(gateway).await;
        let (stopping, counted) = (Arc::clone(&stop), Arc::clone(&answers));
        let task = tokio::spawn(async move {
            for n in 0_u64.. {
                client.say(&n.to_string()).await;
                assert_eq!(client.hear().await, n.to_string());
                counted.fetch_add(1, Ordering::Relaxed);
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        Self { stop, answers, task }
    }

    /// Ends it; says how many answers came.
    ///
    /// # Panics
    ///
    /// When one was lost or wrong.
    pub async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no answer was lost or wrong");
        self.answers.load(Ordering::Relaxed)
    }
}
