//! Section 5, fragmentation.

use crate::autobahn::case::{
    CONTINUATION, Case, Chops, Event, Frame, PING, PONG, Step, TEXT, frame, open_frame,
};

pub(super) fn cases() -> Vec<Case> {
    let text = || vec![open_frame(TEXT, b"fragment1"), frame(CONTINUATION, b"fragment2")];
    let around_ping = || {
        let [first, last] = [open_frame(TEXT, b"fragment1"), frame(CONTINUATION, b"fragment2")];
        vec![first, frame(PING, b"ping payload"), last]
    };
    let echo = || Event::Message(TEXT, b"fragment1fragment2".to_vec());
    let pong = || Event::Pong(b"ping payload".to_vec());
    let every_chops = [Chops::Whole, Chops::Frames, Chops::Octets(1)];

    let mut cases = vec![
        illegal("5.1", vec![open_frame(PING, b"fragment1"), frame(CONTINUATION, b"fragment2")]),
        illegal("5.2", vec![open_frame(PONG, b"fragment1"), frame(CONTINUATION, b"fragment2")]),
    ];
    for (number, chops) in (3..).zip(every_chops) {
        let steps = vec![Step::Send(text(), chops)];
        cases.push(Case::legal(format!("5.{number}"), steps, vec![echo()]));
    }
    for (number, chops) in (6..).zip(every_chops) {
        let steps = vec![Step::Send(around_ping(), chops)];
        cases.push(Case::legal(format!("5.{number}"), steps, vec![pong(), echo()]));
    }
    for (number, fin) in [(9, true), (12, false)] {
        for (number, chops) in (number..).zip(every_chops) {
            let nothing_to_continue =
                Frame { fin, ..frame(CONTINUATION, b"non-continuation payload") };
            let frames = vec![nothing_to_continue, frame(TEXT, b"Hello, world!")];
            let steps = vec![Step::Send(frames, chops)];
            cases.push(Case::illegal(format!("5.{number}"), 1002, steps, vec![]));
        }
    }
    let mut too_many = text();
    too_many.extend([open_frame(CONTINUATION, b"fragment3"), frame(TEXT, b"fragment4")]);
    let steps = vec![Step::Send(too_many, Chops::Whole)];
    cases.push(Case::illegal("5.15", 1002, steps, vec![echo()]));
    cases.push(illegal("5.16", twice_out_of_order(false)));
    cases.push(illegal("5.17", twice_out_of_order(true)));
    cases.push(illegal("5.18", vec![open_frame(TEXT, b"fragment1"), frame(TEXT, b"fragment2")]));
    cases.push(five_fragments("5.19", Chops::Whole));
    cases.push(five_fragments("5.20", Chops::Frames));
    cases
}

fn illegal(number: &str, frames: Vec<Frame>) -> Case {
    Case::illegal(number, 1002, vec![Step::Send(frames, Chops::Whole)], vec![])
}

fn twice_out_of_order(fin: bool) -> Vec<Frame> {
    let once = [
        Frame { fin, ..frame(CONTINUATION, b"fragment1") },
        open_frame(TEXT, b"fragment2"),
        frame(CONTINUATION, b"fragment3"),
    ];
    [once.clone(), once].concat()
}

/// Pings among the fragments, and a wait before the third.
fn five_fragments(number: &str, chops: Chops) -> Case {
    let before = vec![
        open_frame(TEXT, b"fragment1"),
        open_frame(CONTINUATION, b"fragment2"),
        frame(PING, b"pongme 1!"),
    ];
    let after = vec![
        open_frame(CONTINUATION, b"fragment3"),
        open_frame(CONTINUATION, b"fragment4"),
        frame(PING, b"pongme 2!"),
        frame(CONTINUATION, b"fragment5"),
    ];
    let message = b"fragment1fragment2fragment3fragment4fragment5".to_vec();
    let expected = vec![
        Event::Pong(b"pongme 1!".to_vec()),
        Event::Pong(b"pongme 2!".to_vec()),
        Event::Message(TEXT, message),
    ];
    let steps = vec![Step::Send(before, chops), Step::Pause, Step::Send(after, chops)];
    Case::legal(number, steps, expected)
}
