//! What the echo route costs the heap, counted by an allocator. A binary of its own, because an
//! allocator is the process's.

#![expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; it only counts and forwards"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;

use weir_core::clock;
use weir_core::context::{ConnId, RequestId};
use weir_core::service::{Actions, Carrier, Message, MessageKind, Opening, Service};
use weir_pipeline::discard::Discard;
use weir_pipeline::echo::Echo;
use weir_pipeline::template::Template;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_of(act: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    act();
    ALLOCATIONS.with(Cell::get) - before
}

fn opening<'a>(request_id: &'a RequestId, listener: &'a str) -> Opening<'a> {
    let peer = SocketAddr::from(([127, 0, 0, 1], 4242));
    let (conn, carrier) = (ConnId::from_raw(1), Carrier::Lines);
    Opening {
        conn,
        peer,
        listener,
        carrier,
        wire: None,
        request_id,
        tls: None,
        principal: None,
        path: None,
        headers: None,
        query: None,
    }
}

#[test]
fn an_echo_allocates_nothing_for_a_message() {
    let request = RequestId::Message { conn: ConnId::from_raw(1), seq: 1 };
    let now = clock::now();
    for template in ["{message}", "received: {message}", "{listener} {peer} {request_id} {message}"]
    {
        let echo = Echo::new("echo", Template::parse(template).expect("good"), Some("exit".into()));
        let mut session = echo.open(&opening(&request, "lines"));
        let mut actions = Actions::default();
        let mut round = || {
            for payload in [&b"a message"[..], b"", b"exit"] {
                let message = Message { payload, kind: MessageKind::Text };
                session.on_message(message, &request, now, &mut actions);
            }
            let (bytes, list) = actions.take();
            actions.restore(bytes, list);
        };
        round(); // The worker's buffers grow once.
        let counted = allocations_of(|| (0..100).for_each(|_| round()));
        assert_eq!(counted, 0, "template {template}");
    }
}

#[test]
fn a_connection_costs_at_most_the_box_of_its_session() {
    let request = RequestId::Message { conn: ConnId::from_raw(1), seq: 0 };
    let echo = Echo::new("echo", Template::default(), None);
    let discard = Discard::new("discard");
    let open =
        |service: &dyn Service| allocations_of(|| drop(service.open(&opening(&request, "lines"))));
    assert_eq!(open(&echo), 1);
    assert_eq!(open(&discard), 0);
}
