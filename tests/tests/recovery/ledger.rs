//! What was acknowledged to the publishers: which publication stands at which offset.

use std::collections::HashMap;
use std::sync::Mutex;

/// A stream: channel and epoch.
type Stream = (String, String);

/// The truth, as the publishers were told it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    acknowledged: HashMap<Stream, HashMap<u64, u64>>,
    tops: HashMap<String, (String, u64)>,
}

impl Ledger {
    /// The publication `id` was acknowledged.
    ///
    /// # Panics
    ///
    /// When its offset was given to another one before.
    pub(crate) fn acknowledge(&self, channel: &str, epoch: &str, offset: u64, id: u64) {
        let mut kept = self.kept.lock().expect("nobody panics with it");
        let stream = kept.acknowledged.entry((channel.to_owned(), epoch.to_owned())).or_default();
        let before = stream.insert(offset, id);
        assert_eq!(before, None, "{channel} has two publications at {offset} of {epoch}");
    }

    /// Checks what a subscriber was told. A publication whose answer was cut off is not known here
    /// and may stand there all the same.
    pub(crate) fn check(&self, channel: &str, epoch: &str, offset: u64, id: u64) {
        let kept = self.kept.lock().expect("nobody panics with it");
        let stream = kept.acknowledged.get(&(channel.to_owned(), epoch.to_owned()));
        if let Some(acknowledged) = stream.and_then(|stream| stream.get(&offset)) {
            assert_eq!(*acknowledged, id, "{channel} at {offset} of {epoch}");
        }
    }

    /// Where each stream ended: nothing is published any more.
    pub(crate) fn close(&self, tops: &[(String, String, u64)]) {
        let mut kept = self.kept.lock().expect("nobody panics with it");
        for (channel, epoch, offset) in tops {
            let stream = kept.acknowledged.get(&(channel.clone(), epoch.clone()));
            let last = stream.and_then(|stream| stream.keys().max()).copied().unwrap_or(0);
            assert!(last <= *offset, "{channel}: {last} was acknowledged and {offset} is the top");
            kept.tops.insert(channel.clone(), (epoch.clone(), *offset));
        }
    }

    /// Where a stream ended, once it has.
    pub(crate) fn top(&self, channel: &str) -> Option<(String, u64)> {
        self.kept.lock().expect("nobody panics with it").tops.get(channel).cloned()
    }

    /// How many publications were acknowledged.
    pub(crate) fn published(&self) -> usize {
        let kept = self.kept.lock().expect("nobody panics with it");
        kept.acknowledged.values().map(HashMap::len).sum()
    }
}
