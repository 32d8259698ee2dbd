//! A broker, a clock that is moved by hand, and workers that note what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weir_channels::broker::{
    Answer, Broker, BrokerError, ChannelId, Event, Limits, Live, Memory, Page, Position,
    Publication, Publish, Published, Range, Read, Reader, Since, StreamOptions, Subscribe,
    Subscribed,
};

pub(crate) const CHANNEL: &str = "news";
pub(crate) const META_TTL: Duration = Duration::from_secs(3600);

/// Keeps ten publications for a minute, and the stream for an hour.
pub(crate) fn ten() -> StreamOptions {
    StreamOptions { size: 10, ttl: Duration::from_secs(60), meta_ttl: META_TTL }
}

/// What a broker in place has answered.
pub(crate) fn answered<T>(answer: Answer<T>) -> Result<T, BrokerError> {
    match answer {
        Answer::Now(result) => result,
        Answer::Later(_) => panic!("a broker in place answers in place"),
    }
}

pub(crate) struct World {
    pub(crate) broker: Memory,
    pub(crate) now: Instant,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self { broker: Memory::new(limits, 1), now: weir_core::clock::now() }
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    pub(crate) fn publish_as(
        &self,
        channel: &str,
        data: &str,
        publish: Publish<'_>,
    ) -> Result<Published, BrokerError> {
        let publication = Publication::new(data.as_bytes(), 0, self.now);
        answered(self.broker.publish(channel, publication, publish, self.now))
    }

    /// Publishes with history, and gives the place.
    pub(crate) fn publish(&self, data: &str) -> Position {
        let publish = Publish { stream: Some(ten()), ..Publish::default() };
        self.publish_as(CHANNEL, data, publish).unwrap().position.unwrap()
    }

    /// Publishes without history.
    pub(crate) fn say(&self, data: &str) {
        let published = self.publish_as(CHANNEL, data, Publish::default()).unwrap();
        assert_eq!(published.position, None);
    }

    pub(crate) fn history(&self, range: Range<'_>) -> Result<Page, BrokerError> {
        answered(self.broker.history(CHANNEL, range, META_TTL, self.now))
    }

    /// The payloads of the whole history.
    pub(crate) fn kept(&self) -> Vec<String> {
        let page = self.history(Range { limit: usize::MAX, ..Range::default() }).unwrap();
        page.publications.iter().map(|publication| text(publication)).collect()
    }

    pub(crate) fn subscribe(&self, worker: &Worker, recover: Option<Since<'_>>) -> Subscribed {
        let subscribe = Subscribe { meta_ttl: Some(META_TTL), recover };
        let inbox = worker.reader.inbox();
        answered(self.broker.subscribe(inbox, CHANNEL, subscribe, self.now)).unwrap()
    }

    pub(crate) fn unsubscribe(&self, worker: &Worker, channel: ChannelId) {
        self.broker.unsubscribe(worker.reader.inbox(), channel, self.now);
    }
}

pub(crate) fn text(publication: &Publication) -> String {
    String::from_utf8(publication.data.to_vec()).unwrap()
}

/// The offset of an event, which is a publication.
pub(crate) fn offset(live: &Live) -> u64 {
    let Event::Publication(publication) = &live.event else { panic!("{live:?}") };
    publication.offset()
}

/// Writes an event as a word.
pub(crate) fn word(live: &Live) -> String {
    match &live.event {
        Event::Publication(publication) => text(publication),
        Event::Join(info) => format!("+{}", info.client),
        Event::Leave(info) => format!("-{}", info.client),
        Event::Reset(_) => "reset".to_owned(),
    }
}

/// One worker and how often it was woken.
pub(crate) struct Worker {
    pub(crate) reader: Reader,
    pub(crate) wakes: Arc<AtomicUsize>,
    /// What its last reads have said beside the events.
    pub(crate) reads: Vec<Read>,
}

impl Worker {
    pub(crate) fn new() -> Self {
        let wakes = Arc::new(AtomicUsize::new(0));
        let woken = Arc::clone(&wakes);
        let wake = move || {
            woken.fetch_add(1, Ordering::Relaxed);
        };
        Self { reader: Reader::new(wake), wakes, reads: Vec::new() }
    }

    pub(crate) fn woken(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }

    /// Reads all there is, `max` events at a time.
    pub(crate) fn drain(&mut self, broker: &impl Broker, max: usize) -> Vec<Live> {
        let mut events = Vec::new();
        let inbox = Arc::clone(self.reader.inbox());
        self.reads.clear();
        self.reader.drain(1000, |channel| {
            let read = broker.read(&inbox, channel, max, &mut events);
            self.reads.push(read);
            read.more
        });
        events
    }

    /// As [`Worker::drain`], as words.
    pub(crate) fn words(&mut self, broker: &impl Broker) -> Vec<String> {
        self.drain(broker, 100).iter().map(word).collect()
    }
}
