//! One client at work: it follows its script over its end of a connection, and keeps what it is
//! sent. It judges only what no server may ever send; the rest is for the invariants.

use std::time::{Duration, Instant};

use crate::line::Line;
use crate::rng::Rng;
use crate::script::{End, Reading, Script, Step};
use crate::wire::{Incoming, Reader, Wire, frame, opcode};

/// How often a slow reader reads.
const SLOW_READ: Duration = Duration::from_millis(50);

/// The line that the simulation's listeners send as a heartbeat.
pub const HEARTBEAT: &str = "#beat";
/// The line that they send when a drain closes a connection.
pub const FAREWELL: &str = "#bye";

/// A client that is connected.
pub struct Client {
    /// What it does.
    pub script: Script,
    /// Messages that came, without heartbeats.
    pub received: Vec<Vec<u8>>,
    /// The Close frame that came: its code, if it had one.
    pub closed: Option<Option<u16>>,
    /// The server's side ended in order.
    pub ended: bool,
    /// It ended without saying so, where it has TLS to say it with.
    pub cut: bool,
    line: Line,
    reader: Reader,
    rng: Rng,
    next_step: usize,
    sending: Vec<u8>,
    /// What was sent so far ends with a whole message or frame.
    whole: bool,
    pongs: Vec<u8>,
    /// Until when the script waits.
    wait: Instant,
    next_read: Instant,
}

impl Client {
    /// Begins a script now.
    pub fn new(script: Script, line: Line, rng: Rng, now: Instant) -> Self {
        let next_read = match script.reading {
            Reading::Late(after) => now + after,
            Reading::Eager | Reading::Slow(_) | Reading::Never => now,
        };
        Self {
            reader: Reader::new(script.wire),
            script,
            received: Vec::new(),
            closed: None,
            ended: false,
            cut: false,
            line,
            rng,
            next_step: 0,
            sending: Vec::new(),
            whole: true,
            pongs: Vec::new(),
            wait: now,
            next_read,
        }
    }

    /// Does what can be done now; true when something was.
    ///
    /// # Errors
    ///
    /// What no server may send, in words.
    pub fn step(&mut self, now: Instant) -> Result<bool, String> {
        let pushed = self.line.push();
        let read = self.read(now)?;
        let sent = self.send(now);
        Ok(pushed || read || sent)
    }

    /// When it wants to do something next, if time alone lets it.
    pub fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let step = (self.next_step < self.script.steps.len()).then_some(self.wait);
        let read = (!self.ended).then_some(self.next_read);
        [step, read].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Whether all it has sent ends with a whole message.
    pub fn is_whole(&self) -> bool {
        self.whole && self.sending.is_empty() && self.line.is_clear()
    }

    fn read(&mut self, now: Instant) -> Result<bool, String> {
        if self.ended || now < self.next_read {
            return Ok(false);
        }
        let most = match self.script.reading {
            Reading::Eager | Reading::Late(_) => usize::MAX,
            Reading::Slow(most) => {
                self.next_read = now + SLOW_READ;
                most
            }
            Reading::Never => return Ok(false),
        };
        let mut bytes = Vec::new();
        let came = self.line.receive(most, &mut bytes)?;
        self.reader.feed(&bytes);
        while let Some(incoming) = self.reader.take()? {
            self.take(incoming)?;
        }
        if self.line.is_reset() {
            self.stop();
            self.ended = true;
        } else if self.line.at_end() {
            self.cut = self.line.is_cut();
            if !self.reader.is_at_a_boundary() {
                return Err("the stream ends in the middle of a message".to_owned());
            }
            self.stop();
            self.line.end();
            self.ended = true;
        }
        Ok(came || self.ended)
    }

    fn take(&mut self, incoming: Incoming) -> Result<(), String> {
        if self.closed.is_some() {
            return Err(format!("{incoming:?} after a Close frame"));
        }
        match incoming {
            Incoming::Message(message) => {
                if message != HEARTBEAT.as_bytes() {
                    self.received.push(message);
                }
            }
            Incoming::Ping(payload) if self.script.end != End::Mute => {
                let mut pong = Vec::new();
                frame(0x80 | opcode::PONG, &payload, &mut self.rng, &mut pong);
                self.pongs.extend(pong);
            }
            Incoming::Ping(_) => {}
            Incoming::Pong(payload) if payload == b"between" => {}
            Incoming::Pong(payload) => return Err(format!("a pong of {payload:?}")),
            Incoming::Close(code) => {
                self.closed = Some(code);
                self.stop();
            }
        }
        Ok(())
    }

    /// Sends nothing more of its script.
    fn stop(&mut self) {
        self.next_step = self.script.steps.len();
        self.sending.clear();
        self.pongs.clear();
    }

    fn send(&mut self, now: Instant) -> bool {
        let mut moved = false;
        loop {
            if self.sending.is_empty() && self.whole && !self.pongs.is_empty() {
                self.sending = std::mem::take(&mut self.pongs);
            }
            if !self.sending.is_empty() {
                let sent = self.line.send(&self.sending);
                self.sending.drain(..sent);
                moved |= sent > 0;
                if !self.sending.is_empty() {
                    return moved;
                }
            }
            if now < self.wait || self.next_step == self.script.steps.len() {
                return moved;
            }
            moved = true;
            let step = std::mem::replace(
                &mut self.script.steps[self.next_step],
                Step::Wait(Duration::ZERO),
            );
            self.next_step += 1;
            match step {
                Step::Wait(time) => self.wait = now + time,
                Step::Send { bytes, whole } => {
                    self.sending = bytes;
                    self.whole = whole;
                }
                Step::HalfClose => self.line.end(),
                Step::Reset => {
                    self.line.reset();
                    self.stop();
                    self.ended = true;
                }
            }
        }
    }

    /// Its script in a few words.
    pub fn facts(&self) -> String {
        let Script { wire, route, end, reading, .. } = &self.script;
        let stuck = if self.script.is_stuck() { ", stuck" } else { "" };
        let tls = if self.line.has_tls() { ", TLS" } else { "" };
        format!("({wire:?}, {route:?}, {end:?}, reads {reading:?}{tls}{stuck})")
    }

    /// Whether it has a WebSocket's manners to keep.
    pub fn is_websocket(&self) -> bool {
        self.script.wire == Wire::WebSocket
    }
}
