//! Decisions with time moved by hand, and what is handed over.

use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::clock;
use crate::context::{ConnId, RequestId};
use crate::service::Carrier;
use crate::stage::Stage;

/// Keeps what is finished, and what it has set off.
#[derive(Default)]
struct Kept(Mutex<Vec<Finished>>, Mutex<Vec<Branched>>);

impl Tracer for Kept {
    fn finished(&self, finished: Finished) {
        self.0.lock().push(finished);
    }

    fn branched(&self, branched: Branched) {
        self.1.lock().push(branched);
    }
}

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn settings(ratio: f64) -> TraceSettings {
    TraceSettings {
        ratio,
        per_second_max: 100,
        slow: Some(Duration::from_secs(1)),
        slow_per_second_max: 10,
        trusted: Networks::default(),
    }
}

fn tracing(settings: &TraceSettings) -> (Arc<Tracing>, Arc<Kept>, Instant) {
    let (kept, now) = (Arc::new(Kept::default()), clock::now());
    (Tracing::new(Arc::clone(&kept) as Arc<dyn Tracer>, settings, 7, now), kept, now)
}

fn about() -> About {
    let conn = ConnId::from_raw(1);
    About {
        listener: "lines".into(),
        route: "orders".into(),
        conn,
        peer: (PEER, 9).into(),
        request: RequestId::Message { conn, seq: 1 },
        handshake: None,
        what: What::Message { carrier: Carrier::Lines, bytes: 2 },
    }
}

/// How many of `messages`, `gap` apart, a worker takes.
fn taken(tracing: &Arc<Tracing>, now: Instant, messages: u32, gap: Duration) -> u32 {
    let mut sampler = Sampler::new(Arc::clone(tracing));
    (0..messages).map(|n| u32::from(sampler.next(now + gap * n))).sum()
}

#[test]
fn the_ratio_is_kept() {
    let (tracing, _, now) = tracing(&settings(0.01));
    let taken = taken(&tracing, now, 100_000, Duration::from_millis(1));
    assert!((800..1200).contains(&taken), "{taken} of 100,000 at 1%");
}

#[test]
fn with_a_ratio_of_one_the_first_message_is_taken_and_with_zero_none() {
    let gap = Duration::from_millis(100);
    let (all, _, now) = tracing(&settings(1.0));
    assert_eq!(taken(&all, now, 50, gap), 50);
    let (none, _, now) = tracing(&settings(0.0));
    assert_eq!(taken(&none, now, 200_000, gap), 0);
    assert_eq!(taken(&Tracing::off(), now, 1000, gap), 0);
}

#[test]
fn the_ceiling_holds_over_all_workers_whatever_the_ratio() {
    let (tracing, _, now) = tracing(&settings(1.0));
    let mut workers = [Sampler::new(Arc::clone(&tracing)), Sampler::new(Arc::clone(&tracing))];
    let mut taken = 0;
    for n in 0..200_000 {
        let at = now + Duration::from_micros(50) * n;
        taken += workers.iter_mut().map(|worker| u32::from(worker.next(at))).sum::<u32>();
    }
    // 10 s at 100 a second, and a tenth of a second's allowance at once.
    assert!((1000..=1011).contains(&taken), "{taken}");
}

#[test]
fn a_changed_ratio_is_seen_by_a_worker_that_took_none() {
    let (tracing, _, now) = tracing(&settings(0.0));
    let mut sampler = Sampler::new(Arc::clone(&tracing));
    assert!(!sampler.next(now));
    tracing.set(&settings(1.0));
    assert!((0..70_000).any(|_| sampler.next(now)));
}

#[test]
fn a_peers_flag_counts_only_when_the_peer_is_trusted() {
    let context = |sampled| TraceContext { trace_id: 1, span_id: 2, sampled, state: None };
    let (tracing, _, now) = tracing(&settings(0.0));
    assert!(!tracing.decide(Some(&context(true)), PEER, now, || false));
    assert!(tracing.decide(Some(&context(false)), PEER, now, || true));
    let trusted = Networks::new(vec!["127.0.0.0/8".parse().unwrap()]);
    tracing.set(&TraceSettings { trusted, ..settings(0.0) });
    assert!(tracing.decide(Some(&context(true)), PEER, now, || false));
    assert!(!tracing.decide(Some(&context(false)), PEER, now, || true));
    assert!(!tracing.decide(Some(&context(true)), "192.0.2.1".parse().unwrap(), now, || false));
    // Trusted or not, the ceiling holds.
    let taken = (0..1000).filter(|_| tracing.decide(Some(&context(true)), PEER, now, || false));
    assert!(taken.count() <= 11);
}

#[test]
fn a_sampled_message_continues_its_parent_and_a_call_continues_the_message() {
    let (tracing, kept, now) = tracing(&settings(1.0));
    let parent =
        TraceContext { trace_id: 7, span_id: 8, sampled: false, state: Some("a=1".into()) };
    let trace = tracing.begin(Some(parent.clone()), true, now);
    let call = trace.call();
    let told = call.context().unwrap();
    assert_eq!((told.trace_id, told.sampled, told.state.as_deref()), (7, true, Some("a=1")));
    call.waited(now, now + Duration::from_millis(1));
    call.called(now, now + Duration::from_millis(2), Call::default());
    let exemplar = tracing.finish(&trace, now + Duration::from_millis(3), about).unwrap();
    assert_eq!((exemplar.trace_id, exemplar.value), (7, Duration::from_millis(3)));

    let finished = kept.0.lock().pop().unwrap();
    assert_eq!(finished.parent, Some(parent));
    assert_eq!(finished.cause, Cause::Sampled);
    assert_eq!(finished.stages.len(), 2);
    assert_eq!(finished.stages[1].stage, Stage::Upstream);
    assert_eq!(finished.stages[1].span_id, told.span_id);
    assert_ne!(told.span_id, finished.context.span_id);
}

#[test]
fn an_unsampled_message_passes_its_parent_on_without_the_flag_and_is_not_handed_over() {
    let (tracing, kept, now) = tracing(&settings(0.0));
    let parent = TraceContext { trace_id: 7, span_id: 8, sampled: true, state: None };
    let trace = tracing.begin(Some(parent.clone()), false, now);
    let told = trace.call().context();
    assert_eq!(told, Some(TraceContext { sampled: false, ..parent }));
    assert_eq!(tracing.begin(None, false, now).call().context(), None);
    assert_eq!(tracing.finish(&trace, now, about), None);
    assert!(kept.0.lock().is_empty());
}

#[test]
fn slow_and_failed_messages_are_handed_over_at_a_bounded_rate() {
    let (tracing, kept, now) = tracing(&settings(0.0));
    let slow = now + Duration::from_secs(1);
    for _ in 0..5 {
        let trace = tracing.begin(None, false, now);
        tracing.finish(&trace, slow - Duration::from_nanos(1), about);
    }
    assert!(kept.0.lock().is_empty(), "none of them is slow");
    assert!(tracing.finish(&tracing.begin(None, false, now), slow, about).is_some());
    for n in 0..100 {
        let failed = tracing.begin(None, false, slow);
        failed.fail("timeout");
        tracing.finish(&failed, slow + Duration::from_millis(10) * n, about);
    }
    let kept = kept.0.lock();
    assert_eq!((kept[0].cause, kept[1].cause), (Cause::Slow, Cause::Failed));
    assert_eq!(kept[1].failure, Some("timeout"));
    assert!(kept.len() <= 12, "{} in a second", kept.len());
}

#[test]
fn what_peers_send_is_counted() {
    let (tracing, ..) = tracing(&settings(0.0));
    assert_eq!(tracing.take(Source::Http, Found::parse(b"nonsense")), None);
    assert_eq!(tracing.take(Source::Message, Found::Nothing), None);
    let good = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert!(tracing.take(Source::Message, Found::parse(good)).is_some());
    assert_eq!(tracing.contexts(Source::Http), (0, 1));
    assert_eq!(tracing.contexts(Source::Message), (1, 0));
}

#[test]
fn what_a_sampled_message_sets_off_hangs_on_its_part_after_it_has_ended() {
    let (tracing, kept, now) = tracing(&settings(1.0));
    let trace = tracing.begin(None, true, now);
    let part = trace.part(Stage::Publish).expect("it is sampled");
    let branch = part.branch();
    part.end(Vec::new());
    assert!(tracing.finish(&trace, now, about).is_some());
    let finished = kept.0.lock().remove(0);
    assert_eq!(finished.stages.len(), 1);
    let publish = &finished.stages[0];
    assert_eq!(publish.stage, Stage::Publish);

    let details = vec![("subscribers", Detail::Count(3))];
    branch.begin(Stage::Fanout).expect("the first of them").end(details.clone());
    let branched = kept.1.lock().remove(0);
    assert_eq!((branched.parent, branched.stage), (publish.span_id, Stage::Fanout));
    assert_eq!(branched.context.trace_id, finished.context.trace_id);
    assert_ne!(branched.context.span_id, publish.span_id);
    assert_eq!(branched.details, details);
    assert!(branched.begun <= branched.ended);
}

#[test]
fn a_part_that_ends_after_its_message_is_handed_over_by_itself() {
    let (tracing, kept, now) = tracing(&settings(1.0));
    let trace = tracing.begin(None, true, now);
    let part = trace.part(Stage::Publish).expect("it is sampled");
    assert!(tracing.finish(&trace, now, about).is_some());
    part.end(Vec::new());
    assert!(kept.0.lock()[0].stages.is_empty());
    let late = kept.1.lock().remove(0);
    assert_eq!(late.parent, kept.0.lock()[0].context.span_id);
}

#[test]
fn a_branch_has_its_share_of_spans_and_a_message_its_share_of_parts() {
    let (tracing, kept, now) = tracing(&settings(1.0));
    let trace = tracing.begin(None, true, now);
    let branch = trace.part(Stage::Publish).expect("it is sampled").branch();
    let spans = (0..100).filter_map(|_| branch.begin(Stage::Fanout));
    spans.for_each(|span| span.end(Vec::new()));
    assert_eq!(kept.1.lock().len(), 64);
    assert_eq!((0..100).filter_map(|_| trace.part(Stage::Publish)).count(), 63);
    let watched = tracing.begin(None, false, now);
    assert!(watched.part(Stage::Publish).is_none(), "it is not sampled");
}
