//! What a publish costs, by threads and shards: `cargo run --release -p weir-channels --example
//! publish_cost`. The figures stand in `docs/decisions/broker-shards.md`.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use weir_channels::broker::{
    Answer, Broker, Limits, Memory, Publication, Publish, Reader, StreamOptions, Subscribe,
};

const PUBLISHES: usize = 100_000;
const ROUNDS: usize = 15;
/// A worker that nobody outruns reads after so many.
const READ_EVERY: usize = 64;

#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    channels: usize,
    history: bool,
    subscribed: bool,
}

fn main() {
    let loads = [
        Load { name: "to nobody", channels: 1_000, history: false, subscribed: false },
        Load { name: "history", channels: 1_000, history: true, subscribed: false },
        Load { name: "worker", channels: 1_000, history: false, subscribed: true },
        Load { name: "history, worker", channels: 1_000, history: true, subscribed: true },
        Load { name: "history, worker, 1 channel", channels: 1, history: true, subscribed: true },
        Load {
            name: "history, 100,000 channels",
            channels: 100_000,
            history: true,
            subscribed: false,
        },
    ];
    println!("ns a publish of 128 bytes, by shards: best of {ROUNDS}");
    println!("{:28} threads {:>6} {:>6} {:>6} {:>6}", "", 1, 16, 64, 256);
    for load in loads {
        for threads in [1, 2] {
            let cells = [1, 16, 64, 256].map(|shards| best(load, threads, shards));
            let cells = cells.map(|ns| format!("{ns:6.0}")).join(" ");
            println!("{:28} {threads:7} {cells}", load.name);
        }
    }
}

/// Nanoseconds from the first to the last publish, divided by the publishes of one thread.
fn best(load: Load, threads: usize, shards: usize) -> f64 {
    let rounds = (0..ROUNDS).map(|_| round(load, threads, shards));
    rounds.min().expect("some rounds").as_nanos() as f64 / PUBLISHES as f64
}

fn round(load: Load, threads: usize, shards: usize) -> Duration {
    let broker = Memory::with_shards(Limits::default(), 7, shards);
    let names = (0..load.channels).map(|i| format!("namespace:channel {i}")).collect::<Vec<_>>();
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let run = || {
            let mut reader = Reader::new(|| ());
            let now = weir_core::clock::now();
            if load.subscribed {
                for name in &names {
                    let subscribe = Subscribe::default();
                    drop(broker.subscribe(reader.inbox(), name, subscribe, now));
                }
            }
            start.wait();
            let begun = weir_core::clock::now();
            publish(&broker, load, &names, &mut reader, now);
            begun.elapsed()
        };
        let threads = (0..threads).map(|_| scope.spawn(run)).collect::<Vec<_>>();
        threads.into_iter().map(|t| t.join().expect("no panic")).max().expect("some threads")
    })
}

fn publish(broker: &Memory, load: Load, names: &[String], reader: &mut Reader, now: Instant) {
    let hour = Duration::from_secs(3600);
    let stream = StreamOptions { size: 100, ttl: hour, meta_ttl: hour };
    let how = Publish { stream: load.history.then_some(stream), ..Publish::default() };
    let inbox = reader.inbox().clone();
    let mut live = Vec::new();
    let mut draw = 1_usize;
    for i in 0..PUBLISHES {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = &names[(draw >> 33) % names.len()];
        let publication = Publication::new(&[b'x'; 128], 0, now);
        let Answer::Now(Ok(published)) = broker.publish(name, publication, how, now) else {
            panic!("it is neither refused nor late");
        };
        black_box(published);
        if load.subscribed && i % READ_EVERY == 0 {
            reader.drain(READ_EVERY, |channel| broker.read(&inbox, channel, 64, &mut live).more);
            live.clear();
        }
    }
}
