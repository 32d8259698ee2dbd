//! What the protocol costs the heap, counted by an allocator. A binary of its own, because an allocator is the
//! process's.

#![expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; it only counts and forwards"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use weir_channels::protocol::push::{Publication, Push};
use weir_channels::protocol::{Command, Encoding, Form, Limits, Payload, SharedPush, frame};

thread_local! {
    /// Calls, and bytes that they asked for.
    static ASKED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

struct Counting;

// SAFETY: every call goes to the system allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.with(|asked| asked.set((asked.get().0 + 1, asked.get().1 + layout.size())));
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

/// How often, and for how many bytes, the heap was asked.
fn asked_by(act: impl FnOnce()) -> (usize, usize) {
    let before = ASKED.with(Cell::get);
    act();
    let after = ASKED.with(Cell::get);
    (after.0 - before.0, after.1 - before.1)
}

/// How often the heap is asked while this publish is read in JSON and in Protobuf.
fn asked_by_publish(data: &str) -> [usize; 2] {
    let json = format!(r#"{{"id":7,"publish":{{"channel":"sensors:a","data":{data}}}}}"#);
    let limits = Limits::default();
    let command = Command::decode(Encoding::Json, json.as_bytes(), &limits).expect("a command");
    let mut frame = Vec::new();
    command.encode(Encoding::Protobuf, &mut frame).expect("it can be written");
    [(Encoding::Json, json.as_bytes()), (Encoding::Protobuf, &frame)].map(|(encoding, frame)| {
        let asked = asked_by(|| {
            assert!(frame::commands(encoding, frame, &limits).all(|command| command.is_ok()));
        });
        asked.0
    })
}

#[test]
fn reading_a_publish_allocates_nothing() {
    assert_eq!(asked_by_publish(r#"{"v":27.5,"text":"\u017c\n"}"#), [0, 0]);
    // The parser notes which brackets are open; below the first it does so on the heap.
    assert_eq!(asked_by_publish(r#"{"n":[1,2,3],"m":[[[]]]}"#), [1, 0]);
}

#[test]
fn a_publication_is_written_with_one_allocation_and_what_shares_it() {
    for (encoding, forms) in [
        (Encoding::Json, &[Form::Json, Form::JsonFrame, Form::JsonLine][..]),
        (Encoding::Protobuf, &[Form::Protobuf, Form::ProtobufFrame]),
    ] {
        let data = Payload::json(br#"{"n":[1,2,3]}"#);
        let publication = Publication { data, offset: 4, ..Publication::default() };
        let mut shared = SharedPush::default();
        let asked = asked_by(|| {
            for form in forms {
                let push = || Push::publication("sensors:a", publication.clone());
                drop(shared.form(*form, push).expect("it is JSON").clone());
            }
        });
        assert!(asked.0 <= 2, "{encoding:?}: {asked:?}");
    }
}

#[test]
fn a_length_that_is_only_declared_allocates_nothing() {
    let limits = Limits { command_bytes_max: usize::MAX, ..Limits::default() };
    let declared = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f{}";
    let within = b"\x06\x08\x01\x2a\xff\xff\x7f";
    for frame in [&declared[..], within] {
        let asked = asked_by(|| {
            assert!(frame::commands(Encoding::Protobuf, frame, &limits).all(|read| read.is_err()));
        });
        assert_eq!(asked, (0, 0));
    }
}

#[test]
fn small_elements_cost_no_more_than_their_limit() {
    let limits = Limits { elements_max: 100, ..Limits::default() };
    let many = 20_000;
    let json =
        format!(r#"{{"id":1,"connect":{{"subs":{{{}"":{{}}}}}}}}"#, r#""":{},"#.repeat(many));
    let mut subs = b"\x1a\x00".repeat(many);
    let mut protobuf = vec![0x08, 0x01, 0x22];
    weir_channels::protocol::varint::write(subs.len() as u64, &mut protobuf);
    protobuf.append(&mut subs);
    for (encoding, bytes) in [(Encoding::Json, json.as_bytes()), (Encoding::Protobuf, &protobuf)] {
        let asked = asked_by(|| {
            assert!(Command::decode(encoding, bytes, &limits).is_err());
        });
        assert!(asked.1 < 200 * 1024, "{encoding:?}: {asked:?}");
    }
}
