//! What one client does, drawn whole before the world begins: its bytes, its pauses, how it
//! reads, how it ends, and which close reasons that end allows.
//!
//! A script knows wires and orders, not pipes or the time of day.

use std::time::Duration;

use weir_core::close::CloseReason;

use crate::order::Order;
use crate::rng::Rng;
use crate::wire::{Wire, frame, opcode};

/// Largest message that the simulation's listeners take, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 2048;

/// The kinds of trouble that a run may have; some are switched off for each, so that what is
/// left reaches further.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Messages over the limit, text that is not UTF-8, broken frames.
    pub bad_bytes: bool,
    /// Resets at any time.
    pub resets: bool,
    /// Clients that read late, slowly or never.
    pub slow_readers: bool,
    /// Clients that stop in the middle of a message or say nothing more.
    pub silence: bool,
    /// Asks that fail, or never end.
    pub bad_asks: bool,
    /// A drain while clients are at work, not after them.
    pub early_drain: bool,
}

impl Faults {
    /// Each is on in two runs of three.
    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            bad_bytes: !rng.one_in(3),
            resets: !rng.one_in(3),
            slow_readers: !rng.one_in(3),
            silence: !rng.one_in(3),
            bad_asks: !rng.one_in(3),
            early_drain: !rng.one_in(3),
        }
    }
}

/// One thing that a client does with its sending side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Do nothing for this long.
    Wait(Duration),
    /// Send these bytes, however long the gateway takes to read them.
    Send {
        /// What.
        bytes: Vec<u8>,
        /// Whether a message or frame ends with them: a pong may come next.
        whole: bool,
    },
    /// Shut the sending side.
    HalfClose,
    /// Break the connection.
    Reset,
}

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All there is, always.
    Eager,
    /// At most this many bytes each 50 ms.
    Slow(usize),
    /// Nothing until this long after its start, then all there is.
    Late(Duration),
    /// Nothing, ever.
    Never,
}

/// What answers a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The world's own service, which does what each message says.
    Orders,
    /// weir's echo, with [`ECHO_PREFIX`] before the message and the exit word of [`Order::Exit`].
    Echo,
}

/// What weir's echo says before each message.
pub const ECHO_PREFIX: &str = "received: ";

impl Route {
    /// The reply that this message is owed here, `None` for none.
    pub fn reply(self, message: &[u8]) -> Option<Vec<u8>> {
        let order = Order::of(message)?;
        match self {
            Self::Orders => order.reply(message).map(<[u8]>::to_vec),
            Self::Echo if order == Order::Exit => None,
            Self::Echo => Some([ECHO_PREFIX.as_bytes(), message].concat()),
        }
    }
}

/// How a script ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Stays, reads, and answers pings: until it is told to go.
    Stays,
    /// Shuts its sending side and reads on.
    HalfClose,
    /// Begins the WebSocket close handshake.
    CloseFrame,
    /// Says the exit word.
    Exit,
    /// Breaks the connection.
    Reset,
    /// Sends a message over the limit.
    TooBig,
    /// Sends text that is not UTF-8.
    BadText,
    /// Breaks a rule of the wire.
    BadFrame,
    /// Stops in the middle of a message.
    Unfinished,
    /// Shuts its sending side in the middle of a message.
    CutShort,
    /// Stays, and answers no ping either.
    Mute,
}

/// What one client does.
#[derive(Clone, Debug)]
pub struct Script {
    /// How its messages are carried.
    pub wire: Wire,
    /// What answers it.
    pub route: Route,
    /// When it connects, after the world began.
    pub start: Duration,
    /// What it does then, in order.
    pub steps: Vec<Step>,
    /// How it reads meanwhile.
    pub reading: Reading,
    /// How its steps end.
    pub end: End,
    /// Its good messages, in order.
    pub messages: Vec<Vec<u8>>,
}

impl Script {
    /// Draws a script.
    pub fn draw(faults: &Faults, rng: &mut Rng) -> Self {
        let wire = rng.pick(&[Wire::Lines, Wire::Length, Wire::WebSocket]);
        let route = rng.pick(&[Route::Orders, Route::Orders, Route::Echo]);
        let end = draw_end(wire, faults, rng);
        let reading = draw_reading(faults, rng);
        let mut messages = Vec::new();
        let mut pieces = Vec::new();
        for seq in 0..rng.size(60) {
            let text = wire == Wire::Lines || rng.one_in(2);
            let padding = rng.size(MESSAGE_BYTES_MAX - 16);
            let message = draw_order(faults, rng).message(seq, padding, text, rng);
            let mut piece = Vec::new();
            wire.encode(&message, text, rng, &mut piece);
            pieces.push(piece);
            messages.push(message);
        }
        let mut steps = Vec::new();
        send_split(&pieces, rng, &mut steps);
        end_with(end, wire, rng, &mut steps, &mut messages);
        let start = rng.up_to(Duration::from_secs(3));
        Self { wire, route, start, steps, reading, end, messages }
    }

    /// Whether some order of it never ends, so that replies may stay owed for ever.
    pub fn is_stuck(&self) -> bool {
        self.route == Route::Orders
            && self.messages.iter().any(|message| Order::of(message) == Some(Order::Never))
    }

    /// Whether it takes every reply as soon as it comes.
    pub fn reads_well(&self) -> bool {
        self.reading == Reading::Eager
    }

    /// The reasons that may end it while the world does not drain.
    pub fn reasons(&self) -> Vec<CloseReason> {
        use CloseReason as R;
        let mut reasons = match self.end {
            // A quiet peer on TCP is idle in the end; a WebSocket's pongs keep it.
            End::Stays => vec![R::IdleTimeout],
            End::HalfClose | End::CloseFrame | End::CutShort => vec![R::PeerClosed],
            End::Exit => vec![R::Exit],
            End::Reset => vec![R::PeerReset],
            End::TooBig => vec![R::MessageTooBig],
            End::BadText => vec![R::InvalidUtf8],
            End::BadFrame => vec![R::ProtocolError],
            // In the middle of a frame there is no room for a pong.
            End::Unfinished => vec![R::ReadTimeout, R::PongTimeout],
            End::Mute => vec![R::PongTimeout, R::IdleTimeout],
        };
        if !self.reads_well() {
            reasons.extend([R::WriteTimeout, R::SlowConsumer, R::PongTimeout, R::IdleTimeout]);
        }
        reasons
    }
}

fn draw_end(wire: Wire, faults: &Faults, rng: &mut Rng) -> End {
    let mut ends = vec![End::Stays, End::Exit];
    ends.push(if wire == Wire::WebSocket { End::CloseFrame } else { End::HalfClose });
    if faults.resets {
        ends.push(End::Reset);
    }
    if faults.silence {
        ends.extend([End::Unfinished, End::CutShort, End::Mute]);
    }
    if faults.bad_bytes {
        ends.push(End::TooBig);
        match wire {
            Wire::Lines => ends.push(End::BadText),
            Wire::WebSocket => ends.extend([End::BadText, End::BadFrame]),
            Wire::Length => {} // Bytes: nothing is bad but the length.
        }
    }
    rng.pick(&ends)
}

fn draw_reading(faults: &Faults, rng: &mut Rng) -> Reading {
    if !faults.slow_readers || !rng.one_in(3) {
        return Reading::Eager;
    }
    match rng.below(0..3) {
        0 => Reading::Slow(rng.below(1..400)),
        1 => Reading::Late(rng.up_to(Duration::from_secs(12))),
        _ => Reading::Never,
    }
}

fn draw_order(faults: &Faults, rng: &mut Rng) -> Order {
    let after = rng.up_to(Duration::from_secs(3));
    match rng.below(0..20) {
        0..=10 => Order::Echo,
        11..=15 => Order::Ask(after),
        16 | 17 => Order::Quiet,
        18 if faults.bad_asks => Order::Fail(after),
        19 if faults.bad_asks && rng.one_in(4) => Order::Never,
        _ => Order::Ask(Duration::from_millis(1)),
    }
}

/// Sends pieces in one go, one by one, or cut anywhere. A message takes at most about a second
/// from its first byte to its last, so that no read timeout is due.
fn send_split(pieces: &[Vec<u8>], rng: &mut Rng, steps: &mut Vec<Step>) {
    let pause = Duration::from_millis(rng.pick(&[0, 20, 300, 3000]));
    match rng.below(0..3) {
        0 => steps.push(Step::Send { bytes: pieces.concat(), whole: true }),
        1 => {
            for piece in pieces {
                steps.push(Step::Send { bytes: piece.clone(), whole: true });
                steps.push(Step::Wait(rng.up_to(pause)));
            }
        }
        _ => {
            let most = rng.pick(&[2, 60, 1500]);
            for piece in pieces {
                let most = most.max(piece.len() / 25).max(1);
                let mut rest = &piece[..];
                while !rest.is_empty() {
                    let (cut, after) = rest.split_at(rng.below(1..most + 1).min(rest.len()));
                    steps.push(Step::Send { bytes: cut.to_vec(), whole: after.is_empty() });
                    steps.push(Step::Wait(rng.up_to(Duration::from_millis(20))));
                    rest = after;
                }
                steps.push(Step::Wait(rng.up_to(pause)));
            }
        }
    }
}

fn end_with(
    end: End,
    wire: Wire,
    rng: &mut Rng,
    steps: &mut Vec<Step>,
    messages: &mut Vec<Vec<u8>>,
) {
    let mut bytes = Vec::new();
    match end {
        End::Stays | End::Mute => {}
        End::HalfClose => steps.push(Step::HalfClose),
        End::Reset => {
            // In the middle of anything: what comes after is not sent.
            steps.truncate(rng.below(0..steps.len() + 1));
            steps.push(Step::Reset);
        }
        End::CloseFrame => {
            let payload: &[u8] = rng.pick(&[&[][..], &[3, 232], b"\x03\xe8bye"]);
            frame(0x80 | opcode::CLOSE, payload, rng, &mut bytes);
        }
        End::Exit => {
            let exit = Order::Exit.message(0, 0, true, rng);
            wire.encode(&exit, true, rng, &mut bytes);
            messages.push(exit);
            // Behind the exit word nothing is heard.
            wire.encode(b"e0 unheard", true, rng, &mut bytes);
        }
        End::TooBig => too_big(wire, rng, &mut bytes),
        End::BadText => match wire {
            Wire::Lines | Wire::Length => bytes.extend_from_slice(b"e0 \xc3(\n"),
            Wire::WebSocket => frame(0x80 | opcode::TEXT, b"e0 \xc3(", rng, &mut bytes),
        },
        End::BadFrame => bad_frame(rng, &mut bytes),
        End::Unfinished | End::CutShort => {
            let mut whole = Vec::new();
            wire.encode(b"e0 cut", true, rng, &mut whole);
            // At least one byte short of a message on every wire, a CRLF too.
            bytes.extend_from_slice(&whole[..rng.below(1..6)]);
        }
    }
    if !bytes.is_empty() {
        let whole = !matches!(end, End::Unfinished | End::CutShort);
        steps.push(Step::Send { bytes, whole });
    }
    if end == End::CutShort {
        steps.push(Step::HalfClose);
    }
}

fn too_big(wire: Wire, rng: &mut Rng, bytes: &mut Vec<u8>) {
    let size = MESSAGE_BYTES_MAX + 1 + rng.size(3 * MESSAGE_BYTES_MAX);
    match wire {
        Wire::Lines => {
            bytes.resize(size, b'x');
            if rng.one_in(2) {
                bytes.push(b'\n');
            }
        }
        Wire::Length => {
            bytes.extend_from_slice(&u32::try_from(size).expect("small").to_be_bytes());
            bytes.resize(4 + rng.below(0..size), b'x');
        }
        Wire::WebSocket => {
            // In one frame, or by its second fragment.
            if rng.one_in(2) {
                frame(0x80 | opcode::BINARY, &vec![b'x'; size], rng, bytes);
            } else {
                frame(opcode::BINARY, &vec![b'x'; MESSAGE_BYTES_MAX / 2], rng, bytes);
                frame(0x80 | opcode::CONTINUATION, &vec![b'x'; size], rng, bytes);
            }
        }
    }
}

fn bad_frame(rng: &mut Rng, bytes: &mut Vec<u8>) {
    match rng.below(0..7) {
        0 => bytes.extend_from_slice(b"\x81\x02hi"), // Not masked.
        1 => frame(0xc0 | opcode::TEXT, b"hi", rng, bytes), // A reserved bit.
        2 => frame(0x80 | 3, b"hi", rng, bytes),     // A reserved opcode.
        3 => frame(0x80 | opcode::CONTINUATION, b"hi", rng, bytes), // Of nothing.
        4 => frame(0x80 | opcode::PING, &[b'p'; 126], rng, bytes), // A long control frame.
        5 => frame(opcode::PING, b"p", rng, bytes),  // A control frame in fragments.
        _ => frame(0x80 | opcode::CLOSE, &[3, 237], rng, bytes), // 1005 is never sent.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_script_again() {
        for seed in 0..200 {
            let draw = || {
                let mut rng = Rng::new(seed);
                format!("{:?}", Script::draw(&Faults::draw(&mut rng), &mut rng))
            };
            assert_eq!(draw(), draw());
        }
    }

    #[test]
    fn good_messages_keep_to_the_limit() {
        for seed in 0..500 {
            let mut rng = Rng::new(seed);
            let script = Script::draw(&Faults::draw(&mut rng), &mut rng);
            for message in &script.messages {
                assert!(message.len() <= MESSAGE_BYTES_MAX, "seed {seed}: {}", message.len());
                assert!(Order::of(message).is_some());
            }
        }
    }

    #[test]
    fn every_end_is_drawn() {
        let mut ends = Vec::new();
        for seed in 0..2000 {
            let mut rng = Rng::new(seed);
            let script = Script::draw(&Faults::draw(&mut rng), &mut rng);
            if !ends.contains(&script.end) {
                ends.push(script.end);
            }
        }
        assert_eq!(ends.len(), 11);
    }
}
