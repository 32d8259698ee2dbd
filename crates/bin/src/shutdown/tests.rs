//! The stages under a clock that the tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus::Registry;
use tokio::time::sleep;

use super::*;
use crate::config::units::Grace;

const SECOND: Duration = Duration::from_secs(1);

/// Work of which some finishes after a drain, and of which the rest gives in to force.
#[derive(Clone, Default)]
struct Work {
    remaining: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    flushed: Arc<AtomicBool>,
    flush_takes: Duration,
}

impl Stoppable for Work {
    fn remaining(&self) -> u64 {
        self.remaining.load(Ordering::Relaxed)
    }

    fn lost(&self) -> Lost {
        Lost { in_flight: 0, undelivered: self.lost.load(Ordering::Relaxed), notices: 0 }
    }

    async fn flush(&mut self) {
        sleep(self.flush_takes).await;
        self.flushed.store(true, Ordering::Relaxed);
    }
}

/// A machine, and the hands on its levers.
struct World {
    work: Work,
    lifeline: Lifeline,
    stops: mpsc::Sender<Stop>,
    registry: Registry,
    begun: Instant,
}

/// Seconds since the start at which each stage was entered.
type Times = Vec<(Stage, u64)>;

impl World {
    /// A world with this many open connections.
    fn with(connections: u64) -> (Self, Shutdown) {
        let (stops, asked) = mpsc::channel(8);
        let registry = Registry::new();
        let metrics = StageMetrics::register(&registry).expect("a fresh registry");
        let lifeline = Lifeline::new();
        let grace = |seconds| Grace(SECOND * seconds);
        let graces = Graces {
            unready: grace(5),
            drain: grace(20),
            force: grace(4),
            flush: grace(3),
            grace_period: None,
        };
        let machine = Shutdown::new(graces, lifeline.clone(), asked, metrics);
        let work = Work { flush_takes: SECOND / 10, ..Work::default() };
        work.remaining.store(connections, Ordering::Relaxed);
        (Self { work, lifeline, stops, registry, begun: Instant::now() }, machine)
    }

    /// Connections end `after` the drain has begun.
    fn drains(&self, after: Duration) {
        let (lifeline, work) = (self.lifeline.clone(), self.work.clone());
        self.lifeline.tasks.spawn(async move {
            lifeline.drain.cancelled().await;
            sleep(after).await;
            work.remaining.store(0, Ordering::Relaxed);
        });
    }

    /// What remains gives in to force, and loses `lost` connections' work.
    fn gives_in(&self, lost: u64) {
        let (lifeline, work) = (self.lifeline.clone(), self.work.clone());
        self.lifeline.tasks.spawn(async move {
            lifeline.force.cancelled().await;
            work.lost.store(lost, Ordering::Relaxed);
            work.remaining.store(0, Ordering::Relaxed);
        });
    }

    /// Signals come at these seconds.
    fn signals(&self, at: &'static [u64]) {
        let (stops, begun) = (self.stops.clone(), self.begun);
        self.lifeline.tasks.spawn(async move {
            for second in at {
                sleep_until(begun + SECOND * u32::try_from(*second).expect("small")).await;
                stops.try_send(Stop::Signal("SIGTERM")).expect("room");
            }
        });
    }

    /// Runs the machine to its end.
    async fn run(&mut self, machine: Shutdown) -> (Outcome, Times) {
        let mut stage = machine.stage();
        let begun = self.begun;
        let watching = async {
            let mut times = Vec::new();
            while stage.changed().await.is_ok() {
                let stage = *stage.borrow_and_update();
                times.push((stage, begun.elapsed().as_secs()));
            }
            times
        };
        tokio::join!(machine.run(std::future::ready(()), &mut self.work), watching)
    }

    fn metric(&self, name: &str, stage: Stage) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("a family");
        let metrics = family.get_metric().iter();
        let mut metrics = metrics.filter(|m| m.get_label()[0].value() == stage.as_str());
        metrics.next().expect("every stage is there from the start").get_gauge().get_value()
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_goes_through_the_stages_and_skips_the_force_when_nothing_is_left() {
    let (mut world, machine) = World::with(3);
    world.drains(2 * SECOND);
    world.signals(&[10]);
    let (outcome, times) = world.run(machine).await;
    assert_eq!(outcome, Outcome::Complete);
    assert_eq!(
        times,
        [
            (Stage::Serving, 0),
            (Stage::Unready, 10),
            (Stage::Draining, 15),
            (Stage::Flushing, 17),
            (Stage::Stopped, 17),
        ]
    );
    assert!(world.work.flushed.load(Ordering::Relaxed));
    assert_eq!(world.metric("weir_shutdown_stage_seconds", Stage::Unready), 5.0);
    for stage in Stage::ALL {
        let on = f64::from(u8::from(stage == Stage::Stopped));
        assert_eq!(world.metric("weir_shutdown_stage", stage), on, "{stage}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_go_is_forced_at_the_deadline_and_the_loss_is_told() {
    let (mut world, machine) = World::with(20);
    world.gives_in(20);
    world.signals(&[0]);
    let (outcome, times) = world.run(machine).await;
    assert_eq!(outcome, Outcome::Lossy);
    let stages = [(Stage::Draining, 5), (Stage::Forcing, 25), (Stage::Flushing, 25)];
    assert_eq!(times[2..5], stages);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_that_are_forced_are_no_loss() {
    let (mut world, machine) = World::with(5);
    world.gives_in(0);
    world.signals(&[0]);
    assert_eq!(world.run(machine).await.0, Outcome::Complete);
}

#[tokio::test(start_paused = true)]
async fn the_force_and_the_flush_have_their_time_and_no_more() {
    let (mut world, machine) = World::with(1);
    world.work.flush_takes = 60 * SECOND;
    world.signals(&[0]);
    let (outcome, times) = world.run(machine).await;
    assert_eq!(outcome, Outcome::Lossy);
    let stages = [(Stage::Forcing, 25), (Stage::Flushing, 29), (Stage::Stopped, 32)];
    assert_eq!(times[3..], stages);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_goes_straight_to_the_force() {
    let (mut world, machine) = World::with(1);
    world.gives_in(1);
    world.signals(&[0, 2]);
    let (outcome, times) = world.run(machine).await;
    assert_eq!(outcome, Outcome::Lossy);
    assert_eq!(times[1..4], [(Stage::Unready, 0), (Stage::Forcing, 2), (Stage::Flushing, 2)]);
    assert!(world.lifeline.drain.is_cancelled(), "the listeners close too");
}

#[tokio::test(start_paused = true)]
async fn a_third_signal_ends_the_process() {
    let (mut world, machine) = World::with(1);
    world.signals(&[0, 7, 8]);
    let (outcome, times) = world.run(machine).await;
    assert_eq!(outcome, Outcome::Abandoned);
    assert_eq!(times.last(), Some(&(Stage::Forcing, 7)));
    assert_eq!(world.begun.elapsed().as_secs(), 8);
}

#[tokio::test(start_paused = true)]
async fn asking_by_post_first_does_not_turn_the_first_signal_into_the_second() {
    let (mut world, machine) = World::with(1);
    world.drains(SECOND);
    world.stops.try_send(Stop::Request).expect("room");
    world.stops.try_send(Stop::Request).expect("room");
    world.signals(&[2]);
    let (outcome, times) = world.run(machine).await;
    assert_eq!(outcome, Outcome::Complete);
    assert_eq!(times[..3], [(Stage::Unready, 0), (Stage::Draining, 5), (Stage::Flushing, 6)]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_everything_is_ready_serves_nothing() {
    let (mut world, machine) = World::with(0);
    world.stops.try_send(Stop::Signal("SIGINT")).expect("room");
    let mut stage = machine.stage();
    let outcome = machine.run(std::future::pending(), &mut world.work).await;
    assert_eq!(outcome, Outcome::Complete);
    assert_eq!(*stage.borrow_and_update(), Stage::Stopped);
    assert_eq!(world.begun.elapsed().as_secs(), 0);
}
